//! What tells the neighbours on a link that an address is at a MAC address now.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use forebay_common::wire::checksum;

use crate::control_plane::Claim;

const BROADCAST: [u8; 6] = [0xff; 6];
/// MAC address of ff02::1 (RFC 2464 section 7).
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;

/// Ethernet and IPv4, addresses of six and four octets, request.
const ARP_REQUEST: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 1];

/// Version 6, 32 octets of ICMPv6, hop limit 255.
const IPV6_START: [u8; 8] = [0x60, 0, 0, 0, 0, 32, 58, 255];
/// Type and code of a neighbour advertisement, room for the checksum.
const ADVERTISEMENT: [u8; 4] = [136, 0, 0, 0];
/// Flag "override": it takes the place of what is known (RFC 4861 section 4.4).
const OVERRIDE: [u8; 4] = [0x20, 0, 0, 0];
/// Option: MAC address of the target, one unit of eight octets.
const TARGET_MAC: [u8; 2] = [2, 1];

/// The frame that announces a claim: an ARP announcement (RFC 5227 section 3), or an unsolicited
/// neighbour advertisement (RFC 4861 section 7.2.6).
pub(super) fn announcement(claim: &Claim) -> Vec<u8> {
    match claim.address {
        IpAddr::V4(address) => arp(claim.mac, address),
        IpAddr::V6(address) => advertisement(claim.mac, address),
    }
}

fn ethernet(to: [u8; 6], from: [u8; 6], kind: u16) -> Vec<u8> {
    [&to[..], &from, &kind.to_be_bytes()].concat()
}

fn arp(mac: [u8; 6], address: Ipv4Addr) -> Vec<u8> {
    let mut frame = ethernet(BROADCAST, mac, ARP);
    frame.extend(ARP_REQUEST);
    frame.extend(mac);
    frame.extend(address.octets());
    frame.extend([0; 6]);
    frame.extend(address.octets());
    frame
}

fn advertisement(mac: [u8; 6], address: Ipv6Addr) -> Vec<u8> {
    let mut message = ADVERTISEMENT.to_vec();
    message.extend(OVERRIDE);
    message.extend(address.octets());
    message.extend(TARGET_MAC);
    message.extend(mac);
    let checksum = icmp_checksum(address, ALL_NODES, &message);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    let mut frame = ethernet(ALL_NODES_MAC, mac, IPV6);
    frame.extend(IPV6_START);
    frame.extend(address.octets());
    frame.extend(ALL_NODES.octets());
    frame.extend(message);
    frame
}

/// Over pseudo-header (RFC 8200 section 8.1) and message.
fn icmp_checksum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> u16 {
    let words = |bytes: &[u8]| -> u64 {
        let pairs = bytes.chunks_exact(2);
        pairs
            .map(|pair| u64::from(pair[0]) << 8 | u64::from(pair[1]))
            .sum()
    };
    let pseudo = message.len() as u64 + 58;
    let sum = pseudo + words(&source.octets()) + words(&destination.octets()) + words(message);
    !checksum::fold(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];

    fn frame(address: &str) -> Vec<u8> {
        announcement(&Claim {
            address: address.parse().unwrap(),
            interface: "eth0".to_owned(),
            ifindex: 7,
            mac: MAC,
            link_ups: 1,
        })
    }

    #[test]
    fn ipv4_is_a_broadcast_request_for_the_senders_own_address() {
        let frame = frame("203.0.113.10");
        assert_eq!(frame[..6], [0xff; 6]);
        assert_eq!(frame[6..12], MAC);
        assert_eq!(frame[12..22], [8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        assert_eq!(frame[22..28], MAC);
        assert_eq!(frame[28..32], [203, 0, 113, 10]);
        assert_eq!(frame[32..38], [0; 6]);
        assert_eq!(frame[38..], [203, 0, 113, 10]);
    }

    #[test]
    fn ipv6_is_an_overriding_advertisement_to_all_nodes() {
        let frame = frame("2001:db8:1::10");
        let address = "2001:db8:1::10".parse::<Ipv6Addr>().unwrap().octets();
        assert_eq!(frame[..6], ALL_NODES_MAC);
        assert_eq!(frame[12..14], [0x86, 0xdd]);
        assert_eq!((frame[18], frame[19]), (0, 32), "payload length");
        assert_eq!((frame[20], frame[21]), (58, 255), "ICMPv6, never routed");
        assert_eq!(frame[22..38], address);
        assert_eq!(frame[38..54], ALL_NODES.octets());
        assert_eq!(frame[54..56], [136, 0]);
        assert_eq!(
            frame[58..62],
            [0x20, 0, 0, 0],
            "not solicited, not a router, override"
        );
        assert_eq!(frame[62..78], address);
        assert_eq!(frame[78..80], [2, 1]);
        assert_eq!(frame[80..], MAC);
    }

    #[test]
    fn the_checksum_is_what_a_receiver_computes() {
        let frame = frame("2001:db8:ffff:abcd::1:10");
        // All ones when the checksum itself is summed as well.
        assert_eq!(icmp_checksum_over(&frame), 0);
    }

    fn icmp_checksum_over(frame: &[u8]) -> u16 {
        let mut sum = 32_u32 + 58;
        for pair in frame[22..].chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair[1]]));
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }
}
