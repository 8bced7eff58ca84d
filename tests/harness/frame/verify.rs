//! Whether the checksums of a frame are right, recomputed in full.

use super::checksum::{full, pseudo_header};
use super::{SERVICE_TAG, TAG, TCP, UDP};

/// Checks every checksum that the frame has: IPv4 header, TCP, UDP, ICMP of both versions.
///
/// # Errors
/// What is wrong, or why the frame has no checksums to check.
pub fn verify(frame: &[u8]) -> Result<(), String> {
    let (ethertype, packet) = payload_of(frame).ok_or("the frame ends in its Ethernet header")?;
    match ethertype {
        0x0800 => ipv4(packet),
        0x86dd => ipv6(packet),
        0x0806 => Ok(()),
        other => Err(format!("Ethernet type {other:#06x} has no checksums")),
    }
}

/// Ethernet type and what follows the tags.
pub(super) fn payload_of(frame: &[u8]) -> Option<(u16, &[u8])> {
    let mut at = 12;
    loop {
        let bytes = frame.get(at..at + 2)?;
        let ethertype = u16::from_be_bytes([bytes[0], bytes[1]]);
        at += 2;
        if (ethertype != TAG && ethertype != SERVICE_TAG) || at > 20 {
            return Some((ethertype, &frame[at..]));
        }
        at += 2;
    }
}

fn ipv4(packet: &[u8]) -> Result<(), String> {
    let first = *packet.first().ok_or("no IPv4 header")?;
    let header_length = usize::from(first & 0x0f) * 4;
    let header = packet
        .get(..header_length.max(20))
        .ok_or("no IPv4 header")?;
    if full(&[header]) != 0 {
        return Err(format!(
            "IPv4 header checksum is off by {:#06x}",
            full(&[header])
        ));
    }
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let body = packet
        .get(header_length..length)
        .ok_or("the IPv4 length is beyond the frame")?;
    transport(&header[12..16], &header[16..20], header[9], body)
}

fn ipv6(packet: &[u8]) -> Result<(), String> {
    let header = packet.get(..40).ok_or("no IPv6 header")?;
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let body = packet
        .get(40..40 + length)
        .ok_or("the IPv6 length is beyond the frame")?;
    transport(&header[8..24], &header[24..40], header[6], body)
}

fn transport(source: &[u8], destination: &[u8], protocol: u8, body: &[u8]) -> Result<(), String> {
    let name = match protocol {
        TCP => "TCP",
        UDP => "UDP",
        1 => "ICMP",
        58 => "ICMPv6",
        _ => return Err(format!("protocol {protocol} has no checksum known here")),
    };
    let zero = protocol == UDP && body.get(6..8) == Some(&[0, 0]);
    if zero && source.len() == 4 {
        return Ok(());
    }
    let mut pseudo = pseudo_header(source, destination, protocol, body.len());
    if protocol == 1 {
        // ICMP is as it was before there were pseudo-headers (RFC 792).
        pseudo.clear();
    }
    match full(&[&pseudo, body]) {
        0 if !zero => Ok(()),
        off => Err(format!("{name} checksum is off by {off:#06x}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Frame, IcmpMessage};
    use crate::network::IpVersion;

    #[test]
    fn built_frames_are_right_and_any_changed_word_is_found() {
        for version in IpVersion::BOTH {
            for frame in [Frame::of(version).with_payload(7), Frame::datagram(version)] {
                let bytes = frame.build();
                assert_eq!(verify(&bytes), Ok(()));
                let addresses = match version {
                    IpVersion::V4 => 26,
                    IpVersion::V6 => 22,
                };
                for at in [addresses, bytes.len() - 1] {
                    let mut broken = bytes.clone();
                    broken[at] ^= 0x40;
                    assert!(verify(&broken).is_err(), "byte {at} of {version}");
                }
            }
            let echo = IcmpMessage::echo(version, b"ping").build();
            assert_eq!(verify(&echo), Ok(()));
            let mut broken = echo.clone();
            broken[echo.len() - 1] ^= 0x40;
            assert!(verify(&broken).is_err(), "echo of {version}");
        }
    }
}
