//! RSTs of the daemon's own, in the name of others.

use std::io::{self, IoSlice};
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result};
use etherparse::PacketBuilder;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn,
    SockaddrIn6, sendmsg, socket,
};

use crate::control_plane::Reset;

/// Hops that a RST may go.
const HOPS: u8 = 64;

/// Sends RSTs from addresses that the host need not have, by the host's routes.
#[derive(Debug)]
pub struct ResetSocket {
    v4: OwnedFd,
    /// Absent where the kernel has no IPv6.
    v6: Option<OwnedFd>,
}

impl ResetSocket {
    /// Needs CAP_NET_RAW.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn open() -> Result<Self> {
        let v4 = raw(AddressFamily::Inet).context("open a raw socket (CAP_NET_RAW)")?;
        let v6 = match raw(AddressFamily::Inet6) {
            Ok(v6) => Some(v6),
            Err(nix::Error::EAFNOSUPPORT) => None,
            Err(error) => return Err(error).context("open a raw IPv6 socket (CAP_NET_RAW)"),
        };
        if let Some(v6) = &v6 {
            // Else the kernel refuses to route for a source that is not its own.
            bind_freely(v6).context("let a raw IPv6 socket use any source")?;
        }
        Ok(Self { v4, v6 })
    }

    /// Sends one.
    ///
    /// # Errors
    /// There is no way to its receiver, or a queue is full.
    pub fn send(&self, reset: &Reset) -> io::Result<()> {
        self.send_packet(reset, &packet(reset, Segment::Reset)?)
    }

    /// Makes the receiver say what it expects, as a keep-alive does (RFC 9293 section 3.8.4).
    ///
    /// # Errors
    /// As for a RST.
    pub fn ask(&self, reset: &Reset) -> io::Result<()> {
        self.send_packet(reset, &packet(reset, Segment::KeepAlive)?)
    }

    fn send_packet(&self, reset: &Reset, packet: &[u8]) -> io::Result<()> {
        match (reset.source, reset.destination) {
            (SocketAddr::V4(source), SocketAddr::V4(destination)) => {
                self.send4(packet, source, destination)
            }
            (SocketAddr::V6(source), SocketAddr::V6(destination)) => {
                self.send6(packet, source, destination)
            }
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn send4(&self, packet: &[u8], source: SocketAddrV4, to: SocketAddrV4) -> io::Result<()> {
        // Policy rules may look at the source.
        let route_as = libc::in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: libc::in_addr {
                s_addr: u32::from(*source.ip()).to_be(),
            },
            ipi_addr: libc::in_addr { s_addr: 0 },
        };
        sendmsg(
            self.v4.as_raw_fd(),
            &[IoSlice::new(packet)],
            &[ControlMessage::Ipv4PacketInfo(&route_as)],
            MsgFlags::MSG_DONTWAIT,
            Some(&SockaddrIn::from(SocketAddrV4::new(*to.ip(), 0))),
        )?;
        Ok(())
    }

    fn send6(&self, packet: &[u8], source: SocketAddrV6, to: SocketAddrV6) -> io::Result<()> {
        let v6 = self.v6.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        let route_as = libc::in6_pktinfo {
            ipi6_addr: libc::in6_addr {
                s6_addr: source.ip().octets(),
            },
            ipi6_ifindex: 0,
        };
        sendmsg(
            v6.as_raw_fd(),
            &[IoSlice::new(packet)],
            &[ControlMessage::Ipv6PacketInfo(&route_as)],
            MsgFlags::MSG_DONTWAIT,
            // The kernel takes the port of a raw socket's destination for a protocol number.
            Some(&SockaddrIn6::from(SocketAddrV6::new(*to.ip(), 0, 0, 0))),
        )?;
        Ok(())
    }
}

/// A socket whose packets bring their own IP header (raw(7)).
fn raw(family: AddressFamily) -> nix::Result<OwnedFd> {
    socket(
        family,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::Raw,
    )
}

fn bind_freely(socket: &OwnedFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option's value is an int that lives through the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IPV6,
            libc::IPV6_FREEBIND,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// What is sent.
#[derive(Debug, Clone, Copy)]
enum Segment {
    /// A RST as RFC 9293 section 3.10.7.1 wants it, without an acknowledgement and without a window.
    Reset,
    /// What the receiver has acknowledged last, once more and without content.
    KeepAlive,
}

fn packet(reset: &Reset, segment: Segment) -> io::Result<Vec<u8>> {
    let builder = match (reset.source, reset.destination) {
        (SocketAddr::V4(source), SocketAddr::V4(destination)) => {
            PacketBuilder::ipv4(source.ip().octets(), destination.ip().octets(), HOPS)
        }
        (SocketAddr::V6(source), SocketAddr::V6(destination)) => {
            PacketBuilder::ipv6(source.ip().octets(), destination.ip().octets(), HOPS)
        }
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    };
    let (from, to) = (reset.source.port(), reset.destination.port());
    let builder = match segment {
        Segment::Reset => builder.tcp(from, to, reset.sequence, 0).rst(),
        Segment::KeepAlive => builder
            .tcp(from, to, reset.sequence.wrapping_sub(1), u16::MAX)
            .ack(reset.acknowledged),
    };
    let mut bytes = Vec::with_capacity(builder.size(0));
    builder.write(&mut bytes, &[]).map_err(io::Error::other)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};

    use super::*;

    fn reset(source: &str, destination: &str) -> Reset {
        Reset {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            sequence: 0xfedc_ba98,
            acknowledged: 0x1234_5678,
        }
    }

    #[test]
    fn a_reset_is_a_bare_one_with_valid_checksums() {
        for reset in [
            reset("203.0.113.10:80", "198.51.100.7:40000"),
            reset("[2001:db8:1::10]:80", "[2001:db8::7]:40000"),
        ] {
            let bytes = packet(&reset, Segment::Reset).unwrap();
            let found = SlicedPacket::from_ip(&bytes).unwrap();
            let Some(TransportSlice::Tcp(tcp)) = found.transport else {
                panic!("no TCP: {bytes:02x?}")
            };
            let header = tcp.to_header();
            assert_eq!(header.source_port, reset.source.port());
            assert_eq!(header.destination_port, reset.destination.port());
            assert_eq!(header.sequence_number, reset.sequence);
            assert!(header.rst && !header.ack && !header.syn && !header.fin);
            let expected = match found.net {
                Some(NetSlice::Ipv4(ip)) => {
                    let ip = ip.header().to_header();
                    assert_eq!(ip.header_checksum, ip.calc_header_checksum());
                    header.calc_checksum_ipv4(&ip, &[]).unwrap()
                }
                Some(NetSlice::Ipv6(ip)) => {
                    let ip = ip.header().to_header();
                    header.calc_checksum_ipv6(&ip, &[]).unwrap()
                }
                other => panic!("no IP: {other:?}"),
            };
            assert_eq!(header.checksum, expected);
        }
    }

    #[test]
    fn a_keep_alive_says_what_is_known_already() {
        let asked = reset("203.0.113.10:80", "198.51.100.7:40000");
        let bytes = packet(&asked, Segment::KeepAlive).unwrap();
        let found = SlicedPacket::from_ip(&bytes).unwrap();
        let Some(TransportSlice::Tcp(tcp)) = found.transport else {
            panic!("no TCP: {bytes:02x?}")
        };
        assert_eq!(tcp.sequence_number(), asked.sequence - 1);
        assert_eq!(tcp.acknowledgment_number(), asked.acknowledged);
        assert!(tcp.ack() && !tcp.rst() && !tcp.syn() && !tcp.fin());
        assert!(tcp.payload().is_empty());
    }

    #[test]
    fn families_are_not_mixed() {
        let mixed = reset("203.0.113.10:80", "[2001:db8::7]:40000");
        packet(&mixed, Segment::Reset).unwrap_err();
    }
}
