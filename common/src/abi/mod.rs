//! What crosses the boundary between kernel and host besides flows: table values, names, sizes.

pub mod names;
mod outbound;
mod rules;
mod trial;

pub use outbound::{
    MAX_PUBLIC_IPS, MAX_SNAT_RANGES, MAX_WAYS, POSITIONS, Position, PublicIp, SnatRange, Way,
    WayCounters, WayKey,
};
pub use rules::{Bound, PortKey, PortPrefix, Reverse, ReverseKey, Rule};
pub use trial::{TRIALS, Trial};

use crate::family::{V4, V6};
use crate::flow::{FlowKey, Timeouts};
use crate::wire::Mac;

/// Version of every layout in this crate. It names the folder of the pins, so that a daemon never
/// reads tables of another shape.
pub const LAYOUT_VERSION: u32 = 4;

/// Older layouts whose flow tables are as this one's: key, entry, and what they mean but for the ids of rules
/// and interfaces. A daemon takes over such flows.
pub const COMPATIBLE_FLOW_LAYOUTS: [u32; 2] = [2, 3];

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
    /// The public address of a public IP.
    pub const PUBLIC_IP: u32 = 32;
    /// An instance's private address that has a public IP.
    pub const HAS_PUBLIC_IP: u32 = 64;
    /// A public address with ports that instances go out by.
    pub const SNAT: u32 = 128;
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
    /// Goes on with every change of the tables of a node that has public IPs, once it is done: what was
    /// remembered of them before no longer counts.
    pub generation: u32,
    /// The time, when the object was loaded for tests.
    pub test_now: u64,
}

impl Settings {
    /// Reads [`Settings::generation`], before what is read of other tables after it.
    #[inline(always)]
    pub fn generation(&self) -> u32 {
        // SAFETY: a field of a valid value.
        unsafe { (&raw const self.generation).read_volatile() }
    }

    /// Outsiders may address instances directly.
    pub const ALLOW_DIRECT: u32 = 1;
    /// Parts of a jiffy in which new flows are paid.
    pub const COSTS: u32 = 4096;
    /// The operator told the node to claim its addresses; for the next daemon, no packet asks.
    pub const ADVERTISE_ON: u32 = 2;
    /// There are public IPs.
    pub const PUBLIC_IPS: u32 = 4;
    /// Whoever in the virtual network is no instance goes out by the ways under no address.
    pub const DEFAULT_OUTBOUND: u32 = 8;
}

const _: () = assert!(size_of::<Owner>() == 16);
const _: () = assert!(size_of::<Interface>() == 48);
const _: () = assert!(size_of::<VlanKey>() == 8);
const _: () = assert!(size_of::<FragmentKey<V4>>() == 16);
const _: () = assert!(size_of::<FragmentKey<V6>>() == 40);
const _: () = assert!(size_of::<Fragments>() == 32);
const _: () = assert!(size_of::<RuleCounters>() == 40);
const _: () = assert!(size_of::<Settings>() == 88);
