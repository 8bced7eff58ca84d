//! ICMP (RFC 792) and ICMPv6 (RFC 4443) messages.

use super::checksum::{full, pseudo_header};
use super::neighbor::ethernet;
use super::verify::payload_of;
use super::{Fragment, Frame, retagged};
use crate::network::plan::{CLIENT, FRONTEND, GATEWAY, Link, MacAddress, NORTH, Way};
use crate::network::{Host, IpVersion};

/// An ICMP message of either version.
#[derive(Debug, Clone)]
pub struct IcmpMessage {
    /// IPv4 or IPv6.
    pub version: IpVersion,
    /// Source and destination of the frame.
    pub macs: [MacAddress; 2],
    /// VLAN tags.
    pub tags: Vec<(u16, u16)>,
    /// Source and destination of the packet.
    pub addresses: [Host; 2],
    /// Type of service or traffic class.
    pub class: u8,
    /// IPv4 identification, and the fragment field.
    pub fragment: (u16, u16),
    /// TTL or hop limit.
    pub hops: u8,
    /// IPv4 options, 32-bit words.
    pub option_words: u8,
    /// IPv6 extension headers of eight bytes each, by type.
    pub extensions: Vec<u8>,
    /// Type and code.
    pub kind: (u8, u8),
    /// The word after the checksum.
    pub rest: u32,
    /// What follows it.
    pub body: Vec<u8>,
}

impl IcmpMessage {
    /// A message as a host sends it.
    pub fn new(version: IpVersion, source: Host, destination: Host, kind: (u8, u8)) -> Self {
        Self {
            version,
            macs: [[0; 6]; 2],
            tags: Vec::new(),
            addresses: [source, destination],
            class: 0,
            fragment: (0x4321, 0),
            hops: 64,
            option_words: 0,
            extensions: Vec::new(),
            kind,
            rest: 0,
            body: Vec::new(),
        }
    }

    /// An error of `reporter` to the sender of a packet, about the packet, with all of it.
    pub fn error(reporter: Host, packet: &Frame, kind: (u8, u8), rest: u32) -> Self {
        Self {
            rest,
            body: packet.packet(),
            ..Self::new(packet.version, reporter, packet.source, kind)
        }
    }

    /// An echo request of a client to a frontend.
    pub fn echo(version: IpVersion, body: &[u8]) -> Self {
        let kind = match version {
            IpVersion::V4 => (8, 0),
            IpVersion::V6 => (128, 0),
        };
        Self {
            macs: [GATEWAY.mac, NORTH.mac],
            rest: 0x0102_0003,
            body: body.to_vec(),
            ..Self::new(version, CLIENT, FRONTEND, kind)
        }
    }

    /// The reply to an echo request.
    #[must_use]
    pub fn echoed(&self) -> Self {
        let kind = match self.version {
            IpVersion::V4 => (0, 0),
            IpVersion::V6 => (129, 0),
        };
        Self {
            macs: [self.macs[1], self.macs[0]],
            addresses: [self.addresses[1], self.addresses[0]],
            hops: 64,
            kind,
            ..self.clone()
        }
    }

    /// The same, from `mac` to an interface.
    #[must_use]
    pub fn from_link(self, mac: MacAddress, ingress: &Link) -> Self {
        Self {
            macs: [mac, ingress.mac],
            ..self
        }
    }

    /// The same as it leaves the node that it came to by `ingress`: see [`Frame::leaving`].
    #[must_use]
    pub fn leaving(self, ingress: &Link, way: Way) -> Self {
        Self {
            macs: [way.link.mac, way.mac],
            hops: self.hops.wrapping_sub(1),
            tags: retagged(ingress, &self.tags, way),
            ..self
        }
    }

    /// Its fragment of a number, cut to pieces of these many octets.
    pub fn piece(&self, lengths: &[usize], number: usize) -> Frame {
        let at: usize = lengths[..number].iter().sum();
        let mut content = self.message();
        content.drain(..at);
        content.truncate(lengths[number]);
        Frame {
            macs: self.macs,
            tags: self.tags.clone(),
            source: self.addresses[0],
            destination: self.addresses[1],
            protocol: if self.version == IpVersion::V4 { 1 } else { 58 },
            hops: self.hops,
            fragment: Some(Fragment {
                offset: (at / 8) as u16,
                more: number + 1 < lengths.len(),
            }),
            raw: Some(content),
            ..Frame::of(self.version)
        }
    }

    /// Length of the packet.
    pub fn ip_length(&self) -> usize {
        let header = match self.version {
            IpVersion::V4 => 20 + 4 * usize::from(self.option_words),
            IpVersion::V6 => 40 + 8 * self.extensions.len(),
        };
        header + 8 + self.body.len()
    }

    /// An error about the packet in `frame` as the node itself sends it back: with as much of the packet
    /// as fits.
    pub fn about(frame: &[u8], version: IpVersion, kind: (u8, u8), rest: u32) -> Self {
        let (_, packet) = payload_of(frame).expect("the frame has a packet");
        let longest = match version {
            IpVersion::V4 => 576 - 28,
            IpVersion::V6 => 1280 - 48,
        };
        let length = match version {
            IpVersion::V4 => usize::from(u16::from_be_bytes([packet[2], packet[3]])),
            IpVersion::V6 => 40 + usize::from(u16::from_be_bytes([packet[4], packet[5]])),
        };
        let length = length.min(packet.len()).min(longest) & !3;
        let mac = |at: usize| frame[at..at + 6].try_into().expect("six octets");
        let none = Host::new([0; 4], [0; 8]);
        Self {
            macs: [mac(0), mac(6)],
            class: if version == IpVersion::V4 { 0xc0 } else { 0 },
            fragment: (0, 0x4000),
            rest,
            body: packet[..length].to_vec(),
            ..Self::new(version, none, none, kind)
        }
    }

    /// The same between other hosts.
    #[must_use]
    pub fn between(self, source: Host, destination: Host) -> Self {
        Self {
            addresses: [source, destination],
            ..self
        }
    }

    /// The bytes of the frame.
    pub fn build(&self) -> Vec<u8> {
        let message = self.message();
        match self.version {
            IpVersion::V4 => self.build_v4(message),
            IpVersion::V6 => self.build_v6(message),
        }
    }

    /// What is behind the IP header.
    fn message(&self) -> Vec<u8> {
        let mut message = vec![self.kind.0, self.kind.1, 0, 0];
        message.extend(self.rest.to_be_bytes());
        message.extend(&self.body);
        let checksum = match self.version {
            IpVersion::V4 => full(&[&message]),
            IpVersion::V6 => {
                let [source, destination] = self.addresses.map(|host| host.v6.octets());
                let pseudo = pseudo_header(&source, &destination, 58, message.len());
                full(&[&pseudo, &message])
            }
        };
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
        message
    }

    fn build_v4(&self, message: Vec<u8>) -> Vec<u8> {
        let mut header = vec![0x45 + self.option_words, self.class];
        header.extend((self.ip_length() as u16).to_be_bytes());
        header.extend(self.fragment.0.to_be_bytes());
        header.extend(self.fragment.1.to_be_bytes());
        header.extend([self.hops, 1, 0, 0]);
        header.extend(self.addresses.map(|host| host.v4.octets()).concat());
        // "No operation" options.
        header.resize(20 + 4 * usize::from(self.option_words), 1);
        let checksum = full(&[&header]);
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        [ethernet(self.macs, &self.tags, 0x0800), header, message].concat()
    }

    fn build_v6(&self, message: Vec<u8>) -> Vec<u8> {
        let [source, destination] = self.addresses.map(|host| host.v6.octets());
        let mut header = (6 << 28 | u32::from(self.class) << 20)
            .to_be_bytes()
            .to_vec();
        header.extend((self.ip_length() as u16 - 40).to_be_bytes());
        let kinds = [&self.extensions[..], &[58]].concat();
        header.extend([kinds[0], self.hops]);
        header.extend(source);
        header.extend(destination);
        for next in &kinds[1..] {
            // One option of padding.
            header.extend([*next, 0, 1, 4, 0, 0, 0, 0]);
        }
        [ethernet(self.macs, &self.tags, 0x86dd), header, message].concat()
    }
}
