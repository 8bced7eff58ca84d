//! The keyed flow hash: SipHash-1-3 over the tuple that the rule's distribution names.
//!
//! Keyed, because whoever knows the hash can aim flows at one member; the same on every node that
//! shares the key, so that nodes choose alike. Aumasson and Bernstein, "SipHash: a fast short-input
//! PRF", 2012; one compression and three finalisation rounds.

use crate::abi::RING_SIZE;
use crate::family::Family;
use crate::flow::FlowKey;

/// What is hashed to choose a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Distribution {
    /// Addresses, ports and protocol.
    FiveTuple = 0,
    /// Addresses.
    SourceIp = 1,
    /// Addresses and protocol.
    SourceIpProtocol = 2,
}

struct Sip([u64; 4]);

impl Sip {
    #[inline(always)]
    fn new(key: [u64; 2]) -> Self {
        Self([
            key[0] ^ 0x736f_6d65_7073_6575,
            key[1] ^ 0x646f_7261_6e64_6f6d,
            key[0] ^ 0x6c79_6765_6e65_7261,
            key[1] ^ 0x7465_6462_7974_6573,
        ])
    }

    #[inline(always)]
    fn round(&mut self) {
        let v = &mut self.0;
        v[0] = v[0].wrapping_add(v[1]);
        v[2] = v[2].wrapping_add(v[3]);
        v[1] = v[1].rotate_left(13) ^ v[0];
        v[3] = v[3].rotate_left(16) ^ v[2];
        v[0] = v[0].rotate_left(32);
        v[2] = v[2].wrapping_add(v[1]);
        v[0] = v[0].wrapping_add(v[3]);
        v[1] = v[1].rotate_left(17) ^ v[2];
        v[3] = v[3].rotate_left(21) ^ v[0];
        v[2] = v[2].rotate_left(32);
    }

    #[inline(always)]
    fn word(&mut self, word: u64) {
        self.0[3] ^= word;
        self.round();
        self.0[0] ^= word;
    }

    #[inline(always)]
    fn address<A: Family>(&mut self, address: A) {
        let (low, high) = address.words();
        self.word(low);
        if let Some(high) = high {
            self.word(high);
        }
    }

    #[inline(always)]
    fn finish(mut self) -> u64 {
        self.0[2] ^= 0xff;
        self.round();
        self.round();
        self.round();
        self.0[0] ^ self.0[1] ^ self.0[2] ^ self.0[3]
    }
}

/// Hash of a flow's first key under a rule's distribution.
#[inline(always)]
pub fn flow_hash<A: Family>(key: [u64; 2], flow: &FlowKey<A>, distribution: u8) -> u64 {
    // `source-ip` must not tell TCP from UDP, and neither it nor `source-ip-protocol` ports.
    let tail = if distribution == Distribution::FiveTuple as u8 {
        u64::from(flow.ports) << 32 | u64::from(flow.protocol)
    } else if distribution == Distribution::SourceIpProtocol as u8 {
        1 << 16 | u64::from(flow.protocol)
    } else {
        2 << 16
    };
    let mut sip = Sip::new(key);
    sip.address(flow.source);
    sip.address(flow.destination);
    sip.word(tail);
    sip.finish()
}

/// The ring slot of a hash, `attempt` places on.
#[inline(always)]
pub fn slot_of(hash: u64, attempt: u32) -> u32 {
    let slot = (((hash >> 32) * u64::from(RING_SIZE)) >> 32) as u32 + attempt;
    if slot >= RING_SIZE {
        slot - RING_SIZE
    } else {
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::V4;

    fn key(source: u32, ports: u32, protocol: u32) -> FlowKey<V4> {
        FlowKey {
            source: V4(source),
            destination: V4(99),
            ports,
            protocol,
        }
    }

    #[test]
    fn sip_state_mixes_as_published() {
        // First word of the reference vectors' key schedule: the four constants spell
        // "somepseudorandomlygeneratedbytes".
        let text: Vec<u8> = Sip::new([0, 0])
            .0
            .iter()
            .flat_map(|w| w.to_be_bytes())
            .collect();
        assert_eq!(text, b"somepseudorandomlygeneratedbytes");
    }

    #[test]
    fn distribution_decides_what_counts() {
        let seed = [1, 2];
        let hash = |k: &FlowKey<V4>, d: Distribution| flow_hash(seed, k, d as u8);
        let (a, other_port, other_protocol) = (key(1, 10, 6), key(1, 11, 6), key(1, 10, 17));
        assert_ne!(
            hash(&a, Distribution::FiveTuple),
            hash(&other_port, Distribution::FiveTuple)
        );
        assert_eq!(
            hash(&a, Distribution::SourceIp),
            hash(&other_port, Distribution::SourceIp)
        );
        assert_eq!(
            hash(&a, Distribution::SourceIp),
            hash(&other_protocol, Distribution::SourceIp)
        );
        assert_eq!(
            hash(&a, Distribution::SourceIpProtocol),
            hash(&other_port, Distribution::SourceIpProtocol)
        );
        assert_ne!(
            hash(&a, Distribution::SourceIpProtocol),
            hash(&other_protocol, Distribution::SourceIpProtocol)
        );
        assert_ne!(
            hash(&a, Distribution::SourceIp),
            hash(&key(2, 10, 6), Distribution::SourceIp)
        );
        assert_ne!(hash(&a, Distribution::FiveTuple), flow_hash([1, 3], &a, 0));
    }

    #[test]
    fn slots_stay_in_the_ring_and_wrap() {
        assert_eq!(slot_of(0, 0), 0);
        assert_eq!(slot_of(u64::MAX, 0), RING_SIZE - 1);
        assert_eq!(slot_of(u64::MAX, 1), 0);
        assert_eq!(slot_of(u64::MAX, 4), 3);
    }

    #[test]
    fn slots_are_spread_evenly() {
        let mut buckets = [0_u32; 16];
        for n in 0..16_000 {
            let hash = flow_hash([7, 8], &key(n, 1, 6), 0);
            buckets[(slot_of(hash, 0) / (RING_SIZE / 16 + 1)) as usize] += 1;
        }
        for count in buckets {
            assert!((850..1150).contains(&count), "{buckets:?}");
        }
    }
}
