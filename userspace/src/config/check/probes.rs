//! Probes that cannot know which port to ask, or whom.

use std::collections::HashSet;

use super::Check;
use crate::config::model::{Ports, Probe, ProbeFamily, Protocol, Rule};
use crate::config::place::Placed;

pub(super) fn check(check: &Check<'_>) {
    let mut judged = HashSet::new();
    for rule in &check.draft.rules {
        let Some(probe) = rule
            .value
            .probe
            .as_ref()
            .and_then(|probe| check.probes.get(probe.as_str()))
        else {
            continue;
        };
        needs_its_own_port(check, rule, probe);
        if judged.insert((&probe.value.name, &rule.value.pool)) {
            members_have_the_family(check, &rule.value, probe);
        }
    }
}

fn needs_its_own_port(check: &Check<'_>, rule: &Placed<Rule>, probe: &Placed<Probe>) {
    let why = match (rule.value.protocol, &rule.value.port) {
        (_, Ports::Range(_)) => "a range of ports",
        (_, Ports::Every) => "every port",
        (Protocol::Udp, Ports::Single(_)) => "udp",
        (Protocol::Tcp | Protocol::All, Ports::Single(_)) => return,
    };
    if probe.value.port.is_none() {
        let message = format!(
            "this rule is for {why}, so probe \"{}\" (line {}) needs a port of its own; add it there",
            probe.value.name, probe.place.line
        );
        check
            .source
            .error(rule.place.at("probe"), "a probe with its own port", message);
    }
}

fn members_have_the_family(check: &Check<'_>, rule: &Rule, probe: &Placed<Probe>) {
    for (target, _, ip_config) in check.targets(&rule.pool) {
        let (family, other, has_it) = match probe.value.family {
            ProbeFamily::Each => return,
            ProbeFamily::Ipv4 => ("IPv4", "IPv6", ip_config.ipv4.is_some()),
            ProbeFamily::Ipv6 => ("IPv6", "IPv4", ip_config.ipv6.is_some()),
        };
        if !has_it {
            let message = format!(
                "{target} of pool \"{}\" has no {family} address, so its {other} address is probed",
                rule.pool
            );
            let expected = "a family that every member has";
            check
                .source
                .warning(probe.place.at("family"), expected, message);
            return;
        }
    }
}
