//! The program's maps: a world written into them by differences, and read back.

mod family;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use anyhow::{Context, Result};
use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::xdp::DevMap;
use aya::maps::{
    Array, ArrayOfMaps, HashMap as HashTable, Map, MapData, MapError, PerCpuArray, PerCpuValues,
};
use forebay_common::abi::{
    Backend, Bound, FragmentKey, Fragments, Interface, MAX_RULES, Owner, PortKey, PortPrefix,
    Position, PublicIp, RING_SIZE, RetireBatch, Reverse, ReverseKey, Rule, RuleCounters, SOURCES,
    Settings, SnatRange, Trial, VlanKey, Way, WayCounters, WayKey, names,
};
use forebay_common::balance::filter;
use forebay_common::family::{V4, V6};
use forebay_common::flow::{Flow, FlowKey, UntrustedSet};
use forebay_common::model::UNTRUSTED_SETS;
use forebay_common::reason::Reason;
use forebay_common::tables::PerCpu;

use self::family::FamilyMaps;
use crate::world::{Flows, World};

/// A type of the packet path as the value or key of a map.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(super) struct Raw<T>(pub(super) T);

/// Types that are plain words.
pub(super) trait Words: Copy + 'static {}
// SAFETY: `Words` is implemented for types without padding only, for which any bytes are valid.
unsafe impl<T: Words> aya::Pod for Raw<T> {}

impl Words for V4 {}
impl Words for V6 {}
impl<A: Words> Words for FlowKey<A> {}
impl<A: Words> Words for Flow<A> {}
impl<A: Words> Words for Backend<A> {}
impl<A: Words> Words for RetireBatch<A> {}
impl<A: Words> Words for FragmentKey<A> {}
impl<A: Words> Words for UntrustedSet<A> {}
impl<A: Words> Words for ReverseKey<A> {}
impl<A: Words> Words for Reverse<A> {}
impl<A: Words> Words for WayKey<A> {}
impl<A: Words> Words for WayCounters<A> {}
impl<A: Words> Words for SnatRange<A> {}
impl<A: Words> Words for PublicIp<A> {}
impl Words for Way {}
impl Words for Position {}
impl Words for Fragments {}
impl Words for PerCpu {}
impl Words for VlanKey {}
impl Words for Owner {}
impl Words for PortKey {}
impl Words for PortPrefix {}
impl Words for Bound {}
impl Words for Rule {}
impl Words for RuleCounters {}
impl Words for Interface {}
impl Words for Settings {}
impl Words for Trial {}

/// `BPF_F_INNER_MAP`: arrays in one array of maps may have different lengths.
const ANY_LENGTH: u32 = 0x1000;

type Table<K, V> = HashTable<MapData, Raw<K>, Raw<V>>;

/// All maps.
pub(super) struct Maps {
    settings: Array<MapData, Raw<Settings>>,
    ports: Table<PortKey, Bound>,
    port_ranges: LpmTrie<MapData, Raw<PortPrefix>, Raw<Bound>>,
    bindings: Array<MapData, Raw<Rule>>,
    rings: ArrayOfMaps<MapData, Array<MapData, u32>>,
    spreads: ArrayOfMaps<MapData, Array<MapData, u32>>,
    interfaces: Array<MapData, Raw<Interface>>,
    interface_slots: HashTable<MapData, u32, u32>,
    vlans: HashTable<MapData, Raw<VlanKey>, u32>,
    tx_ports: DevMap<MapData>,
    per_cpu: PerCpuArray<MapData, Raw<PerCpu>>,
    occupied: Array<MapData, u64>,
    sources: Array<MapData, u64>,
    positions: Array<MapData, Raw<Position>>,
    filter: Array<MapData, u64>,
    trials: Array<MapData, Raw<Trial>>,
    clocks: Array<MapData, [u64; 2]>,
    reasons: PerCpuArray<MapData, u64>,
    rule_counters: PerCpuArray<MapData, Raw<RuleCounters>>,
    pub(super) v4: FamilyMaps<V4>,
    pub(super) v6: FamilyMaps<V6>,
    /// Rings that were filled before, by content: filling one takes longer than a case.
    ring_maps: HashMap<Arc<[u32]>, Array<MapData, u32>>,
    /// What stands under each ring id.
    placed_rings: BTreeMap<u32, Arc<[u32]>>,
    filter_words: BTreeMap<u32, u64>,
    /// Rules of the world and of those before it: their counters may have moved.
    rule_ids: BTreeSet<u32>,
    written: World,
}

/// Takes a map out of the loaded object.
fn take<M: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &str) -> Result<M> {
    let map = ebpf
        .take_map(name)
        .with_context(|| format!("the object has no map {name}"))?;
    M::try_from(map).with_context(|| format!("map {name} has another shape"))
}

/// Makes the changes that turn `old` into `new`.
fn change<K: Ord, V: PartialEq>(
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
    mut put: impl FnMut(&K, &V) -> Result<(), MapError>,
    mut remove: impl FnMut(&K) -> Result<(), MapError>,
) -> Result<(), MapError> {
    for key in old.keys().filter(|key| !new.contains_key(key)) {
        remove(key)?;
    }
    for (key, value) in new {
        if old.get(key) != Some(value) {
            put(key, value)?;
        }
    }
    Ok(())
}

/// The tables that flows move to, and what says that they do.
pub(super) struct NewTables {
    v4: Table<FlowKey<V4>, Flow<V4>>,
    v6: Table<FlowKey<V6>, Flow<V6>>,
    moving: Array<MapData, u32>,
}

impl NewTables {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self> {
        Ok(Self {
            v4: take(ebpf, names::FLOWS4)?,
            v6: take(ebpf, names::FLOWS6)?,
            moving: take(ebpf, names::MOVING)?,
        })
    }

    /// Their entries.
    pub(super) fn read(&self) -> Result<Flows, MapError> {
        fn all<A: Words>(
            table: &Table<FlowKey<A>, Flow<A>>,
        ) -> Result<BTreeMap<FlowKey<A>, Flow<A>>, MapError>
        where
            FlowKey<A>: Ord,
        {
            let entries = table.iter();
            let plain = entries.map(|entry| entry.map(|(Raw(key), Raw(flow))| (key, flow)));
            plain.collect()
        }
        Ok(Flows {
            v4: all(&self.v4)?,
            v6: all(&self.v6)?,
            ..Flows::default()
        })
    }

    pub(super) fn set_moving(&mut self, moving: bool) -> Result<(), MapError> {
        self.moving.set(0, u32::from(moving), 0)
    }
}

impl Maps {
    /// Takes the maps out of the loaded object; all are empty. `former`: with the tables that flows move from
    /// in the place of the flow tables.
    pub(super) fn take(ebpf: &mut Ebpf, former: bool) -> Result<Self> {
        let [flows4, flows6] = if former {
            [names::FORMER_FLOWS4, names::FORMER_FLOWS6]
        } else {
            [names::FLOWS4, names::FLOWS6]
        };
        let v4 = [
            flows4,
            names::ADDRESSES4,
            names::BACKENDS4,
            names::VIRTUAL_NETWORK4,
            names::RETIRE4,
            names::FRAGMENTS4,
            names::UNTRUSTED4,
            names::REVERSE4,
            names::WAYS4,
            names::WAY_COUNTERS4,
            names::SNAT_RANGES4,
            names::PUBLIC_IPS4,
        ];
        let v6 = [
            flows6,
            names::ADDRESSES6,
            names::BACKENDS6,
            names::VIRTUAL_NETWORK6,
            names::RETIRE6,
            names::FRAGMENTS6,
            names::UNTRUSTED6,
            names::REVERSE6,
            names::WAYS6,
            names::WAY_COUNTERS6,
            names::SNAT_RANGES6,
            names::PUBLIC_IPS6,
        ];
        let mut empty = World::unconfigured();
        empty.interfaces.clear();
        let mut maps = Self {
            settings: take(ebpf, names::SETTINGS)?,
            ports: take(ebpf, names::PORTS)?,
            port_ranges: take(ebpf, names::PORT_RANGES)?,
            bindings: take(ebpf, names::BINDINGS)?,
            rings: take(ebpf, names::RINGS)?,
            spreads: take(ebpf, names::SPREADS)?,
            interfaces: take(ebpf, names::INTERFACES)?,
            interface_slots: take(ebpf, names::INTERFACE_SLOTS)?,
            vlans: take(ebpf, names::VLANS)?,
            tx_ports: take(ebpf, names::TX_PORTS)?,
            per_cpu: take(ebpf, names::PER_CPU)?,
            occupied: take(ebpf, names::OCCUPIED)?,
            sources: take(ebpf, names::SOURCES)?,
            positions: take(ebpf, names::POSITIONS)?,
            filter: take(ebpf, names::ADDRESS_FILTER)?,
            trials: take(ebpf, names::TRIALS)?,
            clocks: take(ebpf, names::CLOCKS)?,
            reasons: take(ebpf, names::REASONS)?,
            rule_counters: take(ebpf, names::RULE_COUNTERS)?,
            v4: FamilyMaps::take(ebpf, v4)?,
            v6: FamilyMaps::take(ebpf, v6)?,
            ring_maps: HashMap::new(),
            placed_rings: BTreeMap::new(),
            filter_words: BTreeMap::new(),
            rule_ids: BTreeSet::new(),
            written: empty,
        };
        maps.configure(&World::unconfigured())?;
        Ok(maps)
    }

    /// Writes a world: configuration, flows, counters at zero.
    pub(super) fn load(&mut self, world: &World) -> Result<()> {
        let cpus = aya::util::nr_cpus().map_err(|(_, error)| error)?;
        for rule in std::mem::take(&mut self.rule_ids).range(..MAX_RULES) {
            let zero = PerCpuValues::try_from(vec![Raw(RuleCounters::default()); cpus])?;
            self.rule_counters.set(*rule, zero, 0)?;
        }
        self.configure(world)?;
        for (place, trial) in &world.trials {
            self.trials.set(*place, Raw(*trial), 0)?;
        }
        self.v4.refill(&world.v4.flows)?;
        self.v6.refill(&world.v6.flows)?;
        for (index, count) in [world.v4.flows.len(), world.v6.flows.len()]
            .iter()
            .enumerate()
        {
            self.occupied.set(index as u32, *count as u64, 0)?;
        }
        self.v4.forget_fragments()?;
        self.v6.forget_fragments()?;
        self.v4.forget_untrusted()?;
        self.v6.forget_untrusted()?;
        let nowhere = Raw(Position::default());
        (0..UNTRUSTED_SETS).try_for_each(|place| self.positions.set(place, nowhere, 0))?;
        self.v4.forget_outbound(&world.v4)?;
        self.v6.forget_outbound(&world.v6)?;
        if world
            .settings
            .is_some_and(|settings| settings.new_flow_cost != 0)
        {
            (0..SOURCES).try_for_each(|place| self.sources.set(place, 0, 0))?;
        }
        let nothing = PerCpuValues::try_from(vec![Raw(PerCpu::default()); cpus])?;
        self.per_cpu.set(0, nothing, 0)?;
        Ok(())
    }

    /// Writes everything of a world but flows and counters.
    pub(super) fn configure(&mut self, world: &World) -> Result<()> {
        let old = std::mem::replace(&mut self.written, world.clone());
        self.rule_ids
            .extend(world.bindings().rules.values().map(|rule| rule.id));
        let ways = world.v4.ways.values().chain(world.v6.ways.values());
        // Packets of public IPs count for no rule.
        self.rule_ids.extend(ways.map(|way| way.rule).chain([0]));
        self.rule_ids
            .extend(world.v4.flows.values().map(|flow| flow.rule));
        self.rule_ids
            .extend(world.v6.flows.values().map(|flow| flow.rule));
        if old.settings != world.settings {
            self.set_settings(world.settings)?;
        }
        self.set_bindings(&old, world)?;
        self.set_rings(world)?;
        self.set_interfaces(&old.interfaces, &world.interfaces)?;
        self.v4.configure(&old.v4, &world.v4)?;
        self.v6.configure(&old.v6, &world.v6)?;
        self.set_filter(world)?;
        let trials = std::cell::RefCell::new(&mut self.trials);
        change(
            &old.trials,
            &world.trials,
            |place, trial| trials.borrow_mut().set(*place, Raw(*trial), 0),
            |place| trials.borrow_mut().set(*place, Raw(Trial::default()), 0),
        )?;
        Ok(())
    }

    /// The trials that the world began with, as they are now.
    pub(super) fn trials(&self) -> Result<BTreeMap<u32, Trial>, MapError> {
        let read = |place: &u32| Ok((*place, self.trials.get(place, 0)?.0));
        self.written.trials.keys().map(read).collect()
    }

    fn set_bindings(&mut self, old: &World, world: &World) -> Result<()> {
        let (before, after) = (old.bindings(), world.bindings());
        let bindings = std::cell::RefCell::new(&mut self.bindings);
        change(
            &before.rules,
            &after.rules,
            |id, rule| bindings.borrow_mut().set(*id, Raw(*rule), 0),
            |id| bindings.borrow_mut().set(*id, Raw(Rule::default()), 0),
        )?;
        let ports = std::cell::RefCell::new(&mut self.ports);
        change(
            &before.ports,
            &after.ports,
            |key, bound| ports.borrow_mut().insert(Raw(*key), Raw(*bound), 0),
            |key| ports.borrow_mut().remove(&Raw(*key)),
        )?;
        let ranges = std::cell::RefCell::new(&mut self.port_ranges);
        let prefix = |(key, bits): &(PortKey, u32)| {
            Key::new(PortPrefix::FIXED_BITS + bits, Raw(PortPrefix::of(*key)))
        };
        change(
            &before.ranges,
            &after.ranges,
            |range, bound| ranges.borrow_mut().insert(&prefix(range), Raw(*bound), 0),
            |range| ranges.borrow_mut().remove(&prefix(range)),
        )?;
        for id in old
            .spreads
            .keys()
            .filter(|id| !world.spreads.contains_key(id))
        {
            self.set_spread(*id, &[0])?;
        }
        for (id, places) in &world.spreads {
            if old.spreads.get(id) != Some(places) {
                self.set_spread(*id, places)?;
            }
        }
        Ok(())
    }

    fn set_spread(&mut self, id: u32, places: &[u32]) -> Result<()> {
        let mut map = Array::create(places.len() as u32, ANY_LENGTH)?;
        for (place, backend) in places.iter().enumerate() {
            map.set(place as u32, *backend, 0)?;
        }
        self.spreads.set(id, &map, 0)?;
        Ok(())
    }

    /// The settings.
    pub(super) fn settings(&self) -> Settings {
        self.written.settings.unwrap_or_default()
    }

    /// Entries that the program has counted in the flow tables.
    pub(super) fn occupied(&self) -> Result<[u64; 2], MapError> {
        Ok([self.occupied.get(&0, 0)?, self.occupied.get(&1, 0)?])
    }

    /// Sets the time in the settings.
    pub(super) fn set_now(&mut self, now: u64) -> Result<()> {
        if let Some(settings) = &mut self.written.settings {
            settings.test_now = now;
        }
        self.set_settings(self.written.settings)
    }

    fn set_settings(&mut self, settings: Option<Settings>) -> Result<()> {
        self.settings.set(0, Raw(settings.unwrap_or_default()), 0)?;
        Ok(())
    }

    /// Puts the rings of a world in their places, and nobody where a rule asks for a ring that the
    /// world has not. Other places keep what they have: every change waits for all CPUs.
    fn set_rings(&mut self, world: &World) -> Result<()> {
        for (id, ring) in &world.rings {
            let placed = self.placed_rings.get(id);
            if placed.is_none_or(|placed| !Arc::ptr_eq(placed, ring)) {
                self.set_ring(*id, ring)?;
            }
        }
        let rules = world.bindings().rules;
        for target in rules.values().flat_map(|rule| rule.targets) {
            let is_left_over = self.placed_rings.contains_key(&target);
            if is_left_over && !world.rings.contains_key(&target) {
                self.set_ring(target, &vec![0; RING_SIZE as usize].into())?;
            }
        }
        Ok(())
    }

    fn set_ring(&mut self, id: u32, ring: &Arc<[u32]>) -> Result<()> {
        if !self.ring_maps.contains_key(ring) {
            let mut map = Array::create(RING_SIZE, 0)?;
            for (slot, backend) in ring.iter().enumerate() {
                map.set(slot as u32, *backend, 0)?;
            }
            self.ring_maps.insert(Arc::clone(ring), map);
        }
        self.rings.set(id, &self.ring_maps[ring], 0)?;
        self.placed_rings.insert(id, Arc::clone(ring));
        Ok(())
    }

    fn set_interfaces(
        &mut self,
        old: &BTreeMap<u32, Interface>,
        new: &BTreeMap<u32, Interface>,
    ) -> Result<()> {
        for (slot, interface) in old {
            if new.get(slot) != Some(interface) {
                self.interfaces.set(*slot, Raw(Interface::default()), 0)?;
                self.interface_slots.remove(&interface.ifindex)?;
                if let Some(key) = interface.vlan_key() {
                    self.vlans.remove(&Raw(key))?;
                }
            }
        }
        for (slot, interface) in new {
            if old.get(slot) != Some(interface) {
                self.interfaces.set(*slot, Raw(*interface), 0)?;
                self.interface_slots.insert(interface.ifindex, slot, 0)?;
                self.tx_ports.set(*slot, interface.nic, None, 0)?;
                if let Some(key) = interface.vlan_key() {
                    self.vlans.insert(Raw(key), slot, 0)?;
                }
            }
        }
        Ok(())
    }

    fn set_filter(&mut self, world: &World) -> Result<(), MapError> {
        let mut words = BTreeMap::<u32, u64>::new();
        let v4 = world
            .v4
            .addresses
            .keys()
            .map(|address| filter::bit(*address));
        let v6 = world
            .v6
            .addresses
            .keys()
            .map(|address| filter::bit(*address));
        for (word, mask) in v4.chain(v6) {
            *words.entry(word).or_default() |= mask;
        }
        let filter = std::cell::RefCell::new(&mut self.filter);
        change(
            &self.filter_words,
            &words,
            |word, bits| filter.borrow_mut().set(*word, bits, 0),
            |word| filter.borrow_mut().set(*word, 0, 0),
        )?;
        self.filter_words = words;
        Ok(())
    }

    /// What the clock program has written.
    pub(super) fn clocks(&self) -> Result<[u64; 2], MapError> {
        self.clocks.get(&0, 0)
    }

    /// Packets counted under each reason, over all CPUs.
    pub(super) fn reasons(&self) -> Result<BTreeMap<Reason, u64>, MapError> {
        let total = |reason: &Reason| {
            let values = self.reasons.get(&(*reason as u32), 0)?;
            Ok((*reason, values.iter().sum()))
        };
        Reason::ALL.iter().map(total).collect()
    }

    /// Counters of the rules of the world, over all CPUs.
    pub(super) fn rule_counters(&self) -> Result<BTreeMap<u32, RuleCounters>, MapError> {
        let mut totals = BTreeMap::new();
        for rule in self.rule_ids.range(..MAX_RULES) {
            let values = self.rule_counters.get(rule, 0)?;
            let mut total = RuleCounters::default();
            for Raw(counters) in values.iter() {
                total.new_flows += counters.new_flows;
                total.packets_to_instance += counters.packets_to_instance;
                total.bytes_to_instance += counters.bytes_to_instance;
                total.packets_from_instance += counters.packets_from_instance;
                total.bytes_from_instance += counters.bytes_from_instance;
            }
            if total != RuleCounters::default() {
                totals.insert(*rule, total);
            }
        }
        Ok(totals)
    }
}
