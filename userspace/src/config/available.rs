//! What the file may say but the present version cannot run yet. Everything is parsed and
//! validated in full; each line here that goes away makes one feature available.

use toml_edit::Value;

use super::place::{Entry, Place};
use super::source::Source;

/// A whole kind of table.
struct MissingTable {
    kind: &'static str,
    feature: &'static str,
}

/// A key, for some of its values.
struct MissingKey {
    kind: &'static str,
    key: &'static str,
    feature: &'static str,
    /// What can be written instead.
    expected: &'static str,
    concerns: fn(&Value) -> bool,
}

const TABLES: [MissingTable; 2] = [
    table("dns", "keeping names in the DNS"),
    table("security_group", "a security group"),
];

const KEYS: [MissingKey; 8] = [
    key("node", "full_nat_ipv4", "full-nat", UNSET, is_set),
    key("node", "full_nat_ipv6", "full-nat", UNSET, is_set),
    key("api", "group", "reading by a system group", UNSET, is_set),
    key("log", "flow_log", "the flow log", UNSET, is_set),
    key(
        "instance",
        "security_group",
        "a security group",
        ABSENT,
        always,
    ),
    key(
        "instance.ip_configs",
        "security_group",
        "a security group",
        ABSENT,
        always,
    ),
    key("rule", "forwarding", "full-nat", "\"nat\"", |value| {
        is(value, &["full-nat"])
    }),
    key("rule", "forwarding", "dsr", "\"nat\"", |value| {
        is(value, &["dsr"])
    }),
];

const UNSET: &str = "\"\"";
const ABSENT: &str = "no such key";

const fn table(kind: &'static str, feature: &'static str) -> MissingTable {
    MissingTable { kind, feature }
}

const fn key(
    kind: &'static str,
    key: &'static str,
    feature: &'static str,
    expected: &'static str,
    concerns: fn(&Value) -> bool,
) -> MissingKey {
    MissingKey {
        kind,
        key,
        feature,
        expected,
        concerns,
    }
}

/// Refuses what is not available yet.
pub(super) fn refuse(source: &Source<'_>) {
    for place in source.places() {
        for missing in TABLES.iter().filter(|missing| missing.kind == place.kind) {
            // A table that is not in the file stands in with no text.
            if place.found != "nothing" {
                source.error(place.whole(), "no such table", message(missing.feature));
            }
        }
        for missing in KEYS.iter().filter(|missing| missing.kind == place.kind) {
            if value(&place, missing.key).is_some_and(missing.concerns) {
                source.error(
                    place.at(missing.key),
                    missing.expected,
                    message(missing.feature),
                );
            }
        }
    }
}

fn message(feature: &str) -> String {
    format!("{feature} is not available yet in this version; remove it")
}

fn value<'p>(place: &'p Place, key: &str) -> Option<&'p Value> {
    place
        .entries
        .get(key)
        .and_then(|Entry { value, .. }| value.as_ref())
}

fn always(_: &Value) -> bool {
    true
}

fn is(value: &Value, words: &[&str]) -> bool {
    value.as_str().is_some_and(|text| words.contains(&text))
}

fn is_set(value: &Value) -> bool {
    value.as_str().is_some_and(|text| !text.is_empty())
}
