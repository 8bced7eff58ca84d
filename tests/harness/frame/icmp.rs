//! ICMP (RFC 792) and ICMPv6 (RFC 4443) messages.

use super::checksum::{full, pseudo_header};
use super::neighbor::ethernet;
use super::verify::payload_of;
use crate::network::plan::MacAddress;
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
            kind,
            rest: 0,
            body: Vec::new(),
        }
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
        let mut message = vec![self.kind.0, self.kind.1, 0, 0];
        message.extend(self.rest.to_be_bytes());
        message.extend(&self.body);
        match self.version {
            IpVersion::V4 => self.build_v4(message),
            IpVersion::V6 => self.build_v6(message),
        }
    }

    fn build_v4(&self, mut message: Vec<u8>) -> Vec<u8> {
        let checksum = full(&[&message]);
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
        let mut header = vec![0x45, self.class];
        header.extend((20 + message.len() as u16).to_be_bytes());
        header.extend(self.fragment.0.to_be_bytes());
        header.extend(self.fragment.1.to_be_bytes());
        header.extend([self.hops, 1, 0, 0]);
        header.extend(self.addresses.map(|host| host.v4.octets()).concat());
        let checksum = full(&[&header]);
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        [ethernet(self.macs, &self.tags, 0x0800), header, message].concat()
    }

    fn build_v6(&self, mut message: Vec<u8>) -> Vec<u8> {
        let [source, destination] = self.addresses.map(|host| host.v6.octets());
        let pseudo = pseudo_header(&source, &destination, 58, message.len());
        let checksum = full(&[&pseudo, &message]);
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
        let mut header = (6 << 28 | u32::from(self.class) << 20)
            .to_be_bytes()
            .to_vec();
        header.extend((message.len() as u16).to_be_bytes());
        header.extend([58, self.hops]);
        header.extend(source);
        header.extend(destination);
        [ethernet(self.macs, &self.tags, 0x86dd), header, message].concat()
    }
}
