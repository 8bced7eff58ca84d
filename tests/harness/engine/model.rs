//! The pure pipeline over tables in memory, in the planned network.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use forebay_common::abi::{
    Backend, Bound, FragmentKey, Fragments, Interface, Owner, PortKey, Position, PublicIp, Reverse,
    Rule, RuleCounters, Settings, SnatRange, Trial, VlanKey, Way, WayKey,
};
use forebay_common::flow::{Direction, Flow, FlowKey, FlowRef, SetRef};
use forebay_common::model::{FamilyModel, ModelTables};
use forebay_common::pipeline::{
    self, Exit, carry_over, forget_both, mark_flushed, mark_retiring, remove_retiring,
};
use forebay_common::reason::Reason;
use forebay_common::tables::{InsertError, PerCpu, RecentPair, Route, Scratch, Shared, Tables};
use forebay_common::wire::HostFrame;

use super::{Action, Engine, Keys, Outcome, Retire};
use crate::network::Side;
use crate::network::fib;
use crate::network::plan::Link;
use crate::world::{CAPACITY, FamilyWorld, Flows, World, WorldSide};

/// The pure pipeline.
#[derive(Default)]
pub struct Model {
    tables: Planned,
    /// What the rings in the tables were made from.
    rings: BTreeMap<u32, Arc<[u32]>>,
}

/// Tables in memory whose routes are those of the planned network.
#[derive(Default)]
struct Planned(ModelTables);

fn family<A: WorldSide>(
    world: &FamilyWorld<A>,
    flows: BTreeMap<FlowKey<A>, Flow<A>>,
) -> FamilyModel<A> {
    let mut model = FamilyModel::default();
    model.capacity = CAPACITY as usize;
    model.addresses = world.addresses.iter().map(|(a, o)| (*a, *o)).collect();
    let backends = world.backends.iter();
    model.backends = backends
        .map(|(id, a)| (*id, Backend { address: *a }))
        .collect();
    let reverse = world.reverse.iter();
    model.reverse = reverse
        .map(|((address, first, last), found)| (*address, *first, *last, *found))
        .collect();
    model.virtual_network = world.virtual_network.iter().copied().collect();
    model.ways = world.ways.iter().map(|(key, way)| (*key, *way)).collect();
    let ranges = world.snat_ranges.iter();
    model.snat_ranges = ranges.map(|(number, range)| (*number, *range)).collect();
    let public_ips = world.public_ips.iter();
    model.public_ips = public_ips
        .map(|(address, other)| {
            let other = *other;
            let public = PublicIp {
                other,
                ..PublicIp::default()
            };
            (*address, public)
        })
        .collect();
    for (key, flow) in flows {
        model.put_flow(key, flow);
    }
    model
}

/// Next hops of the public IPs that stay as they are.
fn kept_hops<A: WorldSide>(
    model: &mut FamilyModel<A>,
    world: &FamilyWorld<A>,
) -> HashMap<A, (u64, u64)> {
    let mut hops = std::mem::take(&mut model.public_hops).into_inner();
    let stays = |address: &A| {
        let before = model.public_ips.get(address).map(|public| public.other);
        before.is_some() && before == world.public_ips.get(address).copied()
    };
    hops.retain(|address, _| stays(address));
    hops
}

impl Model {
    /// A model of a world.
    pub fn of(world: &World) -> Self {
        let mut model = Self::default();
        model.load(world);
        model
    }

    fn fill(&mut self, world: &World, flows: Flows) {
        let mut rings = std::mem::take(&mut self.tables.0.rings);
        rings.retain(|id, _| world.rings.contains_key(id));
        for (id, ring) in &world.rings {
            let same = self.rings.get(id).is_some_and(|old| Arc::ptr_eq(old, ring));
            if !same {
                rings.insert(*id, ring.to_vec());
            }
        }
        self.rings.clone_from(&world.rings);
        let mut tables = ModelTables::default();
        tables.v4 = family(&world.v4, flows.v4);
        tables.v6 = family(&world.v6, flows.v6);
        tables.settings = world.settings;
        tables.now = world.now();
        let bindings = world.bindings();
        tables.ports = bindings.ports.into_iter().collect();
        tables.port_ranges = bindings.ranges.into_iter().collect();
        tables.bindings = bindings.rules.into_iter().collect();
        let spreads = world.spreads.iter();
        tables.spreads = spreads.map(|(id, places)| (*id, places.clone())).collect();
        tables.rings = rings;
        tables.trials = world.trials.iter().map(|(p, t)| (*p, *t)).collect();
        tables.interfaces = world.interfaces.iter().map(|(s, i)| (*s, *i)).collect();
        self.tables.0 = tables;
    }
}

impl Engine for Model {
    fn name(&self) -> &'static str {
        "the model"
    }

    fn load(&mut self, world: &World) {
        self.fill(world, Flows::of(world));
    }

    fn configure(&mut self, world: &World) {
        let tables = &mut self.tables.0;
        let flows = Flows {
            v4: tables.v4.flows(),
            v6: tables.v6.flows(),
            ..Flows::default()
        };
        let untrusted4 = std::mem::take(&mut tables.v4.untrusted);
        let untrusted6 = std::mem::take(&mut tables.v6.untrusted);
        let sources = std::mem::take(&mut tables.sources);
        let positions = std::mem::take(&mut tables.positions);
        let hops4 = kept_hops(&mut tables.v4, &world.v4);
        let hops6 = kept_hops(&mut tables.v6, &world.v6);
        let rule_counters = std::mem::take(&mut tables.rule_counters);
        let per_cpu = std::mem::take(&mut tables.per_cpu);
        let noted_trials = std::mem::take(&mut tables.noted_trials);
        let fragments4 = std::mem::take(&mut tables.v4.fragments);
        let fragments6 = std::mem::take(&mut tables.v6.fragments);
        self.fill(world, flows);
        let tables = &mut self.tables.0;
        tables.rule_counters = rule_counters;
        tables.per_cpu = per_cpu;
        tables.noted_trials = noted_trials;
        tables.v4.fragments = fragments4;
        tables.v6.fragments = fragments6;
        tables.v4.untrusted = untrusted4;
        tables.v6.untrusted = untrusted6;
        tables.sources = sources;
        tables.positions = positions;
        tables.v4.public_hops = hops4.into();
        tables.v6.public_hops = hops6.into();
    }

    fn set_now(&mut self, now: u64) {
        self.tables.0.now = now;
        if let Some(settings) = &mut self.tables.0.settings {
            settings.test_now = now;
        }
    }

    fn run(&mut self, frame: &[u8], ingress: &Link) -> Outcome {
        let mut frame = HostFrame::new(frame, ingress.ifindex);
        self.tables.0.reasons.borrow_mut().clear();
        let verdict = pipeline::run(&mut frame, &self.tables);
        let action = match verdict.exit {
            Exit::Drop => Action::Drop,
            Exit::Pass => Action::Pass,
            Exit::Transmit => Action::Transmit,
            Exit::Redirect(_) => Action::Redirect,
        };
        let counted = self
            .tables
            .0
            .reasons
            .borrow()
            .iter()
            .map(|(r, n)| (*r, *n))
            .collect();
        Outcome {
            action,
            counted,
            frame: frame.to_vec(),
        }
    }

    fn flows(&self) -> Flows {
        let settings = self.tables.0.settings.unwrap_or_default();
        Flows {
            v4: self.tables.0.v4.flows(),
            v6: self.tables.0.v6.flows(),
            ..Flows::default()
        }
        .with_untrusted(
            self.tables.0.v4.untrusted(&settings),
            self.tables.0.v6.untrusted(&settings),
        )
    }

    fn retire(&mut self, step: Retire, keys: &Keys) -> Vec<bool> {
        let v4 = keys.v4.iter().map(|key| self.tables.retire(step, key));
        let v6 = keys.v6.iter().map(|key| self.tables.retire(step, key));
        v4.chain(v6).collect()
    }

    fn rule_counters(&self) -> BTreeMap<u32, RuleCounters> {
        let counters = self.tables.0.rule_counters.borrow();
        counters
            .iter()
            .filter(|(_, counters)| **counters != RuleCounters::default())
            .map(|(rule, counters)| (*rule, *counters))
            .collect()
    }

    fn trials(&self) -> BTreeMap<u32, Trial> {
        let noted = self.tables.0.noted_trials.borrow();
        let told = |(place, trial): (&u32, &Trial)| {
            let [verdict, answer] = noted.get(place).copied().unwrap_or_default();
            let trial = Trial {
                verdict,
                answer,
                ..*trial
            };
            (*place, trial)
        };
        self.tables.0.trials.iter().map(told).collect()
    }
}

impl Planned {
    fn retire<A: Side>(&self, step: Retire, key: &FlowKey<A>) -> bool {
        match step {
            Retire::Mark => mark_retiring(self, key),
            Retire::Remove => remove_retiring(self, key),
            Retire::Flush => mark_flushed(self, key),
            Retire::Forget => forget_both(self, key),
            Retire::Carry => carry_over(self, key),
        }
    }
}

impl Shared for Planned {
    fn settings(&self) -> Option<&Settings> {
        self.0.settings()
    }

    fn now(&self) -> u64 {
        self.0.now()
    }

    fn port(&self, key: &PortKey) -> Option<&Bound> {
        self.0.port(key)
    }

    fn port_range(&self, key: &PortKey) -> Option<&Bound> {
        self.0.port_range(key)
    }

    fn binding(&self, id: u32) -> Option<&Rule> {
        self.0.binding(id)
    }

    fn spread_place(&self, spread: u32, place: u32) -> Option<u32> {
        self.0.spread_place(spread, place)
    }

    fn ring_slot(&self, ring: u32, slot: u32) -> Option<u32> {
        self.0.ring_slot(ring, slot)
    }

    fn interface(&self, slot: u32) -> Option<&Interface> {
        self.0.interface(slot)
    }

    fn interface_slot(&self, ifindex: u32) -> Option<u32> {
        self.0.interface_slot(ifindex)
    }

    fn vlan_slot(&self, key: &VlanKey) -> Option<u32> {
        self.0.vlan_slot(key)
    }

    fn per_cpu<R>(&self, look: impl FnOnce(&mut PerCpu) -> R) -> Option<R> {
        self.0.per_cpu(look)
    }

    fn source(&self, place: u32) -> Option<u64> {
        self.0.source(place)
    }

    fn set_source(&self, place: u32, word: u64) {
        self.0.set_source(place, word);
    }

    fn lock(&self, number: u32) -> bool {
        self.0.lock(number)
    }

    fn unlock(&self, number: u32) {
        self.0.unlock(number);
    }

    fn random(&self) -> u32 {
        self.0.random()
    }

    fn position(&self, place: u32) -> Option<Position> {
        self.0.position(place)
    }

    fn set_position(&self, place: u32, position: Position) {
        self.0.set_position(place, position);
    }

    fn trial(&self, place: u32) -> Option<&Trial> {
        self.0.trial(place)
    }

    fn note_trial(&self, place: u32, verdict: u32) {
        self.0.note_trial(place, verdict);
    }

    fn note_trial_answer(&self, place: u32, answer: u32) {
        self.0.note_trial_answer(place, answer);
    }

    fn address_filter(&self, word: u32) -> u64 {
        self.0.address_filter(word)
    }

    fn count(&self, reason: Reason) {
        self.0.count(reason);
    }

    fn count_rule(&self, rule: u32, direction: Direction, bytes: u32) {
        self.0.count_rule(rule, direction, bytes);
    }

    fn count_new_flow(&self, rule: u32) {
        self.0.count_new_flow(rule);
    }

    fn in_former<R>(&self, run: impl FnOnce() -> R) -> R {
        self.0.in_former(run)
    }
}

impl<A: Side> Tables<A> for Planned {
    fn flow(&self, key: &FlowKey<A>) -> Option<FlowRef<'_, A>> {
        self.0.flow(key)
    }

    fn insert(&self, key: &FlowKey<A>, flow: &Flow<A>) -> Result<(), InsertError> {
        self.0.insert(key, flow)
    }

    fn remove(&self, key: &FlowKey<A>) {
        self.0.remove(key);
    }

    fn is_former(&self) -> bool {
        Tables::<A>::is_former(&self.0)
    }

    fn former(&self, key: &FlowKey<A>) -> Option<FlowRef<'_, A>> {
        self.0.former(key)
    }

    fn carry(&self, key: &FlowKey<A>) -> Result<(), InsertError> {
        self.0.carry(key)
    }

    fn remove_former(&self, key: &FlowKey<A>) {
        self.0.remove_former(key);
    }

    fn occupied(&self) -> u64 {
        Tables::<A>::occupied(&self.0)
    }

    fn untrusted_set(&self, number: u32) -> Option<SetRef<'_, A>> {
        self.0.untrusted_set(number)
    }

    fn reverse(&self, instance: A, port: u16) -> Option<&Reverse<A>> {
        self.0.reverse(instance, port)
    }

    fn way(&self, key: &WayKey<A>) -> Option<&Way> {
        self.0.way(key)
    }

    fn snat_range(&self, number: u32) -> Option<&SnatRange<A>> {
        Tables::<A>::snat_range(&self.0, number)
    }

    fn count_opened(&self, key: &WayKey<A>) {
        self.0.count_opened(key);
    }

    fn count_refused(&self, key: &WayKey<A>, destination: A, port: u16, address: A) {
        self.0.count_refused(key, destination, port, address);
    }

    fn public_ip(&self, address: A) -> Option<&PublicIp<A>> {
        self.0.public_ip(address)
    }

    fn keep_public_hop(&self, address: A, hop: u64, stamp: u64) {
        self.0.keep_public_hop(address, hop, stamp);
    }

    fn search(&self, times: u32) {
        for _ in 0..times {
            if !pipeline::candidate::<A, Self>(self) {
                break;
            }
        }
    }

    fn owner(&self, address: A) -> Option<&Owner> {
        self.0.owner(address)
    }

    fn backend(&self, id: u32) -> Option<&Backend<A>> {
        self.0.backend(id)
    }

    fn fragments<R>(
        &self,
        key: &FragmentKey<A>,
        look: impl FnOnce(&mut Fragments) -> R,
    ) -> Option<R> {
        self.0.fragments(key, look)
    }

    fn remember_fragments(&self, key: &FragmentKey<A>, fragments: &Fragments) {
        self.0.remember_fragments(key, fragments);
    }

    fn in_virtual_network(&self, address: A) -> bool {
        self.0.in_virtual_network(address)
    }

    unsafe fn scratch(&self) -> Option<&mut Scratch<A>> {
        // SAFETY: exclusive by the contract of this function.
        unsafe { self.0.scratch() }
    }

    unsafe fn recent_pair(&self, place: u32) -> Option<&mut RecentPair<A>> {
        // SAFETY: as above.
        unsafe { self.0.recent_pair(place) }
    }

    fn route(&self, key: &FlowKey<A>, length: u32, ingress: u32) -> Route {
        let slot_of = |ifindex| {
            let slot = self.interface_slot(ifindex)?;
            Some((slot, self.interface(slot)?.mtu))
        };
        fib::route(key.source, key.destination, length, ingress, slot_of)
    }
}
