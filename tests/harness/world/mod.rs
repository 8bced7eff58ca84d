//! What a node knows: one description of all tables, to be written into the program's maps and into
//! the model's.
//!
//! `World::default()` is a good configuration in the planned network, at the time [`NOW`]; a case
//! changes what is special about its own.

mod flows;
mod forms;
mod outbound;
mod pair;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};

use forebay_common::abi::{
    Bound, Interface, LAYOUT_VERSION, Owner, PortKey, Reverse, Rule, Settings, SnatRange, Trial,
    Way, WayKey,
};
use forebay_common::balance::{Distribution, RingMember, build_ring};
use forebay_common::family::{V4, V6};
use forebay_common::flow::{Flow, FlowKey, Timeouts};
use forebay_common::model::UNTRUSTED_SETS;
use forebay_common::wire::Mac;

pub use flows::{Entries, Flows};
pub use forms::{RULE_EVERY, RULE_NAT, RULE_NAT_POOL, RULE_NAT_RANGE, RULE_RANGE, RULE_SINGLE_ALL};
pub use outbound::Outward;
pub use pair::{Half, Pair};

use crate::frame::{TCP, UDP};
use crate::network::plan::{
    APART_INSTANCE, BLACKHOLED, FRONTEND, FRONTEND_2, INSTANCES, Link, NARROW_INSTANCE, NORTH,
    NORTH_VLAN, PROHIBITED, ROUTED, SILENT, SOUTH, UNREACHABLE, VLAN_INSTANCE, VLANS_INSTANCE,
    interfaces,
};
use crate::network::{Host, IpVersion, Side};

/// The time in a default world, jiffies: the low word is about to wrap.
pub const NOW: u64 = 0x1_ffff_ff00;
/// Idle timeout of the rules of a default world, jiffies.
pub const IDLE: u32 = 240_000;
/// Timeouts of a default world, jiffies.
pub const TIMEOUTS: Timeouts = Timeouts {
    tcp_half_open: 30_000,
    tcp_fin: 65_000,
    tcp_rst: 16_000,
    udp_unreplied: 30_000,
    icmp_idle: 60_000,
};
/// Jiffies that a removed entry may still be in use, in a default world.
pub const GRACE: u32 = 10;
/// Jiffies in a second, in a default world.
pub const SECOND: u32 = 1_000;
/// Jiffies after which next hops are looked up again, in a default world.
pub const HOP_LIFETIME: u32 = 1_000;
/// Entries of a flow table.
pub const CAPACITY: u32 = 128;
/// Entries of a flow table from which on flows stay untrusted, in a default world.
pub const PROMOTE_BELOW: u32 = CAPACITY * 4 / 5;

/// Who backend ids stand for, in both families. The first are good ones.
pub const BACKENDS: [(u32, Host); 14] = [
    (1, INSTANCES[0].host),
    (2, INSTANCES[1].host),
    (3, INSTANCES[2].host),
    (4, INSTANCES[3].host),
    (11, SILENT),
    (12, NARROW_INSTANCE.host),
    (13, ROUTED),
    (14, APART_INSTANCE.host),
    (15, BLACKHOLED),
    (16, UNREACHABLE),
    (17, PROHIBITED),
    (18, HOST_ITSELF),
    (19, VLAN_INSTANCE.host),
    (20, VLANS_INSTANCE.host),
];
/// An instance address that is the node's own: routing says "local".
pub const HOST_ITSELF: Host = Host::new([10, 0, 1, 1], [0xfd00, 1, 0, 0, 0, 0, 0, 1]);

/// Ring with [`INSTANCES`]`[0]` in every slot.
pub const RING_ONE: u32 = 1;
/// Ring over the first three instances, equal shares.
pub const RING_THREE: u32 = 2;

/// TCP, frontend port 80 to backend port 8080, [`RING_ONE`].
pub const RULE_WEB: u32 = 1;
/// UDP, frontend port 53 to backend port 5353, [`RING_ONE`].
pub const RULE_NAMES: u32 = 2;
/// TCP and UDP port 443, [`RING_THREE`], chosen by 5-tuple.
pub const RULE_SPREAD: u32 = 3;
/// TCP and UDP port 1443, [`RING_THREE`], chosen by addresses.
pub const RULE_STICKY: u32 = 4;
/// TCP and UDP port 2443, [`RING_THREE`], chosen by addresses and protocol.
pub const RULE_STICKY_PROTOCOL: u32 = 5;

/// Tables of one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FamilyWorld<A: Side> {
    /// What addresses are.
    pub addresses: BTreeMap<A, Owner>,
    /// Members by id.
    pub backends: BTreeMap<u32, A>,
    /// Prefixes of the virtual network: address and length.
    pub virtual_network: BTreeSet<(A, u32)>,
    /// Instances' TCP ports, first and last of a stretch, that have one frontend's flows only.
    pub reverse: BTreeMap<(A, u16, u16), Reverse<A>>,
    /// Ways out.
    pub ways: BTreeMap<WayKey<A>, Way>,
    /// Ranges of SNAT ports by number.
    pub snat_ranges: BTreeMap<u32, SnatRange<A>>,
    /// Public IPs: the other address of a public and of a private one.
    pub public_ips: BTreeMap<A, A>,
    /// Flow entries to begin with.
    pub flows: BTreeMap<FlowKey<A>, Flow<A>>,
}

impl<A: Side> Default for FamilyWorld<A> {
    fn default() -> Self {
        Self {
            addresses: BTreeMap::new(),
            backends: BTreeMap::new(),
            virtual_network: BTreeSet::new(),
            reverse: BTreeMap::new(),
            ways: BTreeMap::new(),
            snat_ranges: BTreeMap::new(),
            public_ips: BTreeMap::new(),
            flows: BTreeMap::new(),
        }
    }
}

/// All tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct World {
    /// Settings; `None`: not configured. `test_now` is the time.
    pub settings: Option<Settings>,
    /// Rules on single ports.
    pub rules: BTreeMap<PortKey, Rule>,
    /// Rules on ports that begin with the same bits: the first of them, and how many bits.
    pub ranges: BTreeMap<(PortKey, u32), Rule>,
    /// What counts on every port whose rule is not active.
    pub beneath: Option<Rule>,
    /// Rings by id.
    pub rings: BTreeMap<u32, Arc<[u32]>>,
    /// Spreads by id.
    pub spreads: BTreeMap<u32, Vec<u32>>,
    /// Interfaces by slot.
    pub interfaces: BTreeMap<u32, Interface>,
    /// The node's own trials, by place.
    pub trials: BTreeMap<u32, Trial>,
    /// IPv4.
    pub v4: FamilyWorld<V4>,
    /// IPv6.
    pub v6: FamilyWorld<V6>,
}

/// The tables that ports are looked up in.
#[derive(Debug, Clone, Default)]
pub struct Bindings {
    /// Single ports.
    pub ports: BTreeMap<PortKey, Bound>,
    /// Ranges of ports.
    pub ranges: BTreeMap<(PortKey, u32), Bound>,
    /// By binding id.
    pub rules: BTreeMap<u32, Rule>,
}

/// Families whose tables a [`World`] has.
pub trait WorldSide: Side {
    /// This family's tables.
    fn part(world: &World) -> &FamilyWorld<Self>;
    /// This family's tables, to change.
    fn part_mut(world: &mut World) -> &mut FamilyWorld<Self>;
}

impl WorldSide for V4 {
    fn part(world: &World) -> &FamilyWorld<Self> {
        &world.v4
    }

    fn part_mut(world: &mut World) -> &mut FamilyWorld<Self> {
        &mut world.v4
    }
}

impl WorldSide for V6 {
    fn part(world: &World) -> &FamilyWorld<Self> {
        &world.v6
    }

    fn part_mut(world: &mut World) -> &mut FamilyWorld<Self> {
        &mut world.v6
    }
}

/// Id of a frontend's address: each family has its own.
pub fn frontend_id(version: IpVersion, number: u32) -> u32 {
    match version {
        IpVersion::V4 => number,
        IpVersion::V6 => number + 100,
    }
}

/// A ring with one member in every slot.
pub fn ring_of(backend: u32) -> Arc<[u32]> {
    weighted_ring(&[(backend, 1)])
}

/// A ring over members with these weights.
pub fn weighted_ring(members: &[(u32, u16)]) -> Arc<[u32]> {
    let members: Vec<RingMember> = members
        .iter()
        .map(|(backend, weight)| RingMember {
            identity: format!("instance-{backend}/primary").into_bytes(),
            weight: *weight,
            backend: *backend,
        })
        .collect();
    build_ring(&members).into()
}

/// Above this, ring ids are those of the only backend in the ring.
pub const RINGS_OF_ONE: u32 = 100;

static DEFAULT_RINGS: LazyLock<BTreeMap<u32, Arc<[u32]>>> = LazyLock::new(|| {
    let of_one = BACKENDS.map(|(id, _)| (RINGS_OF_ONE + id, ring_of(id)));
    let mut rings = BTreeMap::from(of_one);
    rings.insert(RING_ONE, Arc::clone(&rings[&(RINGS_OF_ONE + 1)]));
    rings.insert(RING_THREE, weighted_ring(&[(1, 1), (2, 1), (3, 1)]));
    rings
});

impl Default for World {
    fn default() -> Self {
        let mut world = Self {
            settings: Some(default_settings()),
            ..Self::unconfigured()
        };
        world.rings.clone_from(&DEFAULT_RINGS);
        world.fill::<V4>();
        world.fill::<V6>();
        world
    }
}

fn default_settings() -> Settings {
    Settings {
        layout: LAYOUT_VERSION,
        flags: 0,
        hash_key: [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210],
        timeouts: TIMEOUTS,
        hops_valid_from: (NOW - 1_000_000) as u32,
        hop_lifetime: HOP_LIFETIME,
        grace: GRACE,
        second: SECOND,
        untrusted_mask: UNTRUSTED_SETS - 1,
        promote_below: PROMOTE_BELOW,
        new_flow_cost: 0,
        generation: next_generation(),
        test_now: NOW,
    }
}

/// A generation that no world had before: what the program remembers of another one is of no use.
pub fn next_generation() -> u32 {
    static LAST: AtomicU32 = AtomicU32::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

/// A tag as it is in a frame.
fn tag_word((kind, tci): (u16, u16)) -> u32 {
    (u32::from(kind) << 16 | u32::from(tci)).to_be()
}

/// What the daemon writes about an interface.
fn interface(link: &Link) -> Interface {
    let mac = Mac::from_octets(link.mac);
    let tag = |number: usize| link.tags.get(number).map_or(0, |tag| tag_word(*tag));
    Interface {
        ifindex: link.ifindex,
        mtu: link.mtu,
        mac_head: mac.head,
        mac_tail: mac.tail,
        flags: 0,
        nic: link.nic,
        tags: [tag(0), tag(1)],
        address4: link.address.v4.into(),
        address6: link.address.v6.into(),
    }
}

impl World {
    /// A node that the daemon has not configured yet.
    pub fn unconfigured() -> Self {
        Self {
            settings: None,
            rules: BTreeMap::new(),
            ranges: BTreeMap::new(),
            beneath: None,
            rings: BTreeMap::new(),
            spreads: BTreeMap::new(),
            interfaces: interfaces()
                .filter(|link| link.slot != 0)
                .map(|link| (link.slot, interface(link)))
                .collect(),
            trials: BTreeMap::new(),
            v4: FamilyWorld::default(),
            v6: FamilyWorld::default(),
        }
    }

    /// Adds a VLAN device over an interface; it is on the links that the interface is on.
    pub fn add_vlan(&mut self, slot: u32, nic: &Link, tags: [(u16, u16); 2]) {
        let device = Interface {
            ifindex: 1_000 + slot,
            tags: tags.map(tag_word),
            ..self.interfaces[&nic.slot]
        };
        self.interfaces.insert(slot, device);
        let add = |owner: &mut Owner| owner.on_link |= (owner.on_link >> nic.slot & 1) << slot;
        self.v4.addresses.values_mut().for_each(add);
        self.v6.addresses.values_mut().for_each(add);
    }

    fn fill<A: WorldSide>(&mut self) {
        let part = A::part_mut(self);
        let on_link = 1 << NORTH.slot | 1 << SOUTH.slot | 1 << NORTH_VLAN.slot;
        for (number, host) in [(1, FRONTEND), (2, FRONTEND_2)] {
            let owner = Owner {
                roles: Owner::FRONTEND,
                id: frontend_id(A::VERSION, number),
                on_link,
            };
            part.addresses.insert(host.raw(), owner);
        }
        for (id, host) in BACKENDS {
            let owner = Owner {
                roles: Owner::INSTANCE,
                id: 0,
                on_link: 0,
            };
            part.addresses.insert(host.raw(), owner);
            part.backends.insert(id, host.raw());
        }
        let private = Host::new([10, 0, 0, 0], [0xfd00, 0, 0, 0, 0, 0, 0, 0]);
        part.virtual_network.insert((private.raw(), 8));
        for number in [1, 2] {
            let id = frontend_id(A::VERSION, number);
            self.add_rule(
                id,
                TCP,
                80,
                rule(RULE_WEB, RING_ONE, 8_000, Distribution::FiveTuple),
            );
            let names = rule(RULE_NAMES, RING_ONE, 5_300, Distribution::FiveTuple);
            self.add_rule(id, UDP, 53, names);
            for protocol in [TCP, UDP] {
                for (port, rule) in [
                    (
                        443,
                        rule(RULE_SPREAD, RING_THREE, 0, Distribution::FiveTuple),
                    ),
                    (
                        1443,
                        rule(RULE_STICKY, RING_THREE, 0, Distribution::SourceIp),
                    ),
                    (
                        2443,
                        rule(
                            RULE_STICKY_PROTOCOL,
                            RING_THREE,
                            0,
                            Distribution::SourceIpProtocol,
                        ),
                    ),
                ] {
                    self.add_rule(id, protocol, port, rule);
                }
            }
        }
    }

    /// Adds or replaces a rule on a port of a frontend address.
    pub fn add_rule(&mut self, frontend: u32, protocol: u8, port: u16, rule: Rule) {
        self.rules
            .insert(PortKey::new(frontend, protocol, port), rule);
    }

    /// The settings, to change.
    ///
    /// # Panics
    /// When there are none.
    pub fn settings_mut(&mut self) -> &mut Settings {
        self.settings.as_mut().expect("the world is configured")
    }

    /// The time, jiffies; 0 when not configured.
    pub fn now(&self) -> u64 {
        self.settings.map_or(0, |settings| settings.test_now)
    }

    /// Lets time pass.
    pub fn advance(&mut self, jiffies: u64) {
        if let Some(settings) = &mut self.settings {
            settings.test_now += jiffies;
        }
    }

    /// Lets every rule send to one backend only.
    pub fn only_backend(&mut self, backend: u32) {
        let id = RINGS_OF_ONE + backend;
        self.rings.entry(id).or_insert_with(|| ring_of(backend));
        self.each_rule(|rule| rule.targets = [id; 2]);
    }

    /// Changes every rule.
    pub fn each_rule(&mut self, change: impl Fn(&mut Rule)) {
        self.rules.values_mut().for_each(&change);
        self.ranges.values_mut().for_each(change);
    }

    /// Adds or replaces a rule on a range of ports of a frontend address. `first` is the first port of those
    /// that share its upper `bits` bits.
    pub fn add_range(
        &mut self,
        frontend: u32,
        protocol: u8,
        (first, bits): (u16, u32),
        rule: Rule,
    ) {
        let key = PortKey::new(frontend, protocol, first);
        self.ranges.insert((key, bits), rule);
    }

    /// The tables that ports are looked up in: each rule has a binding of its own on each of its keys.
    pub fn bindings(&self) -> Bindings {
        let mut bindings = Bindings::default();
        let last = (self.rules.len() + self.ranges.len()) as u32 + 1;
        bindings.rules.extend(self.beneath.map(|rule| (last, rule)));
        let second = self.beneath.map_or(0, |_| last);
        let bound = |first| Bound { first, second };
        for ((key, rule), id) in self.rules.iter().zip(1..) {
            bindings.ports.insert(*key, bound(id));
            bindings.rules.insert(id, *rule);
        }
        for ((range, rule), id) in self.ranges.iter().zip(self.rules.len() as u32 + 1..) {
            bindings.ranges.insert(*range, bound(id));
            bindings.rules.insert(id, *rule);
        }
        bindings
    }

    /// Changes what an address is, in both families.
    pub fn each_owner(&mut self, host: Host, change: impl Fn(&mut Owner)) {
        change(self.v4.addresses.entry(host.raw()).or_default());
        change(self.v6.addresses.entry(host.raw()).or_default());
    }

    /// Adds both entries of a flow.
    pub fn add(&mut self, pair: &Pair) {
        match pair.version {
            IpVersion::V4 => self.v4.flows.extend(pair.entries::<V4>()),
            IpVersion::V6 => self.v6.flows.extend(pair.entries::<V6>()),
        }
    }
}

/// A rule of a default world.
pub fn rule(id: u32, ring: u32, port_offset: u16, distribution: Distribution) -> Rule {
    Rule {
        id,
        targets: [ring; 2],
        tcp_idle: IDLE,
        udp_idle: IDLE,
        udp_dns: IDLE,
        port_offset,
        distribution: distribution as u8,
        flags: Rule::TCP_RESET | Rule::ACTIVE,
        ..Rule::default()
    }
}

/// Sets the idle timeout of a rule for every protocol.
pub fn set_idle(rule: &mut Rule, jiffies: u32) {
    (rule.tcp_idle, rule.udp_idle, rule.udp_dns) = (jiffies, jiffies, jiffies);
}
