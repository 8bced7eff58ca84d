//! Which SNAT ports each source may use, read back from the tables.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use forebay_common::abi::{SnatRange, Way, WayKey};
use forebay_common::family::{V4, V6};

use super::state::{FamilyState, TableState};

/// Ports of one public address that a source may use over a protocol.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnatPorts {
    /// Its own.
    pub own: Vec<RangeInclusive<u16>>,
    /// Those that it shares with others.
    pub shared: Vec<RangeInclusive<u16>>,
}

impl SnatPorts {
    /// How many are its own.
    pub fn allocated(&self) -> u32 {
        count(&self.own)
    }

    /// How many it shares.
    pub fn burst(&self) -> u32 {
        count(&self.shared)
    }
}

fn count(ranges: &[RangeInclusive<u16>]) -> u32 {
    ranges.iter().map(|range| range.len() as u32).sum()
}

/// A source's ports over a protocol, by address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnatWay {
    /// Private address of the source; unspecified for those that are no instance.
    pub source: IpAddr,
    /// Protocol number.
    pub protocol: u32,
    /// Its ports.
    pub ports: BTreeMap<IpAddr, SnatPorts>,
}

impl TableState {
    /// The ways out of every source.
    pub fn snat_ways(&self) -> Vec<SnatWay> {
        let v4 = self
            .v4
            .ways
            .iter()
            .map(|(key, way)| snat_way(&self.v4, key, way));
        let v6 = self
            .v6
            .ways
            .iter()
            .map(|(key, way)| snat_way(&self.v6, key, way));
        v4.chain(v6).collect()
    }

    /// The way out of one source.
    pub fn snat_way(&self, source: IpAddr, protocol: u32) -> Option<SnatWay> {
        match source {
            IpAddr::V4(source) => {
                let key = WayKey::new(V4::from(source), protocol);
                Some(snat_way(&self.v4, &key, self.v4.ways.get(&key)?))
            }
            IpAddr::V6(source) => {
                let key = WayKey::new(V6::from(source), protocol);
                Some(snat_way(&self.v6, &key, self.v6.ways.get(&key)?))
            }
        }
    }
}

fn snat_way<A: Copy + Ord + Into<IpAddr>>(
    state: &FamilyState<A>,
    key: &WayKey<A>,
    way: &Way,
) -> SnatWay {
    let mut ports: BTreeMap<IpAddr, SnatPorts> = BTreeMap::new();
    let ranges =
        |first: u32, count: u32| state.snat_ranges.range(first..first.saturating_add(count));
    for (_, range) in ranges(way.first, way.ranges) {
        let at = ports.entry(range.address.into()).or_default();
        at.own.extend(of_range(range));
    }
    for (_, range) in ranges(way.burst_first, way.burst_ranges) {
        let at = ports.entry(range.address.into()).or_default();
        at.shared.extend(of_range(range));
    }
    SnatWay {
        source: key.source.into(),
        protocol: key.protocol,
        ports,
    }
}

fn of_range<A>(range: &SnatRange<A>) -> Option<RangeInclusive<u16>> {
    let last = range.first.checked_add(range.count.checked_sub(1)?)?;
    Some(range.first..=last)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn ports_are_told_by_address_with_those_that_are_shared() {
        let address = |last| V4::from(Ipv4Addr::new(203, 0, 113, last));
        let source = Ipv4Addr::new(10, 0, 1, 11);
        let range = |last, first, count| SnatRange {
            address: address(last),
            first,
            count,
            before: 0,
        };
        let mut state = TableState::default();
        state.v4.snat_ranges = BTreeMap::from([
            (3, range(64, 1024, 8)),
            (4, range(65, 1024, 16)),
            (5, range(64, 65016, 8)),
            (6, range(65, 2000, 0)),
        ]);
        let way = Way {
            first: 3,
            ranges: 2,
            burst_first: 5,
            burst_ranges: 2,
            ..Way::default()
        };
        state.v4.ways.insert(WayKey::new(V4::from(source), 6), way);
        let found = state.snat_way(source.into(), 6).unwrap();
        assert_eq!(state.snat_ways(), std::slice::from_ref(&found));
        let at = |last: u8| &found.ports[&IpAddr::from([203, 0, 113, last])];
        assert_eq!((at(64).allocated(), at(64).burst()), (8, 8));
        assert_eq!((at(65).allocated(), at(65).burst()), (16, 0));
        assert_eq!(at(64).own, [1024..=1031]);
        assert_eq!(at(64).shared, [65016..=65023]);
        assert_eq!(state.snat_way(source.into(), 17), None);
    }
}
