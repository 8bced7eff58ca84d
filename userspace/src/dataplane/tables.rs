//! The tables that the daemon writes: a [`Change`] becomes map calls, and maps become a [`TableState`].

use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result, bail};
use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::xdp::DevMap;
use aya::maps::{Array, ArrayOfMaps, HashMap, Map, MapData, MapError};
use forebay_common::abi::{
    Backend, Bound, Interface, MAX_INTERFACES, Owner, PortKey, PortPrefix, RING_SIZE, Reverse,
    ReverseKey, Rule, Settings, VlanKey, names,
};
use forebay_common::balance::{RingMember, build_ring};
use forebay_common::family::{Family, V4, V6};

use super::object;
use super::sys::{self, Plain, Pod};
use crate::control_plane::{
    Change, FamilyChange, FamilyState, PortRange, Ring, TableState, vlan_key,
};

type Table<K, V> = HashMap<MapData, Pod<K>, Pod<V>>;

struct FamilyMaps<A: Plain>
where
    Backend<A>: Plain,
    ReverseKey<A>: Plain,
    Reverse<A>: Plain,
{
    addresses: Table<A, Owner>,
    backends: Array<MapData, Pod<Backend<A>>>,
    backends_map: OwnedFd,
    virtual_network: LpmTrie<MapData, Pod<A>, u32>,
    reverse: LpmTrie<MapData, Pod<ReverseKey<A>>, Pod<Reverse<A>>>,
}

/// Elements of an array that one system call reads.
const PAGE: usize = 8192;

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
fn descriptor(object: &Ebpf, name: &str) -> Result<OwnedFd> {
    match object.map(name) {
        Some(Map::Array(data)) => super::raw(data),
        _ => bail!("{name} is not an array"),
    }
}

fn typed<M: TryFrom<Map, Error = MapError>>(object: &mut Ebpf, name: &str) -> Result<M> {
    M::try_from(object::map(object, name)?).with_context(|| format!("open map {name}"))
}

impl Tables {
    pub(super) fn take(object: &mut Ebpf) -> Result<Self> {
        Ok(Self {
            settings: typed(object, names::SETTINGS)?,
            address_filter: typed(object, names::ADDRESS_FILTER)?,
            v4: FamilyMaps {
                addresses: typed(object, names::ADDRESSES4)?,
                backends_map: descriptor(object, names::BACKENDS4)?,
                backends: typed(object, names::BACKENDS4)?,
                virtual_network: typed(object, names::VIRTUAL_NETWORK4)?,
                reverse: typed(object, names::REVERSE4)?,
            },
            v6: FamilyMaps {
                addresses: typed(object, names::ADDRESSES6)?,
                backends_map: descriptor(object, names::BACKENDS6)?,
                backends: typed(object, names::BACKENDS6)?,
                virtual_network: typed(object, names::VIRTUAL_NETWORK6)?,
                reverse: typed(object, names::REVERSE6)?,
            },
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

/// The key of a stretch of an instance's ports.
fn reverse_key<A: Plain>((address, port, bits): (A, u16, u32)) -> Key<Pod<ReverseKey<A>>>
where
    ReverseKey<A>: Plain,
{
    let address_bits = ReverseKey::<A>::BITS - u16::BITS;
    Key::new(address_bits + bits, Pod(ReverseKey::new(address, port)))
}

impl<A: Plain + Family + Ord> FamilyMaps<A>
where
    Backend<A>: Plain,
    ReverseKey<A>: Plain,
    Reverse<A>: Plain,
{
    fn apply(&mut self, change: &FamilyChange<A>) -> Result<()> {
        match change {
            FamilyChange::Address(address, Some(owner)) => self
                .addresses
                .insert(Pod(*address), Pod(*owner), 0)
                .context("write an address"),
            FamilyChange::Address(address, None) => {
                gone(self.addresses.remove(&Pod(*address))).context("remove an address")
            }
            FamilyChange::Backend(id, address) => {
                let backend = Backend {
                    address: address.unwrap_or_default(),
                };
                self.backends
                    .set(*id, Pod(backend), 0)
                    .context("write a member's address")
            }
            FamilyChange::VirtualNetwork(length, prefix, true) => self
                .virtual_network
                .insert(&Key::new(*length, Pod(*prefix)), 1, 0)
                .context("write a virtual network"),
            FamilyChange::VirtualNetwork(length, prefix, false) => gone(
                self.virtual_network
                    .remove(&Key::new(*length, Pod(*prefix))),
            )
            .context("remove a virtual network"),
            FamilyChange::Reverse(ports, Some(reverse)) => self
                .reverse
                .insert(&reverse_key(*ports), Pod(*reverse), 0)
                .context("write whose replies an instance's port sends"),
            FamilyChange::Reverse(ports, None) => gone(self.reverse.remove(&reverse_key(*ports)))
                .context("remove whose replies an instance's port sends"),
        }
    }

    fn read(&self, state: &mut FamilyState<A>) -> Result<()> {
        for item in self.addresses.iter() {
            let (address, owner) = item.context("read the addresses")?;
            state.addresses.insert(address.0, owner.0);
        }
        let backends = sys::read_array::<Backend<A>>(self.backends_map.as_fd(), PAGE)
            .context("read the members")?;
        let set = (backends.into_iter()).filter(|(_, backend)| backend.address != A::default());
        state
            .backends
            .extend(set.map(|(id, backend)| (id, backend.address)));
        for key in self.virtual_network.keys() {
            let key = key.context("read the virtual networks")?;
            state
                .virtual_network
                .insert((key.prefix_len(), key.data().0));
        }
        for item in self.reverse.iter() {
            let (key, reverse) = item.context("read whose replies instances' ports send")?;
            let Pod(data) = key.data();
            let bits = key.prefix_len() - (ReverseKey::<A>::BITS - u16::BITS);
            let ports = (data.address, u16::from_be(data.port), bits);
            state.reverse.insert(ports, reverse.0);
        }
        Ok(())
    }
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
fn gone(result: Result<(), MapError>) -> Result<(), MapError> {
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
