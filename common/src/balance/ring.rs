//! Building the ring: Maglev hashing (Eisenbud et al., NSDI 2016, section 3.4), weighted.
//!
//! A member's preferences depend on its own name and the ring size alone, so nodes with the same
//! members build the same ring whatever their order in the file, and a change of one member moves
//! little else.
//!
//! The paper's preferences are steps of one length. Two members with alike steps then meet again and again, and
//! what one of them gives up is handed on from slot to slot. Here the steps are bent (`bent`) for each member in
//! another way, so that no two follow each other.

#[cfg(feature = "user")]
mod user {
    use crate::abi::RING_SIZE;

    /// A member that takes part in a ring.
    #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
    pub struct RingMember {
        /// What its preferences are derived from: the same on every node.
        pub identity: Vec<u8>,
        /// Share relative to the others; 0 takes no slots.
        pub weight: u16,
        /// What its slots hold.
        pub backend: u32,
    }

    /// FNV-1a, finished with a 64-bit mixer so that short names spread over all bits.
    fn digest(identity: &[u8], salt: u64) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325 ^ salt;
        for byte in identity {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        hash ^= hash >> 33;
        hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash ^= hash >> 33;
        hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        hash ^ hash >> 33
    }

    /// A member while slots are given out: the next step, and what it makes of steps.
    struct Turn {
        step: u32,
        skip: u32,
        shift: u32,
        credit: u32,
        weight: u32,
        backend: u32,
    }

    /// The slot of a step: another one for each, because cubes are different modulo a prime that is no multiple of
    /// three and one more.
    fn bent(step: u32, shift: u32) -> u32 {
        const { assert!(!(RING_SIZE - 1).is_multiple_of(3)) };
        let (step, size) = (u64::from(step), u64::from(RING_SIZE));
        ((step * step % size * step + u64::from(shift)) % size) as u32
    }

    /// The ring of these members, [`RING_SIZE`] backend ids; all 0 when nobody takes part.
    pub fn build_ring(members: &[RingMember]) -> Vec<u32> {
        let mut ring = vec![0_u32; RING_SIZE as usize];
        let mut ordered: Vec<&RingMember> = members.iter().filter(|m| m.weight > 0).collect();
        ordered.sort();
        let Some(heaviest) = ordered.iter().map(|m| u32::from(m.weight)).max() else {
            return ring;
        };
        let mut turns: Vec<Turn> = ordered
            .iter()
            .map(|m| Turn {
                step: (digest(&m.identity, 0x6f66_6673) % u64::from(RING_SIZE)) as u32,
                skip: (digest(&m.identity, 0x736b_6970) % u64::from(RING_SIZE - 1)) as u32 + 1,
                shift: (digest(&m.identity, 0x7368_6966) % u64::from(RING_SIZE)) as u32,
                credit: 0,
                weight: u32::from(m.weight),
                backend: m.backend,
            })
            .collect();
        let mut free = RING_SIZE;
        loop {
            // Each round a member earns its weight and pays the heaviest weight for a slot: shares
            // are proportional, and turns stay interleaved.
            for turn in &mut turns {
                turn.credit += turn.weight;
                if turn.credit < heaviest {
                    continue;
                }
                turn.credit -= heaviest;
                let slot = loop {
                    let slot = bent(turn.step, turn.shift) as usize;
                    if ring[slot] == 0 {
                        break slot;
                    }
                    turn.step = (turn.step + turn.skip) % RING_SIZE;
                };
                ring[slot] = turn.backend;
                free -= 1;
                if free == 0 {
                    return ring;
                }
            }
        }
    }
}

#[cfg(feature = "user")]
pub use user::{RingMember, build_ring};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::RING_SIZE;

    fn members(count: u32) -> Vec<RingMember> {
        (1..=count)
            .map(|n| RingMember {
                identity: format!("10.0.0.{n}").into_bytes(),
                weight: 1,
                backend: n,
            })
            .collect()
    }

    fn shares(ring: &[u32], count: u32) -> Vec<usize> {
        (1..=count)
            .map(|n| ring.iter().filter(|b| **b == n).count())
            .collect()
    }

    #[test]
    fn every_slot_is_taken_and_equal_weights_get_equal_shares() {
        let ring = build_ring(&members(7));
        let shares = shares(&ring, 7);
        assert_eq!(shares.iter().sum::<usize>(), RING_SIZE as usize);
        assert!(
            shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1,
            "{shares:?}"
        );
    }

    #[test]
    fn shares_follow_weights() {
        let mut three = members(3);
        three[1].weight = 2;
        three[2].weight = 256;
        let shares = shares(&build_ring(&three), 3);
        let unit = f64::from(RING_SIZE) / 259.0;
        for (share, weight) in shares.iter().zip([1.0, 2.0, 256.0]) {
            assert!(
                (*share as f64 - unit * weight).abs() < unit * 0.05 * weight + 2.0,
                "{shares:?}"
            );
        }
    }

    #[test]
    fn nobody_means_no_backend() {
        assert!(build_ring(&[]).iter().all(|slot| *slot == 0));
        let mut one = members(1);
        one[0].weight = 0;
        assert!(build_ring(&one).iter().all(|slot| *slot == 0));
    }

    #[test]
    fn order_in_the_file_does_not_matter() {
        let mut reversed = members(9);
        reversed.reverse();
        assert_eq!(build_ring(&members(9)), build_ring(&reversed));
    }

    /// The same with weights, whoever leaves: the heaviest, the lightest, one in between.
    #[test]
    fn removing_a_weighted_member_moves_little_else() {
        let mut weight = 7_u32;
        for (count, most) in [
            (2, 256),
            (3, 4),
            (5, 256),
            (20, 16),
            (50, 256),
            (200, 256),
            (1000, 10),
        ] {
            let mut all = members(count);
            for member in &mut all {
                weight = weight.wrapping_mul(1_103_515_245).wrapping_add(12_345);
                member.weight = (1 + (weight >> 16) % most) as u16;
            }
            let heaviest = all.iter().max_by_key(|m| m.weight).unwrap().backend;
            let lightest = all.iter().min_by_key(|m| m.weight).unwrap().backend;
            for gone in [heaviest, lightest, count / 2 + 1] {
                let share = collateral(&all, gone);
                assert!(
                    share <= 0.015,
                    "{count} members, weights to {most}, without {gone}: {:.2} % moved",
                    share * 100.0
                );
            }
        }
    }

    /// Share of slots that change hands although their member stays.
    fn collateral(all: &[RingMember], gone: u32) -> f64 {
        let before = build_ring(all);
        let rest: Vec<RingMember> = all.iter().filter(|m| m.backend != gone).cloned().collect();
        let after = build_ring(&rest);
        let moved = before
            .iter()
            .zip(&after)
            .filter(|(b, a)| **b != gone && b != a)
            .count();
        moved as f64 / f64::from(RING_SIZE)
    }

    /// Invariant "consistent": removing a member moves its share and at most 1.5 % of the rest.
    #[test]
    fn removing_a_member_moves_little_else() {
        for count in [2, 3, 10, 50, 100, 400, 1000] {
            let all = members(count);
            let before = build_ring(&all);
            let gone = count / 2 + 1;
            let rest: Vec<RingMember> = all.into_iter().filter(|m| m.backend != gone).collect();
            let after = build_ring(&rest);
            let collateral = before
                .iter()
                .zip(&after)
                .filter(|(b, a)| **b != gone && b != a)
                .count();
            let share = collateral as f64 / f64::from(RING_SIZE);
            assert!(
                share <= 0.015,
                "{count} members: {:.2} % moved",
                share * 100.0
            );
        }
    }
}
