//! Packets and bytes of frontends, new flows of rules, and what was dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use forebay_common::abi::RuleCounters;

use super::Values;
use super::families::{Family, Kind, Page, Subject};
use crate::config::model::Config;

const DIRECTIONS: [&str; 2] = ["to-instance", "from-instance"];

static PACKETS: Family = Family {
    stem: "packets",
    kind: Kind::Counter,
    labels: &["frontend", "direction"],
    help: "Packets that were translated for a frontend",
};

static BYTES: Family = Family {
    stem: "bytes",
    kind: Kind::Counter,
    labels: &["frontend", "direction"],
    help: "Bytes of these packets, from the IP header on",
};

static NEW_FLOWS: Family = Family {
    stem: "new_flows",
    kind: Kind::Counter,
    labels: &["rule"],
    help: "Flows that began by a rule or inbound NAT rule",
};

static DROPS: Family = Family {
    stem: "drops",
    kind: Kind::Counter,
    labels: &["reason"],
    help: "Packets that went no further",
};

pub(super) static SUBJECT: Subject = Subject {
    families: &[&PACKETS, &BYTES, &NEW_FLOWS, &DROPS],
    write,
};

/// Towards instances, and from them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets.
    pub packets: [u64; 2],
    /// Bytes.
    pub bytes: [u64; 2],
}

impl From<RuleCounters> for Traffic {
    fn from(counted: RuleCounters) -> Self {
        Self {
            packets: [counted.packets_to_instance, counted.packets_from_instance],
            bytes: [counted.bytes_to_instance, counted.bytes_from_instance],
        }
    }
}

impl Traffic {
    /// With more. What was taken off before may be more than all of this: sums wrap.
    #[must_use]
    pub fn plus(self, more: Self) -> Self {
        self.with(more, u64::wrapping_add)
    }

    /// Without some of it.
    #[must_use]
    pub fn minus(self, less: Self) -> Self {
        self.with(less, u64::wrapping_sub)
    }

    fn with(self, other: Self, change: fn(u64, u64) -> u64) -> Self {
        let both = |mine: [u64; 2], theirs: [u64; 2]| {
            [change(mine[0], theirs[0]), change(mine[1], theirs[1])]
        };
        Self {
            packets: both(self.packets, other.packets),
            bytes: both(self.bytes, other.bytes),
        }
    }
}

/// What counts for a frontend: its rules and inbound NAT rules, and those outbound rules that use no other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Counts {
    /// A rule or inbound NAT rule, by name.
    Rule(String),
    /// An outbound rule, by name.
    Outbound(String),
}

/// Whose counters make up those of each frontend.
pub fn counted_for(config: &Config) -> BTreeMap<String, BTreeSet<Counts>> {
    let mut counted: BTreeMap<String, BTreeSet<Counts>> = BTreeMap::new();
    let mut add = |frontend: &String, counts| {
        counted.entry(frontend.clone()).or_default().insert(counts);
    };
    for rule in &config.rules {
        add(&rule.frontend, Counts::Rule(rule.name.clone()));
    }
    for rule in &config.inbound_nat_rules {
        add(&rule.frontend, Counts::Rule(rule.name.clone()));
    }
    for rule in &config.outbound_rules {
        if let [only] = rule.frontends.as_slice() {
            add(only, Counts::Outbound(rule.name.clone()));
        }
    }
    counted
}

fn write(values: &Values, page: &mut Page<'_>) -> fmt::Result {
    let mut lines = page.family(&PACKETS)?;
    for (frontend, traffic) in &values.frontends {
        for (direction, packets) in DIRECTIONS.iter().zip(traffic.packets) {
            lines.counter([frontend, direction], packets)?;
        }
    }
    let mut lines = page.family(&BYTES)?;
    for (frontend, traffic) in &values.frontends {
        for (direction, bytes) in DIRECTIONS.iter().zip(traffic.bytes) {
            lines.counter([frontend, direction], bytes)?;
        }
    }
    let mut lines = page.family(&NEW_FLOWS)?;
    for (rule, flows) in &values.rules {
        lines.counter([rule], *flows)?;
    }
    let mut lines = page.family(&DROPS)?;
    let mut drops = values.drops.iter();
    drops.try_for_each(|(reason, packets)| lines.counter([reason], *packets))
}
