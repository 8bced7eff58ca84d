//! The header above IP, wherever it is: behind options, behind extension headers, or in the first
//! fragment of a packet.

use super::headers::{Extension, FragmentHeader};
use super::{FAR, Frame, IpHeader, Network};
use crate::reason::Reason;

/// Extension headers that are looked behind.
const MOST_EXTENSIONS: u32 = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;

/// "More fragments" in the IPv4 fragment field, host byte order.
const MORE4: u16 = 0x2000;
/// "More fragments" in the IPv6 fragment header, host byte order.
const MORE6: u16 = 1;

/// Which part of a packet a fragment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Piece {
    /// Identification, raw.
    pub identification: u32,
    /// Where it begins, in units of eight octets.
    pub offset: u32,
    /// Whether others follow it.
    pub more: bool,
}

impl Piece {
    /// Whether it is a part and not the whole.
    #[inline(always)]
    pub fn is_part(&self) -> bool {
        self.more || self.offset != 0
    }
}

/// The header above IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upper {
    /// Its protocol number.
    pub protocol: u8,
    /// Where it begins, bytes from the start of the frame; in a later fragment, where the fragment's
    /// content begins.
    pub start: usize,
    /// Where the fragment's content begins, which may be an extension header.
    pub content: usize,
    /// Which part of the packet this is.
    pub piece: Piece,
}

/// The fragment field of an IPv4 header, host byte order, as a piece.
#[inline(always)]
pub(super) fn piece_of_ipv4(identification: u16, fragment: u16) -> Piece {
    Piece {
        identification: u32::from(identification),
        offset: u32::from(fragment & 0x1fff),
        more: fragment & MORE4 != 0,
    }
}

/// Finds the header above an IP header that starts at `offset`.
///
/// # Errors
/// Lengths contradict each other, or there are headers that the node does not look behind.
#[inline(always)]
pub fn upper<A: Network, F: Frame>(
    frame: &F,
    ip: &A::Header,
    offset: usize,
) -> Result<Upper, Reason> {
    A::upper(frame, ip, offset)
}

/// Looks behind the extension headers of an IPv6 packet (RFC 8200 section 4).
#[inline(always)]
pub(super) fn behind_extensions<F: Frame>(
    frame: &F,
    first: u8,
    offset: usize,
    end: usize,
) -> Result<Upper, Reason> {
    let mut found = Upper {
        protocol: first,
        start: offset,
        content: offset,
        piece: Piece::default(),
    };
    let mut turn = 0;
    let mut is_fragment = false;
    while turn <= MOST_EXTENSIONS {
        turn += 1;
        let kind = found.protocol;
        if !matches!(
            kind,
            HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION
        ) {
            return Ok(found);
        }
        let extension = frame
            .at::<Extension>(found.start)
            .ok_or(Reason::Truncated)?;
        let units = usize::from(extension.length.get());
        let length = match kind {
            FRAGMENT => size_of::<FragmentHeader>(),
            AUTHENTICATION => (units + 2) << 2,
            _ => (units + 1) << 3,
        };
        if kind == ROUTING && extension.segments_left.get() != 0 {
            return Err(Reason::ExtensionHeader);
        }
        if kind == FRAGMENT && is_fragment {
            return Err(Reason::ExtensionHeader);
        }
        if kind == FRAGMENT {
            is_fragment = true;
            let header = frame
                .at::<FragmentHeader>(found.start)
                .ok_or(Reason::Truncated)?;
            let place = header.offset.host();
            found.piece = Piece {
                identification: header.identification.get(),
                offset: u32::from(place >> 3),
                more: place & MORE6 != 0,
            };
        }
        found.protocol = extension.next_header.get();
        found.start += length;
        if found.start > end || found.start > FAR {
            return Err(Reason::BadLength);
        }
        found.start = frame.blurred_far(found.start);
        if kind == FRAGMENT {
            found.content = found.start;
        }
        if found.piece.offset != 0 {
            return Ok(found);
        }
    }
    Err(Reason::ExtensionHeader)
}

/// Where a packet ends that begins at `offset`, bytes from the start of the frame.
#[inline(always)]
pub(super) fn end_of<A: Network>(ip: &A::Header, offset: usize) -> usize {
    offset + ip.length() as usize
}
