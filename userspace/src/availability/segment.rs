//! The frames of a trial.

use std::io;
use std::net::SocketAddr;

use etherparse::PacketBuilder;

/// TTL or hop limit, as of a packet that has come a way.
const HOPS: u8 = 64;
/// Frames are no shorter on a wire (IEEE 802.3), checksum left out.
const SHORTEST: usize = 60;

/// A SYN, and the RST that takes it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Where it comes from.
    pub source: SocketAddr,
    /// The frontend's address and port.
    pub destination: SocketAddr,
    /// Sequence number of the SYN.
    pub sequence: u32,
    /// The MAC address that it comes from.
    pub source_mac: [u8; 6],
    /// The MAC address of the interface that it comes in on.
    pub destination_mac: [u8; 6],
}

impl Segment {
    /// The SYN as a frame.
    ///
    /// # Errors
    /// Source and destination are of different families.
    pub fn syn(&self) -> io::Result<Vec<u8>> {
        self.frame(false)
    }

    /// The RST as a frame.
    ///
    /// # Errors
    /// As before.
    pub fn reset(&self) -> io::Result<Vec<u8>> {
        self.frame(true)
    }

    /// What an answer acknowledges.
    pub fn acknowledged(&self) -> u32 {
        self.sequence.wrapping_add(1)
    }

    fn frame(&self, is_reset: bool) -> io::Result<Vec<u8>> {
        let ethernet = PacketBuilder::ethernet2(self.source_mac, self.destination_mac);
        let ip = match (self.source, self.destination) {
            (SocketAddr::V4(source), SocketAddr::V4(destination)) => {
                ethernet.ipv4(source.ip().octets(), destination.ip().octets(), HOPS)
            }
            (SocketAddr::V6(source), SocketAddr::V6(destination)) => {
                ethernet.ipv6(source.ip().octets(), destination.ip().octets(), HOPS)
            }
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        let (from, to) = (self.source.port(), self.destination.port());
        let builder = if is_reset {
            ip.tcp(from, to, self.acknowledged(), 0).rst()
        } else {
            ip.tcp(from, to, self.sequence, u16::MAX).syn()
        };
        let mut bytes = Vec::with_capacity(builder.size(0).max(SHORTEST));
        builder.write(&mut bytes, &[]).map_err(io::Error::other)?;
        bytes.resize(bytes.len().max(SHORTEST), 0);
        Ok(bytes)
    }
}
