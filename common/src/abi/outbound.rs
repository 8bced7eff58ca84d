//! How instances reach the outside: with which public addresses and ports.

use crate::family::{V4, V6};

/// Ways out, a family: one for each source and protocol.
pub const MAX_WAYS: u32 = 262_144;
/// Ranges of SNAT ports, a family.
pub const MAX_SNAT_RANGES: u32 = 262_144;
/// Public IPs, a family; each has two entries.
pub const MAX_PUBLIC_IPS: u32 = 65_536;
/// Places where the search for free SNAT ports is remembered, a power of two.
pub const POSITIONS: u32 = 65_536;

/// Whose way out it is, over which protocol.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct WayKey<A> {
    /// Private address of the source, raw; all zero: whoever in the virtual network is no instance.
    pub source: A,
    /// Protocol number: TCP, UDP, or the family's ICMP.
    pub protocol: u32,
    /// Zero.
    pub padding: u32,
}

impl<A> WayKey<A> {
    /// The key of a source's packets of a protocol.
    #[inline(always)]
    pub const fn new(source: A, protocol: u32) -> Self {
        Self {
            source,
            protocol,
            padding: 0,
        }
    }
}

/// How new flows of a source go out over a protocol. Written whole, so that it changes at once.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Way {
    /// Id of the outbound rule, which counts its packets; 0: none.
    pub rule: u32,
    /// Set of the constants below, and [`crate::flow::FlowKind`] from [`Self::KIND_SHIFT`] on.
    pub flags: u32,
    /// Idle timeout of established flows, jiffies.
    pub idle: u32,
    /// The same for UDP to port 53.
    pub idle_dns: u32,
    /// First of the source's own ranges.
    pub first: u32,
    /// How many they are; their ports are numbered through.
    pub ranges: u32,
    /// Ports in them.
    pub ports: u32,
    /// First of the ranges that it shares with others once its own are spent.
    pub burst_first: u32,
    /// How many they are; their ports are numbered through by themselves.
    pub burst_ranges: u32,
    /// Ports in them.
    pub burst_ports: u32,
}

impl Way {
    /// RST to both sides when an established flow idles out.
    pub const TCP_RESET: u32 = 1;
    /// One port for each source port, whatever the destination (RFC 4787 REQ-1).
    pub const ENDPOINT_INDEPENDENT: u32 = 2;
    /// With it: anybody may send to that port.
    pub const OPEN_TO_ALL: u32 = 4;
    /// With it: whoever was contacted may send to that port, from any port.
    pub const OPEN_TO_CONTACTED: u32 = 8;
    /// The lowest free port, else a random one.
    pub const LOWEST: u32 = 16;
    /// Ranges in their order, else spread by source and destination.
    pub const FILL: u32 = 32;
    /// Any range.
    pub const RANDOM: u32 = 64;
    /// Who gets no port is told.
    pub const REJECT: u32 = 128;
    /// Where the kind of the flows stands.
    pub const KIND_SHIFT: u32 = 8;
}

/// Ports of one public address.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct SnatRange<A> {
    /// The address, raw.
    pub address: A,
    /// The first port, host byte order.
    pub first: u16,
    /// How many.
    pub count: u16,
    /// How many ports the ranges of the same way before this one have.
    pub before: u32,
}

/// What came of the new flows of a way. Under the way's key; made by the daemon, counted by the program.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WayCounters<A> {
    /// Flows that got a port.
    pub opened: u64,
    /// Packets that were refused because no port was free for their destination.
    pub refused: u64,
    /// Destination of the last one, raw.
    pub destination: A,
    /// The public address that it was to leave by, raw.
    pub address: A,
    /// Its destination port, host byte order.
    pub port: u32,
    /// Unused.
    pub padding: u32,
}

/// The other address of a public IP: under the public one the private, under the private the public.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct PublicIp<A> {
    /// Next hop of packets to the instance, as in a flow; the program keeps it under the public address.
    pub hop: u64,
    /// When that was looked up, low word of jiffies.
    pub hop_stamp: u64,
    /// The other address, raw.
    pub other: A,
    /// Zero.
    pub spare: A,
}

/// Where the search for a free port towards a destination stands.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// Of whose search; 0: nobody's.
    pub signature: u32,
    /// When it was last touched, low word of jiffies.
    pub stamp: u32,
    /// Number of the port where the lap began.
    pub start: u32,
    /// Ports tried in vain since.
    pub tried: u32,
}

const _: () = assert!(size_of::<WayKey<V4>>() == 12);
const _: () = assert!(size_of::<WayKey<V6>>() == 24);
const _: () = assert!(size_of::<Way>() == 40);
const _: () = assert!(size_of::<SnatRange<V4>>() == 12);
const _: () = assert!(size_of::<SnatRange<V6>>() == 24);
const _: () = assert!(size_of::<WayCounters<V4>>() == 32);
const _: () = assert!(size_of::<WayCounters<V6>>() == 56);
const _: () = assert!(size_of::<PublicIp<V4>>() == 24);
const _: () = assert!(size_of::<PublicIp<V6>>() == 48);
const _: () = assert!(size_of::<Position>() == 16);
