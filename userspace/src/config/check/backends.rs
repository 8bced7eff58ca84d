//! Two rules that send to one (instance address, port, protocol): a reply alone does not tell
//! which of them it belongs to.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::Check;
use crate::config::model::{Forwarding, IpConfig, MemberRef, NatTarget, Ports, Protocol};
use crate::config::place::Place;
use crate::config::snat::Family;

/// Where a rule sends.
struct Route<'d> {
    place: &'d Place,
    protocol: Protocol,
    /// `None` is every port: such a rule yields to any other.
    ports: Option<RangeInclusive<u16>>,
    to: Targets<'d>,
    /// Whether its frontend has IPv4, and IPv6.
    families: [bool; 2],
}

/// Whom a rule sends to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Targets<'d> {
    Pool(&'d str),
    One(&'d MemberRef),
}

/// What sends to the same addresses: targets, and whether over IPv6.
type Group<'d> = (Targets<'d>, bool);

pub(super) fn check(check: &Check<'_>) {
    let routes = routes(check);
    let mut groups: BTreeMap<Group<'_>, Vec<usize>> = BTreeMap::new();
    for (index, route) in routes.iter().enumerate() {
        for ipv6 in [false, true]
            .into_iter()
            .filter(|ipv6| route.families[usize::from(*ipv6)])
        {
            groups.entry((route.to, ipv6)).or_default().push(index);
        }
    }
    // Rules by the thousand may send to members by the thousand, but their pools are few.
    let mut by_address: BTreeMap<IpAddr, Vec<Group<'_>>> = BTreeMap::new();
    for group in groups.keys() {
        for address in addresses(check, *group) {
            by_address.entry(address).or_default().push(*group);
        }
    }
    let sorted: HashMap<Group<'_>, Sorted> = groups
        .into_iter()
        .map(|(group, indexes)| (group, Sorted::new(&routes, indexes)))
        .collect();
    let mut seen = HashSet::new();
    let mut warned = HashSet::new();
    for (address, groups) in by_address {
        for (position, one) in groups.iter().enumerate() {
            for other in &groups[position..] {
                if seen.insert((*one, *other)) {
                    let (one, other) = (&sorted[one], &sorted[other]);
                    meet(check, &routes, [one, other], address, &mut warned);
                }
            }
        }
    }
}

/// Warns of the routes of two groups that meet at an address.
fn meet(
    check: &Check<'_>,
    routes: &[Route<'_>],
    [one, other]: [&Sorted; 2],
    address: IpAddr,
    warned: &mut HashSet<(usize, usize)>,
) {
    let (few, many) = if one.indexes.len() <= other.indexes.len() {
        (one, other)
    } else {
        (other, one)
    };
    for index in &few.indexes {
        for found in many.touching(routes, &routes[*index]) {
            let (earlier, later) = (*index.min(&found), *index.max(&found));
            let overlap = routes[earlier].protocol.overlaps(routes[later].protocol);
            if earlier != later && overlap && warned.insert((earlier, later)) {
                let (earlier, later) = (&routes[earlier], &routes[later]);
                let port = earlier.first_port().max(later.first_port()).max(1);
                warn(check, earlier, later, address, port);
            }
        }
    }
}

/// Routes by their first port.
struct Sorted {
    indexes: Vec<usize>,
    /// The highest last port of a route and all before it.
    reach: Vec<u16>,
}

impl Sorted {
    fn new(routes: &[Route<'_>], mut indexes: Vec<usize>) -> Self {
        indexes.sort_by_key(|index| routes[*index].first_port());
        let lasts = indexes.iter().map(|index| routes[*index].last_port());
        let reach = lasts.scan(0, |highest, last| {
            *highest = last.max(*highest);
            Some(*highest)
        });
        let reach = reach.collect();
        Self { indexes, reach }
    }

    /// The routes that share a port with another.
    fn touching(&self, routes: &[Route<'_>], other: &Route<'_>) -> Vec<usize> {
        let begun = |index: &usize| routes[*index].first_port() <= other.last_port();
        let end = self.indexes.partition_point(begun);
        let candidates = self.indexes[..end].iter().zip(&self.reach[..end]).rev();
        let near = candidates.take_while(|(_, reach)| **reach >= other.first_port());
        near.map(|(index, _)| *index)
            .filter(|index| routes[*index].last_port() >= other.first_port())
            .collect()
    }
}

impl Route<'_> {
    /// Rules for every port are at port 0, so that they meet only each other.
    fn first_port(&self) -> u16 {
        self.ports.as_ref().map_or(0, |ports| *ports.start())
    }

    fn last_port(&self) -> u16 {
        self.ports.as_ref().map_or(0, |ports| *ports.end())
    }
}

fn warn(check: &Check<'_>, earlier: &Route<'_>, later: &Route<'_>, address: IpAddr, port: u16) {
    let message = format!(
        "{} (line {}) sends to port {port} of {address} as well: replies then depend on flow state",
        earlier.place.path, earlier.place.line
    );
    let key = ["backend_port", "port"]
        .into_iter()
        .find(|key| later.place.has(key));
    let spot = later.place.at(key.unwrap_or("port"));
    check
        .source
        .warning(spot, "a backend port of its own", message);
}

fn routes<'d>(check: &Check<'d>) -> Vec<Route<'d>> {
    let rules = check.draft.rules.iter();
    let rules = rules.filter(|rule| rule.value.forwarding == Forwarding::Nat);
    let rules = rules.map(|rule| Route {
        place: &rule.place,
        protocol: rule.value.protocol,
        ports: backend_ports(&rule.value.port, rule.value.backend_port),
        to: Targets::Pool(&rule.value.pool),
        families: families(check, &rule.value.frontend),
    });
    let nat_rules = check.draft.inbound_nat_rules.iter().filter_map(|rule| {
        let port = rule.value.backend_port;
        let to = match &rule.value.target {
            NatTarget::Instance(target) => Targets::One(target),
            // Each member is given another port: only a backend port is known.
            NatTarget::Pool(pool) => port.map(|_| Targets::Pool(pool))?,
        };
        Some(Route {
            place: &rule.place,
            protocol: rule.value.protocol,
            ports: Some(port.map_or_else(|| rule.value.port.range(), |port| port..=port)),
            to,
            families: families(check, &rule.value.frontend),
        })
    });
    rules.chain(nat_rules).collect()
}

fn backend_ports(ports: &Ports, backend_port: Option<u16>) -> Option<RangeInclusive<u16>> {
    (*ports != Ports::Every).then(|| ports.backend_range(backend_port))
}

/// The families that a frontend has.
fn families(check: &Check<'_>, frontend: &str) -> [bool; 2] {
    let frontend = check.frontends.get(frontend);
    let has =
        |family: Family| frontend.is_some_and(|frontend| family.addresses_of(&frontend.value) > 0);
    [has(Family::V4), has(Family::V6)]
}

/// The addresses that a group sends to.
fn addresses(check: &Check<'_>, (to, ipv6): Group<'_>) -> Vec<IpAddr> {
    let ip_configs: Vec<&IpConfig> = match to {
        Targets::Pool(pool) => (check.targets(pool).into_iter())
            .map(|(_, _, ip_config)| ip_config)
            .collect(),
        Targets::One(target) => (check.ip_config(target).into_iter())
            .map(|(_, ip_config)| ip_config)
            .collect(),
    };
    let all = ip_configs.into_iter().flat_map(IpConfig::addresses);
    all.filter(|address| address.is_ipv6() == ipv6).collect()
}
