//! ARP (RFC 826) and neighbour solicitation (RFC 4861): the node answers for its public addresses,
//! which are not on the host, where they are on-link.

use super::{Exit, Verdict};
use crate::abi::{Interface, Owner};
use crate::family::{V4, V6};
use crate::reason::Reason;
use crate::tables::{Shared, Tables};
use crate::wire::{
    Arp, Ethernet, Field128, Frame, IpHeader, Ipv6Header, LinkLayer, Mac, Neighbor, checksum,
};

/// Ethernet type of ARP, host byte order.
pub(super) const ARP: u16 = 0x0806;

const REQUEST: u16 = 1;
const REPLY: u16 = 2;
/// Ethernet (1), IPv4 (0x0800).
const ARP_TYPES: u32 = 0x0001_0800;
/// Six-octet MAC addresses, four-octet IPv4 addresses.
const ARP_LENGTHS: u16 = 0x0604;

/// Type and code of a neighbour solicitation and advertisement.
const SOLICITATION: u16 = 135 << 8;
const ADVERTISEMENT: u16 = 136 << 8;
/// Flags "solicited" and "override".
const SOLICITED_OVERRIDE: u32 = 0x6000_0000;
/// Link-layer address options, one unit of eight octets: of the source, of the target.
const SOURCE_LINK_LAYER: u16 = 0x0101;
const TARGET_LINK_LAYER: u16 = 0x0201;
/// Hop limit that proves a message never crossed a router (RFC 4861 section 7.1.1).
const ON_LINK_HOPS: u8 = 255;

/// The interface a frame came in on, if its link is one on which the address is answered for.
#[inline(always)]
fn answering<'t, T: Shared>(
    tables: &'t T,
    owner: Option<&Owner>,
    ingress: u32,
) -> Result<&'t Interface, Reason> {
    let owner = owner
        .filter(|owner| owner.roles & Owner::FRONTEND != 0)
        .ok_or(Reason::NeighborNotOurs)?;
    let slot = tables
        .interface_slot(ingress)
        .ok_or(Reason::NeighborNotOurs)?;
    if owner.on_link >> (slot & 63) & 1 == 0 {
        return Err(Reason::NeighborNotOurs);
    }
    tables.interface(slot).ok_or(Reason::NeighborNotOurs)
}

#[inline(always)]
fn turn_around<F: Frame>(frame: &F, mac: Mac) -> Result<Verdict, Reason> {
    let ethernet = frame.at::<Ethernet>(0).ok_or(Reason::Runt)?;
    ethernet.destination.set(ethernet.source.get());
    ethernet.source.set(mac);
    Ok(Verdict {
        reason: Reason::NeighborAnswered,
        exit: Exit::Transmit,
    })
}

/// Answers an ARP request for an owned address.
#[inline(always)]
pub(super) fn arp<F: Frame, T: Tables<V4>>(
    frame: &F,
    tables: &T,
    link: LinkLayer,
) -> Result<Verdict, Reason> {
    let arp = frame
        .at::<Arp>(link.offset)
        .ok_or(Reason::NeighborNotOurs)?;
    if arp.types.get() != ARP_TYPES.to_be()
        || arp.lengths.get() != ARP_LENGTHS.to_be()
        || arp.operation.host() != REQUEST
    {
        return Err(Reason::NeighborNotOurs);
    }
    let target = V4(arp.target.get());
    let mac = answering(tables, tables.owner(target), frame.ingress_ifindex())?.mac();
    arp.operation.set(REPLY.to_be());
    arp.target.set(arp.sender.get());
    arp.target_mac.set(arp.sender_mac.get());
    arp.sender.set(target.0);
    arp.sender_mac.set(mac);
    turn_around(frame, mac)
}

/// Whether a message is a neighbour solicitation.
#[inline(always)]
pub(super) fn is_solicitation(message: &Neighbor) -> bool {
    message.kind.host() == SOLICITATION
}

/// Answers a neighbour solicitation for an owned address.
///
/// `#[inline(never)]` would need the frame in a function of its own, which the verifier refuses; the
/// code is small.
#[inline(always)]
pub(super) fn solicitation<F: Frame, T: Tables<V6>>(
    frame: &F,
    tables: &T,
    link: LinkLayer,
) -> Result<Verdict, Reason> {
    let ip = frame.at::<Ipv6Header>(link.offset).ok_or(Reason::Runt)?;
    let message = frame
        .at::<Neighbor>(link.offset + size_of::<Ipv6Header>())
        .ok_or(Reason::NeighborNotOurs)?;
    let target = V6(message.target.get());
    let mac = answering(tables, tables.owner(target), frame.ingress_ifindex())?.mac();
    let asker = ip.source();
    // The answer is built in place, so it needs the room of the option that names the asker's MAC
    // address. Who asks without it (duplicate address detection) gets none.
    if ip.hop_limit.get() != ON_LINK_HOPS
        || usize::from(ip.payload_length.host()) != size_of::<Neighbor>()
        || message.option.get() != SOURCE_LINK_LAYER.to_be()
        || asker == V6::default()
    {
        return Err(Reason::NeighborUnanswerable);
    }
    ip.set_addresses(target, asker);
    message.kind.set(ADVERTISEMENT.to_be());
    message.flags.set(SOLICITED_OVERRIDE.to_be());
    message.option.set(TARGET_LINK_LAYER.to_be());
    message.mac.set(mac);
    message.checksum.set(0);
    message
        .checksum
        .set(advertisement_checksum(message, target, asker));
    turn_around(frame, mac)
}

/// Checksum over pseudo-header (RFC 8200 section 8.1) and message, in full.
#[inline(always)]
fn advertisement_checksum(message: &Neighbor, source: V6, destination: V6) -> u16 {
    use crate::family::Family;
    let pseudo =
        u64::from((size_of::<Neighbor>() as u32).to_be()) + u64::from(u32::from(V6::ICMP).to_be());
    let address = |field: &Field128| V6(field.get()).sum();
    let mac = message.mac.get();
    let body = u64::from(message.kind.get())
        + u64::from(message.flags.get())
        + address(&message.target)
        + u64::from(message.option.get())
        + u64::from(mac.head)
        + u64::from(mac.tail);
    !checksum::fold(pseudo + source.sum() + destination.sum() + body)
}
