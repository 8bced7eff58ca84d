//! A question as a frame, and a frame as endpoints.

use std::net::IpAddr;

use anyhow::{Result, bail};
use forebay_common::wire::{TCP, UDP};

use crate::api::{Endpoints, Question};

const ETHERNET: usize = 14;
/// Types of VLAN tags: 802.1Q, 802.1ad.
const TAGS: [[u8; 2]; 2] = [[0x81, 0x00], [0x88, 0xa8]];
const HOPS: u8 = 64;
const SYN: u8 = 0x02;
/// Identifier of an echo request.
const ECHO: u16 = 1;

/// Ports that a flow of such a packet is known by.
pub fn ports(question: &Question) -> (u16, u16) {
    match question.protocol {
        1 | 58 => (ECHO, 0),
        _ => (question.source_port, question.destination_port),
    }
}

/// The smallest packet that asks the question: a SYN, an empty datagram, an echo request, or a bare
/// header of another protocol. `tags` are those of the interface that it comes in on, raw.
pub(crate) fn build(question: &Question, tags: [u32; 2]) -> Result<Vec<u8>> {
    let payload = transport(question);
    let mut frame = vec![0_u8; 12];
    for tag in tags.into_iter().filter(|tag| *tag != 0) {
        frame.extend(tag.to_ne_bytes());
    }
    match (question.source, question.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            frame.extend([0x08, 0x00, 0x45, 0x00]);
            frame.extend(((20 + payload.len()) as u16).to_be_bytes());
            frame.extend([0, 0, 0x40, 0, HOPS, question.protocol, 0, 0]);
            frame.extend(source.octets());
            frame.extend(destination.octets());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend((payload.len() as u16).to_be_bytes());
            frame.extend([question.protocol, HOPS]);
            frame.extend(source.octets());
            frame.extend(destination.octets());
        }
        _ => bail!(
            "source and destination are of different families; there is no translation between IPv4 and IPv6"
        ),
    }
    frame.extend(payload);
    Ok(frame)
}

fn transport(question: &Question) -> Vec<u8> {
    let mut bytes = Vec::new();
    match question.protocol {
        TCP | UDP => {
            bytes.extend(question.source_port.to_be_bytes());
            bytes.extend(question.destination_port.to_be_bytes());
            if question.protocol == TCP {
                bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, SYN, 0xff, 0xff, 0, 0, 0, 0]);
            } else {
                bytes.extend([0, 8, 0, 0]);
            }
        }
        protocol @ (1 | 58) => {
            bytes.extend([if protocol == 1 { 8 } else { 128 }, 0, 0, 0]);
            bytes.extend(ECHO.to_be_bytes());
            bytes.extend([0, 1]);
        }
        _ => bytes.extend([0; 8]),
    }
    bytes
}

/// Addresses and ports of a frame; of an echo its identifier as the source's port, and zeros where there are none.
pub fn endpoints(frame: &[u8]) -> Option<Endpoints> {
    let mut start = ETHERNET;
    while TAGS.contains(&address::<2>(frame, start - 2)?) {
        start += 4;
    }
    let ip = frame.get(start..)?;
    let (source, destination, transport, protocol): (IpAddr, IpAddr, usize, u8) =
        match ip.first()? >> 4 {
            4 => (
                address::<4>(ip, 12)?.into(),
                address::<4>(ip, 16)?.into(),
                20,
                *ip.get(9)?,
            ),
            _ => (
                address::<16>(ip, 8)?.into(),
                address::<16>(ip, 24)?.into(),
                40,
                *ip.get(6)?,
            ),
        };
    let word = |at: usize| Some(u16::from_be_bytes(address::<2>(ip, transport + at)?));
    let (source_port, destination_port) = match protocol {
        TCP | UDP => (word(0)?, word(2)?),
        1 | 58 => (word(4)?, 0),
        _ => (0, 0),
    };
    Some(Endpoints {
        source: source.to_string(),
        source_port,
        destination: destination.to_string(),
        destination_port,
    })
}

fn address<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}
