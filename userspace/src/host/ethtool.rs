//! Settings of NICs, as ethtool shows them.

use std::io;
use std::os::fd::AsRawFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use serde::{Deserialize, Serialize};

const GET_FLAGS: u32 = 0x25;
const SET_FLAGS: u32 = 0x26;
const GET_GRO: u32 = 0x2b;
const SET_GRO: u32 = 0x2c;

/// Work on received frames that is done before XDP, in its generic mode at least, sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Offload {
    /// VLAN tags are taken off and handed to the kernel beside the frame.
    #[serde(rename = "rx-vlan-offload")]
    VlanStripping,
    /// The NIC puts segments of a stream together.
    #[serde(rename = "large-receive-offload")]
    Lro,
    /// The kernel puts segments of a stream together.
    #[serde(rename = "generic-receive-offload")]
    Gro,
}

impl Offload {
    /// As ethtool calls it.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::VlanStripping => "rx-vlan-offload",
            Self::Lro => "large-receive-offload",
            Self::Gro => "generic-receive-offload",
        }
    }

    /// The commands that read and write it, and its bit.
    const fn access(self) -> (u32, u32, u32) {
        match self {
            Self::VlanStripping => (GET_FLAGS, SET_FLAGS, 1 << 8),
            Self::Lro => (GET_FLAGS, SET_FLAGS, 1 << 15),
            Self::Gro => (GET_GRO, SET_GRO, 1),
        }
    }

    /// Whether a NIC does it.
    pub(super) fn is_on(self, nic: &str) -> io::Result<bool> {
        let (get, _, bit) = self.access();
        Ok(ask(nic, get, 0)? & bit != 0)
    }

    /// Switches it on or off.
    pub(super) fn switch(self, nic: &str, on: bool) -> io::Result<()> {
        let (get, set, bit) = self.access();
        let others = ask(nic, get, 0)? & !bit;
        ask(nic, set, if on { others | bit } else { others })?;
        // A driver may take the order and do nothing.
        if self.is_on(nic)? != on {
            return Err(io::Error::other("the driver keeps it as it is"));
        }
        Ok(())
    }
}

/// `struct ethtool_value`.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// `struct ifreq` with the member that points to data.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    data: *mut EthtoolValue,
    rest: [u64; 2],
}

fn ask(nic: &str, command: u32, data: u32) -> io::Result<u32> {
    let mut name = [0; libc::IFNAMSIZ];
    // The last byte stays 0.
    let room = name.iter_mut().take(libc::IFNAMSIZ - 1);
    room.zip(nic.bytes()).for_each(|(to, from)| *to = from);
    let mut value = EthtoolValue { command, data };
    let mut request = Request {
        name,
        data: &raw mut value,
        rest: [0; 2],
    };
    let socket = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    // SAFETY: the request is as long as `struct ifreq`, its name ends with a zero, and its pointer leads to
    // a live `struct ethtool_value`, which is all that these commands read and write.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(value.data)
}

const _: () = assert!(size_of::<Request>() == size_of::<libc::ifreq>());
