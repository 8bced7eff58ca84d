//! ARP (RFC 826) and neighbour solicitation (RFC 4861): the node answers for its public addresses,
//! which are not on the host, where they are on-link.

use super::Step;
use super::vlan;
use crate::abi::{Interface, Owner};
use crate::family::{Family, V4, V6};
use crate::reason::Reason;
use crate::tables::{Shared, Tables};
use crate::wire::{
    Arp, Ethernet, Field128, Frame, IpHeader, Ipv6Header, LinkLayer, Mac, Neighbor, Solicitation,
    checksum, sum_of,
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
/// Flags of an advertisement.
const SOLICITED: u32 = 0x4000_0000;
const OVERRIDE: u32 = 0x2000_0000;
/// The options with the sender's link-layer address, one unit of eight octets.
const SOURCE_LINK_LAYER: u16 = 0x0101;
/// The option with the target's link-layer address, one unit of eight octets.
const TARGET_LINK_LAYER: u16 = 0x0201;
/// Longest solicitation that is answered, bytes: as many options as anybody sends.
const LONGEST_SOLICITATION: usize = 96;
/// All nodes on the link, and their MAC address (RFC 4291 section 2.7.1, RFC 2464 section 7).
const ALL_NODES: V6 = V6([0xff02_0000_0000_0000_u64.to_be(), 1_u64.to_be()]);
const ALL_NODES_MAC: Mac = Mac::from_octets([0x33, 0x33, 0, 0, 0, 1]);
/// Hop limit that proves a message never crossed a router (RFC 4861 section 7.1.1).
const ON_LINK_HOPS: u8 = 255;

/// The interface a frame came in on, if its link is one on which the address is answered for.
#[inline(always)]
fn answering<'t, F: Frame, T: Shared>(
    frame: &F,
    tables: &'t T,
    owner: Option<&Owner>,
) -> Result<&'t Interface, Reason> {
    let owner = owner
        .filter(|owner| owner.roles & (Owner::FRONTEND | Owner::PUBLIC_IP) != 0)
        .ok_or(Reason::NeighborNotOurs)?;
    let slot = vlan::ingress_slot(frame, tables).ok_or(Reason::NeighborNotOurs)?;
    if owner.on_link >> (slot & 63) & 1 == 0 {
        return Err(Reason::NeighborNotOurs);
    }
    tables.interface(slot).ok_or(Reason::NeighborNotOurs)
}

#[inline(always)]
fn answer<F: Frame>(frame: &F, from: Mac, to: Mac) -> Result<Step, Reason> {
    let ethernet = frame.at::<Ethernet>(0).ok_or(Reason::Runt)?;
    ethernet.destination.set(to);
    ethernet.source.set(from);
    Ok(Step::transmit(Reason::NeighborAnswered))
}

/// Answers an ARP request for an owned address.
#[inline(always)]
pub(super) fn arp<F: Frame, T: Tables<V4>>(
    frame: &F,
    tables: &T,
    link: LinkLayer,
) -> Result<Step, Reason> {
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
    let mac = answering(frame, tables, tables.owner(target))?.mac();
    let asker = frame.at::<Ethernet>(0).ok_or(Reason::Runt)?.source.get();
    arp.operation.set(REPLY.to_be());
    arp.target.set(arp.sender.get());
    arp.target_mac.set(arp.sender_mac.get());
    arp.sender.set(target.0);
    arp.sender_mac.set(mac);
    answer(frame, mac, asker)
}

/// What a valid solicitation asks.
struct Question {
    target: V6,
    /// Unspecified: whether the address is taken (duplicate address detection, RFC 4862 section 5.4).
    asker: V6,
    asker_mac: Mac,
    mac: Mac,
}

/// Answers a neighbour solicitation for an owned address.
///
/// # Errors
/// It is none, it is about nobody of ours, or it is not valid.
#[inline(always)]
pub(super) fn solicitation<F: Frame, T: Tables<V6>>(
    frame: &mut F,
    tables: &T,
    link: LinkLayer,
) -> Result<Step, Reason> {
    let question = read(frame, tables, link)?;
    let there = frame.length() as usize;
    let message_at = link.offset + size_of::<Ipv6Header>();
    let wanted = message_at + size_of::<Neighbor>();
    let by = wanted as i32 - there as i32;
    if by != 0 && !frame.extend_back(by) {
        return Err(Reason::NoRoom);
    }
    let is_detection = question.asker == V6::default();
    let (to, to_mac, flags) = if is_detection {
        (ALL_NODES, ALL_NODES_MAC, OVERRIDE)
    } else {
        (question.asker, question.asker_mac, SOLICITED | OVERRIDE)
    };
    let ip = frame.at::<Ipv6Header>(link.offset).ok_or(Reason::Runt)?;
    let payload = size_of::<Neighbor>() as u16;
    ip.begin(question.target, to, V6::ICMP, payload);
    ip.hop_limit.set(ON_LINK_HOPS);
    let message = frame.at::<Neighbor>(message_at).ok_or(Reason::NoRoom)?;
    message.kind.set(ADVERTISEMENT.to_be());
    message.flags.set(flags.to_be());
    message.target.set(question.target.0);
    message.option.set(TARGET_LINK_LAYER.to_be());
    message.mac.set(question.mac);
    message.checksum.set(0);
    let sum = advertisement_checksum(message, question.target, to);
    message.checksum.set(sum);
    answer(frame, question.mac, to_mac)
}

#[inline(always)]
fn read<F: Frame, T: Tables<V6>>(
    frame: &F,
    tables: &T,
    link: LinkLayer,
) -> Result<Question, Reason> {
    let ip = frame.at::<Ipv6Header>(link.offset).ok_or(Reason::Runt)?;
    let message_at = link.offset + size_of::<Ipv6Header>();
    let message = frame
        .at::<Solicitation>(message_at)
        .filter(|message| message.kind.host() == SOLICITATION)
        .filter(|_| ip.payload_protocol() == V6::ICMP)
        .ok_or(Reason::NeighborNotOurs)?;
    let length = usize::from(ip.payload_length.host());
    let question = Question {
        target: V6(message.target.get()),
        asker: ip.source(),
        asker_mac: frame.at::<Ethernet>(0).ok_or(Reason::Runt)?.source.get(),
        mac: answering(frame, tables, tables.owner(V6(message.target.get())))?.mac(),
    };
    let is_plausible = ip.hop_limit.get() == ON_LINK_HOPS
        && (size_of::<Solicitation>()..=LONGEST_SOLICITATION).contains(&length)
        && length % 8 == 0
        && !question.asker_mac.is_group()
        && if question.asker == V6::default() {
            is_solicited_node(ip.destination()) && !names_its_mac(frame, message_at)
        } else {
            u64::from_be(question.asker.0[0]) >> 56 != 0xff
        };
    let sum = pseudo_header(question.asker, ip.destination(), length);
    let sum = sum_of::<LONGEST_SOLICITATION, F>(frame, message_at, length)
        .map(|body| checksum::fold(sum + body));
    if !is_plausible || sum != Some(0xffff) {
        return Err(Reason::NeighborUnanswerable);
    }
    Ok(question)
}

/// Whether the first option of a solicitation is its sender's MAC address.
#[inline(always)]
fn names_its_mac<F: Frame>(frame: &F, message_at: usize) -> bool {
    frame
        .at::<Neighbor>(message_at)
        .is_some_and(|message| message.option.get() == SOURCE_LINK_LAYER.to_be())
}

/// Whether an address is a solicited-node multicast address (RFC 4291 section 2.7.1).
#[inline(always)]
fn is_solicited_node(address: V6) -> bool {
    let [high, low] = address.0;
    high == 0xff02_0000_0000_0000_u64.to_be() && u64::from_be(low) >> 24 == 0x1_ff
}

#[inline(always)]
fn pseudo_header(source: V6, destination: V6, length: usize) -> u64 {
    u64::from((length as u32).to_be())
        + u64::from(u32::from(V6::ICMP).to_be())
        + source.sum()
        + destination.sum()
}

/// Checksum over pseudo-header (RFC 8200 section 8.1) and message, in full.
#[inline(always)]
fn advertisement_checksum(message: &Neighbor, source: V6, destination: V6) -> u16 {
    let address = |field: &Field128| V6(field.get()).sum();
    let mac = message.mac.get();
    let body = u64::from(message.kind.get())
        + u64::from(message.flags.get())
        + address(&message.target)
        + u64::from(message.option.get())
        + u64::from(mac.head)
        + u64::from(mac.tail);
    !checksum::fold(pseudo_header(source, destination, size_of::<Neighbor>()) + body)
}
