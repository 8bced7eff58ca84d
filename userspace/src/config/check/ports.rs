//! One table of ports for rules and inbound NAT rules: exact port, then range, then every port;
//! within that tcp or udp before all. Two entries of one rank cannot share a port.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::Check;
use crate::config::model::{NatTarget, Ports, Protocol};
use crate::config::place::Place;

/// What a rule or inbound NAT rule takes of a frontend.
struct Claim<'d> {
    frontend: &'d str,
    protocol: Protocol,
    ports: &'d Ports,
    place: &'d Place,
    /// Each port belongs to another member of a pool.
    spread: bool,
}

impl Claim<'_> {
    /// Only claims of one rank compete.
    fn rank(&self) -> (&str, u8, u8) {
        let protocol = match self.protocol {
            Protocol::Tcp => 0,
            Protocol::Udp => 1,
            Protocol::All => 2,
        };
        let exactness = match self.ports {
            Ports::Single(_) => 0,
            Ports::Range(_) => 1,
            Ports::Every => 2,
        };
        (self.frontend, protocol, exactness)
    }

    fn first(&self) -> u16 {
        *self.ports.range().start()
    }
}

pub(super) fn check(check: &Check<'_>) {
    let claims = claims(check);
    let mut ranks: BTreeMap<_, Vec<&Claim<'_>>> = BTreeMap::new();
    for claim in &claims {
        ranks.entry(claim.rank()).or_default().push(claim);
    }
    for claims in ranks.values_mut() {
        claims.sort_by_key(|claim| (claim.first(), claim.place.line));
        refuse_overlaps(check, claims);
    }
    warn_of_shadowed_ports(check, &claims);
}

fn claims<'d>(check: &Check<'d>) -> Vec<Claim<'d>> {
    let rules = check.draft.rules.iter().map(|rule| Claim {
        frontend: &rule.value.frontend,
        protocol: rule.value.protocol,
        ports: &rule.value.port,
        place: &rule.place,
        spread: false,
    });
    let nat_rules = check.draft.inbound_nat_rules.iter().map(|rule| Claim {
        frontend: &rule.value.frontend,
        protocol: rule.value.protocol,
        ports: &rule.value.port,
        place: &rule.place,
        spread: matches!(rule.value.target, NatTarget::Pool(_)),
    });
    rules.chain(nat_rules).collect()
}

fn refuse_overlaps(check: &Check<'_>, claims: &[&Claim<'_>]) {
    let Some((mut widest, others)) = claims.split_first() else {
        return;
    };
    for claim in others {
        if claim.first() <= *widest.ports.range().end() {
            refuse(check, widest, claim);
        }
        if claim.ports.range().end() > widest.ports.range().end() {
            widest = claim;
        }
    }
}

fn refuse(check: &Check<'_>, one: &Claim<'_>, other: &Claim<'_>) {
    let (earlier, later) = if one.place.line <= other.place.line {
        (one, other)
    } else {
        (other, one)
    };
    let last = (*one.ports.range().end()).min(*other.ports.range().end());
    let what = match one.ports {
        Ports::Every => "every port".to_owned(),
        _ => shared_ports(other.first()..=last),
    };
    let message = format!(
        "{} (line {}) takes {what} of frontend \"{}\" for {} already",
        earlier.place.path,
        earlier.place.line,
        later.frontend,
        word(later.protocol)
    );
    let expected = "a port of the frontend that no other rule takes";
    check
        .source
        .error(later.place.at("port"), expected, message);
}

fn shared_ports(range: RangeInclusive<u16>) -> String {
    if range.start() == range.end() {
        format!("port {}", range.start())
    } else {
        format!("ports {}-{}", range.start(), range.end())
    }
}

fn word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::All => "all",
    }
}

/// An exact port wins over a range, so the member that is given it cannot be reached.
fn warn_of_shadowed_ports(check: &Check<'_>, claims: &[Claim<'_>]) {
    for spread in claims.iter().filter(|claim| claim.spread) {
        let shadows = claims.iter().filter(|claim| {
            matches!(claim.ports, Ports::Single(_))
                && claim.frontend == spread.frontend
                && claim.protocol.overlaps(spread.protocol)
                && spread.ports.range().contains(&claim.first())
        });
        for shadow in shadows {
            let message = format!(
                "{} (line {}) takes port {} before this range; the member that is given this port \
                 cannot be reached on it",
                shadow.place.path,
                shadow.place.line,
                shadow.first()
            );
            let expected = "a range without ports of other rules";
            check
                .source
                .warning(spread.place.at("port"), expected, message);
        }
    }
}
