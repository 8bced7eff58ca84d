//! The tables as values.

use std::collections::{BTreeMap, BTreeSet};

use forebay_common::abi::{Interface, Owner, Rule, RuleKey, Settings};
use forebay_common::balance::{RingMember, filter};
use forebay_common::family::{Family, V4, V6};
use forebay_common::wire::Mac;
use ipnet::IpNet;

/// What a ring holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ring {
    /// The ring of these members.
    Members(Vec<RingMember>),
    /// Found in the tables of a former daemon; to be written anew.
    Unknown,
}

/// Tables of one family.
#[derive(Debug, Clone, PartialEq)]
pub struct FamilyState<A: Ord> {
    /// What addresses are.
    pub addresses: BTreeMap<A, Owner>,
    /// Members by id.
    pub backends: BTreeMap<u32, A>,
    /// Prefixes of the virtual network: length, address.
    pub virtual_network: BTreeSet<(u32, A)>,
}

impl<A: Ord> Default for FamilyState<A> {
    fn default() -> Self {
        Self {
            addresses: BTreeMap::new(),
            backends: BTreeMap::new(),
            virtual_network: BTreeSet::new(),
        }
    }
}

/// All tables except flows and counters.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TableState {
    /// Settings.
    pub settings: Settings,
    /// IPv4.
    pub v4: FamilyState<V4>,
    /// IPv6.
    pub v6: FamilyState<V6>,
    /// Rules.
    pub rules: BTreeMap<RuleKey, Rule>,
    /// Rings by id.
    pub rings: BTreeMap<u32, Ring>,
    /// Interfaces by slot.
    pub interfaces: BTreeMap<u32, Interface>,
}

impl TableState {
    /// The words of the address filter that have a bit set.
    pub fn address_filter(&self) -> BTreeMap<u32, u64> {
        let mut words = BTreeMap::new();
        add_bits(&mut words, &self.v4);
        add_bits(&mut words, &self.v6);
        words
    }
}

fn add_bits<A: Family + Ord>(words: &mut BTreeMap<u32, u64>, family: &FamilyState<A>) {
    for address in family.addresses.keys() {
        let (word, mask) = filter::bit(*address);
        *words.entry(word).or_default() |= mask;
    }
}

/// An interface of the host that the node forwards on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostInterface {
    /// Its name.
    pub name: String,
    /// Its number.
    pub ifindex: u32,
    /// Its MTU.
    pub mtu: u32,
    /// Its MAC address.
    pub mac: Mac,
    /// Networks that are on its link, from its addresses.
    pub networks: Vec<IpNet>,
    /// Metrics of its routes to networks that other interfaces are on too; the host prefers the lowest.
    pub metrics: BTreeMap<IpNet, u32>,
    /// How often its link has come up; `None`: it is down.
    pub link_ups: Option<u32>,
}
