//! The contents of the flow tables, to compare and to print.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use forebay_common::family::{V4, V6};
use forebay_common::flow::{Direction, Flow, FlowKey, FlowKind};

use super::{Pair, World};
use crate::network::{IpVersion, Side};

/// Both flow tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flows {
    /// IPv4.
    pub v4: BTreeMap<FlowKey<V4>, Flow<V4>>,
    /// IPv6.
    pub v6: BTreeMap<FlowKey<V6>, Flow<V6>>,
}

impl Flows {
    /// The flows that a world begins with.
    pub fn of(world: &World) -> Self {
        Self {
            v4: world.v4.flows.clone(),
            v6: world.v6.flows.clone(),
        }
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
