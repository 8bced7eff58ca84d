//! The contents of the flow tables, to compare and to print.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use forebay_common::family::{V4, V6};
use forebay_common::flow::{Direction, Flow, FlowKey, FlowKind, FlowRef, Untrusted as Entry};
use forebay_common::pipeline::is_over_for;

use super::{Pair, World};
use crate::engine::Keys;
use crate::network::{IpVersion, Side};

/// All flows, trusted or not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flows {
    /// IPv4.
    pub v4: BTreeMap<FlowKey<V4>, Flow<V4>>,
    /// IPv6.
    pub v6: BTreeMap<FlowKey<V6>, Flow<V6>>,
    /// Those that are untrusted, and the acknowledgements that would prove them.
    pub untrusted: Untrusted,
    /// Everything in the tables of untrusted flows, also what nobody looks at because the flow is trusted by now.
    pub slots: (Entries<V4>, Entries<V6>),
}

/// Keys of untrusted flows, and the least and greatest acknowledgement that proves the flow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Untrusted {
    /// IPv4.
    pub v4: BTreeMap<FlowKey<V4>, [u32; 2]>,
    /// IPv6.
    pub v6: BTreeMap<FlowKey<V6>, [u32; 2]>,
}

/// Entries of a table of untrusted flows.
pub type Entries<A> = BTreeMap<FlowKey<A>, Entry<A>>;

impl Flows {
    /// The flows that a world begins with.
    pub fn of(world: &World) -> Self {
        Self {
            v4: world.v4.flows.clone(),
            v6: world.v6.flows.clone(),
            ..Self::default()
        }
    }

    /// Adds the untrusted flows.
    #[must_use]
    pub fn with_untrusted(mut self, v4: Entries<V4>, v6: Entries<V6>) -> Self {
        self.slots = (v4.clone(), v6.clone());
        self.untrusted.v4 = add(&mut self.v4, v4);
        self.untrusted.v6 = add(&mut self.v6, v6);
        self
    }

    /// Those that are not over in both directions at the world's time.
    #[must_use]
    pub fn alive(mut self, world: &World) -> Self {
        retain_alive(&mut self.v4, world);
        retain_alive(&mut self.v6, world);
        self
    }

    /// Those with some keys.
    #[must_use]
    pub fn chosen(&self, keys: &Keys) -> Self {
        Self {
            v4: chosen(&self.v4, &keys.v4),
            v6: chosen(&self.v6, &keys.v6),
            untrusted: Untrusted {
                v4: chosen(&self.untrusted.v4, &keys.v4),
                v6: chosen(&self.untrusted.v6, &keys.v6),
            },
            slots: (
                chosen(&self.slots.0, &keys.v4),
                chosen(&self.slots.1, &keys.v6),
            ),
        }
    }

    /// How many entries the flow tables have, IPv4 and IPv6.
    pub fn trusted(&self) -> [usize; 2] {
        let untrusted = &self.untrusted;
        [
            self.v4.len() - untrusted.v4.len(),
            self.v6.len() - untrusted.v6.len(),
        ]
    }

    /// What is different in `other`, also in who is trusted, for people; empty when nothing is.
    pub fn full_difference(&self, other: &Self) -> String {
        let mut text = self.difference(other);
        slots(&self.slots.0, &other.slots.0, &mut text);
        slots(&self.slots.1, &other.slots.1, &mut text);
        text
    }

    /// Exactly these flows.
    pub fn exactly(pairs: &[Pair]) -> Self {
        let mut flows = Self::default();
        for pair in pairs {
            match pair.version {
                IpVersion::V4 => flows.v4.extend(pair.entries()),
                IpVersion::V6 => flows.v6.extend(pair.entries()),
            }
        }
        flows
    }

    /// What is different in `other`, for people; empty when nothing is.
    pub fn difference(&self, other: &Self) -> String {
        let mut text = String::new();
        table(&self.v4, &other.v4, &mut text);
        table(&self.v6, &other.v6, &mut text);
        text
    }
}

fn retain_alive<A: Side>(flows: &mut BTreeMap<FlowKey<A>, Flow<A>>, world: &World) {
    let Some(settings) = world.settings else {
        return;
    };
    let all = flows.clone();
    flows.retain(|key, flow| {
        let (mut mine, mut other) = (*flow, all.get(&flow.reply_key(key.protocol)).copied());
        let is_same = |other: &&mut Flow<A>| other.reply_key(key.protocol) == *key;
        let other = other.as_mut().filter(is_same).map(FlowRef::over);
        !is_over_for(
            &settings,
            FlowRef::over(&mut mine),
            other,
            key.protocol,
            world.now(),
            0,
        )
    });
}

/// What two tables of untrusted flows have different.
fn slots<A: Side>(ours: &Entries<A>, theirs: &Entries<A>, text: &mut String) {
    for (sign, mine, other) in [('-', ours, theirs), ('+', theirs, ours)] {
        for (key, found) in mine {
            if other.get(key) != Some(found) {
                let (from, to) = (found.sent_from, found.sent_to);
                let line = entry(key, &found.flow);
                writeln!(text, "  {sign} untrusted, proven by {from} to {to}: {line}")
                    .expect("a string takes any text");
            }
        }
    }
}

fn chosen<K: Ord + Copy, V: Copy>(table: &BTreeMap<K, V>, keys: &[K]) -> BTreeMap<K, V> {
    keys.iter()
        .filter_map(|key| Some((*key, *table.get(key)?)))
        .collect()
}

/// Adds entries to a flow table; returns what is beside their flows.
fn add<A: Side>(
    flows: &mut BTreeMap<FlowKey<A>, Flow<A>>,
    entries: Entries<A>,
) -> BTreeMap<FlowKey<A>, [u32; 2]> {
    // Where a flow is trusted, what is left of its time before is never looked at.
    let entries = entries
        .into_iter()
        .filter(|(key, _)| !flows.contains_key(key));
    let entries: Entries<A> = entries.collect();
    flows.extend(entries.iter().map(|(key, found)| (*key, found.flow)));
    let untrusted = entries
        .into_iter()
        .map(|(key, found)| (key, [found.sent_from, found.sent_to]));
    untrusted.collect()
}

fn table<A: Side>(
    ours: &BTreeMap<FlowKey<A>, Flow<A>>,
    theirs: &BTreeMap<FlowKey<A>, Flow<A>>,
    text: &mut String,
) {
    let mut line = |sign: char, key: &FlowKey<A>, flow: &Flow<A>| {
        writeln!(text, "  {sign} {}", entry(key, flow)).expect("a string takes any text");
    };
    for (key, flow) in ours {
        match theirs.get(key) {
            Some(other) if other == flow => {}
            Some(other) => {
                line('-', key, flow);
                line('+', key, other);
            }
            None => line('-', key, flow),
        }
    }
    for (key, flow) in theirs {
        if !ours.contains_key(key) {
            line('+', key, flow);
        }
    }
}

/// An entry in one line.
fn entry<A: Side>(key: &FlowKey<A>, flow: &Flow<A>) -> String {
    let endpoint = |address: A, port: u16| {
        let address: IpAddr = address.into();
        std::net::SocketAddr::new(address, port)
    };
    let after = FlowKey {
        source: flow.source,
        destination: flow.destination,
        ports: flow.ports,
        protocol: key.protocol,
    };
    let direction = match FlowKind::direction(flow.kind) {
        Direction::ToInstance => "to",
        Direction::FromInstance => "from",
    };
    let [a, b, c, d] = flow.hop_head.to_ne_bytes();
    let [e, f] = flow.hop_tail.to_ne_bytes();
    format!(
        "{} {} > {} becomes {} > {}: {direction} instance, kind {:#04x} rule {} idle {} {:?} \
         seen {:#04x}/{:#04x} marks {} last {} packets {} bytes {} ack {} \
         hop {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x} slot {} at {}",
        key.protocol,
        endpoint(key.source, key.source_port()),
        endpoint(key.destination, key.destination_port()),
        endpoint(after.source, after.source_port()),
        endpoint(after.destination, after.destination_port()),
        flow.kind,
        flow.rule,
        flow.idle_timeout,
        flow.state(key.protocol),
        flow.seen_to_instance,
        flow.seen_from_instance,
        flow.marks,
        flow.last_seen,
        flow.packets,
        flow.bytes,
        u32::from_be(flow.last_ack),
        flow.hop_slot,
        flow.hop_stamp,
    )
}
