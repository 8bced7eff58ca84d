//! Entries of flows, whatever their family and table.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use forebay_common::abi::Settings;
use forebay_common::family::{V4, V6};
use forebay_common::flow::{
    self, Flow, FlowKey, FlowRef, FlowState, Place, Untrusted, is_over, lifetime, marks,
};
use forebay_common::model::ModelTables;
use forebay_common::pipeline::forget_both;
use forebay_common::tables::{Shared, Tables};
use forebay_tests::network::Side;

/// Source, destination, protocol of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tuple {
    pub(crate) source: (IpAddr, u16),
    pub(crate) destination: (IpAddr, u16),
    pub(crate) protocol: u8,
}

/// Which table an entry is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Where {
    Trusted,
    Former,
    Untrusted,
}

/// One direction of a flow.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) lies: Where,
    /// The key of the other direction.
    pub(crate) other: Tuple,
    pub(crate) state: FlowState,
    pub(crate) last_seen: u64,
    pub(crate) idle: u32,
    pub(crate) rule: u32,
    pub(crate) is_retiring: bool,
    protocol: u8,
}

impl Entry {
    fn of<A: Side>(lies: Where, key: &FlowKey<A>, flow: &Flow<A>) -> Self {
        Self {
            lies,
            other: tuple(&flow.reply_key(key.protocol)),
            state: flow.state(key.protocol),
            last_seen: flow.last_seen,
            idle: flow.idle_timeout,
            rule: flow.rule,
            is_retiring: flow.marks & marks::RETIRING != 0,
            protocol: key.protocol as u8,
        }
    }

    pub(crate) fn is_trusted(&self) -> bool {
        self.lies != Where::Untrusted
    }

    fn is_quiet(&self, settings: &Settings, now: u64) -> bool {
        let protocol = u32::from(self.protocol);
        let lifetime = lifetime(&settings.timeouts, protocol, self.state, self.idle);
        self.is_retiring || is_over(now, self.last_seen, lifetime)
    }
}

/// What a key says.
pub(crate) fn tuple<A: Side>(key: &FlowKey<A>) -> Tuple {
    Tuple {
        source: (key.source.into(), key.source_port()),
        destination: (key.destination.into(), key.destination_port()),
        protocol: key.protocol as u8,
    }
}

fn key<A: Side>(source: A, destination: A, of: &Tuple) -> FlowKey<A> {
    FlowKey {
        source,
        destination,
        ports: FlowKey::<A>::ports_word(of.source.1, of.destination.1),
        protocol: u32::from(of.protocol),
    }
}

fn look_in<A: Side>(tables: &ModelTables, key: FlowKey<A>) -> Option<Entry> {
    // Copies out of the tables; nobody writes meanwhile.
    let copy = |flow: FlowRef<'_, A>| Flow {
        source: flow.source(),
        destination: flow.destination(),
        ports: flow.ports(),
        idle_timeout: flow.idle_timeout(),
        last_seen: flow.last_seen(),
        rule: flow.rule(),
        kind: flow.kind(),
        marks: flow.marks(),
        seen_to_instance: flow.seen_to_instance(),
        seen_from_instance: flow.seen_from_instance(),
        ..Flow::default()
    };
    if let Some(flow) = tables.flow(&key) {
        return Some(Entry::of(Where::Trusted, &key, &copy(flow)));
    }
    if let Some(flow) = tables.former(&key) {
        return Some(Entry::of(Where::Former, &key, &copy(flow)));
    }
    let settings = tables.settings()?;
    let place = Place::of(settings.hash_key, &key);
    let set = Tables::<A>::untrusted_set(tables, place.set(settings.untrusted_mask))?;
    let mut found = Untrusted::default();
    let now = tables.now() as u32;
    let is_there = set.load(place, &key, &mut found, now) == flow::Entry::There;
    is_there.then(|| Entry::of(Where::Untrusted, &key, &found.flow))
}

/// The entry of a tuple.
pub(crate) fn look(tables: &ModelTables, of: &Tuple) -> Option<Entry> {
    match (of.source.0, of.destination.0) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            look_in::<V4>(tables, key(source.into(), destination.into(), of))
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            look_in::<V6>(tables, key(source.into(), destination.into(), of))
        }
        _ => None,
    }
}

/// Whose replies an instance's port sends, if it can only be one frontend's port.
pub(crate) fn reverse_of(tables: &ModelTables, from: (IpAddr, u16)) -> Option<(IpAddr, u16)> {
    let (address, offset): (IpAddr, u16) = match from.0 {
        IpAddr::V4(address) => {
            let found = Tables::<V4>::reverse(tables, address.into(), from.1)?;
            (found.frontend.into(), found.port_offset)
        }
        IpAddr::V6(address) => {
            let found = Tables::<V6>::reverse(tables, address.into(), from.1)?;
            (found.frontend.into(), found.port_offset)
        }
    };
    Some((address, from.1.wrapping_add(offset)))
}

/// No address of the family of another.
pub(crate) fn nobody(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// Forgets the untrusted flow of a tuple.
pub(crate) fn forget(tables: &ModelTables, of: &Tuple) {
    match (of.source.0, of.destination.0) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            forget_both::<V4, _>(tables, &key(source.into(), destination.into(), of));
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            forget_both::<V6, _>(tables, &key(source.into(), destination.into(), of));
        }
        _ => {}
    }
}

/// Whether an entry is of a live flow.
pub(crate) fn is_live(tables: &ModelTables, entry: &Entry, own: &Tuple) -> bool {
    let Some(settings) = tables.settings() else {
        return false;
    };
    if !entry.is_quiet(settings, tables.now()) {
        return true;
    }
    let other = look(tables, &entry.other).filter(|other| other.other == *own);
    !entry.is_retiring && other.is_some_and(|other| !other.is_quiet(settings, tables.now()))
}
