//! Numbers for names: stable while a flow may hold them.
//!
//! An id that is no longer configured is *retired*, not freed: it comes back when its owner does, and
//! becomes free only after a full sweep met no flow with it. A frontend that is retired this way keeps
//! being answered for, so that its last flows can end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::net::IpAddr;

use forebay_common::abi::{
    MAX_ADDRESSES, MAX_BACKENDS, MAX_INTERFACES, MAX_RINGS, MAX_RULES, MAX_SPREADS, Owner, Rule,
};
use forebay_common::family::{V4, V6};

use super::desired::{RingKey, SpreadKey};
use super::outbound;
use super::rules::{self, Named};
use super::state::{HostInterface, TableState};
use crate::config::model::Config;

/// Censuses in a row that must not meet a retired id before it is free.
const PATIENCE: u32 = 2;

/// Censuses before the slot of an interface that is gone is free. No census tells who holds a slot; flows
/// look their next hop up again within [`super::HOP_LIFETIME`], and so many censuses take longer.
pub const SLOT_PATIENCE: u32 = 5;

/// A table cannot hold as many entries as the configuration asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoIdLeft {
    /// What there are too many of.
    pub kind: &'static str,
    /// How many there may be.
    pub limit: u32,
}

impl fmt::Display for NoIdLeft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "more than {} {} (those that still have flows count too): remove some, or wait until flows of removed ones have ended",
            self.limit, self.kind
        )
    }
}

impl std::error::Error for NoIdLeft {}

/// Ids of one kind. 0 is never given out.
#[derive(Debug, Clone)]
pub struct IdSpace<K> {
    kind: &'static str,
    limit: u32,
    ids: BTreeMap<K, u32>,
    keys: BTreeMap<u32, K>,
    /// With how many censuses in a row have not met it.
    retired: BTreeMap<K, u32>,
    free: VecDeque<u32>,
    next: u32,
}

impl<K: Ord + Clone> IdSpace<K> {
    fn new(kind: &'static str, slots: u32) -> Self {
        Self {
            kind,
            limit: slots - 1,
            ids: BTreeMap::new(),
            keys: BTreeMap::new(),
            retired: BTreeMap::new(),
            free: VecDeque::new(),
            next: 1,
        }
    }

    /// The id of a key, retired or not.
    pub fn get(&self, key: &K) -> Option<u32> {
        self.ids.get(key).copied()
    }

    /// Whose id this is.
    pub fn key_of(&self, id: u32) -> Option<&K> {
        self.keys.get(&id)
    }

    /// Keys that are no longer configured but may still have flows.
    pub fn retired(&self) -> impl Iterator<Item = &K> {
        self.retired.keys()
    }

    fn assign(&mut self, key: &K) -> Result<u32, NoIdLeft> {
        self.retired.remove(key);
        if let Some(id) = self.ids.get(key) {
            return Ok(*id);
        }
        let id = match self.free.pop_front() {
            Some(id) => id,
            None if self.next <= self.limit => {
                self.next += 1;
                self.next - 1
            }
            None => {
                return Err(NoIdLeft {
                    kind: self.kind,
                    limit: self.limit,
                });
            }
        };
        self.ids.insert(key.clone(), id);
        self.keys.insert(id, key.clone());
        Ok(id)
    }

    /// Takes over an id that a former daemon gave, unless key or id has another one already.
    fn adopt(&mut self, key: K, id: u32) {
        let taken = id == 0
            || id > self.limit
            || self.ids.contains_key(&key)
            || self.keys.contains_key(&id);
        if taken {
            return;
        }
        if id < self.next {
            self.free.retain(|free| *free != id);
        } else {
            self.free.extend(self.next..id);
            self.next = id + 1;
        }
        self.keys.insert(id, key.clone());
        self.ids.insert(key, id);
    }

    fn retire_all_but(&mut self, configured: &BTreeSet<K>) {
        for key in self.ids.keys().filter(|key| !configured.contains(*key)) {
            self.retired.entry(key.clone()).or_insert(0);
        }
    }

    /// Frees retired ids that `patience` censuses in a row did not meet; says whether there were any.
    fn release(&mut self, patience: u32, in_use: impl Fn(&K, u32) -> bool) -> bool {
        let mut freed = false;
        for (key, unseen) in std::mem::take(&mut self.retired) {
            let Some(id) = self.ids.get(&key).copied() else {
                continue;
            };
            let unseen = if in_use(&key, id) { 0 } else { unseen + 1 };
            if unseen < patience {
                self.retired.insert(key, unseen);
            } else {
                self.ids.remove(&key);
                self.keys.remove(&id);
                self.free.push_back(id);
                freed = true;
            }
        }
        freed
    }
}

/// All ids.
#[derive(Debug, Clone)]
pub struct Ids {
    /// Frontend addresses.
    pub frontends: IdSpace<IpAddr>,
    /// Rules and inbound NAT rules by name, outbound rules by a key of their own; one id for both families.
    pub rules: IdSpace<String>,
    /// Rings.
    pub rings: IdSpace<RingKey>,
    /// Spreads.
    pub spreads: IdSpace<SpreadKey>,
    /// Members' private addresses.
    pub backends: IdSpace<IpAddr>,
    /// Interface slots, by name.
    pub slots: IdSpace<String>,
}

impl Default for Ids {
    fn default() -> Self {
        Self {
            frontends: IdSpace::new("frontend addresses", MAX_ADDRESSES / 2),
            rules: IdSpace::new("rules", MAX_RULES),
            rings: IdSpace::new("rings", MAX_RINGS),
            spreads: IdSpace::new("inbound NAT rules over pools", MAX_SPREADS),
            backends: IdSpace::new("members", MAX_BACKENDS),
            slots: IdSpace::new("interfaces", MAX_INTERFACES),
        }
    }
}

impl Ids {
    /// Gives ids to everything configured, and retires the rest.
    pub(super) fn assign(&mut self, config: &Config) -> Result<(), NoIdLeft> {
        let frontends: BTreeSet<IpAddr> = config
            .frontends
            .iter()
            .flat_map(|f| f.every_address())
            .collect();
        let rules: BTreeSet<String> = rules::names(config).collect();
        let spreads = config.inbound_nat_rules.iter().flat_map(SpreadKey::of_rule);
        let spreads: BTreeSet<SpreadKey> = spreads.collect();
        let rings = RingKey::of_config(config);
        let backends: BTreeSet<IpAddr> = config
            .instances
            .iter()
            .flat_map(|i| &i.ip_configs)
            .flat_map(|c| c.addresses())
            .collect();
        assign_set(&mut self.frontends, &frontends)?;
        assign_set(&mut self.rules, &rules)?;
        assign_set(&mut self.rings, &rings)?;
        assign_set(&mut self.spreads, &spreads)?;
        assign_set(&mut self.backends, &backends)
    }

    /// Gives slots to the interfaces that are there, and retires those of the rest.
    ///
    /// # Errors
    /// Not even the attached ones fit. A VLAN device for which no slot is left goes without: the kernel
    /// forwards its traffic.
    pub(super) fn assign_slots(&mut self, host: &[HostInterface]) -> Result<(), NoIdLeft> {
        let (attached, vlans): (Vec<_>, Vec<_>) =
            host.iter().partition(|interface| interface.is_attached());
        let present = host
            .iter()
            .map(|interface| interface.name.clone())
            .collect();
        self.slots.retire_all_but(&present);
        for interface in attached {
            self.slots.assign(&interface.name)?;
        }
        for interface in vlans {
            let _ = self.slots.assign(&interface.name);
        }
        Ok(())
    }

    /// Frees retired ids that no flow holds; says whether there were any. A census under way when an id
    /// retires may have missed a young flow, so rules and frontends wait for two. Rings and members are
    /// only needed by first packets: theirs are free at once.
    pub(super) fn release_unused(
        &mut self,
        rules_in_use: &BTreeSet<u32>,
        frontend_in_use: impl Fn(&IpAddr) -> bool,
    ) -> bool {
        let rules = self
            .rules
            .release(PATIENCE, |_, id| rules_in_use.contains(&id));
        let frontends = self
            .frontends
            .release(PATIENCE, |address, _| frontend_in_use(address));
        let rings = self.rings.release(1, |_, _| false);
        let spreads = self.spreads.release(1, |_, _| false);
        let backends = self.backends.release(1, |_, _| false);
        let slots = self.slots.release(SLOT_PATIENCE, |_, _| false);
        rules || frontends || rings || spreads || backends || slots
    }

    /// Reads the ids of a former daemon out of its tables, so that flows and counters keep theirs.
    /// Frontends and members are identified by what packets see, their addresses; rules by their names.
    pub(super) fn recover(&mut self, config: &Config, tables: &TableState, host: &[HostInterface]) {
        for (address, owner) in &tables.v4.addresses {
            self.recover_frontend((*address).into(), owner);
        }
        for (address, owner) in &tables.v6.addresses {
            self.recover_frontend((*address).into(), owner);
        }
        for (id, address) in &tables.v4.backends {
            self.backends.adopt(IpAddr::from(*address), *id);
        }
        for (id, address) in &tables.v6.backends {
            self.backends.adopt(IpAddr::from(*address), *id);
        }
        for (slot, interface) in &tables.interfaces {
            let known = host.iter().find(|known| known.ifindex == interface.ifindex);
            // Flows may still name the slot of an interface that went while no daemon ran.
            let name = known.map_or_else(
                || format!("(former interface {})", interface.ifindex),
                |known| known.name.clone(),
            );
            self.slots.adopt(name, *slot);
        }
        let named = Named::of(config);
        for rule in tables.bindings.values() {
            if let Some(name) = named.of_digest(rule.name) {
                self.rules.adopt(name.to_owned(), rule.id);
            }
        }
        for (key, id) in outbound::former_rules(config, tables) {
            self.rules.adopt(key, id);
        }
        for rule in tables.bindings.values() {
            self.reserve(rule);
        }
        let ways = tables.v4.ways.values().chain(tables.v6.ways.values());
        for way in ways {
            self.reserve_rule(way.rule);
        }
    }

    /// The id of an outbound rule, retired or not.
    pub fn outbound_rule(&self, name: &str) -> Option<u32> {
        self.rules.get(&outbound::rule_key(name))
    }

    /// The name of the rule of any kind that has an id.
    pub fn rule_name(&self, id: u32) -> Option<&str> {
        let key = self.rules.key_of(id)?;
        Some(outbound::rule_of_key(key).unwrap_or(key))
    }

    /// Keeps what the new configuration does not name until it is unused: ids of removed rules until a sweep
    /// met no flow of them; rings and spreads, which cannot be told whose they were, until every rule is
    /// bound to its new ones.
    fn reserve(&mut self, rule: &Rule) {
        self.reserve_rule(rule.id);
        for target in rule.targets {
            match rule.way {
                Rule::RING => self.rings.adopt(RingKey::former(target), target),
                Rule::SPREAD => self.spreads.adopt(SpreadKey::former(target), target),
                _ => {}
            }
        }
    }

    /// Keeps the ids of rules that flows hold.
    pub(super) fn reserve_held(&mut self, held: &BTreeSet<u32>) {
        for id in held {
            self.reserve_rule(*id);
        }
    }

    fn reserve_rule(&mut self, id: u32) {
        self.rules.adopt(format!("(removed rule {id})"), id);
    }

    fn recover_frontend(&mut self, address: IpAddr, owner: &Owner) {
        if owner.roles & Owner::FRONTEND != 0 {
            self.frontends.adopt(address, owner.id);
        }
    }
}

fn assign_set<K: Ord + Clone>(
    space: &mut IdSpace<K>,
    configured: &BTreeSet<K>,
) -> Result<(), NoIdLeft> {
    for key in configured {
        space.assign(key)?;
    }
    space.retire_all_but(configured);
    Ok(())
}

/// The private address of a member as the tables know it.
pub(super) enum Bits {
    V4(V4),
    V6(V6),
}

impl From<IpAddr> for Bits {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::V4(address.into()),
            IpAddr::V6(address) => Self::V6(address.into()),
        }
    }
}
