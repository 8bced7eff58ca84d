//! The tables that the daemon writes: a [`Change`] becomes map calls, and maps become a [`TableState`].

use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result, bail};
use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::xdp::DevMap;
use aya::maps::{Array, ArrayOfMaps, HashMap, Map, MapData, MapError};
use forebay_common::abi::{
    Bound, Interface, MAX_INTERFACES, PortKey, PortPrefix, RING_SIZE, Rule, Settings, VlanKey,
    names,
};
use forebay_common::balance::{RingMember, build_ring};
use forebay_common::family::{V4, V6};

use super::family_tables::{FamilyMaps, NAMES4, NAMES6};
use super::object;
use super::sys::{self, Pod};
use crate::control_plane::{Change, PortRange, Ring, TableState, vlan_key};

pub(super) type Table<K, V> = HashMap<MapData, Pod<K>, Pod<V>>;

/// Elements of an array that one system call reads.
pub(super) const PAGE: usize = 8192;

/// Handles of the tables, taken once.
pub(super) struct Tables {
    settings: Array<MapData, Pod<Settings>>,
    address_filter: Array<MapData, u64>,
    v4: FamilyMaps<V4>,
    v6: FamilyMaps<V6>,
    ports: Table<PortKey, Bound>,
    port_ranges: LpmTrie<MapData, Pod<PortPrefix>, Pod<Bound>>,
    bindings: Array<MapData, Pod<Rule>>,
    bindings_map: OwnedFd,
    rings: ArrayOfMaps<MapData, Array<MapData, u32>>,
    spreads: ArrayOfMaps<MapData, Array<MapData, u32>>,
    interfaces: Array<MapData, Pod<Interface>>,
    interface_slots: HashMap<MapData, u32, u32>,
    vlans: Table<VlanKey, u32>,
    tx_ports: DevMap<MapData>,
}

/// A descriptor of a map that stays in the object.
pub(super) fn descriptor(object: &Ebpf, name: &str) -> Result<OwnedFd> {
    match object.map(name) {
        Some(Map::Array(data)) => super::raw(data),
        _ => bail!("{name} is not an array"),
    }
}

pub(super) fn typed<M: TryFrom<Map, Error = MapError>>(object: &mut Ebpf, name: &str) -> Result<M> {
    M::try_from(object::map(object, name)?).with_context(|| format!("open map {name}"))
}

impl Tables {
    pub(super) fn take(object: &mut Ebpf) -> Result<Self> {
        Ok(Self {
            settings: typed(object, names::SETTINGS)?,
            address_filter: typed(object, names::ADDRESS_FILTER)?,
            v4: FamilyMaps::take(object, NAMES4)?,
            v6: FamilyMaps::take(object, NAMES6)?,
            ports: typed(object, names::PORTS)?,
            port_ranges: typed(object, names::PORT_RANGES)?,
            bindings_map: descriptor(object, names::BINDINGS)?,
            bindings: typed(object, names::BINDINGS)?,
            rings: typed(object, names::RINGS)?,
            spreads: typed(object, names::SPREADS)?,
            interfaces: typed(object, names::INTERFACES)?,
            interface_slots: typed(object, names::INTERFACE_SLOTS)?,
            vlans: typed(object, names::VLANS)?,
            tx_ports: typed(object, names::TX_PORTS)?,
        })
    }

    /// Makes one change.
    pub(super) fn apply(&mut self, change: &Change) -> Result<()> {
        match change {
            Change::V4(change) => self.v4.apply(change),
            Change::V6(change) => self.v6.apply(change),
            Change::Port(key, Some(bound)) => self
                .ports
                .insert(Pod(*key), Pod(*bound), 0)
                .context("bind a port"),
            Change::Port(key, None) => {
                gone(self.ports.remove(&Pod(*key))).context("release a port")
            }
            Change::PortRange(range, Some(bound)) => self
                .port_ranges
                .insert(&range_key(*range), Pod(*bound), 0)
                .context("bind a range of ports"),
            Change::PortRange(range, None) => gone(self.port_ranges.remove(&range_key(*range)))
                .context("release a range of ports"),
            Change::Binding(id, rule) => self
                .bindings
                .set(*id, Pod(*rule), 0)
                .context("write a rule"),
            // The counters have a handle of their own.
            Change::ResetCounters(_) => Ok(()),
            Change::Ring(id, members) => self.set_ring(*id, members.as_deref().unwrap_or_default()),
            Change::Spread(id, places) => {
                self.set_spread(*id, places.as_deref().unwrap_or_default())
            }
            Change::Interface(slot, interface) => self.set_interface(*slot, *interface),
            Change::Settings(settings) => self
                .settings
                .set(0, Pod(*settings), 0)
                .context("write the settings"),
            Change::AddressFilter(word, bits) => self
                .address_filter
                .set(*word, bits, 0)
                .context("write the address filter"),
        }
    }

    /// A ring is filled before it is put in place, so that no packet sees half of it.
    fn set_ring(&mut self, id: u32, members: &[RingMember]) -> Result<()> {
        let map = sys::create_array(RING_SIZE).context("make a ring")?;
        sys::update_array(map.as_fd(), &build_ring(members)).context("fill a ring")?;
        let ring = Array::try_from(Map::Array(MapData::from_fd(map).context("open a ring")?))
            .context("open a ring")?;
        self.rings.set(id, &ring, 0).context("put a ring in place")
    }

    /// A spread as well.
    fn set_spread(&mut self, id: u32, places: &[u32]) -> Result<()> {
        // An array has at least one place.
        let places = if places.is_empty() { &[0] } else { places };
        let map = sys::create_array_of_any_length(places.len() as u32).context("make a spread")?;
        sys::update_array(map.as_fd(), places).context("fill a spread")?;
        let spread = Array::try_from(Map::Array(MapData::from_fd(map).context("open a spread")?))
            .context("open a spread")?;
        self.spreads
            .set(id, &spread, 0)
            .context("put a spread in place")
    }

    fn set_interface(&mut self, slot: u32, interface: Option<Interface>) -> Result<()> {
        let old = self
            .interfaces
            .get(&slot, 0)
            .context("read an interface")?
            .0;
        let new = interface.unwrap_or_default();
        let (old_key, new_key) = (vlan_key(&old), vlan_key(&new));
        if old.ifindex != 0 && old.ifindex != new.ifindex {
            remove_if(&mut self.interface_slots, old.ifindex, slot)
                .context("remove an interface's slot")?;
        }
        if let Some(key) = old_key
            && old_key != new_key
        {
            remove_if(&mut self.vlans, Pod(key), Pod(slot)).context("remove a VLAN")?;
        }
        if interface.is_none() {
            // No flow can name a slot without an interface, so its device may stay.
            return self
                .interfaces
                .set(slot, Pod(new), 0)
                .context("remove an interface");
        }
        self.tx_ports
            .set(slot, new.nic, None, 0)
            .context("write a device for redirects")?;
        self.interfaces
            .set(slot, Pod(new), 0)
            .context("write an interface")?;
        if let Some(key) = new_key {
            self.vlans
                .insert(Pod(key), Pod(slot), 0)
                .context("write a VLAN")?;
        }
        self.interface_slots
            .insert(new.ifindex, slot, 0)
            .context("write an interface's slot")
    }

    /// What the tables hold.
    pub(super) fn read(&self) -> Result<TableState> {
        let mut state = TableState {
            settings: self.settings.get(&0, 0).context("read the settings")?.0,
            ..TableState::default()
        };
        self.v4.read(&mut state.v4)?;
        self.v6.read(&mut state.v6)?;
        for item in self.ports.iter() {
            let (key, bound) = item.context("read the ports")?;
            state.ports.insert(key.0, bound.0);
        }
        for item in self.port_ranges.iter() {
            let (key, bound) = item.context("read the ranges of ports")?;
            let length = key.prefix_len().saturating_sub(PortPrefix::FIXED_BITS);
            let range = (key.data().0.key(), length);
            state.port_ranges.insert(range, bound.0);
        }
        self.read_bindings(&mut state)?;
        for slot in 1..MAX_INTERFACES {
            let interface = self
                .interfaces
                .get(&slot, 0)
                .context("read the interfaces")?
                .0;
            if interface.ifindex != 0 {
                state.interfaces.insert(slot, interface);
            }
        }
        Ok(state)
    }

    /// Active bindings, and what they are directed at.
    fn read_bindings(&self, state: &mut TableState) -> Result<()> {
        let found = sys::read_array::<Rule>(self.bindings_map.as_fd(), PAGE);
        for (id, rule) in found.context("read the rules")? {
            if !rule.is_active() {
                continue;
            }
            state.bindings.insert(id, rule);
            for target in rule.targets.into_iter().filter(|target| *target != 0) {
                match rule.way {
                    Rule::RING => drop(state.rings.insert(target, Ring::Unknown)),
                    Rule::SPREAD => drop(state.spreads.insert(target, None)),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

fn range_key((key, length): PortRange) -> Key<Pod<PortPrefix>> {
    Key::new(PortPrefix::FIXED_BITS + length, Pod(PortPrefix::of(key)))
}

/// Removes an entry that still has this value: what has replaced it stays.
fn remove_if<K: aya::Pod, V: aya::Pod + PartialEq>(
    map: &mut HashMap<MapData, K, V>,
    key: K,
    value: V,
) -> Result<(), MapError> {
    match map.get(&key, 0) {
        Ok(found) if found == value => gone(map.remove(&key)),
        Ok(_) | Err(MapError::KeyNotFound) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removing what is not there is done already.
pub(super) fn gone(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error))
            if error.io_error.raw_os_error() == Some(libc::ENOENT) =>
        {
            Ok(())
        }
        other => other,
    }
}
