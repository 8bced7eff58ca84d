//! What the programs and `forebay-bench` agree on; compiled into both.

use forebay_common::family::{V4, V6};

/// Entries of every table of flows, two a flow: the size at which the bench compares.
pub(crate) const TABLE_ENTRIES: u32 = 1 << 20;

/// How the driver and the generator write packets. One entry of the map `PLAN`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Plan {
    /// Packets written so far.
    pub(crate) counter: u64,
    /// Flows, less one; flows are a power of two.
    pub(crate) mask: u64,
    /// Half the bits of the mask.
    pub(crate) shift: u32,
    /// 0: from client to frontend; 1: from instance to client.
    pub(crate) is_reply: u32,
    /// Address of the frontend or instance, raw; IPv4 in the low word.
    pub(crate) peer: [u64; 2],
    /// First half of the clients' IPv6 addresses, raw.
    pub(crate) client_prefix: u64,
    /// Low word of the first client's address, host byte order.
    pub(crate) first_client: u32,
    /// Port of the frontend or instance, raw.
    pub(crate) peer_port: u32,
    /// Sum of what does not change in the IP header, the peer's address included.
    pub(crate) ip_sum: u64,
    /// The same for what the transport checksum covers.
    pub(crate) transport_sum: u64,
    /// First four octets of the destination MAC address.
    pub(crate) to_head: u32,
    /// First four octets of the source MAC address.
    pub(crate) from_head: u32,
    /// Last two octets of the destination MAC address.
    pub(crate) to_tail: u16,
    /// Last two octets of the source MAC address.
    pub(crate) from_tail: u16,
    /// Unused.
    pub(crate) padding: u32,
}

/// Flows of one client address are told apart by this many bits of the port.
const PORT_BITS: u32 = 15;
/// Port of the first flow of an address.
const FIRST_PORT: u16 = 1024;

/// The flow of a packet: a bijection between numbers below a power of two (mask + 1), so that
/// consecutive packets belong to flows whose table entries lie far apart.
#[inline(always)]
pub(crate) fn flow_of(number: u64, mask: u64, shift: u32) -> u64 {
    let mut flow = number & mask;
    flow = flow.wrapping_mul(0x9e37_79b9_7f4a_7c15) & mask;
    flow ^= flow >> shift;
    flow = flow.wrapping_mul(0xd6e8_feb8_6659_fd93) & mask;
    flow ^ flow >> shift
}

/// The client of a flow: what to add to the first client's address, and its port in host byte order.
#[inline(always)]
pub(crate) fn client_of(flow: u64) -> (u32, u16) {
    let port = FIRST_PORT + (flow & ((1 << PORT_BITS) - 1)) as u16;
    ((flow >> PORT_BITS) as u32, port)
}

/// What the minimal translator knows of its one rule, a family. One entry of `MINIMAL4`, `MINIMAL6`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Service<A> {
    /// Frontend address.
    pub(crate) frontend: A,
    /// Where the packets of new flows go.
    pub(crate) backends: [A; BACKENDS],
    /// Frontend port, raw.
    pub(crate) port: u16,
    /// Backend port, raw.
    pub(crate) backend_port: u16,
    /// Next hop towards backends.
    pub(crate) to_backends: NextHop,
    /// Next hop towards clients.
    pub(crate) to_clients: NextHop,
    /// Unused.
    pub(crate) padding: u32,
}

/// Backends of the minimal translator; a power of two.
pub(crate) const BACKENDS: usize = 4;

/// Which backend the minimal translator gives a new flow.
#[inline(always)]
pub(crate) fn backend_of(client: u32, ports: u32) -> usize {
    let mixed = (client ^ ports).wrapping_mul(0x9e37_79b1);
    (mixed >> 16) as usize & (BACKENDS - 1)
}

/// Both MAC addresses of a translated packet, and the slot of the device it leaves by.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct NextHop {
    /// First four octets of the destination.
    pub(crate) to_head: u32,
    /// First four octets of the source.
    pub(crate) from_head: u32,
    /// Last two octets of the destination.
    pub(crate) to_tail: u16,
    /// Last two octets of the source.
    pub(crate) from_tail: u16,
    /// Slot in `TX_PORTS`.
    pub(crate) slot: u32,
}

/// What the minimal translator makes of a packet.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Translation<A> {
    /// New source address.
    pub(crate) source: A,
    /// New destination address.
    pub(crate) destination: A,
    /// New ports, as in the header.
    pub(crate) ports: u32,
    /// Where it goes.
    pub(crate) hop: NextHop,
    /// Unused.
    pub(crate) padding: u32,
}

/// What the drop program counts. One entry a CPU of `ARRIVALS`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Arrivals {
    /// Frames to an address that was expected.
    pub(crate) expected: u64,
    /// All others.
    pub(crate) others: u64,
}

/// What arrives as it should: the last 32 bits of both addresses, raw.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Expectation {
    /// Of the destination.
    pub(crate) destination: Bits,
    /// Of the source.
    pub(crate) source: Bits,
}

/// What some bits of a word must be.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bits {
    /// The bits that must agree.
    pub(crate) mask: u32,
    /// What they must be.
    pub(crate) value: u32,
}

const _: () = assert!(size_of::<Plan>() == 88);
const _: () = assert!(size_of::<Translation<V4>>() == 32);
const _: () = assert!(size_of::<Translation<V6>>() == 56);
const _: () = assert!(size_of::<Service<V4>>() == 4 + 16 + 4 + 32 + 4);
const _: () = assert!(size_of::<Service<V6>>() == 16 + 64 + 4 + 32 + 4);
