//! Description to bytes.

use super::checksum::{full, pseudo_header};
use super::{Checksum, Frame, TCP, UDP};
use crate::network::IpVersion;

const HOP_BY_HOP_PADDING: [u8; 6] = [1, 4, 0, 0, 0, 0];
/// Protocol number of the IPv6 fragment header.
const FRAGMENT_HEADER: u8 = 44;

impl Frame {
    /// The bytes.
    pub fn build(&self) -> Vec<u8> {
        let mut bytes = self.link_layer();
        let transport = match &self.raw {
            Some(raw) => raw.clone(),
            None => self.transport(),
        };
        match self.version {
            IpVersion::V4 => bytes.extend(self.ipv4_header(transport.len())),
            IpVersion::V6 => bytes.extend(self.ipv6_headers(transport.len())),
        }
        bytes.extend(transport);
        bytes.resize(bytes.len() + self.faults.padding, 0);
        if let Some(length) = self.faults.cut {
            bytes.truncate(length);
        }
        bytes
    }

    fn link_layer(&self) -> Vec<u8> {
        let [source, destination] = self.macs;
        let mut bytes = [destination, source].concat();
        for (kind, tci) in &self.tags {
            bytes.extend(kind.to_be_bytes());
            bytes.extend(tci.to_be_bytes());
        }
        let ethertype = match self.version {
            IpVersion::V4 => 0x0800,
            IpVersion::V6 => 0x86dd_u16,
        };
        bytes.extend(self.faults.ethertype.unwrap_or(ethertype).to_be_bytes());
        bytes
    }

    fn ipv4_header(&self, payload: usize) -> Vec<u8> {
        let words = 5 + self.option_words;
        let length = (usize::from(words) * 4 + payload) as u16;
        let fragment = self.fragment.map_or(0x4000, |fragment| {
            fragment.offset | if fragment.more { 0x2000 } else { 0 }
        });
        let version = self.faults.ip_version.unwrap_or(4);
        let mut header = vec![
            version << 4 | self.faults.header_words.unwrap_or(words),
            0x2e,
        ];
        header.extend(self.faults.length.unwrap_or(length).to_be_bytes());
        header.extend(self.identification.to_be_bytes());
        header.extend(fragment.to_be_bytes());
        header.extend([self.hops, self.protocol, 0, 0]);
        header.extend(self.source.v4.octets());
        header.extend(self.destination.v4.octets());
        // "No operation" options.
        header.resize(usize::from(words) * 4, 1);
        let checksum = full(&[&header]);
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        header
    }

    fn ipv6_headers(&self, payload: usize) -> Vec<u8> {
        let mut kinds = self.extensions.clone();
        if self.fragment.is_some() {
            kinds.push(FRAGMENT_HEADER);
        }
        kinds.push(self.protocol);
        let length = (payload + 8 * (kinds.len() - 1)) as u16;
        let version = u32::from(self.faults.ip_version.unwrap_or(6));
        let mut bytes = (version << 28 | 0x02e5_4321).to_be_bytes().to_vec();
        bytes.extend(self.faults.length.unwrap_or(length).to_be_bytes());
        bytes.extend([kinds[0], self.hops]);
        bytes.extend(self.source.v6.octets());
        bytes.extend(self.destination.v6.octets());
        for pair in kinds.windows(2) {
            bytes.extend([pair[1], 0]);
            match self.fragment {
                Some(fragment) if pair[0] == FRAGMENT_HEADER => {
                    let word = fragment.offset << 3 | u16::from(fragment.more);
                    bytes.extend(word.to_be_bytes());
                    bytes.extend(u32::from(self.identification).to_be_bytes());
                }
                _ => bytes.extend(HOP_BY_HOP_PADDING),
            }
        }
        bytes
    }

    /// Transport header and payload.
    pub fn transport(&self) -> Vec<u8> {
        let mut bytes = self.source_port.to_be_bytes().to_vec();
        bytes.extend(self.destination_port.to_be_bytes());
        let at = if self.protocol == UDP {
            bytes.extend((8 + self.payload.len() as u16).to_be_bytes());
            bytes.extend([0, 0]);
            6
        } else {
            bytes.extend(self.sequence.to_be_bytes());
            bytes.extend(self.acknowledgement.to_be_bytes());
            bytes.extend([5 << 4, self.flags]);
            bytes.extend(0xfaf0_u16.to_be_bytes());
            bytes.extend([0; 4]);
            16
        };
        bytes.extend(&self.payload);
        if self.protocol != TCP && self.protocol != UDP {
            return bytes;
        }
        let checksum = match self.checksum {
            Checksum::Value(value) => value,
            Checksum::Right => self.transport_checksum(&bytes),
        };
        bytes[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }

    fn transport_checksum(&self, bytes: &[u8]) -> u16 {
        let addresses = match self.version {
            IpVersion::V4 => [
                self.source.v4.octets().to_vec(),
                self.destination.v4.octets().to_vec(),
            ],
            IpVersion::V6 => [
                self.source.v6.octets().to_vec(),
                self.destination.v6.octets().to_vec(),
            ],
        };
        let pseudo = pseudo_header(&addresses[0], &addresses[1], self.protocol, bytes.len());
        match full(&[&pseudo, bytes]) {
            0 if self.protocol == UDP => 0xffff,
            checksum => checksum,
        }
    }
}
