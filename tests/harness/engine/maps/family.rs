//! The maps of one family.

use std::collections::BTreeMap;

use anyhow::Result;
use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, MapData, MapError};
use forebay_common::abi::{
    Backend, FragmentKey, Fragments, Owner, PublicIp, RETIRE_BATCH, RetireBatch, Reverse,
    ReverseKey, Settings, SnatRange, Way, WayCounters, WayKey,
};
use forebay_common::flow::{Flow, FlowKey, Place, UntrustedSet};
use forebay_common::model::UNTRUSTED_SETS;
use forebay_common::ports;

use super::{Raw, Table, Words, change, take};
use crate::engine::Retire;
use crate::network::Side;
use crate::world::{Entries, FamilyWorld};

/// Maps of one family.
pub(in crate::engine) struct FamilyMaps<A: Side + Words> {
    pub(in crate::engine) flows: Table<FlowKey<A>, Flow<A>>,
    addresses: Table<A, Owner>,
    backends: Array<MapData, Raw<Backend<A>>>,
    virtual_network: LpmTrie<MapData, Raw<A>, u32>,
    retire: Array<MapData, Raw<RetireBatch<A>>>,
    fragments: Table<FragmentKey<A>, Fragments>,
    untrusted: Array<MapData, Raw<UntrustedSet<A>>>,
    reverse: LpmTrie<MapData, Raw<ReverseKey<A>>, Raw<Reverse<A>>>,
    ways: Table<WayKey<A>, Way>,
    way_counters: Table<WayKey<A>, WayCounters<A>>,
    snat_ranges: Array<MapData, Raw<SnatRange<A>>>,
    public_ips: Table<A, PublicIp<A>>,
}

/// The keys of a stretch of ports in the trie of replies.
fn reverse_keys<A: Side + Words>(
    (address, first, last): &(A, u16, u16),
) -> impl Iterator<Item = Key<Raw<ReverseKey<A>>>> {
    let bits = ReverseKey::<A>::BITS - u16::BITS;
    ports::prefixes(*first..=*last)
        .map(move |(port, length)| Key::new(bits + length, Raw(ReverseKey::new(*address, port))))
}

impl<A: Side + Words> FamilyMaps<A> {
    pub(super) fn take(ebpf: &mut Ebpf, names: [&str; 12]) -> Result<Self> {
        let [
            flows,
            addresses,
            backends,
            networks,
            retire,
            fragments,
            untrusted,
            reverse,
            ways,
            way_counters,
            snat_ranges,
            public_ips,
        ] = names;
        Ok(Self {
            flows: take(ebpf, flows)?,
            addresses: take(ebpf, addresses)?,
            backends: take(ebpf, backends)?,
            virtual_network: take(ebpf, networks)?,
            retire: take(ebpf, retire)?,
            fragments: take(ebpf, fragments)?,
            untrusted: take(ebpf, untrusted)?,
            reverse: take(ebpf, reverse)?,
            ways: take(ebpf, ways)?,
            way_counters: take(ebpf, way_counters)?,
            snat_ranges: take(ebpf, snat_ranges)?,
            public_ips: take(ebpf, public_ips)?,
        })
    }

    pub(super) fn configure(
        &mut self,
        old: &FamilyWorld<A>,
        new: &FamilyWorld<A>,
    ) -> Result<(), MapError> {
        let addresses = std::cell::RefCell::new(&mut self.addresses);
        change(
            &old.addresses,
            &new.addresses,
            |address, owner| addresses.borrow_mut().insert(Raw(*address), Raw(*owner), 0),
            |address| addresses.borrow_mut().remove(&Raw(*address)),
        )?;
        let backends = std::cell::RefCell::new(&mut self.backends);
        let set = |id: &u32, address: A| {
            let backend = Raw(Backend { address });
            backends.borrow_mut().set(*id, backend, 0)
        };
        change(
            &old.backends,
            &new.backends,
            |id, address| set(id, *address),
            |id| set(id, A::default()),
        )?;
        for (address, length) in old.virtual_network.difference(&new.virtual_network) {
            self.virtual_network
                .remove(&Key::new(*length, Raw(*address)))?;
        }
        for (address, length) in new.virtual_network.difference(&old.virtual_network) {
            self.virtual_network
                .insert(&Key::new(*length, Raw(*address)), 1, 0)?;
        }
        let trie = std::cell::RefCell::new(&mut self.reverse);
        change(
            &old.reverse,
            &new.reverse,
            |stretch, reverse| {
                let mut keys = reverse_keys(stretch);
                keys.try_for_each(|key| trie.borrow_mut().insert(&key, Raw(*reverse), 0))
            },
            |stretch| reverse_keys(stretch).try_for_each(|key| trie.borrow_mut().remove(&key)),
        )?;
        self.configure_outbound(old, new)
    }

    fn configure_outbound(
        &mut self,
        old: &FamilyWorld<A>,
        new: &FamilyWorld<A>,
    ) -> Result<(), MapError> {
        let ways = std::cell::RefCell::new((&mut self.ways, &mut self.way_counters));
        change(
            &old.ways,
            &new.ways,
            |key, way| {
                let (ways, counters) = &mut *ways.borrow_mut();
                ways.insert(Raw(*key), Raw(*way), 0)?;
                counters.insert(Raw(*key), Raw(WayCounters::default()), 0)
            },
            |key| {
                let (ways, counters) = &mut *ways.borrow_mut();
                ways.remove(&Raw(*key))?;
                counters.remove(&Raw(*key))
            },
        )?;
        let ranges = std::cell::RefCell::new(&mut self.snat_ranges);
        let set = |number: &u32, range| ranges.borrow_mut().set(*number, Raw(range), 0);
        change(
            &old.snat_ranges,
            &new.snat_ranges,
            |number, range| set(number, *range),
            |number| set(number, SnatRange::default()),
        )?;
        let public_ips = std::cell::RefCell::new(&mut self.public_ips);
        change(
            &old.public_ips,
            &new.public_ips,
            |address, other| {
                let public = PublicIp {
                    other: *other,
                    ..PublicIp::default()
                };
                public_ips
                    .borrow_mut()
                    .insert(Raw(*address), Raw(public), 0)
            },
            |address| public_ips.borrow_mut().remove(&Raw(*address)),
        )
    }

    /// Sets what came of new flows back to nothing, and forgets the ways to public IPs.
    pub(super) fn forget_outbound(&mut self, world: &FamilyWorld<A>) -> Result<(), MapError> {
        for key in world.ways.keys() {
            let nothing = Raw(WayCounters::default());
            self.way_counters.insert(Raw(*key), nothing, 0)?;
        }
        for (address, other) in &world.public_ips {
            let public = PublicIp {
                other: *other,
                ..PublicIp::default()
            };
            self.public_ips.insert(Raw(*address), Raw(public), 0)?;
        }
        Ok(())
    }

    /// Every untrusted flow entry that is found with these settings.
    pub(in crate::engine) fn untrusted(&self, settings: &Settings) -> Result<Entries<A>, MapError> {
        let mut found = Entries::new();
        for number in 0..UNTRUSTED_SETS {
            let Raw(set) = self.untrusted.get(&number, 0)?;
            let place = |key| Place::of(settings.hash_key, key).set(settings.untrusted_mask);
            let is_found = |key| place(key) == number;
            let entries = set.entries().filter(|entry| is_found(&entry.key));
            found.extend(entries.map(|entry| (entry.key, *entry)));
        }
        Ok(found)
    }

    /// The untrusted flow entries under some keys, as far as they are there.
    pub(in crate::engine) fn look_up_untrusted(
        &self,
        settings: &Settings,
        keys: &[FlowKey<A>],
    ) -> Result<Entries<A>, MapError> {
        let mut found = Entries::new();
        for key in keys {
            let number = Place::of(settings.hash_key, key).set(settings.untrusted_mask);
            let Raw(set) = self.untrusted.get(&number, 0)?;
            let of_key = set.entries().filter(|entry| entry.key == *key);
            found.extend(of_key.map(|entry| (entry.key, *entry)));
        }
        Ok(found)
    }

    /// Forgets all untrusted flows.
    pub(super) fn forget_untrusted(&mut self) -> Result<(), MapError> {
        let nobody = Raw(UntrustedSet::default());
        (0..UNTRUSTED_SETS).try_for_each(|number| self.untrusted.set(number, nobody, 0))
    }

    /// Every flow entry.
    pub(in crate::engine) fn read(&self) -> Result<BTreeMap<FlowKey<A>, Flow<A>>, MapError> {
        self.flows
            .iter()
            .map(|entry| entry.map(|(key, flow)| (key.0, flow.0)))
            .collect()
    }

    /// The flow entries under some keys, as far as they are there.
    pub(in crate::engine) fn look_up(
        &self,
        keys: &[FlowKey<A>],
    ) -> Result<BTreeMap<FlowKey<A>, Flow<A>>, MapError> {
        let mut found = BTreeMap::new();
        for key in keys {
            match self.flows.get(&Raw(*key), 0) {
                Ok(Raw(flow)) => found.insert(*key, flow),
                Err(MapError::KeyNotFound) => None,
                Err(error) => return Err(error),
            };
        }
        Ok(found)
    }

    /// Forgets all packets that are under way in fragments.
    pub(super) fn forget_fragments(&mut self) -> Result<(), MapError> {
        let keys: Vec<_> = self.fragments.keys().collect::<Result<_, _>>()?;
        keys.iter().try_for_each(|key| self.fragments.remove(key))
    }

    /// Replaces all flow entries.
    pub(super) fn refill(&mut self, flows: &BTreeMap<FlowKey<A>, Flow<A>>) -> Result<(), MapError> {
        let keys: Vec<_> = self.flows.keys().collect::<Result<_, _>>()?;
        for key in keys {
            self.flows.remove(&key)?;
        }
        for (key, flow) in flows {
            self.flows.insert(Raw(*key), Raw(*flow), 0)?;
        }
        Ok(())
    }

    /// Writes down which flows a retire program is to end.
    pub(in crate::engine) fn put_batch(
        &mut self,
        step: Retire,
        keys: &[FlowKey<A>],
    ) -> Result<(), MapError> {
        let mut batch = RetireBatch {
            step: match step {
                Retire::Mark => RetireBatch::<A>::MARK,
                Retire::Remove => RetireBatch::<A>::REMOVE,
                Retire::Flush => RetireBatch::<A>::FLUSH,
                Retire::Forget => RetireBatch::<A>::FORGET,
                Retire::Carry => RetireBatch::<A>::CARRY,
            },
            count: keys.len() as u32,
            keys: [FlowKey::default(); RETIRE_BATCH],
            done: [0; RETIRE_BATCH],
        };
        batch.keys[..keys.len()].copy_from_slice(keys);
        self.retire.set(0, Raw(batch), 0)
    }

    /// For which flows of the batch a retire program did something.
    pub(in crate::engine) fn batch_done(&self) -> Result<Vec<bool>, MapError> {
        let Raw(batch) = self.retire.get(&0, 0)?;
        let done = batch.done.iter().take(batch.count as usize);
        Ok(done.map(|done| *done == 1).collect())
    }
}
