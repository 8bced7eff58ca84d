//! The headers that the packet path may read and change.

use network_types::ip::IpProto;

use super::field::{Field8, Field16, Field32, Field128, FieldMac};

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
