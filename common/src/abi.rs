//! What crosses the boundary between kernel and host besides flows: table values, names, sizes.

use crate::family::{V4, V6};
use crate::flow::{FlowKey, Timeouts};
use crate::wire::Mac;

/// Version of every layout in this crate. It names the folder of the pins, so that a daemon never
/// reads tables of another shape.
pub const LAYOUT_VERSION: u32 = 3;

/// Older layouts whose flow tables are as this one's: key, entry, and what they mean but for the ids of rules
/// and interfaces. A daemon takes over such flows.
pub const COMPATIBLE_FLOW_LAYOUTS: [u32; 1] = [2];

/// Names of programs, tables and globals in the object.
pub mod names {
    /// The XDP program.
    pub const PROGRAM: &str = "forebay";
    /// A program that tells jiffies and the boot clock in one breath.
    pub const CLOCKS_PROGRAM: &str = "clocks";
    /// Programs that end the flows named in a [`super::RetireBatch`], IPv4 and IPv6.
    pub const RETIRE_PROGRAMS: [&str; 2] = ["retire4", "retire6"];
    /// [`super::RetireBatch`] of IPv4 flows.
    pub const RETIRE4: &str = "RETIRE4";
    /// [`super::RetireBatch`] of IPv6 flows.
    pub const RETIRE6: &str = "RETIRE6";
    /// `[u64; 2]`: jiffies, boot clock in ns.
    pub const CLOCKS: &str = "CLOCKS";
    /// One [`super::Settings`].
    pub const SETTINGS: &str = "SETTINGS";
    /// `FlowKey<V4>` to `Flow<V4>`.
    pub const FLOWS4: &str = "FLOWS4";
    /// `FlowKey<V6>` to `Flow<V6>`.
    pub const FLOWS6: &str = "FLOWS6";
    /// The table that [`FLOWS4`] takes the place of, while flows move.
    pub const FORMER_FLOWS4: &str = "FORMER_FLOWS4";
    /// The table that [`FLOWS6`] takes the place of, while flows move.
    pub const FORMER_FLOWS6: &str = "FORMER_FLOWS6";
    /// One word; not 0: new flows go into the new tables, and those of the former move.
    pub const MOVING: &str = "MOVING";
    /// Read-only global: which families have a former flow table; bit 0: IPv4, bit 1: IPv6.
    pub const FORMER: &str = "FORMER";
    /// Number to `UntrustedSet<V4>`.
    pub const UNTRUSTED4: &str = "UNTRUSTED4";
    /// Number to `UntrustedSet<V6>`.
    pub const UNTRUSTED6: &str = "UNTRUSTED6";
    /// Entries of both flow tables.
    pub const OCCUPIED: &str = "OCCUPIED";
    /// When sources may open their next flow.
    pub const SOURCES: &str = "SOURCES";
    /// Locks of reply keys.
    pub const LOCKS: &str = "LOCKS";
    /// [`super::ReverseKey`] to [`super::Reverse`], IPv4.
    pub const REVERSE4: &str = "REVERSE4";
    /// [`super::ReverseKey`] to [`super::Reverse`], IPv6.
    pub const REVERSE6: &str = "REVERSE6";
    /// `V4` to [`super::Owner`].
    pub const ADDRESSES4: &str = "ADDRESSES4";
    /// `V6` to [`super::Owner`].
    pub const ADDRESSES6: &str = "ADDRESSES6";
    /// [`crate::balance::filter`] over both address tables.
    pub const ADDRESS_FILTER: &str = "ADDRESS_FILTER";
    /// [`super::PortKey`] to [`super::Bound`].
    pub const PORTS: &str = "PORTS";
    /// [`super::PortPrefix`] to [`super::Bound`].
    pub const PORT_RANGES: &str = "PORT_RANGES";
    /// Binding id to [`super::Rule`].
    pub const BINDINGS: &str = "BINDINGS";
    /// Ring id to an array of backend ids.
    pub const RINGS: &str = "RINGS";
    /// Spread id to an array of backend ids, one for each port of an inbound NAT rule over a pool.
    pub const SPREADS: &str = "SPREADS";
    /// Backend id to `Backend<V4>`.
    pub const BACKENDS4: &str = "BACKENDS4";
    /// Backend id to `Backend<V6>`.
    pub const BACKENDS6: &str = "BACKENDS6";
    /// Prefixes of the virtual network, IPv4.
    pub const VIRTUAL_NETWORK4: &str = "VIRTUAL_NETWORK4";
    /// Prefixes of the virtual network, IPv6.
    pub const VIRTUAL_NETWORK6: &str = "VIRTUAL_NETWORK6";
    /// Slot to [`super::Interface`].
    pub const INTERFACES: &str = "INTERFACES";
    /// Interface number to slot.
    pub const INTERFACE_SLOTS: &str = "INTERFACE_SLOTS";
    /// [`super::VlanKey`] to the slot of the VLAN device that takes such frames.
    pub const VLANS: &str = "VLANS";
    /// Programs that the first one hands rarer packets to, by [`crate::pipeline::Stage`].
    pub const STAGES: &str = "STAGES";
    /// Programs in [`STAGES`], in its order; the last one is the first program itself.
    pub const STAGE_PROGRAMS: [&str; 7] = [
        "unusual", "icmp", "complain", "tag", "former", "first", PROGRAM,
    ];
    /// [`super::FragmentKey`] to [`super::Fragments`], IPv4.
    pub const FRAGMENTS4: &str = "FRAGMENTS4";
    /// [`super::FragmentKey`] to [`super::Fragments`], IPv6.
    pub const FRAGMENTS6: &str = "FRAGMENTS6";
    /// One [`crate::tables::PerCpu`] a CPU.
    pub const PER_CPU: &str = "PER_CPU";
    /// Slot to device, for redirects.
    pub const TX_PORTS: &str = "TX_PORTS";
    /// Packets by [`crate::reason::Reason`].
    pub const REASONS: &str = "REASONS";
    /// Rule id to [`super::RuleCounters`].
    pub const RULE_COUNTERS: &str = "RULE_COUNTERS";
    /// Read-only global: the clock is `Settings::test_now`, and entropy is fixed.
    pub const DETERMINISTIC: &str = "DETERMINISTIC";
}

/// Slots of a ring; a prime (Maglev, NSDI 2016, section 5.3: above 100 x members).
pub const RING_SIZE: u32 = 65_537;
/// Rings at once; id 0 is "none".
pub const MAX_RINGS: u32 = 16_384;
/// Members' addresses, both families together; id 0 is "none".
pub const MAX_BACKENDS: u32 = 65_536;
/// Rules and inbound NAT rules; id 0 is "none".
pub const MAX_RULES: u32 = 65_536;
/// Bindings; id 0 is "none". While a rule changes it has two.
pub const MAX_BINDINGS: u32 = 2 * MAX_RULES;
/// Single ports of frontend addresses, by protocol.
pub const MAX_PORTS: u32 = 4 * MAX_RULES;
/// Prefixes that ranges of ports are cut into.
pub const MAX_PORT_RANGES: u32 = 4 * MAX_RULES;
/// Inbound NAT rules over pools, by family; id 0 is "none".
pub const MAX_SPREADS: u32 = 16_384;
/// Attached interfaces and VLAN devices over them; slot 0 is "none".
pub const MAX_INTERFACES: u32 = 64;
/// The VLAN id in a tag's control information.
pub const VLAN_ID: u16 = 0x0fff;
/// Fragmented packets under way at once, a family.
pub const MAX_FRAGMENTED: u32 = 8_192;
/// Frontends and instances a family.
pub const MAX_ADDRESSES: u32 = 131_072;
/// Prefixes of the virtual network a family.
pub const MAX_VIRTUAL_NETWORKS: u32 = 1_024;

/// Sources whose new flows are limited at once, a power of two.
pub const SOURCES: u32 = 65_536;
/// Locks of reply keys that are being taken, a power of two.
pub const LOCKS: u32 = 4_096;
/// Stretches of instances' ports of which replies are known without a flow, a family.
pub const MAX_REVERSE: u32 = 65_536;

/// Flows that one run of a retire program can end.
pub const RETIRE_BATCH: usize = 256;

/// Flows to be ended, and what came of it.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct RetireBatch<A> {
    /// One of the constants below.
    pub step: u32,
    /// How many keys count.
    pub count: u32,
    /// One key of each flow.
    pub keys: [FlowKey<A>; RETIRE_BATCH],
    /// 1 where the step was taken.
    pub done: [u8; RETIRE_BATCH],
}

impl<A> RetireBatch<A> {
    /// Marks flows that are over.
    pub const MARK: u32 = 1;
    /// Removes flows that were marked.
    pub const REMOVE: u32 = 2;
    /// Marks flows whether or not they are over.
    pub const FLUSH: u32 = 3;
    /// Moves flows from the former flow table.
    pub const CARRY: u32 = 4;
    /// Clears what entries, each by its own key, hold of the ids of another layout.
    pub const DISOWN: u32 = 5;
    /// Forgets untrusted flows.
    pub const FORGET: u32 = 6;
}

/// What an address is to this node.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Owner {
    /// Set of the constants below.
    pub roles: u32,
    /// Id of the frontend address; names it in [`PortKey`].
    pub id: u32,
    /// Interface slots (bit = slot) on whose link the address lies: ARP and NDP are answered there.
    pub on_link: u64,
}

impl Owner {
    /// A frontend's address.
    pub const FRONTEND: u32 = 1;
    /// An instance's private address.
    pub const INSTANCE: u32 = 2;
    /// A frontend's address that is the host's own: what no rule and no flow wants is the kernel's.
    pub const SHARED: u32 = 4;
    /// A frontend's address whose echo requests are answered: a rule of it has a member that takes flows.
    pub const ECHO: u32 = 8;
    /// A frontend's address that has rules, of which none has a member: echo requests are told so.
    pub const ECHO_UNREACHABLE: u32 = 16;
}

/// A port of a frontend address.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct PortKey {
    /// [`Owner::id`] of the frontend address.
    pub frontend: u32,
    /// Destination port, host byte order, and above it the protocol number.
    pub port_protocol: u32,
}

impl PortKey {
    /// The key for a port (host byte order) of a frontend address.
    #[inline(always)]
    pub const fn new(frontend: u32, protocol: u8, port: u16) -> Self {
        Self {
            frontend,
            port_protocol: (protocol as u32) << 16 | port as u32,
        }
    }

    /// Protocol number.
    pub const fn protocol(self) -> u8 {
        (self.port_protocol >> 16) as u8
    }

    /// Port, host byte order.
    pub const fn port(self) -> u16 {
        self.port_protocol as u16
    }
}

/// Ports of a frontend address that begin with the same bits, as a trie looks them up.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct PortPrefix {
    /// [`Owner::id`] of the frontend address.
    pub frontend: u32,
    /// [`PortKey::port_protocol`] in network byte order.
    pub port_protocol: u32,
}

impl PortPrefix {
    /// Bits before those of the port.
    pub const FIXED_BITS: u32 = 48;

    /// What a port is looked up by.
    #[inline(always)]
    pub const fn of(key: PortKey) -> Self {
        Self {
            frontend: key.frontend,
            port_protocol: key.port_protocol.to_be(),
        }
    }

    /// The first of its ports.
    pub const fn key(self) -> PortKey {
        PortKey {
            frontend: self.frontend,
            port_protocol: u32::from_be(self.port_protocol),
        }
    }
}

/// What a port is bound to.
///
/// Two, so that a rule with many ports comes and goes by one write: while the first binding is not active,
/// the second counts.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bound {
    /// Binding id.
    pub first: u32,
    /// Binding id; 0: none.
    pub second: u32,
}

/// A rule or inbound NAT rule as it is bound to its ports. It does not change while it is active.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rule {
    /// Says which rule it is, for the next daemon; no packet asks.
    pub name: u64,
    /// Says which ports it was bound to, for the next daemon; no packet asks.
    pub claim: u64,
    /// Id of the rule, not 0; it stays when the binding changes.
    pub id: u32,
    /// What new flows go to, IPv4 and IPv6, as `way` says; 0: no member takes new flows.
    pub targets: [u32; 2],
    /// Idle timeout of its established TCP flows, jiffies.
    pub tcp_idle: u32,
    /// Idle timeout of its answered UDP flows, jiffies.
    pub udp_idle: u32,
    /// The same for those to port 53.
    pub udp_dns: u32,
    /// Added to the frontend port to get the backend port, modulo 65,536; or with [`Self::FIXED_PORT`] the
    /// backend port.
    pub port_offset: u16,
    /// The first port of a spread.
    pub first_port: u16,
    /// [`crate::balance::Distribution`].
    pub distribution: u8,
    /// Set of the constants below.
    pub flags: u8,
    /// [`Self::RING`], [`Self::BACKEND`] or [`Self::SPREAD`].
    pub way: u8,
    /// Unused.
    pub padding: u8,
}

impl Rule {
    /// In `flags`: RST to both sides when an established flow idles out.
    pub const TCP_RESET: u8 = 1;
    /// In `flags`: an inbound NAT rule.
    pub const INBOUND_NAT: u8 = 2;
    /// In `flags`: every port goes to the same backend port.
    pub const FIXED_PORT: u8 = 4;
    /// In `flags`: the binding counts.
    pub const ACTIVE: u8 = 8;

    /// As `way`: targets are rings.
    pub const RING: u8 = 0;
    /// As `way`: targets are backends.
    pub const BACKEND: u8 = 1;
    /// As `way`: targets are spreads.
    pub const SPREAD: u8 = 2;

    /// Whether the binding counts.
    #[inline(always)]
    pub const fn is_active(&self) -> bool {
        self.flags & Self::ACTIVE != 0
    }
}

/// An instance's TCP port, as it stands in the trie of replies that are known without a flow.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ReverseKey<A> {
    /// Private address, raw.
    pub address: A,
    /// Port, raw.
    pub port: u16,
    /// Zero.
    pub padding: [u16; 3],
}

impl<A> ReverseKey<A> {
    /// Bits of a key that a port (host byte order) is looked up with.
    pub const BITS: u32 = 8 * size_of::<A>() as u32 + u16::BITS;

    /// The key of a port.
    #[inline(always)]
    pub const fn new(address: A, port: u16) -> Self {
        Self {
            address,
            port: port.to_be(),
            padding: [0; 3],
        }
    }
}

/// What replies from an instance's port leave as.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Reverse<A> {
    /// The frontend's address.
    pub frontend: A,
    /// Added to the instance's port to get the frontend's, modulo 65,536.
    pub port_offset: u16,
    /// Zero.
    pub padding: [u16; 3],
}

/// A member's address.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backend<A> {
    /// Private address; all zero: unset.
    pub address: A,
}

/// An interface that the program is attached to, or a VLAN device over one.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Interface {
    /// Its number, as routes name it; 0: unset.
    pub ifindex: u32,
    /// Its MTU, bytes.
    pub mtu: u32,
    /// First four octets of its MAC address.
    pub mac_head: u32,
    /// Last two octets of its MAC address.
    pub mac_tail: u16,
    /// Set of the constants below.
    pub flags: u16,
    /// Number of the NIC that its frames leave by: its own, or that of the NIC under a VLAN device.
    pub nic: u32,
    /// Tags of its frames, outer first, raw: type and tag control information; 0: none.
    pub tags: [u32; 2],
    /// The node's own address on it, the source of messages about packets from there; zero: none.
    pub address4: V4,
    /// The same for IPv6; zero: none.
    pub address6: V6,
}

/// What names the VLAN device that takes a tagged frame.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct VlanKey {
    /// Number of the NIC.
    pub nic: u32,
    /// VLAN id of the outer tag, host byte order.
    pub outer: u16,
    /// VLAN id of the inner tag, host byte order; 0: none.
    pub inner: u16,
}

impl VlanKey {
    /// The key of frames with these tags (raw, outer first) on a NIC.
    #[inline(always)]
    pub const fn new(nic: u32, tags: [u32; 2]) -> Self {
        Self {
            nic,
            outer: u32::from_be(tags[0]) as u16 & VLAN_ID,
            inner: u32::from_be(tags[1]) as u16 & VLAN_ID,
        }
    }
}

impl Interface {
    /// Frames cannot be redirected to its NIC from another one: they go to the kernel.
    pub const NO_REDIRECT: u16 = 1;

    /// Its MAC address.
    #[inline(always)]
    pub const fn mac(&self) -> Mac {
        Mac {
            head: self.mac_head,
            tail: self.mac_tail,
        }
    }

    /// What names it if it is a VLAN device.
    #[inline(always)]
    pub const fn vlan_key(&self) -> Option<VlanKey> {
        if self.tags[0] == 0 {
            return None;
        }
        Some(VlanKey::new(self.nic, self.tags))
    }
}

/// What the fragments of one packet have in common (RFC 791 section 3.2, RFC 8200 section 4.5).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct FragmentKey<A> {
    /// Source address, raw.
    pub source: A,
    /// Destination address, raw.
    pub destination: A,
    /// Identification, raw.
    pub identification: u32,
    /// Protocol number for IPv4; 0 for IPv6, where the identification alone counts.
    pub protocol: u32,
}

/// What the first fragment of a packet told, for those that follow.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fragments {
    /// When the first fragment came, jiffies.
    pub since: u64,
    /// Source and destination port as the word that stands in the header.
    pub ports: u32,
    /// Protocol number of the header above IP.
    pub protocol: u32,
    /// Stretches that have come, in units of eight octets: end in the upper half, begin in the lower;
    /// 0: unused.
    pub stretches: [u32; 4],
}

/// Counters of a rule, a CPU.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RuleCounters {
    /// Flows begun.
    pub new_flows: u64,
    /// Packets towards instances.
    pub packets_to_instance: u64,
    /// Bytes towards instances, IP header and payload.
    pub bytes_to_instance: u64,
    /// Packets from instances.
    pub packets_from_instance: u64,
    /// Bytes from instances, IP header and payload.
    pub bytes_from_instance: u64,
}

/// What every packet may need and every reload may change. Each word stands for itself, so a reader
/// that meets a half-written update sees a mix of two valid values.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settings {
    /// [`LAYOUT_VERSION`]; 0: not configured yet.
    pub layout: u32,
    /// Set of the constants below.
    pub flags: u32,
    /// Key of the flow hash.
    pub hash_key: [u64; 2],
    /// Shared timeouts.
    pub timeouts: Timeouts,
    /// Next hops looked up before this time (low word of jiffies) are looked up again.
    pub hops_valid_from: u32,
    /// Next hops are looked up again after this many jiffies.
    pub hop_lifetime: u32,
    /// Jiffies after which no CPU can still be using an entry that it found before it was over.
    pub grace: u32,
    /// Jiffies in a second.
    pub second: u32,
    /// Number of the last set of the tables of untrusted flows; one less than a power of two.
    pub untrusted_mask: u32,
    /// Flows are promoted while their table has fewer entries.
    pub promote_below: u32,
    /// What a new flow costs its source, in [`Settings::COSTS`] parts of a jiffy; 0: nothing.
    pub new_flow_cost: u32,
    /// The time, when the object was loaded for tests.
    pub test_now: u64,
}

impl Settings {
    /// Outsiders may address instances directly.
    pub const ALLOW_DIRECT: u32 = 1;
    /// Parts of a jiffy in which new flows are paid.
    pub const COSTS: u32 = 4096;
    /// The operator told the node to claim its addresses; for the next daemon, no packet asks.
    pub const ADVERTISE_ON: u32 = 2;
}

const _: () = assert!(size_of::<Owner>() == 16);
const _: () = assert!(size_of::<PortKey>() == 8);
const _: () = assert!(size_of::<PortPrefix>() == 8);
const _: () = assert!(size_of::<Bound>() == 8);
const _: () = assert!(size_of::<Rule>() == 48);
const _: () = assert!(size_of::<Interface>() == 48);
const _: () = assert!(size_of::<VlanKey>() == 8);
const _: () = assert!(size_of::<FragmentKey<V4>>() == 16);
const _: () = assert!(size_of::<FragmentKey<V6>>() == 40);
const _: () = assert!(size_of::<Fragments>() == 32);
const _: () = assert!(size_of::<RuleCounters>() == 40);
const _: () = assert!(size_of::<Settings>() == 80);
const _: () = assert!(size_of::<ReverseKey<V4>>() == 12);
const _: () = assert!(size_of::<ReverseKey<V6>>() == 24);
const _: () = assert!(size_of::<Reverse<V4>>() == 12);
const _: () = assert!(size_of::<Reverse<V6>>() == 24);
