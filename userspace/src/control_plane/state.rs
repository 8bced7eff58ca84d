//! The tables as values.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use forebay_common::abi::{
    Bound, Interface, Owner, PortKey, Reverse, Rule, Settings, SnatRange, VlanKey, Way, WayKey,
};
use forebay_common::balance::{RingMember, filter};
use forebay_common::family::{Family, V4, V6};
use forebay_common::wire::Mac;
use ipnet::IpNet;

use super::ports::{PortRange, look_up};

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
    /// Whose replies instances' TCP ports send, by address, first port and leading bits of it.
    pub reverse: BTreeMap<(A, u16, u32), Reverse<A>>,
    /// How sources go out.
    pub ways: BTreeMap<WayKey<A>, Way>,
    /// Ranges of SNAT ports by number.
    pub snat_ranges: BTreeMap<u32, SnatRange<A>>,
    /// The other address of a public IP, under both.
    pub public_ips: BTreeMap<A, A>,
}

impl<A: Ord> Default for FamilyState<A> {
    fn default() -> Self {
        Self {
            addresses: BTreeMap::new(),
            backends: BTreeMap::new(),
            virtual_network: BTreeSet::new(),
            reverse: BTreeMap::new(),
            ways: BTreeMap::new(),
            snat_ranges: BTreeMap::new(),
            public_ips: BTreeMap::new(),
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
    /// What single ports of frontends are bound to.
    pub ports: BTreeMap<PortKey, Bound>,
    /// What ranges of ports of frontends are bound to.
    pub port_ranges: BTreeMap<PortRange, Bound>,
    /// Rules and inbound NAT rules by binding id.
    pub bindings: BTreeMap<u32, Rule>,
    /// Rings by id.
    pub rings: BTreeMap<u32, Ring>,
    /// By id, who has the places of a spread; `None`: found in the tables of a former daemon, to be written
    /// anew.
    pub spreads: BTreeMap<u32, Option<Vec<u32>>>,
    /// Interfaces by slot.
    pub interfaces: BTreeMap<u32, Interface>,
}

impl TableState {
    /// The rule that a packet to a port of a frontend address finds.
    pub fn rule_on(&self, key: PortKey) -> Option<&Rule> {
        let single = self.ports.get(&key).copied();
        let bound = single.or_else(|| look_up(&self.port_ranges, key))?;
        let both = [bound.first, bound.second].into_iter();
        let mut rules = both.filter_map(|id| self.bindings.get(&id));
        rules.find(|rule| rule.is_active())
    }

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

/// An interface of the host that the node forwards on: attached, or a VLAN device over an attached one.
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
    /// How its frames look at the attached interface under it; none: it is attached itself.
    pub vlan: Option<VlanDevice>,
    /// How the program is on it now.
    pub xdp: XdpState,
    /// Whether frames can be redirected to it from an interface in native mode.
    pub takes_redirects: bool,
    /// Names of the interfaces whose frames come on to it, when it is a bridge or stands on another.
    pub feeders: Vec<String>,
    /// The node's own IPv4 address on it.
    pub address4: Option<Ipv4Addr>,
    /// The node's own IPv6 address on it, a global one if it has one.
    pub address6: Option<Ipv6Addr>,
}

impl HostInterface {
    /// Whether the program is on this interface itself.
    pub fn is_attached(&self) -> bool {
        self.vlan.is_none()
    }

    /// Number of the attached interface that its frames leave by.
    pub fn nic(&self) -> u32 {
        self.vlan.map_or(self.ifindex, |vlan| vlan.nic)
    }

    /// The tags of its frames, outer first, raw; 0: none.
    pub fn tags(&self) -> [u32; 2] {
        self.vlan.map_or([0; 2], |vlan| vlan.tags)
    }
}

/// Whether frames for an interface must go by the kernel when they come in on another: it takes none that
/// are redirected from native mode, and somebody is in native mode. In generic mode redirects are the
/// kernel's own, and reach everybody.
pub fn needs_kernel(interface: &HostInterface, host: &[HostInterface]) -> bool {
    let is_native = |one: &HostInterface| matches!(one.xdp, XdpState::Native | XdpState::Multiple);
    !interface.takes_redirects && host.iter().any(is_native)
}

/// How an XDP program is on an interface, as the kernel says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum XdpState {
    /// Not at all.
    #[default]
    None,
    /// In its driver.
    Native,
    /// In the kernel's receive path.
    Generic,
    /// In the NIC.
    Offloaded,
    /// More than one of them.
    Multiple,
}

impl XdpState {
    /// Its word.
    pub const fn label(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Offloaded => "offloaded",
            Self::Multiple => "native and generic",
        }
    }
}

/// The frames of a VLAN device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VlanDevice {
    /// Number of the attached interface under it.
    pub nic: u32,
    /// Tags, outer first, raw: type and tag control information as they stand in the frame; 0: none.
    pub tags: [u32; 2],
}

impl VlanDevice {
    /// What its frames are recognised by.
    pub fn key(self) -> VlanKey {
        let [outer, inner] = self.tags.map(vlan_id);
        VlanKey {
            nic: self.nic,
            outer,
            inner,
        }
    }
}

/// What the frames of an interface are recognised by, if it is a VLAN device.
pub fn vlan_key(interface: &Interface) -> Option<VlanKey> {
    let vlan = VlanDevice {
        nic: interface.nic,
        tags: interface.tags,
    };
    (vlan.tags[0] != 0).then(|| vlan.key())
}

/// The VLAN id in a raw tag.
fn vlan_id(tag: u32) -> u16 {
    let [_, _, high, low] = tag.to_ne_bytes();
    u16::from_be_bytes([high, low]) & 0x0fff
}
