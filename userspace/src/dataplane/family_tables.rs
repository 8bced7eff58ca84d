//! The tables of one family that the daemon writes.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};
use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, MapData, MapError};
use forebay_common::abi::{
    Backend, Owner, PublicIp, Reverse, ReverseKey, SnatRange, Way, WayCounters, WayKey, names,
};
use forebay_common::family::Family;

use super::sys::{self, Plain, Pod};
use super::tables::{PAGE, Table, descriptor, gone, typed};
use crate::control_plane::{FamilyChange, FamilyState};

/// Names of the IPv4 tables, in the order in which [`FamilyMaps::take`] wants them.
pub(super) const NAMES4: [&str; 8] = [
    names::ADDRESSES4,
    names::BACKENDS4,
    names::VIRTUAL_NETWORK4,
    names::REVERSE4,
    names::WAYS4,
    names::WAY_COUNTERS4,
    names::SNAT_RANGES4,
    names::PUBLIC_IPS4,
];

/// Names of the IPv6 tables, in the same order.
pub(super) const NAMES6: [&str; 8] = [
    names::ADDRESSES6,
    names::BACKENDS6,
    names::VIRTUAL_NETWORK6,
    names::REVERSE6,
    names::WAYS6,
    names::WAY_COUNTERS6,
    names::SNAT_RANGES6,
    names::PUBLIC_IPS6,
];

/// Handles of the tables of one family.
pub(super) struct FamilyMaps<A: Family + Plain> {
    addresses: Table<A, Owner>,
    backends: Array<MapData, Pod<Backend<A>>>,
    backends_map: OwnedFd,
    virtual_network: LpmTrie<MapData, Pod<A>, u32>,
    reverse: LpmTrie<MapData, Pod<ReverseKey<A>>, Pod<Reverse<A>>>,
    ways: Table<WayKey<A>, Way>,
    way_counters: Table<WayKey<A>, WayCounters<A>>,
    snat_ranges: Array<MapData, Pod<SnatRange<A>>>,
    snat_ranges_map: OwnedFd,
    public_ips: Table<A, PublicIp<A>>,
}

/// The key of a stretch of an instance's ports.
fn reverse_key<A: Family + Plain>((address, port, bits): (A, u16, u32)) -> Key<Pod<ReverseKey<A>>> {
    let address_bits = ReverseKey::<A>::BITS - u16::BITS;
    Key::new(address_bits + bits, Pod(ReverseKey::new(address, port)))
}

impl<A: Family + Plain + Ord> FamilyMaps<A> {
    pub(super) fn take(object: &mut Ebpf, names: [&str; 8]) -> Result<Self> {
        let [
            addresses,
            backends,
            networks,
            reverse,
            ways,
            way_counters,
            snat_ranges,
            public_ips,
        ] = names;
        Ok(Self {
            addresses: typed(object, addresses)?,
            backends_map: descriptor(object, backends)?,
            backends: typed(object, backends)?,
            virtual_network: typed(object, networks)?,
            reverse: typed(object, reverse)?,
            ways: typed(object, ways)?,
            way_counters: typed(object, way_counters)?,
            snat_ranges_map: descriptor(object, snat_ranges)?,
            snat_ranges: typed(object, snat_ranges)?,
            public_ips: typed(object, public_ips)?,
        })
    }

    /// Makes one change.
    pub(super) fn apply(&mut self, change: &FamilyChange<A>) -> Result<()> {
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
            FamilyChange::Way(key, way) => self.set_way(*key, *way),
            FamilyChange::SnatRange(number, range) => self
                .snat_ranges
                .set(*number, Pod(range.unwrap_or_default()), 0)
                .context("write a range of SNAT ports"),
            FamilyChange::PublicIp(address, Some(other)) => {
                let public = PublicIp {
                    other: *other,
                    ..PublicIp::default()
                };
                (self.public_ips)
                    .insert(Pod(*address), Pod(public), 0)
                    .context("write a public IP")
            }
            FamilyChange::PublicIp(address, None) => {
                gone(self.public_ips.remove(&Pod(*address))).context("remove a public IP")
            }
        }
    }

    /// Counters are there before anybody counts, and stay while a way changes.
    fn set_way(&mut self, key: WayKey<A>, way: Option<Way>) -> Result<()> {
        let Some(way) = way else {
            gone(self.ways.remove(&Pod(key))).context("remove a way out")?;
            return gone(self.way_counters.remove(&Pod(key)))
                .context("remove the counters of a way out");
        };
        match self.way_counters.get(&Pod(key), 0) {
            Err(MapError::KeyNotFound) => self
                .way_counters
                .insert(Pod(key), Pod(WayCounters::default()), 0)
                .context("make the counters of a way out")?,
            found => drop(found.context("read the counters of a way out")?),
        }
        self.ways
            .insert(Pod(key), Pod(way), 0)
            .context("write a way out")
    }

    /// Adds what the tables hold.
    pub(super) fn read(&self, state: &mut FamilyState<A>) -> Result<()> {
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
        for item in self.ways.iter() {
            let (key, way) = item.context("read the ways out")?;
            state.ways.insert(key.0, way.0);
        }
        let ranges = sys::read_array::<SnatRange<A>>(self.snat_ranges_map.as_fd(), PAGE)
            .context("read the ranges of SNAT ports")?;
        let used = ranges.into_iter().filter(|(_, range)| range.count != 0);
        state.snat_ranges.extend(used);
        for item in self.public_ips.iter() {
            let (address, public) = item.context("read the public IPs")?;
            state.public_ips.insert(address.0, public.0.other);
        }
        Ok(())
    }
}
