//! The kernel's own NAT with the same rule.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result, bail};
use forebay_common::family::{V4, V6};
use forebay_tests::netlab::Namespace;

use super::topology::ROUTER_SERVER;
use crate::scene::{BACKEND_PORT, Net, PORT, backends};

/// What nftables does with packets to the frontend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Destination {
    /// They go to the backends.
    Backends,
    /// There is no rule for them.
    Kept,
}

/// What nftables does with the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// Kept, as the product's rules do it.
    Kept,
    /// Becomes the router's.
    Masquerade,
    /// Becomes one of many: one address has too few ports for that many new flows.
    Pool,
}

/// Whether nftables is there.
pub(super) fn is_installed(router: &Namespace) -> bool {
    router.run("nft", &["--version"]).is_ok()
}

/// Loads the rules.
pub(super) fn load(router: &Namespace, destination: Destination, source: Source) -> Result<()> {
    let both = (destination, source);
    let rules = table::<V4>("ip", "10.98.0.1-10.98.0.254", both)
        + &table::<V6>("ip6", "fd00:98::1-fd00:98::fe", both);
    router
        .run("nft", &[&rules])
        .context("load nftables rules")?;
    Ok(())
}

/// Removes them, and what they left behind.
pub(super) fn unload(router: &Namespace) -> Result<()> {
    let rules = "delete table ip bench; delete table ip6 bench";
    router
        .run("nft", &[rules])
        .context("remove nftables rules")?;
    forget_connections(router)
}

/// Forgets all tracked connections of the namespace.
pub(super) fn forget_connections(router: &Namespace) -> Result<()> {
    router.enter(flush).context("flush connection tracking")
}

fn table<A: Net>(family: &str, pool: &str, (destination, source): (Destination, Source)) -> String {
    let choices = backends::<A>().into_iter().enumerate();
    let choices: Vec<String> = choices
        .map(|(index, backend)| format!("{index} : {}", backend.ip()))
        .collect();
    let (frontend, choices) = (A::FRONTEND.ip(), choices.join(", "));
    let before = match destination {
        Destination::Kept => String::new(),
        Destination::Backends => format!(
            "chain before {{
                type nat hook prerouting priority dstnat;
                {family} daddr {frontend} udp dport {PORT} dnat to \
                    jhash {family} saddr . udp sport mod 4 map {{ {choices} }} : {BACKEND_PORT}
            }}"
        ),
    };
    let source = match source {
        Source::Kept => String::new(),
        Source::Masquerade => format!("oifname {ROUTER_SERVER} masquerade"),
        Source::Pool => format!("oifname {ROUTER_SERVER} snat to {pool}"),
    };
    format!(
        "table {family} bench {{
            {before}
            chain after {{
                type nat hook postrouting priority srcnat;
                {source}
            }}
        }}\n"
    )
}

/// `IPCTNL_MSG_CT_DELETE` of the connection tracking subsystem.
const DELETE: u16 = 1 << 8 | 2;

#[repr(C)]
struct Flush {
    header: libc::nlmsghdr,
    /// `struct nfgenmsg`: family, version, resource; all families.
    general: [u8; 4],
}

#[repr(C)]
struct Answer {
    header: libc::nlmsghdr,
    error: i32,
    about: [u8; 128],
}

/// Asks the kernel to forget the connections of the calling thread's namespace.
fn flush() -> Result<()> {
    // SAFETY: no pointers are passed.
    let socket = unsafe {
        libc::socket(
            libc::AF_NETLINK,
            libc::SOCK_RAW | libc::SOCK_CLOEXEC,
            libc::NETLINK_NETFILTER,
        )
    };
    if socket < 0 {
        return Err(io::Error::last_os_error()).context("open a netlink socket");
    }
    // SAFETY: the kernel has just made this descriptor for us.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    let request = Flush {
        header: libc::nlmsghdr {
            nlmsg_len: size_of::<Flush>() as u32,
            nlmsg_type: DELETE,
            nlmsg_flags: (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16,
            nlmsg_seq: 1,
            nlmsg_pid: 0,
        },
        general: [0; 4],
    };
    // SAFETY: the pointer is valid for the length.
    let sent = unsafe {
        libc::send(
            socket.as_raw_fd(),
            (&raw const request).cast(),
            size_of::<Flush>(),
            0,
        )
    };
    if sent < 0 {
        return Err(io::Error::last_os_error()).context("send");
    }
    // SAFETY: all zero is a valid value of plain words.
    let mut answer: Answer = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is valid for the length.
    let received = unsafe {
        libc::recv(
            socket.as_raw_fd(),
            (&raw mut answer).cast(),
            size_of::<Answer>(),
            0,
        )
    };
    if received < 0 {
        return Err(io::Error::last_os_error()).context("receive");
    }
    if i32::from(answer.header.nlmsg_type) != libc::NLMSG_ERROR {
        bail!(
            "the kernel's answer is of type {}",
            answer.header.nlmsg_type
        );
    }
    match answer.error {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(-error)).context("the kernel refuses"),
    }
}
