//! Frames as they are on a device: sent byte by byte, and seen with the tags that they came with.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use super::namespace::Namespace;

/// How long a full device may stay full.
const PATIENCE: Duration = Duration::from_secs(2);
/// Longest frame that is received.
const LONGEST: usize = 10_000;
/// Room for what the kernel says beside a frame.
const CONTROL_WORDS: usize = 16;
/// Where tags are in a frame.
const TAGS_AT: usize = 12;

/// A device that frames are sent from and listened for on.
#[derive(Debug)]
pub struct Wire(OwnedFd);

impl Wire {
    /// Opens a device.
    pub fn open(namespace: &Namespace, device: &str) -> Result<Self> {
        let wire = namespace
            .enter(|| open(device))
            .with_context(|| format!("open {device} in {}", namespace.name()))?;
        Ok(Self(wire))
    }

    /// Sends a frame as it is.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        let start = Instant::now();
        while let Err(error) = send(&self.0, frame) {
            // The device has more than its peer can take.
            let is_full = error.raw_os_error() == Some(libc::ENOBUFS);
            if !is_full || start.elapsed() > PATIENCE {
                return Err(error).with_context(|| format!("send {} bytes", frame.len()));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Sends frames one after the other; returns how many of them the device took. The others are lost.
    pub fn send_many(&self, frames: &[Vec<u8>]) -> Result<usize> {
        let mut parts: Vec<libc::iovec> = frames.iter().map(|frame| part(frame)).collect();
        let mut messages: Vec<libc::mmsghdr> = parts.iter_mut().map(message).collect();
        let (mut taken, mut next) = (0, 0);
        while next < messages.len() {
            let rest = &mut messages[next..];
            // SAFETY: the messages are as many as is said; they, the parts and the frames outlive the call.
            let sent = unsafe {
                libc::sendmmsg(
                    self.0.as_raw_fd(),
                    rest.as_mut_ptr(),
                    rest.len() as libc::c_uint,
                    0,
                )
            };
            match usize::try_from(sent) {
                Ok(sent) => (taken, next) = (taken + sent, next + sent),
                Err(_) => {
                    let error = io::Error::last_os_error();
                    let is_full = error.raw_os_error() == Some(libc::ENOBUFS);
                    ensure!(is_full, "send {} frames: {error}", frames.len());
                    next += 1;
                }
            }
        }
        Ok(taken)
    }

    /// The next frame that comes in and that somebody waits for.
    pub fn receive(
        &self,
        at_most: Duration,
        mut is_wanted: impl FnMut(&[u8]) -> bool,
    ) -> Option<Vec<u8>> {
        let start = Instant::now();
        while start.elapsed() < at_most {
            if let Some(frame) = receive(&self.0).filter(|frame| is_wanted(frame)) {
                return Some(frame);
            }
        }
        None
    }
}

fn send(wire: &OwnedFd, frame: &[u8]) -> io::Result<()> {
    // SAFETY: the pointer and the length are those of `frame`.
    let sent = unsafe { libc::send(wire.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn part(frame: &[u8]) -> libc::iovec {
    libc::iovec {
        iov_base: frame.as_ptr().cast_mut().cast(),
        iov_len: frame.len(),
    }
}

fn message(part: &mut libc::iovec) -> libc::mmsghdr {
    // SAFETY: all its fields are numbers or pointers, for which zero is a value.
    let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
    message.msg_hdr.msg_iov = part;
    message.msg_hdr.msg_iovlen = 1;
    message
}

fn open(device: &str) -> Result<OwnedFd> {
    let wire = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::EthAll,
    )?;
    setsockopt(&wire, sockopt::ReceiveTimeout, &TimeVal::milliseconds(50))?;
    setsockopt(&wire, sockopt::RcvBuf, &(4 << 20))?;
    let on = 1_i32;
    // SAFETY: the option is an int, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            wire.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_AUXDATA,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    ensure!(result == 0, "{}", io::Error::last_os_error());
    // SAFETY: all its fields are numbers.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = nix::net::if_::if_nametoindex(device)?.cast_signed();
    // SAFETY: the address is of the size that is passed, and outlives the call.
    let result = unsafe {
        libc::bind(
            wire.as_raw_fd(),
            (&raw const address).cast(),
            size_of_val(&address) as libc::socklen_t,
        )
    };
    ensure!(result == 0, "{}", io::Error::last_os_error());
    Ok(wire)
}

/// One frame that came in, with the outer tag that the kernel has taken off put back; `None` when nothing
/// came for a while, or what came was sent from here.
fn receive(wire: &OwnedFd) -> Option<Vec<u8>> {
    let mut frame = vec![0; LONGEST];
    let mut control = [0_u64; CONTROL_WORDS];
    let mut part = libc::iovec {
        iov_base: frame.as_mut_ptr().cast(),
        iov_len: frame.len(),
    };
    // SAFETY: all fields of both are numbers or pointers, for which zero is a value.
    let (mut address, mut message): (libc::sockaddr_ll, libc::msghdr) =
        unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    message.msg_name = (&raw mut address).cast();
    message.msg_namelen = size_of_val(&address) as libc::socklen_t;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control);
    // SAFETY: everything that the message points to outlives the call and has the size that it says.
    let length = unsafe { libc::recvmsg(wire.as_raw_fd(), &raw mut message, 0) };
    frame.truncate(usize::try_from(length).ok()?);
    if address.sll_pkttype == libc::PACKET_OUTGOING {
        return None;
    }
    if let Some(tag) = tag_beside(&message) {
        frame.splice(TAGS_AT..TAGS_AT, tag);
    }
    Some(frame)
}

fn tag_beside(message: &libc::msghdr) -> Option<[u8; 4]> {
    // SAFETY: the kernel has filled the message, whose buffers are alive.
    let header = unsafe { libc::CMSG_FIRSTHDR(message).as_ref() }?;
    if header.cmsg_level != libc::SOL_PACKET || header.cmsg_type != libc::PACKET_AUXDATA {
        return None;
    }
    // SAFETY: a control message of this type holds this struct, maybe not aligned.
    let about = unsafe {
        libc::CMSG_DATA(header)
            .cast::<libc::tpacket_auxdata>()
            .read_unaligned()
    };
    if about.tp_status & libc::TP_STATUS_VLAN_VALID == 0 {
        return None;
    }
    let [a, b] = about.tp_vlan_tpid.to_be_bytes();
    let [c, d] = about.tp_vlan_tci.to_be_bytes();
    Some([a, b, c, d])
}
