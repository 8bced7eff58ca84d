//! The model's tables as the daemon has them: written change by change, and read back by the next daemon.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::Hash;

use forebay::control_plane::{Change, FamilyChange, FamilyState, Ring, TableState};
use forebay_common::abi::{Backend, PublicIp, Rule};
use forebay_common::balance::{RingMember, build_ring};
use forebay_common::model::{FamilyModel, ModelTables};
use forebay_tests::network::Side;

thread_local! {
    /// Rings by what they were built from: building one takes longer than all the rest of a reload.
    static BUILT: RefCell<HashMap<String, Vec<u32>>> = RefCell::default();
}

/// Rings that are kept.
const KEPT: usize = 400;

/// The tables.
#[derive(Default)]
pub(crate) struct Written {
    pub(crate) model: ModelTables,
}

fn ring_of(members: &[RingMember]) -> Vec<u32> {
    BUILT.with_borrow_mut(|built| {
        if built.len() == KEPT {
            built.clear();
        }
        let found = built.entry(format!("{members:?}"));
        found.or_insert_with(|| build_ring(members)).clone()
    })
}

fn put<K: Eq + Hash, V>(map: &mut HashMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => drop(map.insert(key, value)),
        None => drop(map.remove(&key)),
    }
}

impl Written {
    /// Makes one write.
    pub(crate) fn write(&mut self, change: &Change) {
        let tables = &mut self.model;
        match change {
            Change::V4(change) => write_family(&mut tables.v4, change),
            Change::V6(change) => write_family(&mut tables.v6, change),
            Change::ResetCounters(id) => drop(tables.rule_counters.borrow_mut().remove(id)),
            Change::Port(key, bound) => put(&mut tables.ports, *key, *bound),
            Change::PortRange(range, bound) => put(&mut tables.port_ranges, *range, *bound),
            Change::Binding(id, rule) => drop(tables.bindings.insert(*id, *rule)),
            Change::Spread(id, places) => put(&mut tables.spreads, *id, places.clone()),
            Change::Ring(id, members) => {
                let ring = members.as_deref().map(ring_of);
                put(&mut tables.rings, *id, ring);
            }
            Change::Interface(slot, interface) => put(&mut tables.interfaces, *slot, *interface),
            Change::Settings(settings) => tables.settings = Some(*settings),
            Change::AddressFilter(word, bits) => tables.set_address_filter(*word, *bits),
        }
    }

    /// What a new daemon finds.
    pub(crate) fn read(&self) -> TableState {
        let tables = &self.model;
        let mut state = TableState {
            settings: tables.settings.unwrap_or_default(),
            v4: read_family(&tables.v4),
            v6: read_family(&tables.v6),
            ports: tables.ports.iter().map(|(k, v)| (*k, *v)).collect(),
            port_ranges: tables.port_ranges.iter().map(|(k, v)| (*k, *v)).collect(),
            interfaces: tables.interfaces.iter().map(|(k, v)| (*k, *v)).collect(),
            ..TableState::default()
        };
        for (id, rule) in tables.bindings.iter().filter(|(_, rule)| rule.is_active()) {
            state.bindings.insert(*id, *rule);
            for target in rule.targets.into_iter().filter(|target| *target != 0) {
                match rule.way {
                    Rule::RING => drop(state.rings.insert(target, Ring::Unknown)),
                    Rule::SPREAD => drop(state.spreads.insert(target, None)),
                    _ => {}
                }
            }
        }
        state
    }

    /// Whether the tables hold what the control plane takes them to hold.
    pub(crate) fn check(&self, applied: &TableState) -> Result<(), String> {
        let mut found = self.read();
        for (id, ring) in &applied.rings {
            let Ring::Members(members) = ring else {
                return Err(format!("ring {id} was not written anew"));
            };
            let built = ring_of(members);
            if self.model.rings.get(id) != Some(&built) {
                return Err(format!("ring {id} is not that of {members:?}"));
            }
        }
        for (id, places) in &applied.spreads {
            if self.model.spreads.get(id) != places.as_ref() {
                return Err(format!("spread {id} is not {places:?}"));
            }
        }
        for (word, bits) in applied.address_filter() {
            use forebay_common::tables::Shared;
            if self.model.address_filter(word) & bits != bits {
                return Err(format!(
                    "word {word} of the address filter lacks bits of {bits:#x}"
                ));
            }
        }
        found.rings.clone_from(&applied.rings);
        found.spreads.clone_from(&applied.spreads);
        if found == *applied {
            return Ok(());
        }
        Err(format!(
            "the tables are not what was wanted\nfound: {found:?}\nwanted: {applied:?}"
        ))
    }
}

fn write_family<A: Side>(model: &mut FamilyModel<A>, change: &FamilyChange<A>) {
    match change {
        FamilyChange::Address(address, owner) => put(&mut model.addresses, *address, *owner),
        FamilyChange::Backend(id, address) => {
            let backend = address.map(|address| Backend { address });
            put(&mut model.backends, *id, backend);
        }
        FamilyChange::VirtualNetwork(length, prefix, is_there) => {
            model
                .virtual_network
                .retain(|net| *net != (*prefix, *length));
            if *is_there {
                model.virtual_network.push((*prefix, *length));
            }
        }
        FamilyChange::Way(key, way) => put(&mut model.ways, *key, *way),
        FamilyChange::SnatRange(number, range) => put(&mut model.snat_ranges, *number, *range),
        FamilyChange::PublicIp(address, other) => {
            let public = other.map(|other| PublicIp {
                other,
                ..PublicIp::default()
            });
            put(&mut model.public_ips, *address, public);
        }
        FamilyChange::Reverse((address, first, bits), reverse) => {
            let last = first | u16::MAX.checked_shr(*bits).unwrap_or(0);
            let stretch = (*address, *first, last);
            model.reverse.retain(|(a, f, l, _)| (*a, *f, *l) != stretch);
            if let Some(reverse) = reverse {
                model.reverse.push((*address, *first, last, *reverse));
                // The longest prefix counts.
                model
                    .reverse
                    .sort_by_key(|(_, first, last, _)| last - first);
            }
        }
    }
}

fn read_family<A: Side>(model: &FamilyModel<A>) -> FamilyState<A> {
    let reverse = model.reverse.iter().map(|(address, first, last, reverse)| {
        let bits = (last - first).leading_zeros();
        ((*address, *first, bits), *reverse)
    });
    FamilyState {
        addresses: model.addresses.iter().map(|(k, v)| (*k, *v)).collect(),
        backends: model
            .backends
            .iter()
            .map(|(k, v)| (*k, v.address))
            .collect(),
        virtual_network: (model.virtual_network.iter().map(|(p, l)| (*l, *p))).collect(),
        reverse: reverse.collect(),
        ways: model.ways.iter().map(|(k, v)| (*k, *v)).collect(),
        snat_ranges: model.snat_ranges.iter().map(|(k, v)| (*k, *v)).collect(),
        public_ips: (model.public_ips.iter().map(|(k, v)| (*k, v.other))).collect(),
    }
}
