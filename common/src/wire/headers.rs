//! The headers that the packet path may read and change.

use network_types::ip::IpProto;

use super::field::{Field8, Field16, Field32, Field128, FieldMac};
use crate::family::{Family, V4, V6};

/// Protocol number of TCP.
pub const TCP: u8 = IpProto::Tcp as u8;
/// Protocol number of UDP.
pub const UDP: u8 = IpProto::Udp as u8;

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
    fn length(&self) -> u32 {
        u32::from(self.payload_length.host()) + 40
    }

    #[inline(always)]
    fn payload_protocol(&self) -> u8 {
        self.next_header.get()
    }
}
