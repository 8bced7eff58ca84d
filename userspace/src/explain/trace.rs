//! Tables that write down what they are asked.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::IpAddr;

use forebay_common::abi::{
    Backend, Bound, FragmentKey, Fragments, Interface, Owner, PortKey, Position, PublicIp,
    RING_SIZE, Reverse, Rule, Settings, SnatRange, Trial, VlanKey, Way, WayKey,
};
use forebay_common::balance::build_ring;
use forebay_common::flow::{Direction, Flow, FlowKey, FlowKind, FlowRef, SetRef};
use forebay_common::model::{ModelFamily, ModelTables};
use forebay_common::pipeline;
use forebay_common::reason::Reason;
use forebay_common::tables::{InsertError, PerCpu, RecentPair, Route, Scratch, Shared, Tables};

use super::names::{Names, endpoint, mac, ports, protocol_name};
use crate::api::{SnatPorts, Step};
use crate::control_plane::Ring;

/// A way that the path asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// Source of the (translated) packet.
    pub source: IpAddr,
    /// Its destination.
    pub destination: IpAddr,
}

/// Tables that write down what they are asked.
pub(super) struct Trace<'t> {
    tables: &'t ModelTables,
    names: Names<'t>,
    rings: &'t BTreeMap<u32, Ring>,
    built: RefCell<BTreeMap<u32, Vec<u32>>>,
    route: Route,
    /// The port that a rule was last looked for.
    port: RefCell<Option<PortKey>>,
    /// Whether a ring was asked for the member.
    by_hash: Cell<bool>,
    steps: RefCell<Vec<Step>>,
    asked: RefCell<Option<Asked>>,
    /// Ports that the flow may get.
    ports: RefCell<Vec<SnatPorts>>,
    /// While ports are tried, which is one step for a reader.
    searches: Cell<bool>,
}

/// What a run has shown.
pub(super) struct Told {
    pub(super) steps: Vec<Step>,
    pub(super) asked: Option<Asked>,
    pub(super) ports: Vec<SnatPorts>,
}

impl<'t> Trace<'t> {
    pub(super) fn new(
        tables: &'t ModelTables,
        names: Names<'t>,
        rings: &'t BTreeMap<u32, Ring>,
        route: Route,
    ) -> Self {
        Self {
            tables,
            names,
            rings,
            built: RefCell::default(),
            route,
            port: RefCell::default(),
            by_hash: Cell::default(),
            steps: RefCell::default(),
            asked: RefCell::default(),
            ports: RefCell::default(),
            searches: Cell::default(),
        }
    }

    pub(super) fn finish(self) -> Told {
        Told {
            steps: self.steps.into_inner(),
            asked: self.asked.into_inner(),
            ports: self.ports.into_inner(),
        }
    }

    /// The ports of a way, its own before those that it shares.
    fn ports_of<A: ModelFamily + Into<IpAddr>>(&self, way: &Way) -> Vec<SnatPorts> {
        let ranges = |first: u32, count: u32, is_shared: bool| {
            let ranges = (0..count)
                .filter_map(move |at| Tables::<A>::snat_range(self.tables, first.wrapping_add(at)));
            ranges.map(move |range: &SnatRange<A>| SnatPorts {
                address: range.address.into().to_string(),
                first: range.first,
                last: range.first + (range.count - 1),
                shared: is_shared,
            })
        };
        let own = ranges(way.first, way.ranges, false);
        let shared = ranges(way.burst_first, way.burst_ranges, true);
        own.chain(shared)
            .filter(|range| range.first <= range.last)
            .collect()
    }

    /// Which ports the flow at hand may get.
    fn note_search<A: ModelFamily + Into<IpAddr>>(&self) {
        // SAFETY: the search has not begun.
        let Some(scratch) = (unsafe { Tables::<A>::scratch(self.tables) }) else {
            return;
        };
        let search = &scratch.search;
        let ranges = self.ports_of::<A>(&search.way);
        let towards = if search.for_mapping != 0 {
            "everybody".to_owned()
        } else if search.destination_port == 0 {
            search.destination.into().to_string()
        } else {
            endpoint(search.destination, search.destination_port as u16)
        };
        let (shared, own): (Vec<_>, Vec<_>) =
            ranges.iter().cloned().partition(|range| range.shared);
        let mut answer = match own.is_empty() {
            true => "it has none of its own".to_owned(),
            false => format!("a free one of {}", ports(&own)),
        };
        if !shared.is_empty() {
            answer += &format!(
                "; then one that it shares with others, of {}",
                ports(&shared)
            );
        }
        self.note(
            format!("which SNAT port does it get towards {towards}?"),
            answer,
        );
        *self.ports.borrow_mut() = ranges;
    }

    fn note_mapping(&self, question: String, public: Option<String>) {
        self.note(question, public.unwrap_or_else(|| "no".to_owned()));
    }

    fn note_rule(&self, answer: String) {
        if let Some(key) = *self.port.borrow() {
            let protocol = protocol_name(key.protocol().into());
            self.note(
                format!("which rule is on {protocol} port {}?", key.port()),
                answer,
            );
        }
    }

    fn note(&self, question: String, answer: String) {
        let step = Step { question, answer };
        let mut steps = self.steps.borrow_mut();
        // The path looks a flow up again after it has made it; once is enough for a reader.
        if !steps.contains(&step) {
            steps.push(step);
        }
    }
}

impl Shared for Trace<'_> {
    fn settings(&self) -> Option<&Settings> {
        self.tables.settings()
    }

    fn now(&self) -> u64 {
        self.tables.now()
    }

    fn port(&self, key: &PortKey) -> Option<&Bound> {
        *self.port.borrow_mut() = Some(*key);
        self.tables.port(key)
    }

    fn port_range(&self, key: &PortKey) -> Option<&Bound> {
        let found = self.tables.port_range(key);
        if found.is_none() {
            self.note_rule("none".to_owned());
        }
        found
    }

    fn binding(&self, id: u32) -> Option<&Rule> {
        let found = self.tables.binding(id);
        if let Some(rule) = found.filter(|rule| rule.is_active()) {
            self.note_rule(self.names.rule_and_ports(rule));
        }
        found
    }

    fn spread_place(&self, spread: u32, place: u32) -> Option<u32> {
        let id = self.tables.spread_place(spread, place);
        if id.is_none_or(|id| id == 0) {
            self.note(
                "which member has this port?".to_owned(),
                "none: no member of the pool was given it".to_owned(),
            );
        }
        id
    }

    fn ring_slot(&self, ring: u32, slot: u32) -> Option<u32> {
        self.by_hash.set(true);
        let mut built = self.built.borrow_mut();
        let slots = built
            .entry(ring)
            .or_insert_with(|| match self.rings.get(&ring) {
                Some(Ring::Members(members)) => build_ring(members),
                Some(Ring::Unknown) | None => vec![0; RING_SIZE as usize],
            });
        let id = slots.get(slot as usize).copied();
        if id.is_none_or(|id| id == 0) {
            self.note(
                format!("which member has ring slot {slot}?"),
                "none: no member takes new flows".to_owned(),
            );
        }
        id
    }

    fn interface(&self, slot: u32) -> Option<&Interface> {
        self.tables.interface(slot)
    }

    fn interface_slot(&self, ifindex: u32) -> Option<u32> {
        self.tables.interface_slot(ifindex)
    }

    fn vlan_slot(&self, key: &VlanKey) -> Option<u32> {
        self.tables.vlan_slot(key)
    }

    fn per_cpu<R>(&self, look: impl FnOnce(&mut PerCpu) -> R) -> Option<R> {
        self.tables.per_cpu(look)
    }

    fn source(&self, place: u32) -> Option<u64> {
        self.tables.source(place)
    }

    fn set_source(&self, _: u32, _: u64) {}

    fn lock(&self, _: u32) -> bool {
        true
    }

    fn unlock(&self, _: u32) {}

    fn random(&self) -> u32 {
        self.tables.random()
    }

    fn position(&self, place: u32) -> Option<Position> {
        self.tables.position(place)
    }

    fn set_position(&self, place: u32, position: Position) {
        self.tables.set_position(place, position);
    }

    fn trial(&self, place: u32) -> Option<&Trial> {
        self.tables.trial(place)
    }

    fn note_trial(&self, _: u32, _: u32) {}

    fn note_trial_answer(&self, _: u32, _: u32) {}

    fn address_filter(&self, word: u32) -> u64 {
        self.tables.address_filter(word)
    }

    fn count(&self, _: Reason) {}

    fn count_rule(&self, _: u32, _: Direction, _: u32) {}

    fn count_new_flow(&self, _: u32) {
        self.note("may it open a flow?".to_owned(), "yes".to_owned());
    }
}

impl<A: ModelFamily + Into<IpAddr>> Tables<A> for Trace<'_> {
    fn flow(&self, key: &FlowKey<A>) -> Option<FlowRef<'_, A>> {
        let found = self.tables.flow(key);
        if self.searches.get() {
            return found;
        }
        let nobody = A::default();
        let protocol = protocol_name(key.protocol);
        if key.destination == nobody {
            let inside = endpoint(key.source, key.source_port());
            let public = found.map(|flow| {
                let port = u16::from_be(flow.ports() as u16);
                format!("yes, {}", endpoint(flow.source(), port))
            });
            self.note_mapping(
                format!("has {inside} a port for everybody over {protocol}?"),
                public,
            );
            return found;
        }
        if key.source == nobody {
            let public = endpoint(key.destination, key.destination_port());
            let inside = found.map(|flow| {
                let port = u16::from_be((flow.ports() >> 16) as u16);
                format!("yes, {}", endpoint(flow.destination(), port))
            });
            self.note_mapping(
                format!("is {public} somebody's port for everybody over {protocol}?"),
                inside,
            );
            return found;
        }
        let question = format!(
            "is there a flow {} {} -> {}?",
            protocol,
            endpoint(key.source, key.source_port()),
            endpoint(key.destination, key.destination_port())
        );
        // A flow that this very run has made is no news.
        let made_now =
            found.is_some_and(|flow| flow.packets() == 0 && flow.last_seen() == self.tables.now);
        if !made_now {
            let answer = found.map_or_else(
                || "no".to_owned(),
                |flow| {
                    let direction = match FlowKind::direction(flow.kind()) {
                        Direction::ToInstance => "towards the instance",
                        Direction::FromInstance => "from the instance",
                    };
                    format!(
                        "yes, {}, by {}, {direction}",
                        flow.state(key.protocol).label(),
                        self.names.rule(flow.rule())
                    )
                },
            );
            self.note(question, answer);
        }
        found
    }

    fn insert(&self, key: &FlowKey<A>, flow: &Flow<A>) -> Result<(), InsertError> {
        self.tables.insert(key, flow)
    }

    fn remove(&self, key: &FlowKey<A>) {
        self.tables.remove(key);
    }

    fn occupied(&self) -> u64 {
        Tables::<A>::occupied(self.tables)
    }

    fn untrusted_set(&self, number: u32) -> Option<SetRef<'_, A>> {
        self.tables.untrusted_set(number)
    }

    fn reverse(&self, instance: A, port: u16) -> Option<&Reverse<A>> {
        let found = self.tables.reverse(instance, port);
        let answer = found.map_or_else(
            || "not known: no rule, or more than one, sends there".to_owned(),
            |reverse| {
                let port = port.wrapping_add(reverse.port_offset);
                endpoint(reverse.frontend, port)
            },
        );
        let from = endpoint(instance, port);
        self.note(format!("whose reply is it that comes from {from}?"), answer);
        found
    }

    fn way(&self, key: &WayKey<A>) -> Option<&Way> {
        let found = self.tables.way(key);
        let protocol = protocol_name(key.protocol);
        let who = if key.source == A::default() {
            "have sources that are no instance".to_owned()
        } else {
            format!("has {}", key.source.into())
        };
        let answer = found.map_or_else(
            || "none".to_owned(),
            |way: &Way| {
                let (method, own, shared) = (self.names.method(way), way.ports, way.burst_ports);
                format!("{method}: {own} SNAT ports of its own, {shared} shared ones")
            },
        );
        self.note(format!("which way out {who} over {protocol}?"), answer);
        found
    }

    fn snat_range(&self, number: u32) -> Option<&SnatRange<A>> {
        Tables::<A>::snat_range(self.tables, number)
    }

    fn count_opened(&self, key: &WayKey<A>) {
        self.tables.count_opened(key);
    }

    fn count_refused(&self, key: &WayKey<A>, destination: A, port: u16, address: A) {
        self.tables.count_refused(key, destination, port, address);
    }

    fn public_ip(&self, address: A) -> Option<&PublicIp<A>> {
        let found = self.tables.public_ip(address);
        if let Some(public) = found {
            let (address, other): (IpAddr, IpAddr) = (address.into(), public.other.into());
            match self.names.config.owner_of(address) {
                Some(_) => self.note(
                    format!("which public IP has {address}?"),
                    format!("{} ({other})", self.names.public_ip(other)),
                ),
                None => self.note(
                    format!("whose is {}?", self.names.public_ip(address)),
                    self.names.member(other),
                ),
            }
        }
        found
    }

    fn keep_public_hop(&self, address: A, hop: u64, stamp: u64) {
        self.tables.keep_public_hop(address, hop, stamp);
    }

    fn search(&self, times: u32) {
        self.note_search::<A>();
        self.searches.set(true);
        for _ in 0..times {
            if !pipeline::candidate::<A, Self>(self) {
                break;
            }
        }
        self.searches.set(false);
    }

    fn owner(&self, address: A) -> Option<&Owner> {
        let found = self.tables.owner(address);
        self.note(
            format!("whose address is {}?", address.into()),
            self.names.owner(address.into(), found),
        );
        found
    }

    fn backend(&self, id: u32) -> Option<&Backend<A>> {
        let found = self.tables.backend(id);
        let answer = found.map_or_else(
            || "none".to_owned(),
            |backend: &Backend<A>| self.names.member(backend.address.into()),
        );
        let question = if self.by_hash.get() {
            "which member does the hash choose?"
        } else {
            "whose port is it?"
        };
        self.note(question.to_owned(), answer);
        found
    }

    fn fragments<R>(
        &self,
        key: &FragmentKey<A>,
        look: impl FnOnce(&mut Fragments) -> R,
    ) -> Option<R> {
        self.tables.fragments(key, look)
    }

    fn remember_fragments(&self, key: &FragmentKey<A>, fragments: &Fragments) {
        self.tables.remember_fragments(key, fragments);
    }

    fn in_virtual_network(&self, address: A) -> bool {
        let found = self.tables.in_virtual_network(address);
        let answer = if found { "yes" } else { "no" };
        self.note(
            format!("is {} in the virtual network?", address.into()),
            answer.to_owned(),
        );
        found
    }

    unsafe fn scratch(&self) -> Option<&mut Scratch<A>> {
        // SAFETY: the caller's promise is passed on.
        unsafe { self.tables.scratch() }
    }

    unsafe fn recent_pair(&self, _place: u32) -> Option<&mut RecentPair<A>> {
        // What is remembered has been found as is shown here.
        None
    }

    fn route(&self, key: &FlowKey<A>, _length: u32, _ingress_ifindex: u32) -> Route {
        let (source, destination) = (key.source.into(), key.destination.into());
        *self.asked.borrow_mut() = Some(Asked {
            source,
            destination,
        });
        let answer = match self.route {
            Route::Hop(hop) => format!("an attached interface, to {}", mac(hop.mac.octets())),
            Route::Local => "none: it is the host itself, or there is no route".to_owned(),
            Route::NoNeighbor(_) => {
                "an attached interface, to a neighbour that the host has not resolved".to_owned()
            }
            Route::Kernel => "the kernel must see to it: the interface is not attached".to_owned(),
            Route::TooBig(mtu) => format!("too big for it: at most {mtu} bytes"),
            Route::None => "no route".to_owned(),
        };
        self.note(format!("which way to {destination}?"), answer);
        self.route
    }
}
