//! The sweep's judgement of a flow, and what a full pass counts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use forebay_common::abi::Settings;
use forebay_common::family::{Family, V4};
use forebay_common::flow::{
    Direction, Flow, FlowKey, FlowKind, FlowState, is_over, lifetime, marks,
};

use super::snat_use::SnatUse;

/// What the sweep does about an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// Nothing.
    Keep,
    /// This direction has been quiet for long enough: the kernel is asked to mark the flow if the other
    /// direction agrees.
    Mark,
    /// Marked already: the kernel is asked to remove it.
    Remove,
}

/// Judges one direction of a flow at `now` (jiffies).
pub fn judge<A: Family>(
    settings: &Settings,
    key: &FlowKey<A>,
    flow: &Flow<A>,
    now: u64,
) -> Judgement {
    if flow.marks & marks::RETIRING != 0 {
        return Judgement::Remove;
    }
    let lifetime = lifetime(
        &settings.timeouts,
        key.protocol,
        flow.state(key.protocol),
        flow.idle_timeout,
    );
    if is_over(now, flow.last_seen, lifetime.saturating_add(settings.grace)) {
        Judgement::Mark
    } else {
        Judgement::Keep
    }
}

/// Timeouts from which on a flow may go some seconds late, seconds.
const LONG: u32 = 10;
/// How late it may go then for the sake of others that go at the same time, seconds.
const PATIENCE: u32 = 3;

/// Whether a flow that is over may stay until a later pass, when so many end at once that the RSTs of all
/// would be a flood.
pub fn may_wait<A: Family>(
    settings: &Settings,
    key: &FlowKey<A>,
    flow: &Flow<A>,
    now: u64,
) -> bool {
    let lifetime = lifetime(
        &settings.timeouts,
        key.protocol,
        flow.state(key.protocol),
        flow.idle_timeout,
    );
    let patience = settings.second.saturating_mul(PATIENCE);
    lifetime >= settings.second.saturating_mul(LONG)
        && !is_over(now, flow.last_seen, lifetime.saturating_add(patience))
}

/// What a full pass over the flows met. Flows are counted once, at the direction towards the instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Census {
    /// Flows by rule id and member's address.
    pub members: BTreeMap<(u32, IpAddr), u64>,
    /// Frontend addresses that have flows.
    pub frontends: BTreeSet<IpAddr>,
    /// Entries, both directions: IPv4, IPv6.
    pub entries: [u64; 2],
    /// Untrusted entries, IPv4, IPv6.
    pub untrusted: [u64; 2],
    /// False when the untrusted flows are those of an earlier count.
    pub is_complete: bool,
    /// Flows by state: IPv4, IPv6.
    pub states: [BTreeMap<&'static str, u64>; 2],
    /// SNAT ports in use.
    pub snat: SnatUse,
    /// Rule ids that mappings hold.
    pub mapped: BTreeSet<u32>,
}

impl Default for Census {
    fn default() -> Self {
        Self {
            members: BTreeMap::new(),
            frontends: BTreeSet::new(),
            entries: [0; 2],
            untrusted: [0; 2],
            is_complete: true,
            states: Default::default(),
            snat: SnatUse::default(),
            mapped: BTreeSet::new(),
        }
    }
}

impl Census {
    /// Counts one entry of a flow table.
    pub fn add<A: Family + Into<IpAddr>>(&mut self, key: &FlowKey<A>, flow: &Flow<A>) {
        self.entries[family_of::<A>()] += 1;
        self.add_flow(key, flow);
    }

    /// Counts one entry of a table of untrusted flows.
    pub fn add_untrusted<A: Family + Into<IpAddr>>(&mut self, key: &FlowKey<A>, flow: &Flow<A>) {
        self.untrusted[family_of::<A>()] += 1;
        self.add_flow(key, flow);
    }

    /// Adds the untrusted flows of an earlier count, which may have ended since.
    pub fn add_former_untrusted(&mut self, former: &Self) {
        self.is_complete = false;
        for (mine, theirs) in self.untrusted.iter_mut().zip(former.untrusted) {
            *mine += theirs;
        }
        for (member, flows) in &former.members {
            *self.members.entry(*member).or_default() += flows;
        }
        self.frontends.extend(&former.frontends);
        for (mine, theirs) in self.states.iter_mut().zip(&former.states) {
            for (state, flows) in theirs {
                *mine.entry(*state).or_default() += flows;
            }
        }
        self.snat.extend(&former.snat);
        self.mapped.extend(&former.mapped);
    }

    fn add_flow<A: Family + Into<IpAddr>>(&mut self, key: &FlowKey<A>, flow: &Flow<A>) {
        if FlowKind::direction(flow.kind) != Direction::ToInstance
            || flow.marks & marks::RETIRING != 0
        {
            return;
        }
        self.snat.add(key, flow);
        self.frontends.insert(key.destination.into());
        if FlowKind::from_byte(flow.kind) == Some(FlowKind::Mapping) {
            self.mapped.insert(flow.rule);
            return;
        }
        *self
            .members
            .entry((flow.rule, flow.destination.into()))
            .or_default() += 1;
        *self.states[family_of::<A>()]
            .entry(flow.state(key.protocol).label())
            .or_default() += 1;
    }

    /// Rule ids that flows and mappings hold.
    pub fn rules(&self) -> BTreeSet<u32> {
        let of_flows = self.members.keys().map(|(rule, _)| *rule);
        of_flows.chain(self.mapped.iter().copied()).collect()
    }

    /// Flows of a family (0: IPv4, 1: IPv6) in a state.
    pub fn in_state(&self, family: usize, state: FlowState) -> u64 {
        self.states[family].get(state.label()).copied().unwrap_or(0)
    }
}

fn family_of<A: Family>() -> usize {
    usize::from(A::AF != V4::AF)
}

#[cfg(test)]
mod tests {
    use forebay_common::flow::Seen;
    use forebay_common::wire::TCP;

    use super::*;

    #[test]
    fn mappings_are_no_flows_and_hold_their_rule_and_address() {
        let key = FlowKey::<V4> {
            destination: V4::from(std::net::Ipv4Addr::new(203, 0, 113, 64)),
            ports: FlowKey::<V4>::ports_word(0, 1024),
            protocol: u32::from(TCP),
            ..FlowKey::default()
        };
        let entry = |kind: FlowKind| Flow::<V4> {
            kind: kind.byte(Direction::ToInstance, false),
            rule: 7,
            ..Flow::default()
        };
        let mut census = Census::default();
        census.add(&key, &entry(FlowKind::Mapping));
        assert!(census.members.is_empty() && census.states[0].is_empty());
        assert_eq!(census.rules(), BTreeSet::from([7]));
        assert!(census.frontends.contains(&key.destination.into()));
        assert_eq!(census.snat.ports.len(), 1);
        census.add(&key, &entry(FlowKind::OutboundRule));
        assert_eq!(census.members.values().sum::<u64>(), 1);
        let states = census.states.each_ref().map(|of| of.values().sum::<u64>());
        assert_eq!(states, [1, 0]);
        assert_eq!(census.snat.ports.values().next().unwrap().len(), 1);
    }

    #[test]
    fn only_flows_with_long_timeouts_wait_and_not_for_long() {
        let settings = Settings {
            second: 100,
            ..Settings::default()
        };
        let key = FlowKey::<V4> {
            protocol: u32::from(TCP),
            ..FlowKey::default()
        };
        let flow = |idle_timeout| Flow {
            idle_timeout,
            last_seen: 1000,
            seen_to_instance: Seen::ACK.0,
            seen_from_instance: Seen::ACK.0,
            ..Flow::default()
        };
        let waits = |idle, now| may_wait(&settings, &key, &flow(idle), now);
        assert!(!waits(999, 1000 + 1000), "a timeout below ten seconds");
        assert!(waits(1000, 1000 + 1001));
        assert!(waits(1000, 1000 + 1300));
        assert!(!waits(1000, 1000 + 1301), "three seconds late already");
    }
}
