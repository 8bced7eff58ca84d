//! ARP (RFC 826) and neighbour discovery (RFC 4861) messages.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::checksum::{full, pseudo_header};
use crate::network::plan::MacAddress;

/// An ARP message for IPv4 over Ethernet.
#[derive(Debug, Clone)]
pub struct ArpMessage {
    /// Source and destination of the frame.
    pub macs: [MacAddress; 2],
    /// VLAN tags.
    pub tags: Vec<(u16, u16)>,
    /// Hardware type.
    pub hardware: u16,
    /// Lengths of MAC and IP addresses.
    pub lengths: [u8; 2],
    /// 1: request, 2: reply.
    pub operation: u16,
    /// Sender.
    pub sender: (MacAddress, Ipv4Addr),
    /// Target.
    pub target: (MacAddress, Ipv4Addr),
}

impl ArpMessage {
    /// A broadcast request.
    pub fn request(sender: (MacAddress, Ipv4Addr), target: Ipv4Addr) -> Self {
        Self {
            macs: [sender.0, [0xff; 6]],
            tags: Vec::new(),
            hardware: 1,
            lengths: [6, 4],
            operation: 1,
            sender,
            target: ([0; 6], target),
        }
    }

    /// The answer to a request from whoever has `mac`.
    pub fn answered_by(&self, mac: MacAddress) -> Self {
        Self {
            macs: [mac, self.macs[0]],
            operation: 2,
            sender: (mac, self.target.1),
            target: self.sender,
            ..self.clone()
        }
    }

    /// The bytes of the frame.
    pub fn build(&self) -> Vec<u8> {
        let mut bytes = ethernet(self.macs, &self.tags, 0x0806);
        bytes.extend(self.hardware.to_be_bytes());
        bytes.extend(0x0800_u16.to_be_bytes());
        bytes.extend(self.lengths);
        bytes.extend(self.operation.to_be_bytes());
        for (mac, address) in [self.sender, self.target] {
            bytes.extend(mac);
            bytes.extend(address.octets());
        }
        bytes
    }
}

/// A neighbour solicitation or advertisement.
#[derive(Debug, Clone)]
pub struct NeighborMessage {
    /// Source and destination of the frame.
    pub macs: [MacAddress; 2],
    /// VLAN tags.
    pub tags: Vec<(u16, u16)>,
    /// Source and destination of the packet.
    pub addresses: [Ipv6Addr; 2],
    /// Hop limit.
    pub hops: u8,
    /// 135: solicitation, 136: advertisement.
    pub kind: u8,
    /// Flags of an advertisement.
    pub flags: u32,
    /// The address it is about.
    pub target: Ipv6Addr,
    /// Options: type, length in units of eight bytes, and content.
    pub options: Vec<u8>,
}

/// The multicast group of those that have an address.
fn solicited_node(target: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = target.octets();
    Ipv6Addr::new(
        0xff02,
        0,
        0,
        0,
        0,
        1,
        0xff00 | u16::from(a),
        u16::from_be_bytes([b, c]),
    )
}

fn option(kind: u8, mac: MacAddress) -> Vec<u8> {
    [&[kind, 1][..], &mac].concat()
}

impl NeighborMessage {
    /// A multicast solicitation.
    pub fn solicitation(sender: (MacAddress, Ipv6Addr), target: Ipv6Addr) -> Self {
        let group = solicited_node(target);
        let [.., a, b, c, d] = group.octets();
        Self {
            macs: [sender.0, [0x33, 0x33, a, b, c, d]],
            tags: Vec::new(),
            addresses: [sender.1, group],
            hops: 255,
            kind: 135,
            flags: 0,
            target,
            options: option(1, sender.0),
        }
    }

    /// The answer of whoever has `mac`: overriding, and solicited unless nobody asked (RFC 4861 section
    /// 7.2.4).
    pub fn answered_by(&self, mac: MacAddress) -> Self {
        let is_detection = self.addresses[0].is_unspecified();
        let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        let (to, to_mac, flags) = if is_detection {
            (all_nodes, [0x33, 0x33, 0, 0, 0, 1], 0x2000_0000)
        } else {
            (self.addresses[0], self.macs[0], 0x6000_0000)
        };
        Self {
            macs: [mac, to_mac],
            addresses: [self.target, to],
            kind: 136,
            flags,
            options: option(2, mac),
            ..self.clone()
        }
    }

    /// The bytes of the frame.
    pub fn build(&self) -> Vec<u8> {
        let mut message = vec![self.kind, 0, 0, 0];
        message.extend(self.flags.to_be_bytes());
        message.extend(self.target.octets());
        message.extend(&self.options);
        let [source, destination] = self.addresses.map(|address| address.octets());
        let pseudo = pseudo_header(&source, &destination, 58, message.len());
        let checksum = full(&[&pseudo, &message]);
        message[2..4].copy_from_slice(&checksum.to_be_bytes());

        let mut bytes = ethernet(self.macs, &self.tags, 0x86dd);
        bytes.extend(0x6000_0000_u32.to_be_bytes());
        bytes.extend((message.len() as u16).to_be_bytes());
        bytes.extend([58, self.hops]);
        bytes.extend(source);
        bytes.extend(destination);
        bytes.extend(message);
        bytes
    }
}

pub(super) fn ethernet(macs: [MacAddress; 2], tags: &[(u16, u16)], ethertype: u16) -> Vec<u8> {
    let [source, destination] = macs;
    let mut bytes = [destination, source].concat();
    for (kind, tci) in tags {
        bytes.extend(kind.to_be_bytes());
        bytes.extend(tci.to_be_bytes());
    }
    bytes.extend(ethertype.to_be_bytes());
    bytes
}
