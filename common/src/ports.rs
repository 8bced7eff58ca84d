//! Ranges of ports as prefixes, for tables that match the longest prefix.

use std::ops::RangeInclusive;

/// A range of ports cut into the fewest prefixes: first port and number of leading bits (of 16) that all ports
/// of it share.
pub fn prefixes(range: RangeInclusive<u16>) -> impl Iterator<Item = (u16, u32)> {
    let mut next = u32::from(*range.start());
    let end = u32::from(*range.end()) + 1;
    std::iter::from_fn(move || {
        if next >= end {
            return None;
        }
        // As large as its alignment and the rest allow.
        let aligned = next.trailing_zeros().min(u16::BITS);
        let fits = (end - next).ilog2();
        let free = aligned.min(fits);
        let prefix = (next as u16, u16::BITS - free);
        next += 1 << free;
        Some(prefix)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covered(first: u16, last: u16) -> Vec<u16> {
        let ports = prefixes(first..=last).flat_map(|(port, bits)| {
            let size = 1_u32 << (16 - bits);
            (u32::from(port)..u32::from(port) + size).map(|port| port as u16)
        });
        ports.collect()
    }

    #[test]
    fn every_port_of_a_range_is_in_one_prefix() {
        for (first, last) in [
            (0, 65_535),
            (1, 65_535),
            (0, 0),
            (65_535, 65_535),
            (8_000, 8_099),
            (1, 65_534),
            (1023, 1025),
        ] {
            let expected: Vec<u16> = (first..=last).collect();
            assert_eq!(covered(first, last), expected, "{first}-{last}");
        }
    }

    #[test]
    fn a_range_takes_as_few_prefixes_as_can_be() {
        assert_eq!(prefixes(0..=65_535).collect::<Vec<_>>(), [(0, 0)]);
        assert_eq!(prefixes(80..=80).collect::<Vec<_>>(), [(80, 16)]);
        assert_eq!(prefixes(8_000..=8_063).collect::<Vec<_>>(), [(8_000, 10)]);
        assert_eq!(prefixes(1..=65_534).count(), 30);
    }
}
