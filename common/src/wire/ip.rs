//! Both IP headers as one.

use super::headers::{Header, Ipv4Header, Ipv6Header};
use crate::family::{Family, V4, V6};

/// TTL or hop limit of packets that the node itself makes (RFC 1700).
pub const INITIAL_HOPS: u8 = 64;
/// Type of service of ICMP errors (RFC 1812 section 4.3.2.5).
const INTERNETWORK_CONTROL: u8 = 0xc0;
/// "Don't fragment" in the IPv4 fragment field, host byte order.
pub const DONT_FRAGMENT: u16 = 0x4000;

/// What both IP headers have.
pub trait IpHeader<A: Family>: Header {
    /// Source address.
    fn source(&self) -> A;
    /// Destination address.
    fn destination(&self) -> A;
    /// Replaces both addresses.
    fn set_addresses(&self, source: A, destination: A);
    /// TTL or hop limit.
    fn hops(&self) -> u8;
    /// Takes one off TTL or hop limit, and adds `changed` (a one's complement difference of the
    /// addresses) to the header checksum if there is one.
    fn spend_hop(&self, changed: u64);
    /// Adds `changed` to the header checksum if there is one.
    fn repair(&self, changed: u64);
    /// Makes TTL or hop limit what a packet begins with.
    fn renew_hops(&self);
    /// The header checksum, raw; 0 if there is none.
    fn checksum(&self) -> u16;
    /// Makes this the header of a packet of the node's own.
    fn begin(&self, source: A, destination: A, protocol: u8, payload: u16);
    /// Whether a router may cut the packet into fragments.
    fn may_be_fragmented(&self) -> bool;
    /// Length of header and payload in bytes, as the header says.
    fn length(&self) -> u32;
    /// Protocol of the payload; for IPv6 the type of the next header.
    fn payload_protocol(&self) -> u8;
}

impl IpHeader<V4> for Ipv4Header {
    #[inline(always)]
    fn source(&self) -> V4 {
        V4(self.source.get())
    }

    #[inline(always)]
    fn destination(&self) -> V4 {
        V4(self.destination.get())
    }

    #[inline(always)]
    fn set_addresses(&self, source: V4, destination: V4) {
        self.source.set(source.0);
        self.destination.set(destination.0);
    }

    #[inline(always)]
    fn hops(&self) -> u8 {
        self.ttl.get()
    }

    #[inline(always)]
    fn spend_hop(&self, changed: u64) {
        let ttl = self.ttl.get();
        self.ttl.set(ttl.wrapping_sub(1));
        // TTL is the first byte of its 16-bit word in memory: one less there is 0xfffe more in one's
        // complement, whatever the byte order of the machine.
        let one_less = u64::from(u16::from_ne_bytes([1, 0]) ^ 0xffff);
        self.repair(changed + one_less);
    }

    #[inline(always)]
    fn repair(&self, changed: u64) {
        self.checksum
            .set(super::checksum::update(self.checksum.get(), changed));
    }

    #[inline(always)]
    fn renew_hops(&self) {
        let word = |hops: u8| u64::from(u16::from_ne_bytes([hops, 0]));
        let changed = (word(self.ttl.get()) ^ 0xffff) + word(INITIAL_HOPS);
        self.ttl.set(INITIAL_HOPS);
        self.repair(changed);
    }

    #[inline(always)]
    fn checksum(&self) -> u16 {
        self.checksum.get()
    }

    #[inline(always)]
    fn begin(&self, source: V4, destination: V4, protocol: u8, payload: u16) {
        self.version_ihl.set(0x45);
        self.tos.set(INTERNETWORK_CONTROL);
        let length = payload.wrapping_add(size_of::<Self>() as u16).to_be();
        self.total_length.set(length);
        self.identification.set(0);
        self.fragment.set(DONT_FRAGMENT.to_be());
        self.ttl.set(INITIAL_HOPS);
        self.protocol.set(protocol);
        self.set_addresses(source, destination);
        let word = |a, b| u64::from(u16::from_ne_bytes([a, b]));
        let sum = word(0x45, INTERNETWORK_CONTROL)
            + u64::from(length)
            + u64::from(DONT_FRAGMENT.to_be())
            + word(INITIAL_HOPS, protocol)
            + source.sum()
            + destination.sum();
        self.checksum.set(!super::checksum::fold(sum));
    }

    #[inline(always)]
    fn may_be_fragmented(&self) -> bool {
        self.fragment.get() & DONT_FRAGMENT.to_be() == 0
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        u32::from(self.total_length.host())
    }

    #[inline(always)]
    fn payload_protocol(&self) -> u8 {
        self.protocol.get()
    }
}

impl IpHeader<V6> for Ipv6Header {
    #[inline(always)]
    fn source(&self) -> V6 {
        V6(self.source.get())
    }

    #[inline(always)]
    fn destination(&self) -> V6 {
        V6(self.destination.get())
    }

    #[inline(always)]
    fn set_addresses(&self, source: V6, destination: V6) {
        self.source.set(source.0);
        self.destination.set(destination.0);
    }

    #[inline(always)]
    fn hops(&self) -> u8 {
        self.hop_limit.get()
    }

    #[inline(always)]
    fn spend_hop(&self, _changed: u64) {
        self.hop_limit.set(self.hop_limit.get().wrapping_sub(1));
    }

    #[inline(always)]
    fn repair(&self, _changed: u64) {}

    #[inline(always)]
    fn renew_hops(&self) {
        self.hop_limit.set(INITIAL_HOPS);
    }

    #[inline(always)]
    fn checksum(&self) -> u16 {
        0
    }

    #[inline(always)]
    fn begin(&self, source: V6, destination: V6, protocol: u8, payload: u16) {
        self.version.set(0x6000_0000_u32.to_be());
        self.payload_length.set(payload.to_be());
        self.next_header.set(protocol);
        self.hop_limit.set(INITIAL_HOPS);
        self.set_addresses(source, destination);
    }

    #[inline(always)]
    fn may_be_fragmented(&self) -> bool {
        false
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        u32::from(self.payload_length.host()) + 40
    }

    #[inline(always)]
    fn payload_protocol(&self) -> u8 {
        self.next_header.get()
    }
}
