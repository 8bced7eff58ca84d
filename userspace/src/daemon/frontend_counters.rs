//! Frontends are counted by what their rules count. When a frontend loses a rule, or gets one that has counted
//! elsewhere, what that one has counted is kept here, so that the frontend's sums only grow.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use forebay_common::abi::RuleCounters;

use crate::config::model::Config;
use crate::control_plane::Ids;
use crate::host::write_file;
use crate::metrics::{Counts, Traffic, counted_for};

/// File in the state folder.
const FILE: &str = "frontend_counters.json";

/// Packets, then bytes, in both directions: what is to be added to the sum of a frontend's rules.
type Kept = BTreeMap<String, [[u64; 2]; 2]>;

/// What frontends have counted by rules that are not theirs any more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Carried(BTreeMap<String, Traffic>);

impl Carried {
    /// Goes on from what a former daemon kept of the same tables.
    pub(super) fn restore(state_dir: &Path) -> Self {
        let read = || -> Result<Kept> {
            let path = state_dir.join(FILE);
            match std::fs::read(&path) {
                Ok(text) => serde_json::from_slice(&text)
                    .with_context(|| format!("{} is not what this daemon wrote", path.display())),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Kept::new()),
                Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
            }
        };
        let kept = read().unwrap_or_else(|error| {
            log::warn!("what frontends have counted by removed rules is forgotten: {error:#}");
            Kept::new()
        });
        let each = kept.into_iter();
        let each = each.map(|(name, [packets, bytes])| (name, Traffic { packets, bytes }));
        Self(each.collect())
    }

    /// Begins with counters that begin.
    pub(super) fn begin(state_dir: &Path) -> Self {
        let _ = std::fs::remove_file(state_dir.join(FILE));
        Self::default()
    }

    /// Keeps it for the next daemon of these tables.
    pub(super) fn keep(&self, state_dir: &Path) -> Result<()> {
        let each = self.0.iter();
        let kept: Kept = each
            .map(|(name, sum)| (name.clone(), [sum.packets, sum.bytes]))
            .collect();
        let text = serde_json::to_vec(&kept).context("write down what frontends have counted")?;
        write_file(&state_dir.join(FILE), &text)
    }

    /// Follows a change of the configuration; `counted` says what a rule has counted so far. Rules that are gone
    /// must still have their ids.
    pub(super) fn follow(
        &mut self,
        old: &Config,
        new: &Config,
        counted: impl Fn(&Counts) -> Traffic,
    ) {
        let (before, after) = (counted_for(old), counted_for(new));
        self.0
            .retain(|frontend, _| new.frontend(frontend).is_some());
        let none = BTreeSet::new();
        for frontend in &new.frontends {
            let name = &frontend.name;
            let before = before.get(name).unwrap_or(&none);
            let after = after.get(name).unwrap_or(&none);
            if before == after || old.frontend(name).is_none() {
                continue;
            }
            let carried = self.0.entry(name.clone()).or_default();
            for gone in before.difference(after) {
                *carried = carried.plus(counted(gone));
            }
            for come in after.difference(before) {
                *carried = carried.minus(counted(come));
            }
        }
    }

    /// The sums of all frontends that anything counts for; `counted` says what an id has counted.
    pub(super) fn sums<E>(
        &self,
        ids: &BTreeMap<String, Vec<u32>>,
        counted: impl Fn(u32) -> Result<RuleCounters, E>,
    ) -> Result<BTreeMap<String, Traffic>, E> {
        let mut sums = self.0.clone();
        for (frontend, ids) in ids {
            let sum = sums.entry(frontend.clone()).or_default();
            for id in ids {
                *sum = sum.plus(counted(*id)?.into());
            }
        }
        Ok(sums)
    }
}

/// The id that counts.
pub(super) fn id_of(counts: &Counts, ids: &Ids) -> Option<u32> {
    match counts {
        Counts::Rule(name) => ids.rules.get(name),
        Counts::Outbound(name) => ids.outbound_rule(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_all;

    /// Rules and the frontends that they are of.
    fn config(rules: &[(&str, &str)]) -> Config {
        let mut text = r#"
node.interfaces = ["eth0"]
frontend = [{ name = "f", ipv4 = "203.0.113.1" }, { name = "g", ipv4 = "203.0.113.2" }]
instance = [{ name = "i", ipv4 = "10.0.1.1" }]
pool = [{ name = "p", members = ["i"] }]
"#
        .to_owned();
        for (port, (name, frontend)) in (80..).zip(rules) {
            text += &format!(
                "[[rule]]\nname = \"{name}\"\nfrontend = \"{frontend}\"\nport = {port}\npool = \"p\"\n"
            );
        }
        let loaded = parse_all("f", &text).unwrap_or_else(|refusal| panic!("{refusal}"));
        loaded.config
    }

    fn traffic(packets: u64) -> Traffic {
        Traffic {
            packets: [packets, 0],
            bytes: [100 * packets, 0],
        }
    }

    /// What a rule has counted: as much as the test says.
    fn told(
        carried: &Carried,
        config: &Config,
        counted: impl Fn(&Counts) -> Traffic,
    ) -> BTreeMap<String, u64> {
        let mut sums = carried.0.clone();
        for (frontend, rules) in counted_for(config) {
            let sum = sums.entry(frontend).or_default();
            *sum = rules.iter().fold(*sum, |sum, rule| sum.plus(counted(rule)));
        }
        let packets = |(name, sum): (String, Traffic)| (name, sum.packets[0]);
        sums.into_iter().map(packets).collect()
    }

    #[test]
    fn sums_of_frontends_only_grow_while_their_rules_come_go_and_move() {
        let counted = |counts: &Counts| match counts {
            Counts::Rule(name) if name == "a" => traffic(10),
            Counts::Rule(name) if name == "b" => traffic(5),
            _ => traffic(0),
        };
        let steps = [
            config(&[("a", "f"), ("b", "g")]),
            config(&[("a", "g"), ("b", "g")]),
            config(&[("b", "g")]),
            config(&[("b", "g"), ("c", "f")]),
            config(&[("a", "f"), ("b", "f"), ("c", "f")]),
        ];
        let mut carried = Carried::default();
        for pair in steps.windows(2) {
            carried.follow(&pair[0], &pair[1], counted);
            let sums = told(&carried, &pair[1], counted);
            assert_eq!((sums["f"], sums["g"]), (10, 5), "{carried:?}");
        }
    }

    #[test]
    fn a_daemon_goes_on_with_the_sums_of_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Carried::restore(folder.path()), Carried::default());
        let mut carried = Carried::default();
        let (old, new) = (config(&[("a", "f")]), config(&[]));
        carried.follow(&old, &new, |_| traffic(3));
        carried.keep(folder.path()).unwrap();
        assert_eq!(Carried::restore(folder.path()), carried);
        assert_eq!(Carried::begin(folder.path()), Carried::default());
        assert_eq!(Carried::restore(folder.path()), Carried::default());
        let ids = BTreeMap::from([("f".to_owned(), vec![1, 2])]);
        let one = RuleCounters {
            packets_to_instance: 4,
            ..RuleCounters::default()
        };
        let sums = carried.sums(&ids, |_| Ok::<_, ()>(one)).unwrap();
        assert_eq!(sums["f"].packets, [11, 0]);
    }
}
