//! What a reload would change, in the operator's words.

use std::collections::BTreeMap;
use std::fmt::Debug;

use serde::{Deserialize, Serialize};

use crate::config::model::Config;

/// One difference between two configurations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedChange {
    /// `add`, `change` or `remove`.
    pub action: String,
    /// Kind of the table: `rule`, `pool` ...
    pub kind: String,
    /// Its name; empty for tables that exist once.
    pub name: String,
    /// What is different.
    pub detail: String,
}

/// The differences from `old` (`None`: nothing yet) to `new`, by kind and in file order.
pub fn plan(old: Option<&Config>, new: &Config) -> Vec<PlannedChange> {
    let mut changes = Vec::new();
    macro_rules! tables {
        ($kind:literal, $field:ident) => {
            let before = old.map_or(&[][..], |config| &config.$field[..]);
            compare($kind, before, &new.$field, |item| &item.name, &mut changes);
        };
    }
    macro_rules! single {
        ($kind:literal, $field:ident) => {
            match old {
                Some(old) => note_change($kind, "", &old.$field, &new.$field, &mut changes),
                None => {}
            }
        };
    }
    single!("node", node);
    single!("limits", limits);
    single!("timeouts", timeouts);
    single!("api", api);
    single!("log", log);
    tables!("frontend", frontends);
    tables!("public_ip", public_ips);
    tables!("instance", instances);
    tables!("pool", pools);
    tables!("probe", probes);
    tables!("rule", rules);
    tables!("inbound_nat_rule", inbound_nat_rules);
    tables!("outbound_rule", outbound_rules);
    tables!("security_group", security_groups);
    single!("default_outbound", default_outbound);
    single!("dns", dns);
    changes
}

fn compare<T: PartialEq + Debug>(
    kind: &str,
    old: &[T],
    new: &[T],
    name: impl Fn(&T) -> &String,
    changes: &mut Vec<PlannedChange>,
) {
    let before: BTreeMap<&String, &T> = old.iter().map(|item| (name(item), item)).collect();
    let after: BTreeMap<&String, &T> = new.iter().map(|item| (name(item), item)).collect();
    for item in new {
        match before.get(name(item)) {
            Some(known) => note_change(kind, name(item), *known, item, changes),
            None => changes.push(planned("add", kind, name(item), String::new())),
        }
    }
    for item in old.iter().filter(|item| !after.contains_key(name(item))) {
        changes.push(planned("remove", kind, name(item), String::new()));
    }
}

fn planned(action: &str, kind: &str, name: &str, detail: String) -> PlannedChange {
    PlannedChange {
        action: action.to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
        detail,
    }
}

fn note_change<T: PartialEq + Debug>(
    kind: &str,
    name: &str,
    old: &T,
    new: &T,
    changes: &mut Vec<PlannedChange>,
) {
    if old != new {
        changes.push(planned(
            "change",
            kind,
            name,
            difference(&format!("{old:#?}"), &format!("{new:#?}")),
        ));
    }
}

/// The lines in which two printed values differ: `old -> new`, or `+new` and `-old` where they do not
/// pair up.
fn difference(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (lines(old), lines(new));
    let same_start = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let rest = (&old[same_start..], &new[same_start..]);
    let same_end = rest
        .0
        .iter()
        .rev()
        .zip(rest.1.iter().rev())
        .take_while(|(a, b)| a == b)
        .count();
    let gone = &rest.0[..rest.0.len() - same_end];
    let come = &rest.1[..rest.1.len() - same_end];
    if gone.len() == come.len() {
        let pairs = gone.iter().zip(come).filter(|(a, b)| a != b);
        return pairs
            .map(|(a, b)| format!("{a} -> {b}"))
            .collect::<Vec<_>>()
            .join("; ");
    }
    let gone = gone.iter().map(|line| format!("-{line}"));
    gone.chain(come.iter().map(|line| format!("+{line}")))
        .collect::<Vec<_>>()
        .join("; ")
}

/// Lines that say something, without the punctuation of the printer.
fn lines(printed: &str) -> Vec<&str> {
    let inner = printed
        .lines()
        .map(|line| line.trim().trim_end_matches(','));
    inner
        .filter(|line| line.chars().any(char::is_alphanumeric))
        .collect()
}
