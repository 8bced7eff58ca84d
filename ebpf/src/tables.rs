//! The program's maps as [`Tables`].

use core::ptr::NonNull;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::btf_maps::lpm_trie::Key;
use forebay_common::abi::{
    Backend, Bound, FragmentKey, Fragments, Interface, Owner, PortKey, PortPrefix, Position,
    PublicIp, Reverse, ReverseKey, Rule, RuleCounters, Settings, SnatRange, Trial, VlanKey, Way,
    WayKey,
};
use forebay_common::flow::{Direction, Flow, FlowKey, FlowRef, Hop, SetRef};
use forebay_common::pipeline;
use forebay_common::reason::Reason;
use forebay_common::tables::{InsertError, PerCpu, RecentPair, Route, Scratch, Shared, Tables};

use crate::kernel::{self, Fib, FibFamily};
use crate::maps::{self, Flows, Maps};

/// How often a lock is tried: what is done under one takes less than a microsecond, unless a hypervisor lets
/// its CPU wait.
const LOCK_ATTEMPTS: u32 = 64;

/// `EEXIST`, negated as helpers return it.
const EXISTS: i32 = -17;

/// All maps, as the program that runs with this context reaches them.
pub(crate) type KernelTables = AllTables<false>;

/// The same with the former flow table in the place of the flow table.
pub(crate) type FormerTables = AllTables<true>;

/// All maps. `FORMER`: with the former flow table in the place of the flow table.
pub(crate) struct AllTables<const FORMER: bool> {
    /// The context, which the FIB lookup wants to see.
    ctx: *mut core::ffi::c_void,
}

impl<const FORMER: bool> AllTables<FORMER> {
    #[inline(always)]
    pub(crate) fn new(ctx: &impl EbpfContext) -> Self {
        Self { ctx: ctx.as_ptr() }
    }

    /// For programs that route nothing.
    #[inline(always)]
    pub(crate) fn without_context() -> Self {
        Self {
            ctx: core::ptr::null_mut(),
        }
    }
}

/// Keeps the number of entries in a flow table.
#[inline(always)]
fn count_entries<A: Maps>(more: i64) {
    if let Some(occupied) = A::occupied() {
        kernel::atomic_add(occupied, more);
    }
}

/// Adds to a counter of this CPU; a missing slot changes nothing.
#[inline(always)]
fn bump(counter: &mut u64, by: u64) {
    *counter = counter.wrapping_add(by);
}

#[inline(always)]
fn rule_counters(rule: u32) -> Option<&'static mut RuleCounters> {
    // SAFETY: per-CPU, and the program is not interrupted by itself on one CPU.
    maps::RULE_COUNTERS
        .get_ptr_mut(rule)
        .map(|counters| unsafe { &mut *counters })
}

impl<const FORMER: bool> Shared for AllTables<FORMER> {
    #[inline(always)]
    fn settings(&self) -> Option<&Settings> {
        maps::SETTINGS
            .get(0)
            .filter(|settings| settings.layout != 0)
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        if maps::is_deterministic() {
            return self.settings().map_or(0, |settings| settings.test_now);
        }
        kernel::jiffies()
    }

    #[inline(always)]
    fn port(&self, key: &PortKey) -> Option<&Bound> {
        // SAFETY: the daemon replaces elements as a whole; a reader may see one that is being reused, whose
        // words each name a binding.
        unsafe { maps::PORTS.get(key) }
    }

    #[inline(always)]
    fn port_range(&self, key: &PortKey) -> Option<&Bound> {
        let bits = PortPrefix::FIXED_BITS + u16::BITS;
        maps::PORT_RANGES.get(&Key::new(bits, PortPrefix::of(*key)))
    }

    #[inline(always)]
    fn binding(&self, id: u32) -> Option<&Rule> {
        maps::BINDINGS.get(id)
    }

    #[inline(always)]
    fn ring_slot(&self, ring: u32, slot: u32) -> Option<u32> {
        maps::RINGS.get_value(ring, &slot).copied()
    }

    #[inline(always)]
    fn spread_place(&self, spread: u32, place: u32) -> Option<u32> {
        maps::SPREADS.get_value(spread, &place).copied()
    }

    #[inline(always)]
    fn interface(&self, slot: u32) -> Option<&Interface> {
        maps::INTERFACES
            .get(slot)
            .filter(|interface| interface.ifindex != 0)
    }

    #[inline(always)]
    fn interface_slot(&self, ifindex: u32) -> Option<u32> {
        // SAFETY: a word.
        unsafe { maps::INTERFACE_SLOTS.get(ifindex) }.copied()
    }

    #[inline(always)]
    fn vlan_slot(&self, key: &VlanKey) -> Option<u32> {
        // SAFETY: a word.
        unsafe { maps::VLANS.get(key) }.copied()
    }

    #[inline(always)]
    fn per_cpu<R>(&self, look: impl FnOnce(&mut PerCpu) -> R) -> Option<R> {
        // SAFETY: per-CPU, the program is not interrupted by itself on one CPU, and `look` has no other way
        // to this memory.
        maps::PER_CPU
            .get_ptr_mut(0)
            .map(|cpu| look(unsafe { &mut *cpu }))
    }

    #[inline(always)]
    fn source(&self, place: u32) -> Option<u64> {
        // SAFETY: a word that other CPUs may write; volatile, so that it is read once.
        maps::SOURCES
            .get_ptr_mut(place)
            .map(|word| unsafe { word.read_volatile() })
    }

    #[inline(always)]
    fn set_source(&self, place: u32, word: u64) {
        if let Some(place) = maps::SOURCES.get_ptr_mut(place) {
            // SAFETY: as for reading.
            unsafe { place.write_volatile(word) };
        }
    }

    #[inline(always)]
    fn lock(&self, number: u32) -> bool {
        let Some(word) = maps::LOCKS.get_ptr_mut(number) else {
            return false;
        };
        let mut attempt = 0;
        while attempt < LOCK_ATTEMPTS {
            if kernel::atomic_exchange(word, 1) == 0 {
                return true;
            }
            attempt += 1;
        }
        false
    }

    #[inline(always)]
    fn unlock(&self, number: u32) {
        if let Some(word) = maps::LOCKS.get_ptr_mut(number) {
            kernel::atomic_exchange(word, 0);
        }
    }

    #[inline(always)]
    fn random(&self) -> u32 {
        if maps::is_deterministic() {
            return self.now() as u32;
        }
        kernel::random()
    }

    #[inline(always)]
    fn position(&self, place: u32) -> Option<Position> {
        // SAFETY: words that another CPU may write at the same time, each valid by itself.
        maps::POSITIONS
            .get_ptr_mut(place)
            .map(|position| unsafe { position.read_volatile() })
    }

    #[inline(always)]
    fn set_position(&self, place: u32, position: Position) {
        if let Some(place) = maps::POSITIONS.get_ptr_mut(place) {
            // SAFETY: as for reading.
            unsafe { place.write_volatile(position) };
        }
    }

    #[inline(always)]
    fn trial(&self, place: u32) -> Option<&Trial> {
        maps::TRIALS.get(place)
    }

    #[inline(always)]
    fn note_trial(&self, place: u32, verdict: u32) {
        if let Some(trial) = maps::TRIALS.get_ptr_mut(place) {
            // SAFETY: a value of an array; the field is a word.
            unsafe { (&raw mut (*trial).verdict).write_volatile(verdict) };
        }
    }

    #[inline(always)]
    fn note_trial_answer(&self, place: u32, answer: u32) {
        if let Some(trial) = maps::TRIALS.get_ptr_mut(place) {
            // SAFETY: as above.
            unsafe { (&raw mut (*trial).answer).write_volatile(answer) };
        }
    }

    #[inline(always)]
    fn address_filter(&self, word: u32) -> u64 {
        maps::ADDRESS_FILTER.get(word).copied().unwrap_or(u64::MAX)
    }

    #[inline(always)]
    fn count(&self, reason: Reason) {
        if let Some(counter) = maps::REASONS.get_ptr_mut(reason as u32) {
            // SAFETY: per-CPU, and the program is not interrupted by itself on one CPU.
            bump(unsafe { &mut *counter }, 1);
        }
    }

    #[inline(always)]
    fn count_rule(&self, rule: u32, direction: Direction, bytes: u32) {
        let Some(counters) = rule_counters(rule) else {
            return;
        };
        match direction {
            Direction::ToInstance => {
                bump(&mut counters.packets_to_instance, 1);
                bump(&mut counters.bytes_to_instance, u64::from(bytes));
            }
            Direction::FromInstance => {
                bump(&mut counters.packets_from_instance, 1);
                bump(&mut counters.bytes_from_instance, u64::from(bytes));
            }
        }
    }

    #[inline(always)]
    fn count_new_flow(&self, rule: u32) {
        if let Some(counters) = rule_counters(rule) {
            bump(&mut counters.new_flows, 1);
        }
    }
}

/// Takes hold of an entry.
#[inline(always)]
fn entry<'t, A: Maps>(flows: &Flows<A>, key: &FlowKey<A>) -> Option<FlowRef<'t, A>> {
    let entry = NonNull::new(flows.get_ptr_mut(key)?)?;
    // SAFETY: elements are preallocated, so the memory stays valid; entries are removed only when no
    // program can still hold them (see `pipeline::is_over_for`), or nobody can have them after (see
    // `pipeline::carry_over`).
    Some(unsafe { FlowRef::new(entry) })
}

/// Inserts an entry if the key is free.
#[inline(always)]
fn insert<A: Maps>(flows: &Flows<A>, key: &FlowKey<A>, flow: &Flow<A>) -> Result<(), InsertError> {
    match flows.insert(key, flow, u64::from(BPF_NOEXIST)) {
        Ok(()) => {
            count_entries::<A>(1);
            Ok(())
        }
        Err(EXISTS) => Err(InsertError::Taken),
        Err(_) => Err(InsertError::Full),
    }
}

impl<const FORMER: bool, A: Maps + FibFamily> Tables<A> for AllTables<FORMER> {
    #[inline(always)]
    fn settle(&self, news: &pipeline::News, pair_is_at_hand: bool) {
        A::settle(news, pair_is_at_hand);
    }

    #[inline(always)]
    fn record(&self, flow: FlowRef<'_, A>, protocol_events: u32, sequence: u32) {
        A::record(flow, protocol_events, sequence, FORMER);
    }

    #[inline(always)]
    fn touch(&self, flow: FlowRef<'_, A>, protocol: u32) {
        A::touch(flow, protocol, FORMER);
    }

    #[inline(always)]
    fn range_of(&self, first: u32, ranges: u32, ordinal: u32) -> u32 {
        A::range_of(first, ranges, ordinal)
    }

    #[inline(always)]
    fn flow(&self, key: &FlowKey<A>) -> Option<FlowRef<'_, A>> {
        entry(if FORMER { A::former() } else { A::flows() }, key)
    }

    #[inline(always)]
    fn insert(&self, key: &FlowKey<A>, flow: &Flow<A>) -> Result<(), InsertError> {
        if A::has_former() {
            // Other interfaces may still have the former program, which asks the former table alone.
            if !maps::is_moving() {
                return insert(A::former(), key, flow);
            }
            if A::former().get_ptr(key).is_some() {
                return Err(InsertError::Taken);
            }
        }
        insert(A::flows(), key, flow)
    }

    #[inline(always)]
    fn remove(&self, key: &FlowKey<A>) {
        let mut is_gone = A::flows().remove(key).is_ok();
        if A::has_former() && !maps::is_moving() {
            is_gone |= A::former().remove(key).is_ok();
        }
        if is_gone {
            count_entries::<A>(-1);
        }
    }

    #[inline(always)]
    fn occupied(&self) -> u64 {
        // SAFETY: a word that other CPUs change; volatile, so that it is read once.
        A::occupied().map_or(0, |occupied| unsafe { occupied.read_volatile() })
    }

    #[inline(always)]
    fn untrusted_set(&self, number: u32) -> Option<SetRef<'_, A>> {
        let set = NonNull::new(A::untrusted().get_ptr_mut(number)?)?;
        // SAFETY: a value of an array, which stays; programs reach it through `SetRef`s only.
        Some(unsafe { SetRef::new(set) })
    }

    #[inline(always)]
    fn reverse(&self, instance: A, port: u16) -> Option<&Reverse<A>> {
        A::replies().get(&Key::new(
            ReverseKey::<A>::BITS,
            ReverseKey::new(instance, port),
        ))
    }

    #[inline(always)]
    fn way(&self, key: &WayKey<A>) -> Option<&Way> {
        // SAFETY: the daemon replaces elements as a whole; a reader may see one that is being reused, whose
        // words are each valid.
        unsafe { A::ways().get(key) }
    }

    #[inline(always)]
    fn snat_range(&self, number: u32) -> Option<&SnatRange<A>> {
        A::snat_ranges()
            .get(number)
            .filter(|range| range.count != 0)
    }

    #[inline(always)]
    fn count_opened(&self, key: &WayKey<A>) {
        if let Some(counters) = A::way_counters(key) {
            // SAFETY: a value of a map; the field is a word.
            kernel::atomic_add(unsafe { &raw mut (*counters).opened }, 1);
        }
    }

    #[inline(always)]
    fn count_refused(&self, key: &WayKey<A>, destination: A, port: u16, address: A) {
        let Some(counters) = A::way_counters(key) else {
            return;
        };
        // SAFETY: a value of a map; words that other CPUs write too, each valid by itself.
        unsafe {
            (&raw mut (*counters).destination).write_volatile(destination);
            (&raw mut (*counters).address).write_volatile(address);
            (&raw mut (*counters).port).write_volatile(u32::from(port));
            kernel::atomic_add(&raw mut (*counters).refused, 1);
        }
    }

    #[inline(always)]
    fn public_ip(&self, address: A) -> Option<&PublicIp<A>> {
        // SAFETY: as for ways.
        unsafe { A::public_ips().get(address) }
    }

    #[inline(always)]
    fn keep_public_hop(&self, address: A, hop: u64, stamp: u64) {
        if let Some(public) = A::public_ips().get_ptr_mut(address) {
            // SAFETY: a value of a map; words that other CPUs write too, each valid by itself.
            unsafe {
                (&raw mut (*public).hop).write_volatile(hop);
                (&raw mut (*public).hop_stamp).write_volatile(stamp);
            }
        }
    }

    #[inline(always)]
    fn search(&self, times: u32) {
        kernel::repeat(times, |_| {
            pipeline::candidate::<A, Self>(&Self::without_context())
        });
    }

    #[inline(always)]
    fn is_former(&self) -> bool {
        FORMER
    }

    #[inline(always)]
    fn former(&self, key: &FlowKey<A>) -> Option<FlowRef<'_, A>> {
        if FORMER || !A::has_former() {
            return None;
        }
        entry(A::former(), key)
    }

    #[inline(always)]
    fn carry(&self, key: &FlowKey<A>) -> Result<(), InsertError> {
        // SAFETY: the kernel copies the entry word by word, while packets may change words of it.
        let flow = unsafe { A::former().get(key) }.ok_or(InsertError::Taken)?;
        insert(A::flows(), key, flow)
    }

    #[inline(always)]
    fn remove_former(&self, key: &FlowKey<A>) {
        if A::former().remove(key).is_ok() {
            count_entries::<A>(-1);
        }
    }

    #[inline(always)]
    fn owner(&self, address: A) -> Option<&Owner> {
        // SAFETY: as for ports.
        unsafe { A::addresses().get(address) }
    }

    #[inline(always)]
    fn backend(&self, id: u32) -> Option<&Backend<A>> {
        A::backends()
            .get(id)
            .filter(|backend| backend.address != A::default())
    }

    #[inline(always)]
    fn fragments<R>(
        &self,
        key: &FragmentKey<A>,
        look: impl FnOnce(&mut Fragments) -> R,
    ) -> Option<R> {
        // SAFETY: words that another CPU may write at the same time, each valid by itself; at worst a
        // fragment is refused or let through for its receiver to judge.
        A::fragments()
            .get_ptr_mut(key)
            .map(|fragments| look(unsafe { &mut *fragments }))
    }

    #[inline(always)]
    fn remember_fragments(&self, key: &FragmentKey<A>, fragments: &Fragments) {
        let _ = A::fragments().insert(key, fragments, 0);
    }

    #[inline(always)]
    fn in_virtual_network(&self, address: A) -> bool {
        A::is_virtual_network(address)
    }

    #[inline(always)]
    unsafe fn scratch(&self) -> Option<&mut Scratch<A>> {
        // SAFETY: per-CPU, the program is not interrupted by itself on one CPU, and the caller takes it once.
        A::scratch()
            .get_ptr_mut(0)
            .map(|scratch| unsafe { &mut *scratch })
    }

    #[inline(always)]
    unsafe fn recent_pair(&self, place: u32) -> Option<&mut RecentPair<A>> {
        // SAFETY: per-CPU, as the scratch space is, and the caller keeps one reference to a place.
        A::recent_pairs()
            .get_ptr_mut(place)
            .map(|pair| unsafe { &mut *pair })
    }

    #[inline(always)]
    fn route(&self, key: &FlowKey<A>, length: u32, ingress_ifindex: u32) -> Route {
        match kernel::fib(self.ctx, key, length, ingress_ifindex) {
            Fib::Neighbor { ifindex, mac, mtu } => match self.interface_slot(ifindex) {
                Some(slot) => Route::Hop(Hop {
                    mac,
                    slot: slot as u16,
                    is_narrow: mtu != 0 && self.interface(slot).is_some_and(|out| mtu < out.mtu),
                }),
                None => Route::Kernel,
            },
            Fib::NoNeighbor { ifindex } => Route::NoNeighbor(ifindex),
            Fib::NotForwarded => Route::Local,
            Fib::TooBig { mtu } => Route::TooBig(mtu),
            Fib::NoRoute => Route::None,
            Fib::Kernel => Route::Kernel,
        }
    }
}
