//! Frames for people: what a failing test prints.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::verify::payload_of;
use super::{ACK, FIN, PSH, RST, SERVICE_TAG, SYN, TAG, TCP, UDP, verify};

/// A frame as text: a line of what it says, then its bytes. Reads as far as there is something to read.
pub fn decode(frame: &[u8]) -> String {
    let mut text = format!("{} bytes: ", frame.len());
    text.push_str(&link_layer(frame));
    match payload_of(frame) {
        Some((0x0800, packet)) => text.push_str(&ipv4(packet)),
        Some((0x86dd, packet)) => text.push_str(&ipv6(packet)),
        Some((0x0806, packet)) => text.push_str(&arp(packet)),
        Some((other, _)) => write!(text, "type {other:#06x}").expect("a string takes any text"),
        None => text.push_str("no Ethernet type"),
    }
    if let Err(wrong) = verify(frame) {
        write!(text, " [{wrong}]").expect("a string takes any text");
    }
    for (at, line) in frame.chunks(16).enumerate() {
        let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        write!(text, "\n    {:04x}  {}", at * 16, hex.join(" ")).expect("a string takes any text");
    }
    text
}

fn mac(bytes: &[u8]) -> String {
    let octets: Vec<String> = bytes.iter().map(|octet| format!("{octet:02x}")).collect();
    octets.join(":")
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    let word = bytes.get(at..at + 2)?;
    Some(u16::from_be_bytes([word[0], word[1]]))
}

fn link_layer(frame: &[u8]) -> String {
    let (Some(destination), Some(source)) = (frame.get(..6), frame.get(6..12)) else {
        return "cut Ethernet header, ".to_owned();
    };
    let mut text = format!("{} > {}, ", mac(source), mac(destination));
    for at in [12, 16] {
        match (word(frame, at), word(frame, at + 2)) {
            (Some(TAG | SERVICE_TAG), Some(tci)) => {
                write!(text, "vlan {}, ", tci & 0xfff).expect("a string takes any text");
            }
            _ => break,
        }
    }
    text
}

fn ipv4(packet: &[u8]) -> String {
    let Some(header) = packet.get(..20) else {
        return "cut IPv4 header".to_owned();
    };
    let octets = |at: usize| [header[at], header[at + 1], header[at + 2], header[at + 3]];
    let fragment = word(header, 6).unwrap_or(0);
    let mut text = format!(
        "IPv4 {} > {}, version {} header {} length {} ttl {} ",
        Ipv4Addr::from(octets(12)),
        Ipv4Addr::from(octets(16)),
        header[0] >> 4,
        (header[0] & 0x0f) * 4,
        word(header, 2).unwrap_or(0),
        header[8],
    );
    if fragment & 0x3fff != 0 {
        write!(text, "fragment {fragment:#06x} ").expect("a string takes any text");
    }
    let start = usize::from(header[0] & 0x0f) * 4;
    text + &transport(header[9], packet.get(start..).unwrap_or(&[]))
}

fn ipv6(packet: &[u8]) -> String {
    let Some(header) = packet.get(..40) else {
        return "cut IPv6 header".to_owned();
    };
    let address = |at: usize| {
        let octets: [u8; 16] = header[at..at + 16].try_into().expect("16 bytes");
        Ipv6Addr::from(octets)
    };
    format!(
        "IPv6 {} > {}, version {} length {} hops {} {}",
        address(8),
        address(24),
        header[0] >> 4,
        word(header, 4).unwrap_or(0),
        header[7],
        transport(header[6], &packet[40..]),
    )
}

fn transport(protocol: u8, bytes: &[u8]) -> String {
    let ports = match (word(bytes, 0), word(bytes, 2)) {
        (Some(source), Some(destination)) => format!("{source} > {destination}"),
        _ => "cut".to_owned(),
    };
    match protocol {
        TCP => format!("TCP {ports}{}", bytes.get(4..14).map_or(String::new(), tcp)),
        UDP => format!("UDP {ports}, checksum {:#06x}", word(bytes, 6).unwrap_or(0)),
        other => format!("protocol {other}, type {:?}", bytes.first()),
    }
}

/// From the sequence number to the flags.
fn tcp(bytes: &[u8]) -> String {
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
    let names = [
        (SYN, "SYN"),
        (FIN, "FIN"),
        (RST, "RST"),
        (PSH, "PSH"),
        (ACK, "ACK"),
    ];
    let flags: Vec<&str> = names
        .into_iter()
        .filter(|(bit, _)| bytes[9] & bit != 0)
        .map(|(_, name)| name)
        .collect();
    format!(
        ", [{}] sequence {} acknowledgement {}",
        flags.join(" "),
        number(0),
        number(4)
    )
}

fn arp(packet: &[u8]) -> String {
    let Some(message) = packet.get(..28) else {
        return "cut ARP".to_owned();
    };
    let address = |at: usize| {
        Ipv4Addr::new(
            message[at],
            message[at + 1],
            message[at + 2],
            message[at + 3],
        )
    };
    format!(
        "ARP operation {} sender {} {} target {} {}",
        word(message, 6).unwrap_or(0),
        mac(&message[8..14]),
        address(14),
        mac(&message[18..24]),
        address(24),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Frame;
    use crate::network::IpVersion;

    #[test]
    fn a_good_frame_tells_its_endpoints() {
        let text = decode(&Frame::default().build());
        assert!(text.contains("198.51.100.7 > 203.0.113.10"), "{text}");
        assert!(text.contains("TCP 40000 > 80, [SYN]"), "{text}");
        assert!(!text.contains("off by"), "{text}");
    }

    #[test]
    fn any_cut_of_a_frame_can_be_printed() {
        for version in IpVersion::BOTH {
            let bytes = Frame::datagram(version).build();
            for length in 0..bytes.len() {
                assert!(decode(&bytes[..length]).contains("bytes: "));
            }
        }
    }
}
