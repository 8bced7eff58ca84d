//! Whose port is it? One table of ports for rules and inbound NAT rules of a frontend address: exact port,
//! then range, then every port; within each tcp or udp before all. Decided here for every port, so that a
//! packet finds its rule by looking, not by comparing.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use forebay_common::abi::{Bound, PortKey};
use forebay_common::ports::prefixes;
use forebay_common::wire::{TCP, UDP};

use crate::config::model::{Ports, Protocol};

/// Ports that begin with the same bits: the first of them, and how many bits they share.
pub type PortRange = (PortKey, u32);

/// What a binding wants of a frontend address.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    /// Id of the frontend address.
    pub(super) frontend: u32,
    pub(super) protocol: Protocol,
    pub(super) ports: Ports,
    pub(super) binding: u32,
}

/// The tables in which ports are looked up.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct PortTables {
    pub(super) ports: BTreeMap<PortKey, Bound>,
    pub(super) port_ranges: BTreeMap<PortRange, Bound>,
}

/// A range of ports and how it stands to others: whoever is smaller wins.
type Interval = (RangeInclusive<u16>, Standing);

/// Whether a claim is for all protocols, and its binding.
type Standing = (bool, u32);

/// Claims on one protocol of a frontend address.
#[derive(Default)]
struct Group {
    single: BTreeMap<u16, Standing>,
    ranges: Vec<Interval>,
    every: Option<Standing>,
}

/// The tables in which every port is bound to the most specific claim.
pub(super) fn resolve(claims: &[Claim]) -> PortTables {
    let mut groups: BTreeMap<(u32, u8), Group> = BTreeMap::new();
    for claim in claims {
        for protocol in protocols(claim.protocol) {
            let group = groups.entry((claim.frontend, *protocol)).or_default();
            let standing = (claim.protocol == Protocol::All, claim.binding);
            match &claim.ports {
                Ports::Single(port) => {
                    let held = group.single.entry(*port).or_insert(standing);
                    *held = standing.min(*held);
                }
                Ports::Range(range) => group.ranges.push((range.clone(), standing)),
                Ports::Every => {
                    group.every = Some(group.every.map_or(standing, |held| held.min(standing)));
                }
            }
        }
    }
    let mut tables = PortTables::default();
    for ((frontend, protocol), group) in groups {
        let key = |port| PortKey::new(frontend, protocol, port);
        let bound = |(_, binding): Standing| Bound {
            first: binding,
            second: 0,
        };
        let single = group.single.iter();
        (tables.ports).extend(single.map(|(port, held)| (key(*port), bound(*held))));
        if let Some(held) = group.every {
            tables.port_ranges.insert((key(0), 0), bound(held));
        }
        for (range, held) in disjoint(&group.ranges) {
            let prefixes = prefixes(range).map(|(port, length)| ((key(port), length), bound(held)));
            tables.port_ranges.extend(prefixes);
        }
    }
    tables
}

/// The protocol numbers that a rule is for.
pub(super) fn protocols(protocol: Protocol) -> &'static [u8] {
    match protocol {
        Protocol::Tcp => &[TCP],
        Protocol::Udp => &[UDP],
        Protocol::All => &[TCP, UDP],
    }
}

/// Cuts ranges such that each port is in one, whose it is; neighbours that are alike are one.
fn disjoint(ranges: &[Interval]) -> Vec<Interval> {
    // Begin and end of each, the end as the first port that is not in it any more.
    let mut events: Vec<(u32, bool, Standing)> = Vec::with_capacity(ranges.len() * 2);
    for (range, standing) in ranges {
        events.push((u32::from(*range.start()), true, *standing));
        events.push((u32::from(*range.end()) + 1, false, *standing));
    }
    events.sort_unstable();
    let mut found: Vec<Interval> = Vec::new();
    let mut open: BTreeSet<Standing> = BTreeSet::new();
    for (index, (port, begins, standing)) in events.iter().enumerate() {
        if *begins {
            open.insert(*standing);
        } else {
            open.remove(standing);
        }
        let next = events.get(index + 1).map_or(*port, |(next, ..)| *next);
        let Some(holder) = open.first().filter(|_| next > *port) else {
            continue;
        };
        let end = (next - 1) as u16;
        match found.last_mut() {
            Some((last, held)) if held == holder && u32::from(*last.end()) + 1 == *port => {
                *last = *last.start()..=end;
            }
            _ => found.push((*port as u16..=end, *holder)),
        }
    }
    found
}

/// The ports of a prefix.
pub(super) fn ports_of((key, length): PortRange) -> RangeInclusive<u16> {
    let more = u16::MAX.checked_shr(length).unwrap_or(0);
    key.port()..=key.port() | more
}

/// What the smallest range with a port is bound to.
pub(super) fn look_up(ranges: &BTreeMap<PortRange, Bound>, key: PortKey) -> Option<Bound> {
    (0..=u16::BITS).rev().find_map(|length| {
        let bits = u16::MAX.checked_shl(u16::BITS - length).unwrap_or(0);
        let first = PortKey::new(key.frontend, key.protocol(), key.port() & bits);
        ranges.get(&(first, length)).copied()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the resolver is to find, said as the contract says it.
    fn naive(claims: &[Claim], frontend: u32, protocol: u8, port: u16) -> Option<u32> {
        let rank = |claim: &Claim| {
            let exactness = match claim.ports {
                Ports::Single(_) => 0,
                Ports::Range(_) => 1,
                Ports::Every => 2,
            };
            (exactness, claim.protocol == Protocol::All, claim.binding)
        };
        let wants = |claim: &&Claim| {
            claim.frontend == frontend
                && protocols(claim.protocol).contains(&protocol)
                && (claim.ports == Ports::Every || claim.ports.range().contains(&port))
        };
        let best = claims.iter().filter(wants).min_by_key(|claim| rank(claim));
        best.map(|claim| claim.binding)
    }

    fn found(tables: &PortTables, key: PortKey) -> Option<u32> {
        let single = tables.ports.get(&key).copied();
        let bound = single.or_else(|| look_up(&tables.port_ranges, key))?;
        Some(bound.first)
    }

    fn any_ports() -> impl Strategy<Value = Ports> {
        let near = prop_oneof![1_u16..40, 65_500_u16..=65_535, 8_000_u16..8_200];
        let range = (near.clone(), 0_u16..90)
            .prop_map(|(first, more)| Ports::Range(first..=first.saturating_add(more)));
        prop_oneof![
            near.prop_map(Ports::Single),
            range,
            Just(Ports::Every),
            Just(Ports::Range(1..=65_535))
        ]
    }

    fn any_claims() -> impl Strategy<Value = Vec<Claim>> {
        let protocol = prop_oneof![
            Just(Protocol::Tcp),
            Just(Protocol::Udp),
            Just(Protocol::All)
        ];
        let claim = (1_u32..3, protocol, any_ports());
        prop::collection::vec(claim, 0..12).prop_map(|claims| {
            let numbered = claims.into_iter().zip(1_u32..);
            numbered
                .map(|((frontend, protocol, ports), binding)| Claim {
                    frontend,
                    protocol,
                    ports,
                    binding,
                })
                .collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// The most specific rule wins (B9-15), on every port.
        #[test]
        fn every_port_is_bound_to_the_most_specific_claim(claims in any_claims()) {
            let tables = resolve(&claims);
            for frontend in [1, 2] {
                for protocol in [TCP, UDP] {
                    for port in (0..200).chain(7_900..8_400).chain(65_300..=u16::MAX) {
                        let key = PortKey::new(frontend, protocol, port);
                        prop_assert_eq!(
                            found(&tables, key), naive(&claims, frontend, protocol, port),
                            "{:?} {}", key, port
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_rule_for_every_port_takes_one_entry_a_protocol() {
        let claim = Claim {
            frontend: 1,
            protocol: Protocol::All,
            ports: Ports::Every,
            binding: 1,
        };
        let tables = resolve(&[claim]);
        assert_eq!(tables.port_ranges.len(), 2);
        assert!(tables.ports.is_empty());
    }
}
