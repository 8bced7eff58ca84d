//! Frames to send through the packet path.
//!
//! A [`Frame`] is a description; `Default` describes a good one, so that a case says only what is
//! special about its own. Checksums are computed in full here, and checked in full by [`verify`]:
//! nothing of the packet path's arithmetic is used.

mod build;
mod checksum;
mod decode;
mod icmp;
mod neighbor;
mod verify;

pub use decode::decode;
pub use icmp::IcmpMessage;
pub use neighbor::{ArpMessage, NeighborMessage};
pub use verify::verify;

use crate::network::plan::{CLIENT, FRONTEND, GATEWAY, Link, MacAddress, NORTH, Way, vlan_of};
use crate::network::{Host, IpVersion};

/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Protocol number of UDP.
pub const UDP: u8 = 17;

/// TCP flag "no more data".
pub const FIN: u8 = 0x01;
/// TCP flag "first packet".
pub const SYN: u8 = 0x02;
/// TCP flag "the connection is no more".
pub const RST: u8 = 0x04;
/// TCP flag "deliver now".
pub const PSH: u8 = 0x08;
/// TCP flag "the acknowledgement number counts".
pub const ACK: u8 = 0x10;

/// Type of an IEEE 802.1Q tag.
pub const TAG: u16 = 0x8100;
/// Type of an IEEE 802.1ad tag.
pub const SERVICE_TAG: u16 = 0x88a8;

/// Which checksum the transport header gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// The one that the bytes add up to.
    Right,
    /// This one.
    Value(u16),
}

/// The fragment fields of an IPv4 header, or an IPv6 fragment header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// Offset, units of eight bytes.
    pub offset: u16,
    /// Whether more follow.
    pub more: bool,
}

/// What is deliberately wrong about a frame. `Default`: nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    /// Another Ethernet type.
    pub ethertype: Option<u16>,
    /// Another IP version.
    pub ip_version: Option<u8>,
    /// Another IPv4 header length, 32-bit words.
    pub header_words: Option<u8>,
    /// Another IPv4 total length or IPv6 payload length.
    pub length: Option<u16>,
    /// The frame ends after this many bytes.
    pub cut: Option<usize>,
    /// Zero bytes after the packet, as short frames have on a real link.
    pub padding: usize,
}

/// A frame with an IP packet in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// IPv4 or IPv6.
    pub version: IpVersion,
    /// The interface it comes in on.
    pub ingress: &'static Link,
    /// Source and destination MAC address.
    pub macs: [MacAddress; 2],
    /// VLAN tags, outer first: type and tag control information.
    pub tags: Vec<(u16, u16)>,
    /// Source address.
    pub source: Host,
    /// Destination address.
    pub destination: Host,
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Protocol number.
    pub protocol: u8,
    /// TCP flags.
    pub flags: u8,
    /// TCP sequence number.
    pub sequence: u32,
    /// TCP acknowledgement number.
    pub acknowledgement: u32,
    /// TTL or hop limit.
    pub hops: u8,
    /// What follows the transport header.
    pub payload: Vec<u8>,
    /// Checksum of the transport header.
    pub checksum: Checksum,
    /// IPv4 options, 32-bit words.
    pub option_words: u8,
    /// IPv6 extension headers of eight bytes each, by type.
    pub extensions: Vec<u8>,
    /// Makes the packet a fragment.
    pub fragment: Option<Fragment>,
    /// Identification of the packet, which its fragments share.
    pub identification: u16,
    /// What follows the IP header, instead of the transport header and the payload: a part of a packet.
    pub raw: Option<Vec<u8>>,
    /// What is wrong.
    pub faults: Faults,
}

/// The tags with which a frame leaves that came in with `tags`: those of a VLAN device, else none that a
/// VLAN device of the host has taken off, with the priority of before.
pub(crate) fn retagged(ingress: &Link, tags: &[(u16, u16)], way: Way) -> Vec<(u16, u16)> {
    let priority = tags.first().map_or(0, |tag| tag.1 & 0xf000);
    let is_priority_alone = matches!(tags, [(_, tci)] if tci & 0xfff == 0);
    let mut new = way.link.tags.to_vec();
    match new.first_mut() {
        Some(outer) => outer.1 |= priority,
        None if is_priority_alone || vlan_of(ingress, tags).is_some() => {}
        None => new = tags.to_vec(),
    }
    new
}

impl Default for Frame {
    /// The first packet of a TCP connection from a client to a frontend.
    fn default() -> Self {
        Self {
            version: IpVersion::V4,
            ingress: &NORTH,
            macs: [GATEWAY.mac, NORTH.mac],
            tags: Vec::new(),
            source: CLIENT,
            destination: FRONTEND,
            source_port: 40_000,
            destination_port: 80,
            protocol: TCP,
            flags: SYN,
            sequence: 1_000,
            acknowledgement: 0,
            hops: 64,
            payload: Vec::new(),
            checksum: Checksum::Right,
            option_words: 0,
            extensions: Vec::new(),
            fragment: None,
            identification: 0x1234,
            raw: None,
            faults: Faults::default(),
        }
    }
}

impl Frame {
    /// The default frame of a version.
    pub fn of(version: IpVersion) -> Self {
        Self {
            version,
            ..Self::default()
        }
    }

    /// A datagram from a client to the name service of a frontend.
    pub fn datagram(version: IpVersion) -> Self {
        Self {
            protocol: UDP,
            destination_port: 53,
            flags: 0,
            payload: b"question".to_vec(),
            ..Self::of(version)
        }
    }

    /// The same with other TCP flags; with an acknowledgement number if they have [`ACK`].
    #[must_use]
    pub fn flagged(self, flags: u8) -> Self {
        let acknowledgement = if flags & ACK != 0 { 5_000 } else { 0 };
        Self {
            flags,
            acknowledgement,
            ..self
        }
    }

    /// A packet the other way: addresses, ports and MAC addresses exchanged.
    #[must_use]
    pub fn turned(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            macs: [self.macs[1], self.macs[0]],
            ..self
        }
    }

    /// The same, coming in on another interface.
    #[must_use]
    pub fn from_link(self, ingress: &'static Link) -> Self {
        Self {
            macs: [self.macs[0], ingress.mac],
            ingress,
            ..self
        }
    }

    /// The same as it leaves the node: towards a next hop, with one hop less and the tags of the way.
    #[must_use]
    pub fn leaving(self, way: Way) -> Self {
        Self {
            macs: [way.link.mac, way.mac],
            hops: self.hops.wrapping_sub(1),
            tags: retagged(self.ingress, &self.tags, way),
            ..self
        }
    }

    /// The same with VLAN tags.
    #[must_use]
    pub fn tagged(self, tags: &[(u16, u16)]) -> Self {
        Self {
            tags: tags.to_vec(),
            ..self
        }
    }

    /// The IP packet in it.
    pub fn packet(&self) -> Vec<u8> {
        self.build().split_off(14 + 4 * self.tags.len())
    }

    /// The same towards another endpoint.
    #[must_use]
    pub fn towards(self, destination: Host, port: u16) -> Self {
        Self {
            destination,
            destination_port: port,
            ..self
        }
    }

    /// The same from another endpoint.
    #[must_use]
    pub fn coming_from(self, source: Host, port: u16) -> Self {
        Self {
            source,
            source_port: port,
            ..self
        }
    }

    /// The same with another payload length.
    #[must_use]
    pub fn with_payload(self, length: usize) -> Self {
        Self {
            payload: (0..length).map(|n| n as u8).collect(),
            ..self
        }
    }

    /// Length of IP header and payload, bytes: what counters and MTUs are about.
    pub fn ip_length(&self) -> u32 {
        let transport = if self.protocol == UDP { 8 } else { 20 };
        let header = match self.version {
            IpVersion::V4 => 20 + 4 * usize::from(self.option_words),
            IpVersion::V6 => {
                let fragment = if self.fragment.is_some() { 8 } else { 0 };
                40 + 8 * self.extensions.len() + fragment
            }
        };
        let content = match &self.raw {
            Some(raw) => raw.len(),
            None => transport + self.payload.len(),
        };
        (header + content) as u32
    }
}
