//! Which SNAT ports are in use, by whom and towards where.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::ops::RangeInclusive;

use forebay_common::family::Family;
use forebay_common::flow::{Direction, Flow, FlowKey, FlowKind, marks};

/// Whose SNAT ports, of which address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SnatUser {
    /// Private address of the source.
    pub source: IpAddr,
    /// Protocol number.
    pub protocol: u32,
    /// The public address.
    pub address: IpAddr,
}

/// A set of ports. Those of a source lie together, so it is small.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortSet {
    /// Bits by what the port is a multiple of 64 of.
    words: BTreeMap<u16, u64>,
}

impl PortSet {
    /// Puts a port in.
    pub fn insert(&mut self, port: u16) {
        *self.words.entry(port / 64).or_default() |= 1 << (port % 64);
    }

    /// Puts the ports of another set in.
    pub fn extend(&mut self, other: &Self) {
        for (at, bits) in &other.words {
            *self.words.entry(*at).or_default() |= bits;
        }
    }

    /// How many ports are in it.
    pub fn len(&self) -> u32 {
        self.words.values().map(|bits| bits.count_ones()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Its ports, in order.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        let ports = |(at, bits): (&u16, &u64)| {
            let (at, bits) = (*at, *bits);
            (0..64)
                .filter(move |bit| bits >> bit & 1 == 1)
                .map(move |bit| at * 64 + bit)
        };
        self.words.iter().flat_map(ports)
    }

    /// How many of its ports are in none of these ranges.
    pub fn outside(&self, ranges: &[RangeInclusive<u16>]) -> u32 {
        let is_outside = |port: &u16| !ranges.iter().any(|range| range.contains(port));
        self.iter().filter(is_outside).count() as u32
    }
}

/// SNAT ports in use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnatUse {
    /// By user. Several flows may share a port, towards different destinations.
    pub ports: BTreeMap<SnatUser, PortSet>,
}

/// The same port, seen from the entry that answers meet.
fn used_port<A: Family + Into<IpAddr>>(
    key: &FlowKey<A>,
    flow: &Flow<A>,
) -> Option<(SnatUser, u16)> {
    let kind = FlowKind::from_byte(flow.kind)?;
    let takes_a_port = !matches!(kind, FlowKind::Rule | FlowKind::InboundNat);
    let is_answered_here = FlowKind::direction(flow.kind) == Direction::ToInstance;
    if !takes_a_port || !is_answered_here || flow.marks & marks::RETIRING != 0 {
        return None;
    }
    let user = SnatUser {
        source: flow.destination.into(),
        protocol: key.protocol,
        address: key.destination.into(),
    };
    Some((user, key.destination_port()))
}

impl SnatUse {
    /// Counts an entry, if it holds a SNAT port.
    pub fn add<A: Family + Into<IpAddr>>(&mut self, key: &FlowKey<A>, flow: &Flow<A>) {
        if let Some((user, port)) = used_port(key, flow) {
            self.ports.entry(user).or_default().insert(port);
        }
    }

    /// Adds those of another count.
    pub fn extend(&mut self, other: &Self) {
        for (user, ports) in &other.ports {
            self.ports.entry(*user).or_default().extend(ports);
        }
    }

    /// What a source uses over a protocol, by address.
    pub fn of(&self, source: IpAddr, protocol: u32) -> impl Iterator<Item = (IpAddr, &PortSet)> {
        let lowest = SnatUser {
            source,
            protocol,
            // IPv4 addresses come before IPv6 addresses.
            address: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        };
        self.ports
            .range(lowest..)
            .take_while(move |(user, _)| user.source == source && user.protocol == protocol)
            .map(|(user, ports)| (user.address, ports))
    }
}

/// Flows by destination address and port.
pub type Destinations = HashMap<(IpAddr, u16), u64>;

/// Which destinations SNAT ports are used towards.
#[derive(Debug, Clone, Default)]
pub struct SnatDestinations {
    by_user: HashMap<SnatUser, Destinations>,
}

impl SnatDestinations {
    /// Counts an entry, if it holds a SNAT port towards somebody, and `is_wanted` says so of its source.
    pub fn add<A: Family + Into<IpAddr>>(
        &mut self,
        key: &FlowKey<A>,
        flow: &Flow<A>,
        is_wanted: impl Fn(IpAddr) -> bool,
    ) {
        if FlowKind::from_byte(flow.kind) == Some(FlowKind::Mapping) {
            return;
        }
        let Some((user, _)) = used_port(key, flow).filter(|(user, _)| is_wanted(user.source))
        else {
            return;
        };
        let destination = (key.source.into(), key.source_port());
        *(self.by_user.entry(user).or_default())
            .entry(destination)
            .or_default() += 1;
    }

    /// The destinations of a user.
    pub fn of(&self, user: &SnatUser) -> Option<&Destinations> {
        self.by_user.get(user)
    }

    /// The users that it knows destinations of.
    pub fn users(&self) -> impl Iterator<Item = &SnatUser> {
        self.by_user.keys()
    }
}

/// The destinations with most flows, most first.
pub fn top(destinations: &Destinations, count: usize) -> Vec<((IpAddr, u16), u64)> {
    let mut all: Vec<_> = destinations.iter().map(|(to, used)| (*to, *used)).collect();
    all.sort_unstable_by_key(|(to, used)| (std::cmp::Reverse(*used), *to));
    all.truncate(count);
    all
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use forebay_common::family::V4;
    use forebay_common::wire::{TCP, UDP};

    use super::*;

    const B: [u8; 4] = [10, 0, 1, 11];
    const P: [u8; 4] = [203, 0, 113, 64];

    fn address(octets: [u8; 4]) -> V4 {
        V4::from(Ipv4Addr::from(octets))
    }

    /// The two entries of what B has towards `to` through a port of P.
    fn entries(
        kind: FlowKind,
        protocol: u8,
        port: u16,
        to: ([u8; 4], u16),
    ) -> [(FlowKey<V4>, Flow<V4>); 2] {
        let inside = FlowKey {
            source: address(B),
            destination: address(to.0),
            ports: FlowKey::<V4>::ports_word(40000, to.1),
            protocol: protocol.into(),
        };
        let outside = FlowKey {
            source: address(P),
            ports: FlowKey::<V4>::ports_word(port, to.1),
            ..inside
        };
        let half = |to: FlowKey<V4>, direction| Flow {
            source: to.source,
            destination: to.destination,
            ports: to.ports,
            kind: kind.byte(direction, true),
            ..Flow::default()
        };
        [
            (inside, half(outside, Direction::FromInstance)),
            (
                outside.reversed(),
                half(inside.reversed(), Direction::ToInstance),
            ),
        ]
    }

    fn count(flows: &[[(FlowKey<V4>, Flow<V4>); 2]]) -> (SnatUse, SnatDestinations) {
        let (mut used, mut destinations) = (SnatUse::default(), SnatDestinations::default());
        for (key, flow) in flows.iter().flatten() {
            used.add(key, flow);
            destinations.add(key, flow, |_| true);
        }
        (used, destinations)
    }

    fn user(protocol: u8) -> SnatUser {
        SnatUser {
            source: IpAddr::from(B),
            protocol: protocol.into(),
            address: IpAddr::from(P),
        }
    }

    #[test]
    fn a_port_that_several_flows_share_is_one() {
        let flow =
            |port, last| entries(FlowKind::OutboundRule, TCP, port, ([192, 0, 2, last], 443));
        let (used, destinations) = count(&[flow(1024, 1), flow(1024, 2), flow(1025, 2)]);
        let ports: Vec<u16> = used.ports[&user(TCP)].iter().collect();
        assert_eq!(ports, [1024, 1025]);
        assert_eq!(used.ports[&user(TCP)].len(), 2);
        let of_user = destinations.of(&user(TCP)).unwrap();
        assert_eq!(
            top(of_user, 5),
            [
                ((IpAddr::from([192, 0, 2, 2]), 443), 2),
                ((IpAddr::from([192, 0, 2, 1]), 443), 1)
            ]
        );
        assert_eq!(top(of_user, 1).len(), 1);
    }

    #[test]
    fn mappings_hold_ports_and_have_no_destination() {
        let nowhere = ([0, 0, 0, 0], 0);
        let mapping = entries(FlowKind::Mapping, UDP, 2000, nowhere);
        let contact = entries(FlowKind::Mapping, UDP, 2000, ([192, 0, 2, 1], 0));
        let flow = entries(FlowKind::OutboundRule, UDP, 2000, ([192, 0, 2, 1], 53));
        let (used, destinations) = count(&[mapping, contact, flow]);
        assert_eq!(used.ports[&user(UDP)].iter().collect::<Vec<_>>(), [2000]);
        let of_user = destinations.of(&user(UDP)).unwrap();
        assert_eq!(top(of_user, 5), [((IpAddr::from([192, 0, 2, 1]), 53), 1)]);
    }

    #[test]
    fn protocols_and_addresses_are_counted_by_themselves() {
        let to = ([192, 0, 2, 1], 443);
        let mut elsewhere = entries(FlowKind::RuleImplied, TCP, 1024, to);
        elsewhere[1].0.destination = address([203, 0, 113, 65]);
        let (used, _) = count(&[
            entries(FlowKind::DefaultOutbound, TCP, 1024, to),
            entries(FlowKind::Hairpin, UDP, 1024, to),
            elsewhere,
        ]);
        let of_tcp: Vec<_> = used.of(IpAddr::from(B), TCP.into()).collect();
        let addresses: Vec<IpAddr> = of_tcp.iter().map(|(address, _)| *address).collect();
        assert_eq!(
            addresses,
            [IpAddr::from(P), IpAddr::from([203, 0, 113, 65])]
        );
        assert_eq!(used.of(IpAddr::from(B), UDP.into()).count(), 1);
        assert_eq!(used.of(IpAddr::from(P), TCP.into()).count(), 0);
    }

    #[test]
    fn flows_from_outside_and_those_that_end_hold_none() {
        let to = ([192, 0, 2, 1], 443);
        let mut ending = entries(FlowKind::OutboundRule, TCP, 1024, to);
        ending[1].1.marks = marks::RETIRING;
        let (used, _) = count(&[
            entries(FlowKind::Rule, TCP, 80, to),
            entries(FlowKind::InboundNat, TCP, 2201, to),
            ending,
        ]);
        assert!(used.ports.is_empty());
    }

    #[test]
    fn ports_outside_of_ranges_are_told() {
        let mut ports = PortSet::default();
        for port in [1024, 1031, 1032, 65023] {
            ports.insert(port);
        }
        assert_eq!(ports.outside(&[1024..=1031]), 2);
        assert_eq!(ports.outside(&[1024..=1031, 65016..=65023]), 1);
        assert_eq!(ports.outside(&[]), 4);
        let mut more = PortSet::default();
        more.insert(1031);
        more.insert(63);
        ports.extend(&more);
        assert_eq!(
            ports.iter().collect::<Vec<_>>(),
            [63, 1024, 1031, 1032, 65023]
        );
        assert!(!ports.is_empty() && PortSet::default().is_empty());
    }
}
