//! The headers that the packet path may read and change.

use network_types::ip::IpProto;

use super::field::{Field8, Field16, Field32, Field128, FieldMac};
use crate::family::{Family, V4, V6};

/// Protocol number of TCP.
pub const TCP: u8 = IpProto::Tcp as u8;
/// Protocol number of UDP.
pub const UDP: u8 = IpProto::Udp as u8;

/// TTL or hop limit of packets that the node itself makes (RFC 1700).
pub const INITIAL_HOPS: u8 = 64;
/// Type of service of ICMP errors (RFC 1812 section 4.3.2.5).
const INTERNETWORK_CONTROL: u8 = 0xc0;
/// "Don't fragment" in the IPv4 fragment field, host byte order.
pub const DONT_FRAGMENT: u16 = 0x4000;

/// Marks types that may be laid over frame bytes.
///
/// # Safety
/// The type has alignment 1, no padding, and every bit pattern is valid; all its fields are
/// [`Field8`] and its kin.
pub unsafe trait Header {}

macro_rules! header {
    ($(#[$doc:meta])* $name:ident, $size:literal { $($(#[$fdoc:meta])* $field:ident: $ty:ty,)* }) => {
        $(#[$doc])*
        #[repr(C)]
        pub struct $name { $($(#[$fdoc])* pub $field: $ty,)* }
        const _: () = assert!(size_of::<$name>() == $size && align_of::<$name>() == 1);
        // SAFETY: only fields of the field module; size and alignment are asserted above.
        unsafe impl Header for $name {}
    };
}

header!(
    /// Ethernet II.
    Ethernet, 14 {
        /// Destination address.
        destination: FieldMac,
        /// Source address.
        source: FieldMac,
        /// Type of the payload.
        ethertype: Field16,
    }
);

header!(
    /// What follows an Ethernet type that announces a tag (IEEE 802.1Q).
    VlanTag, 4 {
        /// Priority and VLAN id.
        tci: Field16,
        /// Type of the payload.
        ethertype: Field16,
    }
);

header!(
    /// ARP for IPv4 over Ethernet (RFC 826).
    Arp, 28 {
        /// Hardware type and protocol type.
        types: Field32,
        /// Address lengths.
        lengths: Field16,
        /// Request or reply.
        operation: Field16,
        /// Sender's MAC address.
        sender_mac: FieldMac,
        /// Sender's address.
        sender: Field32,
        /// Target's MAC address.
        target_mac: FieldMac,
        /// Target's address.
        target: Field32,
    }
);

header!(
    /// IPv4 (RFC 791), without options.
    Ipv4Header, 20 {
        /// Version and header length in words.
        version_ihl: Field8,
        /// Type of service.
        tos: Field8,
        /// Length of header and payload.
        total_length: Field16,
        /// Identification.
        identification: Field16,
        /// Flags and fragment offset.
        fragment: Field16,
        /// Time to live.
        ttl: Field8,
        /// Protocol of the payload.
        protocol: Field8,
        /// Header checksum.
        checksum: Field16,
        /// Source address.
        source: Field32,
        /// Destination address.
        destination: Field32,
    }
);

header!(
    /// IPv6 (RFC 8200).
    Ipv6Header, 40 {
        /// Version, traffic class, flow label.
        version: Field32,
        /// Length of what follows this header.
        payload_length: Field16,
        /// Type of the next header.
        next_header: Field8,
        /// Hop limit.
        hop_limit: Field8,
        /// Source address.
        source: Field128,
        /// Destination address.
        destination: Field128,
    }
);

header!(
    /// TCP (RFC 9293), without options.
    Tcp, 20 {
        /// Source and destination port.
        ports: Field32,
        /// Sequence number.
        sequence: Field32,
        /// Acknowledgement number.
        acknowledgement: Field32,
        /// Length of header in words.
        offset: Field8,
        /// Flags.
        flags: Field8,
        /// Window.
        window: Field16,
        /// Checksum.
        checksum: Field16,
        /// Urgent pointer.
        urgent: Field16,
    }
);

header!(
    /// UDP (RFC 768).
    Udp, 8 {
        /// Source and destination port.
        ports: Field32,
        /// Length of header and payload.
        length: Field16,
        /// Checksum; zero over IPv4: none.
        checksum: Field16,
    }
);

header!(
    /// ICMP (RFC 792) and ICMPv6 (RFC 4443) up to their first word of content.
    Icmp, 8 {
        /// Type and code.
        kind: Field16,
        /// Checksum; for IPv6 over a pseudo-header too.
        checksum: Field16,
        /// Identifier and sequence number of an echo, MTU of a message about size.
        rest: Field32,
    }
);

header!(
    /// The ports that TCP and UDP headers begin with.
    Ports, 4 {
        /// Source and destination port.
        ports: Field32,
    }
);

header!(
    /// Two bytes, as a checksum has.
    Short, 2 {
        /// The field.
        value: Field16,
    }
);

header!(
    /// Four bytes, as sums are made of.
    Word, 4 {
        /// The field.
        value: Field32,
    }
);

header!(
    /// Thirty-two bytes, for long sums.
    Block, 32 {
        /// The first half.
        first: Field128,
        /// The second half.
        second: Field128,
    }
);

header!(
    /// What IPv6 extension headers begin with (RFC 8200 section 4).
    Extension, 4 {
        /// Type of the header behind it.
        next_header: Field8,
        /// Its length; the unit depends on its type.
        length: Field8,
        /// Type of a routing header.
        kind: Field8,
        /// Segments left of a routing header.
        segments_left: Field8,
    }
);

header!(
    /// IPv6 fragment header (RFC 8200 section 4.5).
    FragmentHeader, 8 {
        /// Type of the first header of the fragmented part.
        next_header: Field8,
        /// Reserved.
        reserved: Field8,
        /// Offset in its upper 13 bits, and the flag "more" in its lowest.
        offset: Field16,
        /// Identification.
        identification: Field32,
    }
);

header!(
    /// ICMPv6 neighbour solicitation without options (RFC 4861 section 4.3).
    Solicitation, 24 {
        /// Type and code.
        kind: Field16,
        /// Checksum.
        checksum: Field16,
        /// Reserved.
        reserved: Field32,
        /// Address asked for.
        target: Field128,
    }
);

header!(
    /// ICMPv6 neighbour solicitation or advertisement with one link-layer address option (RFC 4861).
    Neighbor, 32 {
        /// Type and code.
        kind: Field16,
        /// Checksum.
        checksum: Field16,
        /// Flags of an advertisement.
        flags: Field32,
        /// Address asked for.
        target: Field128,
        /// Type and length of the option.
        option: Field16,
        /// Link-layer address.
        mac: FieldMac,
    }
);

/// TCP flag bits.
pub mod tcp_flags {
    /// No more data.
    pub const FIN: u8 = 0x01;
    /// First packet.
    pub const SYN: u8 = 0x02;
    /// The connection is no more.
    pub const RST: u8 = 0x04;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 0x10;
}

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
