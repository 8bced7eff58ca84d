//! From one binding of ports to another, such that each rule comes and goes by one write, and every packet
//! in between finds its old rule or its new one.
//!
//! ```text
//! new bindings, not active ─► ports name both owners ─► new ones active ─► old ones not ─► ports name one
//! ```

use std::collections::{BTreeMap, BTreeSet};

use forebay_common::abi::{Bound, PortKey, Rule};
use forebay_common::ports::prefixes;

use super::diff::Change;
use super::ports::{PortRange, look_up, ports_of};
use super::state::TableState;

/// The writes, by stage.
#[derive(Default)]
pub(super) struct Switch {
    /// Changes nothing for packets.
    pub(super) prepare: Vec<Change>,
    /// Each lets one rule count that is new.
    pub(super) activate: Vec<Change>,
    /// Each takes one rule away.
    pub(super) retire: Vec<Change>,
    /// Changes nothing for packets.
    pub(super) clean_up: Vec<Change>,
}

/// The writes that lead from `applied` to `desired`.
pub(super) fn switch(applied: &TableState, desired: &TableState) -> Switch {
    let mut switch = Switch::default();
    for (id, rule) in &desired.bindings {
        if applied.bindings.get(id) != Some(rule) {
            switch.prepare.push(Change::Binding(*id, inactive(rule)));
            switch.activate.push(Change::Binding(*id, *rule));
        }
    }
    for (id, rule) in &applied.bindings {
        if rule.is_active() && !desired.bindings.contains_key(id) {
            switch.retire.push(Change::Binding(*id, inactive(rule)));
        }
    }
    let owners = Owners { applied, desired };
    owners.switch_ports(&mut switch);
    for group in owners.groups_with_ranges() {
        owners.switch_ranges(group, &mut switch);
    }
    switch
}

/// The same rule before it counts, or after. One byte is different, so nobody reads half of a change.
fn inactive(rule: &Rule) -> Rule {
    Rule {
        flags: rule.flags & !Rule::ACTIVE,
        ..*rule
    }
}

/// Frontend address and protocol.
type Group = (u32, u8);

fn group_of(key: PortKey) -> Group {
    (key.frontend, key.protocol())
}

/// Who has ports, and who shall have them.
struct Owners<'s> {
    applied: &'s TableState,
    desired: &'s TableState,
}

impl Owners<'_> {
    fn is_active(&self, binding: u32) -> bool {
        let found = self.applied.bindings.get(&binding);
        found.is_some_and(Rule::is_active)
    }

    /// Whom packets find now.
    fn owner(&self, bound: Option<Bound>) -> u32 {
        let Some(bound) = bound else { return 0 };
        let mut both = [bound.first, bound.second].into_iter();
        both.find(|id| self.is_active(*id)).unwrap_or(0)
    }

    /// What a port is bound to until the new owner is active and the old one is not; `None` when both are the
    /// same.
    fn between(&self, old: u32, new: u32) -> Option<Bound> {
        if old == new {
            return None;
        }
        let (first, second) = if new != 0 && (old == 0 || !self.is_active(new)) {
            (new, old)
        } else {
            (old, new)
        };
        Some(Bound { first, second })
    }

    fn switch_ports(&self, switch: &mut Switch) {
        let (old_ports, new_ports) = (&self.applied.ports, &self.desired.ports);
        let old_ranges = groups(&self.applied.port_ranges);
        let new_ranges = groups(&self.desired.port_ranges);
        let keys: BTreeSet<&PortKey> = old_ports.keys().chain(new_ports.keys()).collect();
        for key in keys {
            let (old, new) = (old_ports.get(key).copied(), new_ports.get(key).copied());
            if old == new && new.is_some_and(|new| self.is_active(new.first)) {
                continue;
            }
            let beneath = |groups: &BTreeSet<Group>, ranges| {
                let group = groups.contains(&group_of(*key));
                group.then(|| look_up(ranges, *key)).flatten()
            };
            let had = old.or_else(|| beneath(&old_ranges, &self.applied.port_ranges));
            let has = new.or_else(|| beneath(&new_ranges, &self.desired.port_ranges));
            let between = self.between(self.owner(had), has.map_or(0, |bound| bound.first));
            let mut now = old;
            if between.is_some() && between != old {
                switch.prepare.push(Change::Port(*key, between));
                now = between;
            }
            if now != new {
                switch.clean_up.push(Change::Port(*key, new));
            }
        }
    }

    fn groups_with_ranges(&self) -> BTreeSet<Group> {
        let mut found = groups(&self.applied.port_ranges);
        found.extend(groups(&self.desired.port_ranges));
        found
    }

    fn switch_ranges(&self, group: Group, switch: &mut Switch) {
        let old = of_group(&self.applied.port_ranges, group);
        let new = of_group(&self.desired.port_ranges, group);
        if old == new && new.values().all(|bound| self.is_active(bound.first)) {
            return;
        }
        let mut now = old.clone();
        for (first, last) in segments(old.keys().chain(new.keys())) {
            let key = PortKey::new(group.0, group.1, first);
            let had = self.owner(look_up(&old, key));
            let has = look_up(&new, key).map_or(0, |bound| bound.first);
            let Some(between) = self.between(had, has) else {
                continue;
            };
            for (port, length) in prefixes(first..=last) {
                let range = (PortKey::new(group.0, group.1, port), length);
                if now.insert(range, between) != Some(between) {
                    switch.prepare.push(Change::PortRange(range, Some(between)));
                }
            }
        }
        for (range, bound) in &new {
            if now.get(range) != Some(bound) {
                switch
                    .clean_up
                    .push(Change::PortRange(*range, Some(*bound)));
            }
        }
        // Wider ones first: what a narrower one still covers does not come to light.
        let mut gone: Vec<PortRange> = now.into_keys().filter(|r| !new.contains_key(r)).collect();
        gone.sort_by_key(|(_, length)| *length);
        let gone = gone.into_iter().map(|range| Change::PortRange(range, None));
        switch.clean_up.extend(gone);
    }
}

fn groups(ranges: &BTreeMap<PortRange, Bound>) -> BTreeSet<Group> {
    ranges.keys().map(|(key, _)| group_of(*key)).collect()
}

fn of_group(ranges: &BTreeMap<PortRange, Bound>, group: Group) -> BTreeMap<PortRange, Bound> {
    let first = (PortKey::new(group.0, group.1, 0), 0);
    let last = (PortKey::new(group.0, group.1, u16::MAX), u16::BITS);
    let found = ranges.range(first..=last);
    found.map(|(range, bound)| (*range, *bound)).collect()
}

/// Stretches of ports, each of which lies in the same of these ranges as a whole. So a prefix within one is
/// never wider than what it is to stand before.
fn segments<'r>(ranges: impl Iterator<Item = &'r PortRange>) -> Vec<(u16, u16)> {
    let mut cuts = BTreeSet::new();
    for range in ranges {
        let ports = ports_of(*range);
        cuts.insert(u32::from(*ports.start()));
        cuts.insert(u32::from(*ports.end()) + 1);
    }
    let cuts: Vec<u32> = cuts.into_iter().collect();
    let stretches = cuts.windows(2);
    stretches
        .map(|cut| (cut[0] as u16, (cut[1] - 1) as u16))
        .collect()
}
