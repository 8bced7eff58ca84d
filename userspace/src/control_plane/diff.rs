//! From one state of the tables to another, one write at a time, such that every state in between is
//! valid: what is pointed at is written before what points at it, and removed after.

use std::collections::{BTreeMap, BTreeSet};

use forebay_common::abi::{
    Bound, Interface, Owner, PortKey, Reverse, Rule, Settings, SnatRange, Way, WayKey,
};
use forebay_common::balance::RingMember;
use forebay_common::family::{V4, V6};

use super::ports::PortRange;
use super::state::{FamilyState, Ring, TableState};
use super::switch::{Switch, switch};

/// One write to a table of one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FamilyChange<A> {
    /// What an address is; `None`: nothing any more.
    Address(A, Option<Owner>),
    /// A member's address; `None`: no member any more.
    Backend(u32, Option<A>),
    /// A prefix of the virtual network (length, address) comes or goes.
    VirtualNetwork(u32, A, bool),
    /// Whose replies a stretch of an instance's TCP ports sends (address, first port, leading bits); `None`:
    /// nobody's alone.
    Reverse((A, u16, u32), Option<Reverse<A>>),
    /// How a source goes out over a protocol; `None`: not at all any more. Its counters come and go with it.
    Way(WayKey<A>, Option<Way>),
    /// A range of SNAT ports under its number; `None`: unused.
    SnatRange(u32, Option<SnatRange<A>>),
    /// The other address of a public IP, under each of the two; `None`: a public IP no more.
    PublicIp(A, Option<A>),
}

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// To an IPv4 table.
    V4(FamilyChange<V4>),
    /// To an IPv6 table.
    V6(FamilyChange<V6>),
    /// Counters of a rule id that has a new owner, back to zero.
    ResetCounters(u32),
    /// What a single port is bound to; `None`: nothing any more.
    Port(PortKey, Option<Bound>),
    /// What a range of ports is bound to; `None`: nothing any more.
    PortRange(PortRange, Option<Bound>),
    /// A rule under its binding id.
    Binding(u32, Rule),
    /// Who has the places of a spread, replaced whole; `None`: gone.
    Spread(u32, Option<Vec<u32>>),
    /// A ring, replaced whole; `None`: gone.
    Ring(u32, Option<Vec<RingMember>>),
    /// An interface in its slot; `None`: gone.
    Interface(u32, Option<Interface>),
    /// The settings.
    Settings(Settings),
    /// A word of the address filter.
    AddressFilter(u32, u64),
}

/// Writes of one kind: those that set come before those that remove.
struct Steps<C = Change> {
    set: Vec<C>,
    remove: Vec<C>,
}

fn steps<K: Ord + Clone, V: PartialEq + Clone, C>(
    applied: &BTreeMap<K, V>,
    desired: &BTreeMap<K, V>,
    change: impl Fn(K, Option<V>) -> C,
) -> Steps<C> {
    let set = desired
        .iter()
        .filter(|(key, value)| applied.get(*key) != Some(*value));
    let remove = applied.keys().filter(|key| !desired.contains_key(*key));
    Steps {
        set: set
            .map(|(key, value)| change(key.clone(), Some(value.clone())))
            .collect(),
        remove: remove.map(|key| change(key.clone(), None)).collect(),
    }
}

fn network_steps<A: Ord + Copy>(
    applied: &BTreeSet<(u32, A)>,
    desired: &BTreeSet<(u32, A)>,
    change: impl Fn(FamilyChange<A>) -> Change,
) -> Steps {
    let one = |(length, prefix): &(u32, A), present| {
        change(FamilyChange::VirtualNetwork(*length, *prefix, present))
    };
    Steps {
        set: desired
            .difference(applied)
            .map(|net| one(net, true))
            .collect(),
        remove: applied
            .difference(desired)
            .map(|net| one(net, false))
            .collect(),
    }
}

/// Writes to the tables of one family, by table.
struct FamilySteps {
    networks: Steps,
    backends: Steps,
    /// Of frontends and public IPs.
    public: Steps,
    /// Of instances.
    private: Steps,
    reverse: Steps,
    ways: Steps,
    ranges: Steps,
    public_ips: Steps,
}

fn family_steps<A: Ord + Copy>(
    applied: &FamilyState<A>,
    desired: &FamilyState<A>,
    change: impl Fn(FamilyChange<A>) -> Change + Copy,
) -> FamilySteps {
    let addresses = |of_instances: bool| {
        let part = |all: &BTreeMap<A, Owner>| -> BTreeMap<A, Owner> {
            let is_in = |owner: &Owner| (owner.roles & Owner::INSTANCE != 0) == of_instances;
            let part = all.iter().filter(|(_, owner)| is_in(owner));
            part.map(|(address, owner)| (*address, *owner)).collect()
        };
        let mut steps = steps(
            &part(&applied.addresses),
            &part(&desired.addresses),
            |address, owner| (address, owner),
        );
        // It has become one of the others.
        steps
            .remove
            .retain(|(address, _)| !desired.addresses.contains_key(address));
        let write = |(address, owner)| change(FamilyChange::Address(address, owner));
        Steps {
            set: steps.set.into_iter().map(write).collect(),
            remove: steps.remove.into_iter().map(write).collect(),
        }
    };
    FamilySteps {
        networks: network_steps(&applied.virtual_network, &desired.virtual_network, change),
        backends: steps(&applied.backends, &desired.backends, |id, address| {
            change(FamilyChange::Backend(id, address))
        }),
        public: addresses(false),
        private: addresses(true),
        reverse: steps(&applied.reverse, &desired.reverse, |ports, reverse| {
            change(FamilyChange::Reverse(ports, reverse))
        }),
        ways: steps(&applied.ways, &desired.ways, |key, way| {
            change(FamilyChange::Way(key, way))
        }),
        ranges: steps(
            &applied.snat_ranges,
            &desired.snat_ranges,
            |number, range| change(FamilyChange::SnatRange(number, range)),
        ),
        public_ips: steps(
            &applied.public_ips,
            &desired.public_ips,
            |address, other| change(FamilyChange::PublicIp(address, other)),
        ),
    }
}

/// The writes that lead from `applied` to `desired`, in order.
pub(super) fn changes(applied: &TableState, desired: &TableState) -> Vec<Change> {
    let interfaces = steps(&applied.interfaces, &desired.interfaces, Change::Interface);
    let v4 = family_steps(&applied.v4, &desired.v4, Change::V4);
    let v6 = family_steps(&applied.v6, &desired.v6, Change::V6);
    let rings = steps(&applied.rings, &desired.rings, |id, ring| {
        let members = ring.map(|ring| match ring {
            Ring::Members(members) => members,
            Ring::Unknown => Vec::new(),
        });
        Change::Ring(id, members)
    });
    let spreads = steps(&applied.spreads, &desired.spreads, |id, places| {
        Change::Spread(id, places.flatten())
    });
    let Switch {
        prepare,
        activate,
        retire,
        clean_up,
    } = switch(applied, desired);
    let (filter_before, filter_after) = filter_steps(applied, desired);

    let mut changes = Vec::new();
    let mut removals = Vec::new();
    let settings = (applied.settings != desired.settings).then(|| {
        let mut settings = desired.settings;
        // The last ones to count without: an instance that goes has its public IP until then.
        settings.flags |= applied.settings.flags & Settings::PUBLIC_IPS;
        Change::Settings(settings)
    });
    changes.extend(new_rule_ids(applied, desired).map(Change::ResetCounters));
    for step in [
        v4.networks,
        v6.networks,
        interfaces,
        v4.backends,
        v6.backends,
        rings,
        spreads,
        v4.ranges,
        v6.ranges,
        v4.public_ips,
        v6.public_ips,
    ] {
        changes.extend(step.set);
        removals.push(step.remove);
    }
    changes.extend(prepare);
    changes.extend(activate);
    removals.push(retire.into_iter().chain(clean_up).collect());
    changes.extend(filter_before);
    // Rules are found by way of their frontend's address, so a new frontend appears with all of its.
    // A way leads out by addresses that are this node's by then, and who loses its public IP has a way already.
    for step in [
        v4.public, v6.public, v4.reverse, v6.reverse, v4.ways, v6.ways,
    ] {
        changes.extend(step.set);
        removals.push(step.remove);
    }
    changes.extend(first_public_ips(applied, desired));
    for step in [v4.private, v6.private] {
        changes.extend(step.set);
        removals.push(step.remove);
    }
    // Last of what sets: the first settings open the node for business.
    changes.extend(settings);
    changes.extend(removals.into_iter().rev().flatten());
    changes.extend(filter_after);
    changes
}

/// An open node looks for public IPs before the first instance has one, or that instance had no way out for a moment.
fn first_public_ips(applied: &TableState, desired: &TableState) -> Option<Change> {
    let (before, after) = (&applied.settings, &desired.settings);
    let is_open = before.layout == after.layout;
    let are_new = after.flags & !before.flags & Settings::PUBLIC_IPS != 0;
    (is_open && are_new).then_some({
        Change::Settings(Settings {
            flags: before.flags | Settings::PUBLIC_IPS,
            generation: after.generation,
            ..*before
        })
    })
}

/// Rule ids that had no owner before.
fn new_rule_ids(applied: &TableState, desired: &TableState) -> impl Iterator<Item = u32> {
    let ids = |state: &TableState| -> BTreeSet<u32> {
        let rules = state.bindings.values().map(|rule| rule.id);
        let ways = state.v4.ways.values().chain(state.v6.ways.values());
        let outbound = ways.map(|way| way.rule).filter(|id| *id != 0);
        rules.chain(outbound).collect()
    };
    let old = ids(applied);
    ids(desired).into_iter().filter(move |id| !old.contains(id))
}

/// Words of the filter with the bits of both states, then with those of the new one alone.
fn filter_steps(applied: &TableState, desired: &TableState) -> (Vec<Change>, Vec<Change>) {
    let (old, new) = (applied.address_filter(), desired.address_filter());
    let words: BTreeSet<u32> = old.keys().chain(new.keys()).copied().collect();
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for word in words {
        let had = old.get(&word).copied().unwrap_or(0);
        let has = new.get(&word).copied().unwrap_or(0);
        if had | has != had {
            before.push(Change::AddressFilter(word, had | has));
        }
        if had | has != has {
            after.push(Change::AddressFilter(word, has));
        }
    }
    (before, after)
}
