//! The internet checksum, byte by byte as RFC 1071 defines it.

/// One's complement sum of 16-bit words, complemented.
pub(super) fn full(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u32;
    for part in parts {
        for word in part.chunks(2) {
            let low = word.get(1).copied().unwrap_or(0);
            sum += u32::from(u16::from_be_bytes([word[0], low]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
    }
    !(sum as u16)
}

/// The pseudo-header of IPv4 or IPv6 (by the length of the addresses).
pub(super) fn pseudo_header(
    source: &[u8],
    destination: &[u8],
    protocol: u8,
    length: usize,
) -> Vec<u8> {
    let mut bytes = [source, destination].concat();
    bytes.extend((length as u32).to_be_bytes());
    bytes.extend(u32::from(protocol).to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_published_example_adds_up() {
        // RFC 1071, section 3.
        let words = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(full(&[&words]), !0xddf2);
        assert_eq!(full(&[&words[..4], &words[4..]]), !0xddf2);
    }

    #[test]
    fn an_odd_byte_counts_as_the_upper_half_of_a_word() {
        assert_eq!(full(&[&[0x12]]), !0x1200);
    }
}
