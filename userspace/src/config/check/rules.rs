//! Rules and inbound NAT rules, each by itself.

use super::Check;
use crate::config::model::{Forwarding, Ports, Rule};
use crate::config::place::{Place, Placed};

pub(super) fn check(check: &Check<'_>) {
    for rule in &check.draft.rules {
        frontend_is_an_address(check, &rule.value.frontend, &rule.place);
        backend_port(
            check,
            &rule.value.port,
            rule.value.backend_port,
            &rule.place,
        );
        if rule.value.forwarding == Forwarding::Dsr {
            dsr_keeps_the_port(check, rule);
        }
    }
    for rule in &check.draft.inbound_nat_rules {
        frontend_is_an_address(check, &rule.value.frontend, &rule.place);
    }
}

fn frontend_is_an_address(check: &Check<'_>, frontend: &str, place: &Place) {
    let prefix = check
        .frontends
        .get(frontend)
        .filter(|frontend| frontend.value.has_prefix());
    if let Some(frontend) = prefix {
        let message = format!(
            "\"{}\" (line {}) is a prefix, and prefixes are for outbound only; use another",
            frontend.value.name, frontend.place.line
        );
        let expected = "a frontend with single addresses";
        check.source.error(place.at("frontend"), expected, message);
    }
}

fn backend_port(check: &Check<'_>, port: &Ports, backend_port: Option<u16>, place: &Place) {
    let Some(first) = backend_port else {
        return;
    };
    match port {
        Ports::Single(_) => {}
        Ports::Every => {
            let message = "a rule for every port keeps the port; remove backend_port";
            check.source.error(
                place.at("backend_port"),
                "no backend_port with port = 0",
                message,
            );
        }
        Ports::Range(range) => {
            let offset = range.end() - range.start();
            if first.checked_add(offset).is_none() {
                let largest = u16::MAX - offset;
                let message = format!(
                    "the range has {} ports and the offset is kept: the last would be {}",
                    u32::from(offset) + 1,
                    u32::from(first) + u32::from(offset)
                );
                let expected = format!("a port from 1 to {largest}");
                check
                    .source
                    .error(place.at("backend_port"), expected, message);
            }
        }
    }
}

fn dsr_keeps_the_port(check: &Check<'_>, rule: &Placed<Rule>) {
    let Some(backend_port) = rule.value.backend_port else {
        return;
    };
    if rule.value.port.backend_range(Some(backend_port)) != rule.value.port.range() {
        let message = "dsr translates nothing, so the backend answers from the port it was asked \
                       on; remove backend_port";
        check.source.error(
            rule.place.at("backend_port"),
            "the port of the rule",
            message,
        );
    }
}
