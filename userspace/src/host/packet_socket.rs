//! Frames of the daemon's own.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// Sends frames, receives none.
#[derive(Debug)]
pub struct PacketSocket {
    descriptor: OwnedFd,
}

impl PacketSocket {
    /// Needs CAP_NET_RAW.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn open() -> Result<Self> {
        // Protocol 0: the socket is given no frames.
        let descriptor = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            None,
        )
        .context("open a packet socket (CAP_NET_RAW)")?;
        Ok(Self { descriptor })
    }

    /// Sends a frame, link-layer header and all, out of an interface.
    ///
    /// # Errors
    /// The interface is gone or down, or its queue is full.
    pub fn send(&self, ifindex: u32, frame: &[u8]) -> io::Result<()> {
        // SAFETY: an all-zero sockaddr_ll is valid.
        let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        to.sll_family = libc::AF_PACKET as libc::sa_family_t;
        to.sll_ifindex = ifindex as libc::c_int;
        // SAFETY: frame and address are valid for reads of the lengths given.
        let sent = unsafe {
            libc::sendto(
                self.descriptor.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                libc::MSG_DONTWAIT,
                (&raw const to).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}
