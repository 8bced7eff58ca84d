//! Bytes on the wire: frames, headers, parsing, checksums.

mod field;
mod headers;
mod parse;

pub mod checksum;

pub use field::{Field8, Field16, Field32, Field64, Field128, FieldMac, Mac};
pub use headers::{
    Arp, Ethernet, Header, IpHeader, Ipv4Header, Ipv6Header, Neighbor, TCP, Tcp, UDP, Udp, VlanTag,
    tcp_flags,
};
pub use parse::{LinkLayer, Network, Packet, Transport, link_layer, network};

/// A frame that can be looked at piece by piece.
pub trait Frame {
    /// The header at `offset` bytes from the start, unless it would pass the end of the bytes at
    /// hand.
    fn at<H: Header>(&self, offset: usize) -> Option<&H>;

    /// Number of the interface on which the frame came in.
    fn ingress_ifindex(&self) -> u32;

    /// `offset` (below 32), of which the verifier does not know which number it is.
    ///
    /// VERIFIER: constants 14, 18 and 22 would have everything behind the link layer verified three
    /// times; one unknown offset has it verified once.
    #[inline(always)]
    fn blurred(&self, offset: usize) -> usize {
        offset
    }
}

/// A frame in host memory.
#[cfg(feature = "user")]
pub struct HostFrame<'b> {
    bytes: &'b [core::cell::Cell<u8>],
    ingress_ifindex: u32,
}

#[cfg(feature = "user")]
impl<'b> HostFrame<'b> {
    /// A frame over `bytes`, which change as the packet path rewrites it.
    pub fn new(bytes: &'b mut [u8], ingress_ifindex: u32) -> Self {
        Self {
            bytes: core::cell::Cell::from_mut(bytes).as_slice_of_cells(),
            ingress_ifindex,
        }
    }
}

#[cfg(feature = "user")]
impl Frame for HostFrame<'_> {
    fn at<H: Header>(&self, offset: usize) -> Option<&H> {
        let window = self
            .bytes
            .get(offset..offset.checked_add(size_of::<H>())?)?;
        // SAFETY: `Header` promises alignment 1 and that every bit pattern is valid; the window has its
        // size, and both sides have interior mutability.
        Some(unsafe { &*window.as_ptr().cast::<H>() })
    }

    fn ingress_ifindex(&self) -> u32 {
        self.ingress_ifindex
    }
}
