//! Ports that an inbound NAT rule over a pool gives to the members, and those they pin.

use std::collections::HashMap;

use super::Check;
use crate::config::model::{InboundNatRule, NatTarget, Pool};
use crate::config::place::Placed;

pub(super) fn check(check: &Check<'_>) {
    for rule in &check.draft.inbound_nat_rules {
        if let NatTarget::Pool(pool) = &rule.value.target
            && let Some(pool) = check.pools.get(pool.as_str())
        {
            range_is_large_enough(check, rule, &pool.value);
        }
    }
    for pool in &check.draft.pools {
        pinned_ports(check, pool);
    }
}

fn range_is_large_enough(check: &Check<'_>, rule: &Placed<InboundNatRule>, pool: &Pool) {
    let (ports, members) = (rule.value.port.range().len(), pool.members.len());
    if ports < members {
        let message = format!(
            "the range has {ports} ports and pool \"{}\" {members} members: {} of them get none",
            pool.name,
            members - ports
        );
        let expected = "a port for each member";
        check
            .source
            .warning(rule.place.at("port"), expected, message);
    }
}

fn pinned_ports(check: &Check<'_>, pool: &Placed<Pool>) {
    let rules: Vec<_> = (check.draft.inbound_nat_rules.iter())
        .filter(|rule| rule.value.target == NatTarget::Pool(pool.value.name.clone()))
        .collect();
    let mut pinned = HashMap::new();
    for (member, place) in pool.value.members.iter().zip(&pool.parts) {
        let Some(port) = member.nat_port else {
            continue;
        };
        let spot = place.at("nat_port");
        if let Some(other) = pinned.insert(port, &member.target) {
            let message = format!("{other} has this port already");
            check
                .source
                .error(spot.clone(), "a port that no other member has", message);
        }
        if rules.is_empty() {
            let message = "no inbound NAT rule spreads ports over this pool; remove it";
            check.source.warning(spot, "no nat_port", message);
        } else if !rules
            .iter()
            .any(|rule| rule.value.port.range().contains(&port))
        {
            let ranges = rules.iter().map(|rule| {
                let range = rule.value.port.range();
                format!("{}-{} ({})", range.start(), range.end(), rule.place.path)
            });
            let ranges = ranges.collect::<Vec<_>>().join(" or ");
            let message = "no inbound NAT rule over this pool has this port";
            check
                .source
                .error(spot, format!("a port from {ranges}"), message);
        }
    }
}
