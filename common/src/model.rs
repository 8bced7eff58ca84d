//! Tables in memory: what `explain` and the tests run the packet path over.

use std::cell::{Cell, RefCell, UnsafeCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ptr::NonNull;

use crate::abi::{
    Backend, Bound, FragmentKey, Fragments, Interface, MAX_RULES, Owner, PortKey, Position,
    PublicIp, Reverse, Rule, RuleCounters, Settings, SnatRange, Trial, VlanKey, Way, WayCounters,
    WayKey,
};
use crate::balance::filter;
use crate::family::{Family, V4, V6};
use crate::flow::{Direction, Flow, FlowKey, FlowRef, Place, SetRef, Untrusted, UntrustedSet};
use crate::pipeline;
use crate::reason::Reason;
use crate::tables::{InsertError, PerCpu, RecentPair, Route, Scratch, Shared, Tables};

/// Sets of a model's tables of untrusted flows.
pub const UNTRUSTED_SETS: u32 = 128;

type Entry<A> = Box<UnsafeCell<Flow<A>>>;

/// A table of untrusted flows.
pub struct UntrustedModel<A>(Vec<UnsafeCell<UntrustedSet<A>>>);

impl<A: Family> Default for UntrustedModel<A> {
    fn default() -> Self {
        let sets = (0..UNTRUSTED_SETS).map(|_| UnsafeCell::default());
        Self(sets.collect())
    }
}

/// Tables of one family.
pub struct FamilyModel<A> {
    flows: RefCell<BTreeMap<FlowKey<A>, Entry<A>>>,
    former: RefCell<BTreeMap<FlowKey<A>, Entry<A>>>,
    // References to removed entries stay valid, as they do in the kernel.
    removed: RefCell<Vec<Entry<A>>>,
    scratch: UnsafeCell<Scratch<A>>,
    recent: RefCell<HashMap<u32, Box<UnsafeCell<RecentPair<A>>>>>,
    /// Packets under way in fragments.
    pub fragments: RefCell<BTreeMap<FragmentKey<A>, Fragments>>,
    /// Untrusted flows.
    pub untrusted: UntrustedModel<A>,
    /// First and last port of stretches of instances' TCP ports, and whose replies they send.
    pub reverse: Vec<(A, u16, u16, Reverse<A>)>,
    /// Ways out.
    pub ways: HashMap<WayKey<A>, Way>,
    /// What came of new flows.
    pub way_counters: RefCell<HashMap<WayKey<A>, WayCounters<A>>>,
    /// Ranges of SNAT ports by number.
    pub snat_ranges: HashMap<u32, SnatRange<A>>,
    /// Public IPs, under both addresses.
    pub public_ips: HashMap<A, PublicIp<A>>,
    /// Next hops that were kept for them, with when that was.
    pub public_hops: RefCell<HashMap<A, (u64, u64)>>,
    /// What was handed out of both.
    public_copies: RefCell<Vec<Box<PublicIp<A>>>>,
    /// How many entries fit.
    pub capacity: usize,
    /// What addresses are.
    pub addresses: HashMap<A, Owner>,
    /// Members by id.
    pub backends: HashMap<u32, Backend<A>>,
    /// Prefixes of the virtual network: address and length.
    pub virtual_network: Vec<(A, u32)>,
    /// Routes: prefix, length, answer. The longest prefix counts.
    pub routes: Vec<(A, u32, Route)>,
}

impl<A: Family> Default for FamilyModel<A> {
    fn default() -> Self {
        Self {
            flows: RefCell::default(),
            former: RefCell::default(),
            removed: RefCell::default(),
            scratch: UnsafeCell::default(),
            recent: RefCell::default(),
            fragments: RefCell::default(),
            untrusted: UntrustedModel::default(),
            reverse: Vec::new(),
            ways: HashMap::new(),
            way_counters: RefCell::default(),
            snat_ranges: HashMap::new(),
            public_ips: HashMap::new(),
            public_hops: RefCell::default(),
            public_copies: RefCell::default(),
            capacity: usize::MAX,
            addresses: HashMap::new(),
            backends: HashMap::new(),
            virtual_network: Vec::new(),
            routes: Vec::new(),
        }
    }
}

impl<A: Family + Ord> FamilyModel<A> {
    /// A copy of all untrusted entries that are found with these settings.
    pub fn untrusted(&self, settings: &Settings) -> BTreeMap<FlowKey<A>, Untrusted<A>> {
        let mut found = BTreeMap::new();
        for (number, set) in self.untrusted.0.iter().enumerate() {
            // SAFETY: single-threaded, and no reference to a set is ever handed out.
            let set = unsafe { *set.get() };
            let place = |key| Place::of(settings.hash_key, key).set(settings.untrusted_mask);
            let is_found = |key| place(key) == number as u32;
            let entries = set.entries().filter(|entry| is_found(&entry.key));
            found.extend(entries.map(|entry| (entry.key, *entry)));
        }
        found
    }

    /// A copy of all entries, by key.
    pub fn flows(&self) -> BTreeMap<FlowKey<A>, Flow<A>> {
        Self::copy(&self.flows)
    }

    /// The same of the former table.
    pub fn former_flows(&self) -> BTreeMap<FlowKey<A>, Flow<A>> {
        Self::copy(&self.former)
    }

    fn copy(table: &RefCell<BTreeMap<FlowKey<A>, Entry<A>>>) -> BTreeMap<FlowKey<A>, Flow<A>> {
        let table = table.borrow();
        // SAFETY: single-threaded, and no `&Flow` is ever handed out.
        let copied = table
            .iter()
            .map(|(key, entry)| (*key, unsafe { *entry.get() }));
        copied.collect()
    }

    /// Puts an entry into the former table, over one that is there. A table with entries is one that flows
    /// still move from.
    pub fn put_former(&self, key: FlowKey<A>, flow: Flow<A>) {
        let entry = Box::new(UnsafeCell::new(flow));
        let old = self.former.borrow_mut().insert(key, entry);
        self.removed.borrow_mut().extend(old);
    }

    /// Puts an entry in, over one that is there.
    pub fn put_flow(&self, key: FlowKey<A>, flow: Flow<A>) {
        let old = self
            .flows
            .borrow_mut()
            .insert(key, Box::new(UnsafeCell::new(flow)));
        self.removed.borrow_mut().extend(old);
    }
}

/// Tables in memory.
#[derive(Default)]
pub struct ModelTables {
    /// IPv4.
    pub v4: FamilyModel<V4>,
    /// IPv6.
    pub v6: FamilyModel<V6>,
    /// Settings.
    pub settings: Option<Settings>,
    /// The time, jiffies.
    pub now: u64,
    /// Single ports.
    pub ports: HashMap<PortKey, Bound>,
    /// Ranges of ports: the first port, and how many of its bits the others share.
    pub port_ranges: HashMap<(PortKey, u32), Bound>,
    /// Bindings by id.
    pub bindings: HashMap<u32, Rule>,
    /// Rings by id.
    pub rings: HashMap<u32, Vec<u32>>,
    /// Spreads by id.
    pub spreads: HashMap<u32, Vec<u32>>,
    /// Interfaces by slot.
    pub interfaces: HashMap<u32, Interface>,
    /// Locks that are held.
    pub locks: RefCell<BTreeSet<u32>>,
    /// What the one CPU remembers.
    pub per_cpu: RefCell<PerCpu>,
    /// Packets by reason.
    pub reasons: RefCell<BTreeMap<Reason, u64>>,
    /// Counters by rule id.
    pub rule_counters: RefCell<BTreeMap<u32, RuleCounters>>,
    /// Whether the former flow table takes the place of the flow table now.
    in_former: Cell<bool>,
    /// When sources may open their next flow.
    pub sources: RefCell<BTreeMap<u32, u64>>,
    /// Where searches for free ports stand.
    pub positions: RefCell<BTreeMap<u32, Position>>,
    /// The node's own trials, by place.
    pub trials: HashMap<u32, Trial>,
    /// What became of trials, by place: verdict, answer.
    pub noted_trials: RefCell<BTreeMap<u32, [u32; 2]>>,
    filter: Cell<Option<Box<[u64; filter::WORDS as usize]>>>,
}

impl ModelTables {
    /// Sets a word of the address filter, which is otherwise made of the addresses at its first use.
    pub fn set_address_filter(&self, word: u32, bits: u64) {
        self.address_filter(word);
        if let Some(mut words) = self.filter.take() {
            words[word as usize] = bits;
            self.filter.set(Some(words));
        }
    }

    fn count_for_rule(&self, rule: u32, change: impl FnOnce(&mut RuleCounters)) {
        if rule < MAX_RULES {
            change(self.rule_counters.borrow_mut().entry(rule).or_default());
        }
    }
}

impl Shared for ModelTables {
    fn settings(&self) -> Option<&Settings> {
        self.settings.as_ref()
    }

    fn now(&self) -> u64 {
        self.now
    }

    fn port(&self, key: &PortKey) -> Option<&Bound> {
        self.ports.get(key)
    }

    fn port_range(&self, key: &PortKey) -> Option<&Bound> {
        (0..=16_u32).rev().find_map(|length| {
            let ports = u16::MAX.checked_shl(16 - length).unwrap_or(0);
            let first = PortKey::new(key.frontend, key.protocol(), key.port() & ports);
            self.port_ranges.get(&(first, length))
        })
    }

    fn binding(&self, id: u32) -> Option<&Rule> {
        self.bindings.get(&id)
    }

    fn ring_slot(&self, ring: u32, slot: u32) -> Option<u32> {
        self.rings.get(&ring)?.get(slot as usize).copied()
    }

    fn spread_place(&self, spread: u32, place: u32) -> Option<u32> {
        self.spreads.get(&spread)?.get(place as usize).copied()
    }

    fn interface(&self, slot: u32) -> Option<&Interface> {
        self.interfaces.get(&slot)
    }

    fn interface_slot(&self, ifindex: u32) -> Option<u32> {
        self.interfaces
            .iter()
            .find(|(_, interface)| interface.ifindex == ifindex)
            .map(|(slot, _)| *slot)
    }

    fn vlan_slot(&self, key: &VlanKey) -> Option<u32> {
        let takes = |interface: &Interface| interface.vlan_key() == Some(*key);
        let found = self.interfaces.iter().find(|(_, i)| takes(i));
        found.map(|(slot, _)| *slot)
    }

    fn per_cpu<R>(&self, look: impl FnOnce(&mut PerCpu) -> R) -> Option<R> {
        Some(look(&mut self.per_cpu.borrow_mut()))
    }

    fn source(&self, place: u32) -> Option<u64> {
        Some(self.sources.borrow().get(&place).copied().unwrap_or(0))
    }

    fn set_source(&self, place: u32, word: u64) {
        self.sources.borrow_mut().insert(place, word);
    }

    fn lock(&self, number: u32) -> bool {
        self.locks.borrow_mut().insert(number)
    }

    fn unlock(&self, number: u32) {
        self.locks.borrow_mut().remove(&number);
    }

    fn random(&self) -> u32 {
        self.now as u32
    }

    fn position(&self, place: u32) -> Option<Position> {
        let positions = self.positions.borrow();
        Some(positions.get(&place).copied().unwrap_or_default())
    }

    fn set_position(&self, place: u32, position: Position) {
        self.positions.borrow_mut().insert(place, position);
    }

    fn trial(&self, place: u32) -> Option<&Trial> {
        self.trials.get(&place)
    }

    fn note_trial(&self, place: u32, verdict: u32) {
        self.noted_trials.borrow_mut().entry(place).or_default()[0] = verdict;
    }

    fn note_trial_answer(&self, place: u32, answer: u32) {
        self.noted_trials.borrow_mut().entry(place).or_default()[1] = answer;
    }

    fn address_filter(&self, word: u32) -> u64 {
        let bits = self.filter.take().unwrap_or_else(|| {
            let mut bits = Box::new([0; filter::WORDS as usize]);
            let v4 = self.v4.addresses.keys().map(|a| filter::bit(*a));
            let v6 = self.v6.addresses.keys().map(|a| filter::bit(*a));
            for (word, mask) in v4.chain(v6) {
                bits[word as usize] |= mask;
            }
            bits
        });
        let found = bits[word as usize];
        self.filter.set(Some(bits));
        found
    }

    fn in_former<R>(&self, run: impl FnOnce() -> R) -> R {
        self.in_former.set(true);
        let result = run();
        self.in_former.set(false);
        result
    }

    fn count(&self, reason: Reason) {
        *self.reasons.borrow_mut().entry(reason).or_default() += 1;
    }

    fn count_rule(&self, rule: u32, direction: Direction, bytes: u32) {
        self.count_for_rule(rule, |counters| match direction {
            Direction::ToInstance => {
                counters.packets_to_instance += 1;
                counters.bytes_to_instance += u64::from(bytes);
            }
            Direction::FromInstance => {
                counters.packets_from_instance += 1;
                counters.bytes_from_instance += u64::from(bytes);
            }
        });
    }

    fn count_new_flow(&self, rule: u32) {
        self.count_for_rule(rule, |counters| counters.new_flows += 1);
    }
}

/// The families that [`ModelTables`] has.
pub trait ModelFamily: Family + Ord + std::hash::Hash {
    /// This family's part.
    fn of(tables: &ModelTables) -> &FamilyModel<Self>;
    /// Whether `self` lies in a prefix.
    fn is_in(self, prefix: Self, length: u32) -> bool;
}

impl ModelFamily for V4 {
    fn of(tables: &ModelTables) -> &FamilyModel<Self> {
        &tables.v4
    }

    fn is_in(self, prefix: Self, length: u32) -> bool {
        let difference = u32::from_be(self.0 ^ prefix.0);
        difference.leading_zeros() >= length
    }
}

impl ModelFamily for V6 {
    fn of(tables: &ModelTables) -> &FamilyModel<Self> {
        &tables.v6
    }

    fn is_in(self, prefix: Self, length: u32) -> bool {
        let word = |n: usize| u128::from(u64::from_be(self.0[n] ^ prefix.0[n]));
        (word(0) << 64 | word(1)).leading_zeros() >= length
    }
}

impl<A: ModelFamily> Tables<A> for ModelTables {
    fn flow(&self, key: &FlowKey<A>) -> Option<FlowRef<'_, A>> {
        let model = A::of(self);
        let flows = if self.in_former.get() {
            model.former.borrow()
        } else {
            model.flows.borrow()
        };
        let entry = NonNull::new(flows.get(key)?.get())?;
        // SAFETY: entries are boxed and outlive `self` borrows even when removed (see `removed`).
        Some(unsafe { FlowRef::new(entry) })
    }

    fn insert(&self, key: &FlowKey<A>, flow: &Flow<A>) -> Result<(), InsertError> {
        let model = A::of(self);
        let mut flows = model.flows.borrow_mut();
        if flows.contains_key(key) || model.former.borrow().contains_key(key) {
            return Err(InsertError::Taken);
        }
        if flows.len() >= model.capacity {
            return Err(InsertError::Full);
        }
        flows.insert(*key, Box::new(UnsafeCell::new(*flow)));
        Ok(())
    }

    fn remove(&self, key: &FlowKey<A>) {
        let model = A::of(self);
        let old = model.flows.borrow_mut().remove(key);
        model.removed.borrow_mut().extend(old);
    }

    fn is_former(&self) -> bool {
        self.in_former.get()
    }

    fn former(&self, key: &FlowKey<A>) -> Option<FlowRef<'_, A>> {
        if self.in_former.get() {
            return None;
        }
        let former = A::of(self).former.borrow();
        let entry = NonNull::new(former.get(key)?.get())?;
        // SAFETY: as for flows.
        Some(unsafe { FlowRef::new(entry) })
    }

    fn carry(&self, key: &FlowKey<A>) -> Result<(), InsertError> {
        let model = A::of(self);
        let mut flows = model.flows.borrow_mut();
        let former = model.former.borrow();
        let entry = former.get(key).ok_or(InsertError::Taken)?;
        if flows.contains_key(key) {
            return Err(InsertError::Taken);
        }
        if flows.len() >= model.capacity {
            return Err(InsertError::Full);
        }
        // SAFETY: as for copies.
        let flow = unsafe { *entry.get() };
        flows.insert(*key, Box::new(UnsafeCell::new(flow)));
        Ok(())
    }

    fn remove_former(&self, key: &FlowKey<A>) {
        let model = A::of(self);
        let old = model.former.borrow_mut().remove(key);
        model.removed.borrow_mut().extend(old);
    }

    fn occupied(&self) -> u64 {
        let model = A::of(self);
        (model.flows.borrow().len() + model.former.borrow().len()) as u64
    }

    fn untrusted_set(&self, number: u32) -> Option<SetRef<'_, A>> {
        let set = NonNull::new(A::of(self).untrusted.0.get(number as usize)?.get())?;
        // SAFETY: the sets live as long as the model, and are reached through `SetRef`s and copies only.
        Some(unsafe { SetRef::new(set) })
    }

    fn reverse(&self, instance: A, port: u16) -> Option<&Reverse<A>> {
        let mut known = A::of(self).reverse.iter();
        known
            .find(|(address, first, last, _)| {
                *address == instance && (*first..=*last).contains(&port)
            })
            .map(|(.., reverse)| reverse)
    }

    fn way(&self, key: &WayKey<A>) -> Option<&Way> {
        A::of(self).ways.get(key)
    }

    fn snat_range(&self, number: u32) -> Option<&SnatRange<A>> {
        A::of(self).snat_ranges.get(&number)
    }

    fn count_opened(&self, key: &WayKey<A>) {
        let mut counters = A::of(self).way_counters.borrow_mut();
        counters.entry(*key).or_default().opened += 1;
    }

    fn count_refused(&self, key: &WayKey<A>, destination: A, port: u16, address: A) {
        let mut counters = A::of(self).way_counters.borrow_mut();
        let counters = counters.entry(*key).or_default();
        counters.refused += 1;
        (counters.destination, counters.address) = (destination, address);
        counters.port = u32::from(port);
    }

    fn public_ip(&self, address: A) -> Option<&PublicIp<A>> {
        let model = A::of(self);
        let mut public = *model.public_ips.get(&address)?;
        if let Some((hop, stamp)) = model.public_hops.borrow().get(&address) {
            (public.hop, public.hop_stamp) = (*hop, *stamp);
        }
        let copy = Box::new(public);
        let found: *const PublicIp<A> = &raw const *copy;
        model.public_copies.borrow_mut().push(copy);
        // SAFETY: the copy is boxed, never written again, and lives as long as the model.
        Some(unsafe { &*found })
    }

    fn keep_public_hop(&self, address: A, hop: u64, stamp: u64) {
        let model = A::of(self);
        if model.public_ips.contains_key(&address) {
            model.public_hops.borrow_mut().insert(address, (hop, stamp));
        }
    }

    fn search(&self, times: u32) {
        for _ in 0..times {
            if !pipeline::candidate::<A, Self>(self) {
                break;
            }
        }
    }

    fn owner(&self, address: A) -> Option<&Owner> {
        A::of(self).addresses.get(&address)
    }

    fn backend(&self, id: u32) -> Option<&Backend<A>> {
        A::of(self).backends.get(&id)
    }

    fn fragments<R>(
        &self,
        key: &FragmentKey<A>,
        look: impl FnOnce(&mut Fragments) -> R,
    ) -> Option<R> {
        A::of(self).fragments.borrow_mut().get_mut(key).map(look)
    }

    fn remember_fragments(&self, key: &FragmentKey<A>, fragments: &Fragments) {
        A::of(self).fragments.borrow_mut().insert(*key, *fragments);
    }

    fn in_virtual_network(&self, address: A) -> bool {
        A::of(self)
            .virtual_network
            .iter()
            .any(|(prefix, length)| address.is_in(*prefix, *length))
    }

    unsafe fn scratch(&self) -> Option<&mut Scratch<A>> {
        // SAFETY: exclusive by the contract of this function.
        Some(unsafe { &mut *A::of(self).scratch.get() })
    }

    unsafe fn recent_pair(&self, place: u32) -> Option<&mut RecentPair<A>> {
        let mut pairs = A::of(self).recent.borrow_mut();
        let pair: *mut RecentPair<A> = pairs.entry(place).or_default().get();
        // SAFETY: boxed, and exclusive by the contract of this function.
        Some(unsafe { &mut *pair })
    }

    fn route(&self, key: &FlowKey<A>, length: u32, _ingress_ifindex: u32) -> Route {
        let routes = A::of(self).routes.iter();
        let best = routes
            .filter(|(prefix, bits, _)| key.destination.is_in(*prefix, *bits))
            .max_by_key(|(_, bits, _)| *bits);
        match best {
            Some((_, _, Route::Hop(hop))) => match self.interfaces.get(&u32::from(hop.slot)) {
                Some(interface) if length <= interface.mtu => Route::Hop(*hop),
                Some(interface) => Route::TooBig(interface.mtu),
                None => Route::Kernel,
            },
            Some((_, _, other)) => *other,
            None => Route::None,
        }
    }
}
