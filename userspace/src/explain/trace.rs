//! Tables that write down what they are asked.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::IpAddr;

use forebay_common::abi::{
    Backend, Bound, FragmentKey, Fragments, Interface, Owner, PortKey, Position, PublicIp,
    RING_SIZE, Reverse, Rule, Settings, SnatRange, VlanKey, Way, WayKey,
};
use forebay_common::balance::build_ring;
use forebay_common::family::Family;
use forebay_common::flow::{Direction, Flow, FlowKey, FlowKind, FlowRef, SetRef};
use forebay_common::model::{ModelFamily, ModelTables};
use forebay_common::pipeline;
use forebay_common::reason::Reason;
use forebay_common::tables::{InsertError, PerCpu, Route, Scratch, Shared, Tables};

use crate::api::Step;
use crate::config::model::{Config, Ports};
use crate::control_plane::{Ids, Ring};

/// A way that the path asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// Source of the (translated) packet.
    pub source: IpAddr,
    /// Its destination.
    pub destination: IpAddr,
}

/// Turns ids back into the operator's words.
#[derive(Clone, Copy)]
pub struct Names<'n> {
    /// The configuration in force.
    pub config: &'n Config,
    /// Ids in use.
    pub ids: &'n Ids,
}

impl Names<'_> {
    fn rule(&self, id: u32) -> String {
        let Some(name) = self.ids.rules.key_of(id) else {
            return format!("rule id {id}");
        };
        let nat_rules = &self.config.inbound_nat_rules;
        if let Some(name) = self.ids.rule_name(id).filter(|plain| plain != name) {
            format!("outbound rule {name}")
        } else if nat_rules.iter().any(|rule| rule.name == *name) {
            format!("inbound NAT rule {name}")
        } else {
            format!("rule {name}")
        }
    }

    /// A rule, and which ports it is for when that is more than one.
    fn rule_and_ports(&self, rule: &Rule) -> String {
        let words = self.rule(rule.id);
        let name = self.ids.rules.key_of(rule.id);
        let is = |other: &String| Some(other) == name;
        let rules = self.config.rules.iter();
        let nat_rules = self.config.inbound_nat_rules.iter();
        let ports = (rules.filter(|rule| is(&rule.name)).map(|rule| &rule.port))
            .chain(
                nat_rules
                    .filter(|rule| is(&rule.name))
                    .map(|rule| &rule.port),
            )
            .next();
        match ports {
            Some(Ports::Range(range)) => {
                format!("{words} (ports {}-{})", range.start(), range.end())
            }
            Some(Ports::Every) => format!("{words} (every port)"),
            Some(Ports::Single(_)) | None => words,
        }
    }

    fn owner(&self, address: IpAddr, owner: Option<&Owner>) -> String {
        let Some(owner) = owner else {
            return "nobody this node knows".to_owned();
        };
        let mut words = Vec::new();
        if owner.roles & Owner::FRONTEND != 0 {
            let holds = |frontend: &&crate::config::model::Frontend| frontend.has(address);
            match self.config.frontends.iter().find(holds) {
                Some(frontend) => words.push(format!("frontend {}", frontend.name)),
                None => words.push("a removed frontend that still has flows".to_owned()),
            }
        }
        if owner.roles & Owner::INSTANCE != 0 {
            match self.config.owner_of(address) {
                Some(member) => words.push(format!("instance {member}")),
                None => words.push("an instance".to_owned()),
            }
        }
        words.join(" and ")
    }

    fn member(&self, address: IpAddr) -> String {
        let name = self
            .config
            .owner_of(address)
            .map(|member| format!("{member} "));
        format!("{}({address})", name.unwrap_or_default())
    }
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
        }
    }

    pub(super) fn finish(self) -> (Vec<Step>, Option<Asked>) {
        (self.steps.into_inner(), self.asked.into_inner())
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
        let question = format!(
            "is there a flow {} {} -> {}?",
            protocol_name(key.protocol),
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
        self.tables.way(key)
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
        self.tables.public_ip(address)
    }

    fn keep_public_hop(&self, address: A, hop: u64, stamp: u64) {
        self.tables.keep_public_hop(address, hop, stamp);
    }

    fn search(&self, times: u32) {
        for _ in 0..times {
            if !pipeline::candidate::<A, Self>(self) {
                break;
            }
        }
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

fn endpoint<A: Family + Into<IpAddr>>(address: A, port: u16) -> String {
    std::net::SocketAddr::new(address.into(), port).to_string()
}

fn mac(octets: [u8; 6]) -> String {
    octets.map(|octet| format!("{octet:02x}")).join(":")
}

/// Name of a protocol number, as commands take it.
pub fn protocol_name(number: u32) -> String {
    match number {
        1 | 58 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        other => other.to_string(),
    }
}
