//! Bytes on the wire: frames, headers, parsing, checksums.

mod field;
mod headers;
#[cfg(feature = "user")]
mod host;
mod ip;
mod parse;
mod sum;
mod upper;

pub mod checksum;

pub use field::{Field8, Field16, Field32, Field64, Field128, FieldMac, Mac};
pub use headers::{
    Arp, Block, Ethernet, Extension, FragmentHeader, Header, Icmp, Ipv4Header, Ipv6Header,
    Neighbor, Ports, Short, Solicitation, TCP, Tcp, UDP, Udp, VlanTag, Word, tcp_flags,
};
#[cfg(feature = "user")]
pub use host::HostFrame;
pub use ip::{DONT_FRAGMENT, INITIAL_HOPS, IpHeader};
pub use parse::{LinkLayer, Network, Packet, Transport, link_layer, network, tags, transport};
pub use sum::sum_of;
pub use upper::{Piece, Upper, upper};

/// A frame that can be looked at piece by piece.
pub trait Frame {
    /// The header at `offset` bytes from the start, unless it would pass the end of the bytes at
    /// hand.
    fn at<H: Header>(&self, offset: usize) -> Option<&H>;

    /// The raw word at `offset`, unless it would pass the end of the bytes at hand.
    #[inline(always)]
    fn word(&self, offset: usize) -> Option<u32> {
        self.at::<Word>(offset).map(|word| word.value.get())
    }

    /// Number of the interface on which the frame came in.
    fn ingress_ifindex(&self) -> u32;

    /// Moves the start of the frame: `by` more bytes in front of it, of any content, or as many fewer
    /// if negative. False, and nothing is changed, when there is no room.
    fn extend_front(&mut self, by: i32) -> bool;

    /// Moves the end of the frame, as [`Self::extend_front`] does its start.
    fn extend_back(&mut self, by: i32) -> bool;

    /// Bytes of the frame, those out of reach of [`Self::at`] included.
    fn length(&self) -> u32;

    /// `offset` (below 32), of which the verifier does not know which number it is.
    ///
    /// VERIFIER: constants 14, 18 and 22 would have everything behind the link layer verified three
    /// times; one unknown offset has it verified once.
    #[inline(always)]
    fn blurred(&self, offset: usize) -> usize {
        offset
    }

    /// `offset` (at most [`FAR`]), of which the verifier knows nothing more.
    ///
    /// VERIFIER: after a loop, each turn would otherwise be another case to be verified to the end.
    #[inline(always)]
    fn blurred_far(&self, offset: usize) -> usize {
        offset
    }
}

/// The farthest offset of a header that is looked at; one less than a power of two.
pub const FAR: usize = 0x3fff;
