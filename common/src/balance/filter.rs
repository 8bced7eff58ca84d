//! A bit for every address that this node knows, so that traffic of others costs no table lookup.
//!
//! One bit array for both families: an address that has no bit set is neither frontend nor instance;
//! one that has may be. It is only asked on a flow miss.

use crate::family::Family;

/// 64-bit words in the array.
pub const WORDS: u32 = 1_024;

/// Where an address has its bit: word and mask.
#[inline(always)]
pub fn bit<A: Family>(address: A) -> (u32, u64) {
    let (low, high) = address.words();
    let mixed = (low ^ high.unwrap_or(0).rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed >> 54) as u32, 1 << (mixed >> 48 & 63))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::family::V4;

    #[test]
    fn neighbouring_addresses_spread_over_the_array() {
        let mut bits = std::collections::BTreeSet::new();
        for host in 0..=255 {
            let (word, mask) = bit(V4::from(Ipv4Addr::new(10, 0, 1, host)));
            assert!(word < WORDS);
            assert_eq!(mask.count_ones(), 1);
            bits.insert((word, mask));
        }
        assert!(
            bits.len() > 250,
            "{} different bits for 256 addresses",
            bits.len()
        );
    }
}
