//! Frames as bytes, checksums computed in full, and the sums that the driver completes.

use forebay_common::family::{V4, V6};
use forebay_common::wire::{Mac, TCP, UDP, checksum, tcp_flags};

/// Frames are filled up to this length.
const SHORTEST: usize = 64;
const ETHERNET: usize = 14;

/// A TCP or UDP packet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Headers<A> {
    pub(crate) to: Mac,
    pub(crate) from: Mac,
    pub(crate) source: A,
    pub(crate) destination: A,
    /// Both ports as in the header.
    pub(crate) ports: u32,
    pub(crate) protocol: u8,
    /// Of TCP.
    pub(crate) flags: u8,
    pub(crate) hops: u8,
}

/// What the driver adds the changing words to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sums {
    pub(crate) ip: u64,
    pub(crate) transport: u64,
}

/// How a family is written down.
pub(crate) trait Written: Copy {
    /// Ethernet type.
    const ETHERTYPE: u16;
    /// Bytes of the address.
    fn octets(self) -> Vec<u8>;
    /// The IP header, its checksum zero.
    fn ip_header(headers: &Headers<Self>, payload: u16) -> Vec<u8>;
    /// Where the IP header has its checksum.
    const CHECKSUM: Option<usize>;
}

impl Written for V4 {
    const ETHERTYPE: u16 = 0x0800;
    const CHECKSUM: Option<usize> = Some(10);

    fn octets(self) -> Vec<u8> {
        self.0.to_ne_bytes().to_vec()
    }

    fn ip_header(headers: &Headers<Self>, payload: u16) -> Vec<u8> {
        let mut bytes = vec![0x45, 0];
        bytes.extend((20 + payload).to_be_bytes());
        bytes.extend([0, 0, 0x40, 0, headers.hops, headers.protocol, 0, 0]);
        bytes.extend(headers.source.octets());
        bytes.extend(headers.destination.octets());
        bytes
    }
}

impl Written for V6 {
    const ETHERTYPE: u16 = 0x86dd;
    const CHECKSUM: Option<usize> = None;

    fn octets(self) -> Vec<u8> {
        self.0.into_iter().flat_map(u64::to_ne_bytes).collect()
    }

    fn ip_header(headers: &Headers<Self>, payload: u16) -> Vec<u8> {
        let mut bytes = vec![0x60, 0, 0, 0];
        bytes.extend(payload.to_be_bytes());
        bytes.extend([headers.protocol, headers.hops]);
        bytes.extend(headers.source.octets());
        bytes.extend(headers.destination.octets());
        bytes
    }
}

/// Sum of 16-bit words in memory order.
fn sum(bytes: &[u8]) -> u64 {
    bytes
        .chunks(2)
        .map(|word| u64::from(u16::from_ne_bytes([word[0], *word.get(1).unwrap_or(&0)])))
        .sum()
}

/// Transport header and payload, the checksum zero, and where it belongs.
fn transport<A: Written>(headers: &Headers<A>, room: usize) -> (Vec<u8>, usize) {
    let mut bytes = headers.ports.to_ne_bytes().to_vec();
    let at = if headers.protocol == TCP {
        // Sequence and acknowledgement number; a header of five words, flags; window.
        let flags = headers.flags;
        bytes.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        16
    } else {
        bytes.extend([0; 4]);
        6
    };
    if headers.protocol != TCP || headers.flags != tcp_flags::SYN {
        bytes.resize(bytes.len().max(room), 0);
    }
    if headers.protocol == UDP {
        let length = bytes.len() as u16;
        bytes[4..6].copy_from_slice(&length.to_be_bytes());
    }
    (bytes, at)
}

impl<A: Written> Headers<A> {
    fn parts(&self) -> (Vec<u8>, Vec<u8>, usize) {
        let header = A::ip_header(self, 0).len();
        let (above, at) = transport(self, SHORTEST.saturating_sub(ETHERNET + header));
        (A::ip_header(self, above.len() as u16), above, at)
    }

    fn pseudo_header_sum(&self, length: usize) -> u64 {
        let length = u64::from((length as u16).to_be());
        let protocol = u64::from(u16::from(self.protocol).to_be());
        sum(&self.source.octets()) + sum(&self.destination.octets()) + length + protocol
    }

    /// Sums over everything as it stands here, checksums aside.
    pub(crate) fn sums(&self) -> Sums {
        let (ip, above, _) = self.parts();
        Sums {
            ip: sum(&ip),
            transport: sum(&above) + self.pseudo_header_sum(above.len()),
        }
    }

    /// The frame.
    pub(crate) fn build(&self) -> Vec<u8> {
        let (mut ip, mut above, at) = self.parts();
        let sums = self.sums();
        if let Some(at) = A::CHECKSUM {
            ip[at..at + 2].copy_from_slice(&(!checksum::fold(sums.ip)).to_ne_bytes());
        }
        above[at..at + 2].copy_from_slice(&(!checksum::fold(sums.transport)).to_ne_bytes());
        let mut frame = link(self.to, self.from, A::ETHERTYPE);
        frame.extend(ip);
        frame.extend(above);
        frame
    }
}

fn link(to: Mac, from: Mac, ethertype: u16) -> Vec<u8> {
    let mut bytes = [to.octets(), from.octets()].concat();
    bytes.extend(ethertype.to_be_bytes());
    bytes
}

/// An ARP request; the driver writes what changes.
pub(crate) fn arp(to: Mac, from: Mac, target: V4) -> Vec<u8> {
    let mut frame = link(to, from, 0x0806);
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend([0; 16]);
    frame.extend(target.octets());
    frame.resize(SHORTEST, 0);
    frame
}

/// A neighbour solicitation and the sum under its checksum; the driver writes what changes.
pub(crate) fn solicitation(to: Mac, from: Mac, asker: V6, target: V6) -> (Vec<u8>, u64) {
    let headers = Headers {
        to,
        from,
        source: asker,
        destination: target,
        ports: 0,
        protocol: 58,
        flags: 0,
        hops: 255,
    };
    let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target.octets());
    message.extend([1, 1]);
    message.extend(from.octets());
    let sum = sum(&message) + headers.pseudo_header_sum(message.len());
    let mut frame = link(to, from, V6::ETHERTYPE);
    frame.extend(V6::ip_header(&headers, message.len() as u16));
    frame.extend(message);
    (frame, sum)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn headers<A>(source: A, destination: A, protocol: u8) -> Headers<A> {
        let mac = Mac::from_octets([2, 0, 0, 0, 0, 1]);
        Headers {
            to: mac,
            from: mac,
            source,
            destination,
            ports: 0x5000_0504,
            protocol,
            flags: tcp_flags::ACK,
            hops: 64,
        }
    }

    /// A receiver adds everything up, the checksum included, and gets all ones.
    fn is_valid<A: Written>(headers: &Headers<A>) -> bool {
        let frame = headers.build();
        let start = ETHERNET + A::ip_header(headers, 0).len();
        let above = &frame[start..];
        let ip_is_valid =
            A::CHECKSUM.is_none() || checksum::fold(sum(&frame[ETHERNET..start])) == 0xffff;
        ip_is_valid && checksum::fold(sum(above) + headers.pseudo_header_sum(above.len())) == 0xffff
    }

    #[test]
    fn frames_are_valid_and_not_too_short() {
        let (a, b) = (Ipv4Addr::new(10, 1, 2, 3), Ipv4Addr::new(10, 9, 8, 7));
        let (c, d) = (Ipv6Addr::LOCALHOST, Ipv6Addr::new(1, 2, 3, 4, 5, 6, 7, 8));
        for protocol in [TCP, UDP] {
            let v4 = headers(V4::from(a), V4::from(b), protocol);
            let v6 = headers(V6::from(c), V6::from(d), protocol);
            assert!(is_valid(&v4) && is_valid(&v6), "{protocol}");
            assert!(v4.build().len() >= SHORTEST && v6.build().len() >= SHORTEST);
        }
    }
}
