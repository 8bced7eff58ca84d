//! ICMP errors of the node's own: a packet that cannot go on, and whose sender is to be told (RFC 792,
//! RFC 1812 section 4.3, RFC 4443 section 2.4). Built around the packet itself, which is what it quotes.

use super::{Goes, Outcome, Step, by_family, conclude, is_longer_than_frame, limit, vlan};
use crate::abi::{Owner, Settings};
use crate::family::{Family, V4, V6};
use crate::reason::Reason;
use crate::tables::{AnswerKind, Shared, Tables};
use crate::wire::{
    Ethernet, Field16, Frame, Icmp, IpHeader, LinkLayer, Mac, Network, Short, Word, checksum,
    sum_of, tags, upper,
};

/// Quotes are cut to a multiple of this many octets.
const UNIT: usize = 4;
/// Longest quote of both families, bytes.
const LONGEST_QUOTE: usize = 1280 - 48;

/// What is said about a packet.
#[derive(Clone, Copy)]
struct Complaint {
    /// Why the packet goes no further.
    cause: Reason,
    /// Under what it is counted once its sender was told.
    told: Reason,
    /// Type and code, host byte order.
    kind: u16,
    /// The word after the checksum, host byte order.
    rest: u32,
}

/// Whether the sender of a packet that ends for this reason is told.
#[inline(always)]
pub(super) fn is_told(reason: Reason) -> bool {
    matches!(reason, Reason::HopsExceeded | Reason::TooBig)
}

/// Notes for the stage why a packet ends; false when that cannot be.
#[inline(always)]
pub(super) fn note<T: Shared>(tables: &T, cause: Reason) -> bool {
    tables.per_cpu(|cpu| cpu.complaint = cause as u32).is_some()
}

/// The stage of complaints.
#[inline(always)]
pub fn complain<F: Frame, T: Tables<V4> + Tables<V6>>(frame: &mut F, tables: &T) -> Outcome {
    let step = by_family(frame, tables, tell::<V4, F, T>, tell::<V6, F, T>);
    // What cannot be said is not said about again.
    let step = match step {
        Err(reason) if is_told(reason) => Ok(Step::to(Goes::Drop, reason, 0)),
        other => other,
    };
    conclude(tables, step)
}

/// What was noted for this packet.
///
/// VERIFIER: asked for where it is used, so that what lies between is verified once for all complaints.
#[inline(always)]
fn noted<A: Family, T: Shared>(tables: &T) -> Complaint {
    let (cause, mtu) = tables
        .per_cpu(|cpu| (cpu.complaint, cpu.mtu))
        .unwrap_or_default();
    let (cause, told, kind, rest) = if cause == Reason::TooBig as u32 {
        (Reason::TooBig, Reason::TooBigSent, A::TOO_BIG, mtu)
    } else if cause == Reason::HopsExceeded as u32 {
        (
            Reason::HopsExceeded,
            Reason::TimeExceededSent,
            A::TIME_EXCEEDED,
            0,
        )
    } else if cause == Reason::SnatExhausted as u32 {
        (Reason::SnatExhausted, Reason::SnatRefused, A::PROHIBITED, 0)
    } else {
        (
            Reason::NoBackend,
            Reason::UnreachableSent,
            A::HOST_UNREACHABLE,
            0,
        )
    };
    Complaint {
        cause,
        told,
        kind,
        rest,
    }
}

#[inline(always)]
fn tell<A: Network, F: Frame, T: Tables<A>>(
    frame: &mut F,
    tables: &T,
    link: LinkLayer,
    settings: &Settings,
) -> Result<Step, Reason> {
    match wrapped::<A, F, T>(frame, tables, link, settings) {
        Some(sum) => {
            let complaint = noted::<A, T>(tables);
            let start = link.offset + size_of::<A::Header>();
            let message = frame.at::<Icmp>(start).ok_or(complaint.cause)?;
            let sum = sum + u64::from(complaint.kind.to_be()) + u64::from(complaint.rest.to_be());
            message.kind.set(complaint.kind.to_be());
            message.rest.set(complaint.rest.to_be());
            message.checksum.set(!checksum::fold(sum));
            Ok(Step::transmit(complaint.told))
        }
        None => Err(noted::<A, T>(tables).cause),
    }
}

/// Wraps a packet as the quote of a message to its sender, all but the message's own header; the sum of what
/// its checksum covers besides that.
#[inline(always)]
fn wrapped<A: Network, F: Frame, T: Tables<A>>(
    frame: &mut F,
    tables: &T,
    link: LinkLayer,
    settings: &Settings,
) -> Option<u64> {
    let ip = frame.at::<A::Header>(link.offset)?;
    let (asker, asked) = (ip.source(), ip.destination());
    let length = ip.length() as usize;
    let ethernet = frame.at::<Ethernet>(0)?;
    let (to, from) = (ethernet.source.get(), ethernet.destination.get());
    let is_for_many = to.is_group() || from.is_group();
    if is_for_many || !may_be_told::<A, F>(frame, ip, link) {
        return None;
    }
    let macs = (to, vlan::own_mac(frame, tables).unwrap_or(from));
    let speaker = speaker(frame, tables, asked);
    if !limit::admits(tables, settings, AnswerKind::Error, asker) {
        return None;
    }
    let tags = tags(frame);
    let own = size_of::<A::Header>() + size_of::<Icmp>();
    if is_longer_than_frame(frame, link, length as u32) {
        return None;
    }
    let there = (frame.length() as usize).saturating_sub(link.offset);
    let most = A::LONGEST_ERROR as usize - own;
    let quote = length.min(there).min(most) & !(UNIT - 1);
    let surplus = there as i32 - quote as i32;
    if (surplus != 0 && !frame.extend_back(-surplus)) || !frame.extend_front(own as i32) {
        return None;
    }
    begin_frame(frame, link, macs, tags, A::ETHERTYPE)?;
    let payload = (size_of::<Icmp>() + quote) as u16;
    let ip = frame.at::<A::Header>(link.offset)?;
    ip.begin(speaker, asker, A::ICMP, payload);
    let mut sum = sum_of::<LONGEST_QUOTE, F>(frame, link.offset + own, quote)?;
    if A::AF == V6::AF {
        // The pseudo-header (RFC 8200 section 8.1).
        sum += speaker.sum() + asker.sum();
        sum += u64::from(u32::from(payload).to_be()) + u64::from(u32::from(A::ICMP).to_be());
    }
    Some(sum)
}

/// Whether anybody may be told about a packet: not about ICMP errors, later fragments, and what came to
/// or from many (RFC 1812 section 4.3.2.7, RFC 4443 section 2.4).
#[inline(always)]
fn may_be_told<A: Network, F: Frame>(frame: &F, ip: &A::Header, link: LinkLayer) -> bool {
    let Ok(upper) = upper::<A, F>(frame, ip, link.offset) else {
        return false;
    };
    let is_error = upper.protocol == A::ICMP
        && frame
            .at::<Short>(upper.start)
            .is_none_or(|kind| kind.value.host() >> 8 != u16::from(A::ECHO[0]));
    !is_error && upper.piece.offset == 0 && ip.source().is_global_unicast()
}

/// Who says it, as somebody the asker knows: the frontend that it wrote to, else the node's own address
/// on that link, else whom it wrote to.
#[inline(always)]
fn speaker<A: Family, F: Frame, T: Tables<A>>(frame: &F, tables: &T, asked: A) -> A {
    let is_frontend = tables
        .owner(asked)
        .is_some_and(|owner| owner.roles & (Owner::FRONTEND | Owner::PUBLIC_IP) != 0);
    if is_frontend {
        return asked;
    }
    let slot = vlan::ingress_slot(frame, tables);
    let own = slot
        .and_then(|slot| tables.interface(slot))
        .map_or(A::default(), A::of_interface);
    if own.is_global_unicast() { own } else { asked }
}

/// Writes a link layer like that of the packet, towards its sender.
#[inline(always)]
fn begin_frame<F: Frame>(
    frame: &F,
    link: LinkLayer,
    macs: (Mac, Mac),
    tags: [u32; 2],
    ethertype: u16,
) -> Option<()> {
    let ethernet = frame.at::<Ethernet>(0)?;
    ethernet.destination.set(macs.0);
    ethernet.source.set(macs.1);
    let tags_at = size_of::<Ethernet>() - size_of::<Field16>();
    if tags[0] != 0 {
        frame.at::<Word>(tags_at)?.value.set(tags[0]);
    }
    if tags[1] != 0 {
        frame
            .at::<Word>(tags_at + size_of::<Word>())?
            .value
            .set(tags[1]);
    }
    // VERIFIER: an offset of its own; a pointer that was moved back cannot be checked.
    let kind_at = frame.blurred(link.offset - size_of::<Field16>());
    let kind = frame.at::<Short>(kind_at)?;
    kind.value.set(ethertype.to_be());
    Some(())
}
