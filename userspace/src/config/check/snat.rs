//! Promises of SNAT ports that cannot be kept.

use std::collections::{BTreeMap, BTreeSet};

use super::Check;
use crate::config::host::Host;
use crate::config::model::Config;
use crate::config::names::listed;
use crate::config::place::{Place, Spot};
use crate::config::snat::{BLOCK, Family, Origin, Plan, Share, Shortage, available_to, plan};

pub(super) fn check(check: &Check<'_>, host: Option<&Host>) {
    let mut config = check.draft.to_config();
    if let Some(host) = host {
        config.host_ports = host.kept_ports(&config);
    }
    let plan = plan(&config);
    not_in_blocks(check, &config, &plan);
    over_committed(check, &plan);
    reduced(check, &plan);
}

fn ports_spot(check: &Check<'_>, share: &Share) -> Spot {
    let place: &Place = match share.origin {
        Origin::OutboundRule(index) => &check.draft.outbound_rules[index].place,
        Origin::Rule(index) => &check.draft.rules[index].place,
        Origin::DefaultOutbound => match &check.draft.default_outbound {
            Some(default) => &default.place,
            None => &check.draft.node.place,
        },
    };
    place.at_or_whole("ports_per_instance")
}

/// Frontends that could not be read would have had ports.
fn is_complete(check: &Check<'_>, share: &Share) -> bool {
    let written = match share.origin {
        Origin::OutboundRule(index) => &check.draft.outbound_rules[index].value.frontends,
        Origin::DefaultOutbound => match &check.draft.default_outbound {
            Some(default) => &default.value.frontends,
            None => return true,
        },
        Origin::Rule(_) => &share.frontends,
    };
    written
        .iter()
        .all(|name| check.frontends.contains_key(name.as_str()))
}

fn not_in_blocks(check: &Check<'_>, config: &Config, plan: &Plan) {
    let mut reported = BTreeSet::new();
    for share in &plan.shares {
        let in_blocks = share.automatic || share.wanted % BLOCK == 0;
        if in_blocks || !is_complete(check, share) || !reported.insert(share.origin) {
            continue;
        }
        let below = share.wanted / BLOCK * BLOCK;
        let nearest = match below {
            0 => BLOCK.to_string(),
            below => format!("{below} or {}", below.saturating_add(BLOCK)),
        };
        let numbers = numbers(
            check,
            &[share],
            available_to(config, share),
            &share.frontends,
        );
        let message = format!("ports go in blocks of {BLOCK}: write {nearest}; {numbers}");
        check
            .source
            .error(ports_spot(check, share), "a multiple of 8", message);
    }
}

fn over_committed(check: &Check<'_>, plan: &Plan) {
    let mut reported = BTreeSet::new();
    for shortage in &plan.shortages {
        let shares: Vec<_> = shortage
            .shares
            .iter()
            .map(|share| &plan.shares[*share])
            .collect();
        if !shares.iter().all(|share| is_complete(check, share)) {
            continue;
        }
        for share in &shares {
            if reported.insert(share.origin) {
                let numbers = numbers(check, &shares, shortage.available, &shortage.frontends);
                let expected = match most_that_fits(shortage, share) {
                    0 => "fewer ports or more frontends".to_owned(),
                    most => format!("a multiple of 8, at most {most}"),
                };
                let message = format!("more ports are promised than there are: {numbers}");
                check
                    .source
                    .error(ports_spot(check, share), expected, message);
            }
        }
    }
}

/// What could be promised if the others stayed as they are.
fn most_that_fits(shortage: &Shortage, share: &Share) -> u64 {
    let others = shortage.needed - share.needed();
    let rest = shortage.available.saturating_sub(others);
    let blocks = rest / u64::from(BLOCK) / share.ip_configs.len().max(1) as u64;
    blocks * u64::from(BLOCK)
}

fn numbers(check: &Check<'_>, shares: &[&Share], available: u64, frontends: &[String]) -> String {
    let terms: Vec<_> = (shares.iter())
        .map(|share| format!("{} x {}", users(check, share), share.wanted))
        .collect();
    let needed: u64 = shares.iter().map(|share| share.needed()).sum();
    let family = shares.first().map_or(Family::V4, |share| share.family);
    let is_shared = |name: &String| {
        let frontend = check.frontends.get(name.as_str());
        frontend.is_some_and(|frontend| frontend.value.shared)
    };
    let without = match frontends.iter().any(is_shared) {
        true => ", without the ports of the host itself",
        false => "",
    };
    format!(
        "needed {needed} ({}), available {available} on {} over {family}{without}",
        terms.join(" + "),
        listed(frontends.iter())
    )
}

fn users(check: &Check<'_>, share: &Share) -> String {
    let count = match share.ip_configs.len() {
        1 => "1 IP configuration".to_owned(),
        count => format!("{count} IP configurations"),
    };
    match share.origin {
        Origin::OutboundRule(index) => {
            let pool = &check.draft.outbound_rules[index].value.pool;
            format!("{count} of pool \"{pool}\"")
        }
        Origin::Rule(index) => {
            let pool = &check.draft.rules[index].value.pool;
            format!("{count} of pool \"{pool}\"")
        }
        Origin::DefaultOutbound => format!("{count} without another method"),
    }
}

/// Automatic numbers never refuse, but whoever gets less than the table says should know.
fn reduced(check: &Check<'_>, plan: &Plan) {
    let mut least: BTreeMap<Origin, &Share> = BTreeMap::new();
    for share in plan
        .shares
        .iter()
        .filter(|share| share.ports < share.wanted)
    {
        let known = least.entry(share.origin).or_insert(share);
        if share.ports < known.ports {
            *known = share;
        }
    }
    for share in least
        .into_values()
        .filter(|share| is_complete(check, share))
    {
        let expected = format!(
            "room for {} ports for each of {}",
            share.wanted,
            users(check, share)
        );
        let on = listed(share.frontends.iter());
        let message = match share.ports {
            0 => format!("no ports of {on} are left to promise: they share what nobody reserved"),
            ports => format!("only {ports} for each are left on {on}; add a frontend for more"),
        };
        check
            .source
            .warning(ports_spot(check, share), expected, message);
    }
}
