//! Two rules that send to one (instance address, port, protocol): a reply alone does not tell
//! which of them it belongs to.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::Check;
use crate::config::model::{Forwarding, Frontend, IpConfig, NatTarget, Ports, Protocol};
use crate::config::place::Place;
use crate::config::snat::Family;

/// Where a rule sends.
struct Route<'d> {
    place: &'d Place,
    protocol: Protocol,
    /// `None` is every port: such a rule yields to any other.
    ports: Option<RangeInclusive<u16>>,
    addresses: Vec<IpAddr>,
}

pub(super) fn check(check: &Check<'_>) {
    let routes = routes(check);
    let mut by_address: BTreeMap<IpAddr, Vec<usize>> = BTreeMap::new();
    for (index, route) in routes.iter().enumerate() {
        for address in &route.addresses {
            by_address.entry(*address).or_default().push(index);
        }
    }
    let mut warned = HashSet::new();
    for (address, mut indexes) in by_address {
        // Sorted by first port, a route can only meet those that begin before its last one.
        indexes.sort_by_key(|index| routes[*index].first_port());
        for (position, one) in indexes.iter().enumerate() {
            let others = indexes[position + 1..].iter();
            for other in others.take_while(|other| routes[*one].reaches(&routes[**other])) {
                let (earlier, later) = (one.min(other), one.max(other));
                let meet = routes[*one].protocol.overlaps(routes[*other].protocol);
                if meet && warned.insert((*earlier, *later)) {
                    let port = routes[*other].first_port().max(1);
                    warn(check, &routes[*earlier], &routes[*later], address, port);
                }
            }
        }
    }
}

impl Route<'_> {
    /// Rules for every port come first and meet only each other.
    fn first_port(&self) -> u16 {
        self.ports.as_ref().map_or(0, |ports| *ports.start())
    }

    /// Whether a route that begins at the same port or later begins before this one ends.
    fn reaches(&self, later: &Route<'_>) -> bool {
        let last = self.ports.as_ref().map_or(0, |ports| *ports.end());
        later.first_port() <= last
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
    let rules = check
        .draft
        .rules
        .iter()
        .filter(|rule| rule.value.forwarding == Forwarding::Nat);
    let rules = rules.map(|rule| {
        let targets = check.targets(&rule.value.pool);
        let ip_configs = targets.iter().map(|(_, _, ip_config)| *ip_config);
        Route {
            place: &rule.place,
            protocol: rule.value.protocol,
            ports: backend_ports(&rule.value.port, rule.value.backend_port),
            addresses: addresses(check, &rule.value.frontend, ip_configs),
        }
    });
    let nat_rules = check.draft.inbound_nat_rules.iter().map(|rule| {
        let ip_configs = match &rule.value.target {
            NatTarget::Instance(target) => check.ip_config(target).into_iter().collect(),
            // Each member is given another port: only a backend port is known.
            NatTarget::Pool(pool) if rule.value.backend_port.is_some() => {
                let targets = check.targets(pool).into_iter();
                targets
                    .map(|(_, instance, ip_config)| (instance, ip_config))
                    .collect()
            }
            NatTarget::Pool(_) => Vec::new(),
        };
        let ip_configs = ip_configs.into_iter().map(|(_, ip_config)| ip_config);
        let port = match rule.value.backend_port {
            Some(port) => Some(port..=port),
            None => Some(rule.value.port.range()),
        };
        Route {
            place: &rule.place,
            protocol: rule.value.protocol,
            ports: port,
            addresses: addresses(check, &rule.value.frontend, ip_configs),
        }
    });
    rules.chain(nat_rules).collect()
}

fn backend_ports(ports: &Ports, backend_port: Option<u16>) -> Option<RangeInclusive<u16>> {
    (*ports != Ports::Every).then(|| ports.backend_range(backend_port))
}

/// Addresses of the families that the frontend has.
fn addresses<'d>(
    check: &Check<'d>,
    frontend: &str,
    ip_configs: impl Iterator<Item = &'d IpConfig>,
) -> Vec<IpAddr> {
    let frontend = check
        .frontends
        .get(frontend)
        .map(|frontend| &frontend.value);
    let has = |family: Family| {
        frontend.is_some_and(|frontend: &Frontend| family.addresses_of(frontend) > 0)
    };
    let (v4, v6) = (has(Family::V4), has(Family::V6));
    let all = ip_configs.flat_map(IpConfig::addresses);
    all.filter(|address| if address.is_ipv4() { v4 } else { v6 })
        .collect()
}
