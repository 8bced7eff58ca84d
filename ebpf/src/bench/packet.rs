//! Headers from the Ethernet header up, as one piece each: one bounds check gives all of it.

use forebay_common::wire::{Arp, Ethernet, Header, Ipv4Header, Ipv6Header, Neighbor, Tcp, Udp};

macro_rules! whole {
    ($($(#[$doc:meta])* $name:ident, $ip:ty, $above:ty;)*) => {$(
        $(#[$doc])*
        #[repr(C)]
        pub(crate) struct $name {
            pub(crate) ethernet: Ethernet,
            pub(crate) ip: $ip,
            pub(crate) above: $above,
        }
        // SAFETY: made of headers alone, which have alignment 1 and no padding.
        unsafe impl Header for $name {}
    )*};
}

whole! {
    /// IPv4 and TCP.
    Tcp4, Ipv4Header, Tcp;
    /// IPv4 and UDP.
    Udp4, Ipv4Header, Udp;
    /// IPv6 and TCP.
    Tcp6, Ipv6Header, Tcp;
    /// IPv6 and UDP.
    Udp6, Ipv6Header, Udp;
    /// IPv6 and a neighbour solicitation.
    Solicitation, Ipv6Header, Neighbor;
}

/// ARP.
#[repr(C)]
pub(crate) struct ArpPacket {
    pub(crate) ethernet: Ethernet,
    pub(crate) arp: Arp,
}

// SAFETY: made of headers alone, which have alignment 1 and no padding.
unsafe impl Header for ArpPacket {}
