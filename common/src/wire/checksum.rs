//! One's complement arithmetic (RFC 1071, RFC 1624), in raw byte order.
//!
//! The sum does not care about byte order as long as every word is read alike, so words of 16 or 32
//! bits are added as they stand in memory into a `u64` and folded once.

/// Folds a sum of 16- and 32-bit words to 16 bits.
#[inline(always)]
pub fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// The checksum field after the covered words changed by `changed`, the sum of every complemented
/// old word and every new word (RFC 1624, equation 3).
#[inline(always)]
pub fn update(checksum: u16, changed: u64) -> u16 {
    !fold(u64::from(!checksum) + changed)
}

/// [`update`] for UDP: zero over IPv4 means "no checksum" and stays, and a computed zero is sent as
/// all ones (RFC 768, RFC 8200 section 8.1).
#[inline(always)]
pub fn update_udp(checksum: u16, changed: u64) -> u16 {
    if checksum == 0 {
        return 0;
    }
    match update(checksum, changed) {
        0 => 0xffff,
        updated => updated,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(bytes: &[u8]) -> u16 {
        let sum = bytes
            .chunks(2)
            .map(|c| u64::from(u16::from_ne_bytes([c[0], *c.get(1).unwrap_or(&0)])))
            .sum();
        !fold(sum)
    }

    #[test]
    fn incremental_update_equals_a_full_recompute() {
        let mut seed = 1_u64;
        let mut next = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        for _ in 0..10_000 {
            let mut bytes: Vec<u8> = (0..40).map(|_| next() as u8).collect();
            let before = full(&bytes);
            let at = (next() % 10) as usize * 4;
            let old = u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
            let new = next() as u32;
            bytes[at..at + 4].copy_from_slice(&new.to_ne_bytes());
            let after = update(before, u64::from(!old) + u64::from(new));
            assert_eq!(after, full(&bytes));
        }
    }

    #[test]
    fn udp_zero_stays_and_computed_zero_becomes_all_ones() {
        assert_eq!(update_udp(0, 12345), 0);
        let to_zero = u64::from(0x1234_u16);
        assert_eq!(update(0x1234, to_zero), 0);
        assert_eq!(update_udp(0x1234, to_zero), 0xffff);
    }
}
