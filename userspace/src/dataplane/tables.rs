//! The tables that the daemon writes: a [`Change`] becomes map calls, and maps become a [`TableState`].

use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result, bail};
use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::xdp::DevMap;
use aya::maps::{Array, ArrayOfMaps, HashMap, Map, MapData, MapError};
use forebay_common::abi::{
    Backend, Interface, MAX_INTERFACES, Owner, RING_SIZE, Rule, RuleKey, Settings, VlanKey, names,
};
use forebay_common::balance::{RingMember, build_ring};
use forebay_common::family::{Family, V4, V6};

use super::object;
use super::sys::{self, Plain, Pod};
use crate::control_plane::{Change, FamilyChange, FamilyState, Ring, TableState, vlan_key};

type Table<K, V> = HashMap<MapData, Pod<K>, Pod<V>>;

struct FamilyMaps<A: Plain>
where
    Backend<A>: Plain,
{
    addresses: Table<A, Owner>,
    backends: Array<MapData, Pod<Backend<A>>>,
    backends_map: OwnedFd,
    virtual_network: LpmTrie<MapData, Pod<A>, u32>,
}

/// Members that one system call reads.
const PAGE: usize = 8192;

/// Handles of the tables, taken once.
pub(super) struct Tables {
    settings: Array<MapData, Pod<Settings>>,
    address_filter: Array<MapData, u64>,
    v4: FamilyMaps<V4>,
    v6: FamilyMaps<V6>,
    rules: Table<RuleKey, Rule>,
    rings: ArrayOfMaps<MapData, Array<MapData, u32>>,
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
            },
            v6: FamilyMaps {
                addresses: typed(object, names::ADDRESSES6)?,
                backends_map: descriptor(object, names::BACKENDS6)?,
                backends: typed(object, names::BACKENDS6)?,
                virtual_network: typed(object, names::VIRTUAL_NETWORK6)?,
            },
            rules: typed(object, names::RULES)?,
            rings: typed(object, names::RINGS)?,
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
            Change::Rule(key, Some(rule)) => self
                .rules
                .insert(Pod(*key), Pod(*rule), 0)
                .context("write a rule"),
            Change::Rule(key, None) => gone(self.rules.remove(&Pod(*key))).context("remove a rule"),
            // The counters have a handle of their own.
            Change::ResetCounters(_) => Ok(()),
            Change::Ring(id, members) => self.set_ring(*id, members.as_deref().unwrap_or_default()),
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
        for item in self.rules.iter() {
            let (key, rule) = item.context("read the rules")?;
            state.rules.insert(key.0, rule.0);
            state.rings.insert(rule.0.ring, Ring::Unknown);
        }
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
}

impl<A: Plain + Family + Ord> FamilyMaps<A>
where
    Backend<A>: Plain,
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
        }
    }

    fn read(&self, state: &mut FamilyState<A>) -> Result<()> {
        for item in self.addresses.iter() {
            let (address, owner) = item.context("read the addresses")?;
            state.addresses.insert(address.0, owner.0);
        }
        let mut cursor = sys::Cursor::default();
        let mut ids = vec![0_u32; PAGE];
        let mut backends = vec![Backend::<A>::default(); PAGE];
        while !cursor.finished {
            let map = self.backends_map.as_fd();
            let count = sys::lookup_batch(map, &mut cursor, &mut ids, &mut backends)
                .context("read the members")?;
            let found = ids.iter().zip(&backends).take(count);
            let set = found.filter(|(_, backend)| backend.address != A::default());
            state
                .backends
                .extend(set.map(|(id, backend)| (*id, backend.address)));
        }
        for key in self.virtual_network.keys() {
            let key = key.context("read the virtual networks")?;
            state
                .virtual_network
                .insert((key.prefix_len(), key.data().0));
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
