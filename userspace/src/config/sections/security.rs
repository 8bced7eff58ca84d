//! `[[security_group]]` and its rules.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use toml_edit::Value;

use crate::config::field::Field;
use crate::config::model::{SecurityDirection, SecurityGroup, SecurityProtocol, SecurityRule};
use crate::config::names::Names;
use crate::config::place::{Place, Placed};
use crate::config::reader::Table;
use crate::config::values::{Parsed, net, numbers, one_of, ports};

const PRIORITY: &str = "a priority from 100 to 4096";
const PRIORITIES: RangeInclusive<u16> = 100..=4096;

const DIRECTIONS: [(&str, SecurityDirection); 2] = [
    ("inbound", SecurityDirection::Inbound),
    ("outbound", SecurityDirection::Outbound),
];

const ACCESS: [(&str, bool); 2] = [("allow", true), ("deny", false)];

const PROTOCOLS: [(&str, SecurityProtocol); 4] = [
    ("tcp", SecurityProtocol::Tcp),
    ("udp", SecurityProtocol::Udp),
    ("icmp", SecurityProtocol::Icmp),
    ("any", SecurityProtocol::Any),
];

pub(super) fn security_group(
    mut table: Table<'_>,
    names: &mut Names,
) -> Option<Placed<SecurityGroup>> {
    let name = names.read(&mut table, "security_group");
    let mut names_in_group = Names::default();
    let mut rules: Vec<(SecurityRule, Place)> = (table.tables("rule").into_iter())
        .filter_map(|table| security_rule(table, &mut names_in_group))
        .collect();
    refuse_equal_priorities(&table, &rules);
    rules.sort_by_key(|(rule, _)| (is_outbound(rule), rule.priority));
    let (rules, parts) = rules.into_iter().unzip();
    let finished = table.finish();
    Some(finished.with(SecurityGroup { name: name?, rules }, parts))
}

fn is_outbound(rule: &SecurityRule) -> bool {
    rule.direction == SecurityDirection::Outbound
}

fn refuse_equal_priorities(table: &Table<'_>, rules: &[(SecurityRule, Place)]) {
    let mut taken = BTreeMap::new();
    for (rule, place) in rules {
        let key = (is_outbound(rule), rule.priority);
        if let Some((name, line)) = taken.get(&key) {
            let message = format!(
                "\"{name}\" (line {line}) has it; rules of one direction are asked by priority"
            );
            let spot = place.at("priority");
            table
                .source()
                .error(spot, "a priority of its own within the direction", message);
        } else {
            taken.insert(key, (rule.name.clone(), place.line));
        }
    }
}

fn security_rule(mut table: Table<'_>, names: &mut Names) -> Option<(SecurityRule, Place)> {
    let name = names.read(&mut table, "rule of this group");
    let priority = table.require("priority", PRIORITY, |value: &Value| {
        numbers::integer_as(value, PRIORITY, &PRIORITIES)
    });
    let direction = table.require(
        "direction",
        "\"inbound\" or \"outbound\"",
        one_of(&DIRECTIONS),
    );
    let access = table.require("access", "\"allow\" or \"deny\"", one_of(&ACCESS));
    let protocol = table.require(
        "protocol",
        "\"tcp\", \"udp\", \"icmp\" or \"any\"",
        one_of(&PROTOCOLS),
    );
    let source = any_or_list(&mut table, "source", net::selector);
    let destination = any_or_list(&mut table, "destination", net::selector);
    let source_ports = any_or_list(&mut table, "source_ports", ports::port_selector);
    let destination_ports = any_or_list(&mut table, "destination_ports", ports::port_selector);
    if protocol == Some(SecurityProtocol::Icmp) {
        refuse_ports_of_icmp(&table, "source_ports", source_ports.as_deref());
        refuse_ports_of_icmp(&table, "destination_ports", destination_ports.as_deref());
    }
    let place = table.finish().place;
    let rule = SecurityRule {
        name: name?,
        priority: priority?,
        direction: direction?,
        allow: access?,
        protocol: protocol?,
        source: source?,
        destination: destination?,
        source_ports: source_ports?,
        destination_ports: destination_ports?,
    };
    Some((rule, place))
}

fn refuse_ports_of_icmp(table: &Table<'_>, key: &str, ports: Option<&[RangeInclusive<u16>]>) {
    if ports.is_some_and(|ports| !ports.is_empty()) {
        let message = "icmp has no ports; remove it";
        table
            .source()
            .error(table.place().at(key), "[\"*\"]", message);
    }
}

/// A list in which `"*"`, parsed as `None`, stands alone and comes to an empty one.
fn any_or_list<T>(
    table: &mut Table<'_>,
    key: &'static str,
    parse: impl Fn(&Value) -> Parsed<Option<T>>,
) -> Option<Vec<T>> {
    const EXPECTED: &str = "a list, or [\"*\"] for everything";
    let elements = match table.list(key, EXPECTED, parse) {
        Field::Absent => return Some(Vec::new()),
        Field::Invalid => return None,
        Field::Present(elements) => elements,
    };
    let (source, place) = (table.source(), table.place());
    if elements.is_empty() {
        let message = "an empty list would match nothing; write [\"*\"] or remove the line";
        source.error(place.at(key), EXPECTED, message);
        return None;
    }
    let star = elements.iter().position(Option::is_none);
    match star {
        Some(_) if elements.len() == 1 => Some(Vec::new()),
        Some(index) => {
            let message = "\"*\" is everything already; remove it or the others";
            source.error(place.element(key, index), "\"*\" alone", message);
            None
        }
        None => Some(elements.into_iter().flatten().collect()),
    }
}
