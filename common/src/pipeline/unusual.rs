//! Packets whose TCP or UDP header is not right behind the IP header: fragments, and IPv6 packets with
//! extension headers.
//!
//! The first fragment of a packet has the ports; it decides, and what it told is kept for those that
//! follow. A node cannot keep packets, so a later fragment that comes before the first is lost.

use super::icmp::of_an_instance;
use super::{
    Goes, Outcome, Step, Terms, by_family, concerns_us, conclude, echo, first, former, forward,
    heard, is_longer_than_frame, key_of, known, public, vlan,
};
use crate::abi::{FragmentKey, Fragments, Settings};
use crate::family::{Family, V4, V6};
use crate::flow::FlowKey;
use crate::reason::{Fate, Reason};
use crate::tables::{Shared, Tables};
use crate::wire::{
    Frame, IpHeader, LinkLayer, Network, Packet, Transport, Upper, transport, upper,
};

/// Seconds that a packet's fragments may be apart (RFC 6146 section 3.4 has the same).
const PATIENCE: u64 = 2;

/// Octets in a unit of fragment offsets.
const UNIT: u32 = 8;

/// The stage of fragments and extension headers.
#[inline(always)]
pub fn unusual<F: Frame, T: Tables<V4> + Tables<V6>>(frame: &mut F, tables: &T) -> Outcome {
    let step = by_family(&*frame, tables, ip::<V4, F, T>, ip::<V6, F, T>);
    conclude(tables, step)
}

/// What the fragments of a packet with this key are known by.
#[inline(always)]
fn fragment_key<A: Family>(key: &FlowKey<A>, identification: u32, protocol: u8) -> FragmentKey<A> {
    FragmentKey {
        source: key.source,
        destination: key.destination,
        identification,
        // RFC 8200 section 4.5: the protocol of a later IPv6 fragment may be that of an extension header.
        protocol: if A::AF == V4::AF {
            u32::from(protocol)
        } else {
            0
        },
    }
}

/// Where a piece begins and ends, in units.
#[inline(always)]
fn stretch<A: Network>(ip: &A::Header, offset: usize, upper: &Upper) -> Result<u32, Reason> {
    let header = (upper.content - offset) as u32;
    let content = ip.length().wrapping_sub(header);
    if content > ip.length() || (upper.piece.more && content & (UNIT - 1) != 0) || content == 0 {
        return Err(Reason::BadLength);
    }
    let end = upper.piece.offset + content.div_ceil(UNIT);
    Ok(end << 16 | upper.piece.offset)
}

#[inline(always)]
fn ip<A: Network, F: Frame, T: Tables<A>>(
    frame: &F,
    tables: &T,
    link: LinkLayer,
    settings: &Settings,
) -> Result<Step, Reason> {
    let ip = frame.at::<A::Header>(link.offset).ok_or(Reason::Runt)?;
    let terms = Terms {
        settings,
        now: tables.now(),
    };
    let mut key = key_of::<A>(ip, ip.payload_protocol());
    let ingress = vlan::ingress_device(frame, tables);
    let judged = |key: &FlowKey<A>, reason| first::without_flow(tables, key, ingress, reason);
    if is_longer_than_frame(frame, link, ip.length()) {
        return Err(judged(&key, Reason::Truncated));
    }
    let upper = match upper::<A, F>(frame, ip, link.offset) {
        Ok(upper) => upper,
        Err(reason) => return Err(judged(&key, reason)),
    };
    key.protocol = u32::from(upper.protocol);
    // Those of instances without a public IP have flows.
    if public::is_to_one(tables, &key) && !public::has_flows(tables, &key) {
        return Ok(Step::stage(Goes::Public));
    }
    let part = match part_of::<A>(ip, link.offset, &upper) {
        Ok(part) => part,
        Err(reason) => return Err(judged(&key, reason)),
    };
    let identification = upper.piece.identification;
    let first = if let Part::First(stretch) = part {
        stretch
    } else {
        0
    };
    tables
        .per_cpu(|cpu| {
            cpu.first = first;
            cpu.identification = identification;
        })
        .ok_or(Reason::NotLoaded)?;
    match admission(tables, &mut key, identification, upper.protocol, part) {
        Admission::Welcome => {}
        Admission::Overlap => return Err(Reason::FragmentOverlap),
        Admission::Late => {
            let reason = Reason::FragmentWithoutFirst;
            let judged = judged(&key, reason);
            if matches!(judged, Reason::NoOutbound) && public::has_one(tables, &key) {
                return Ok(Step::stage(Goes::Public));
            }
            let is_ours = matches!(judged.fate(), Fate::Drop);
            return Err(if is_ours { reason } else { judged });
        }
    }
    let is_of_ping = key.protocol == u32::from(A::ICMP);
    let step = if is_of_ping && !(matches!(part, Part::Later(_)) && key.ports != 0) {
        match part {
            Part::Whole => Ok(Step::stage(Goes::Icmp)),
            Part::First(_) => of_an_instance(frame, tables, settings, ip, upper.start),
            Part::Later(_) => echo::turn_around(frame, tables, ip),
        }
    } else {
        of_a_flow(frame, tables, link, ip, &mut key, part, upper.start, terms)
    }?;
    let first = first_at_hand(tables);
    // The stage of first packets remembers by itself those that it lets through.
    if first != 0
        && !matches!(
            step.goes,
            Goes::Complain | Goes::First | Goes::Ping | Goes::Public
        )
    {
        remember(tables, &key, identification, first);
    }
    Ok(step)
}

/// Which part of a packet is at hand; with it, where it lies in the whole.
#[derive(Clone, Copy)]
enum Part {
    Whole,
    First(u32),
    Later(u32),
}

#[inline(always)]
fn part_of<A: Network>(ip: &A::Header, offset: usize, upper: &Upper) -> Result<Part, Reason> {
    if !upper.piece.is_part() {
        return Ok(Part::Whole);
    }
    let stretch = stretch::<A>(ip, offset, upper)?;
    Ok(if upper.piece.offset == 0 {
        Part::First(stretch)
    } else {
        Part::Later(stretch)
    })
}

/// Whether a part fits with those that came before it.
#[inline(always)]
fn admission<A: Family, T: Tables<A>>(
    tables: &T,
    key: &mut FlowKey<A>,
    identification: u32,
    protocol: u8,
    part: Part,
) -> Admission {
    match part {
        Part::Whole => Admission::Welcome,
        Part::First(stretch) => of_first(tables, key, identification, stretch),
        Part::Later(stretch) => of_later(tables, key, identification, protocol, stretch),
    }
}

/// Jiffies for which a node waits for the rest of a packet.
#[inline(always)]
fn patience<A: Family, T: Tables<A>>(tables: &T) -> u64 {
    let settings = tables.settings();
    PATIENCE * settings.map_or(0, |settings| u64::from(settings.second))
}

/// Whether a first fragment may begin a packet.
///
/// `#[inline(never)]`: its key needs stack, beside that of opening a flow.
#[inline(never)]
fn of_first<A: Family, T: Tables<A>>(
    tables: &T,
    key: &FlowKey<A>,
    identification: u32,
    stretch: u32,
) -> Admission {
    let (now, patience) = (tables.now(), patience(tables));
    let of = fragment_key(key, identification, key.protocol as u8);
    let look = |fragments: &mut Fragments| admit_first(fragments, stretch, now, patience);
    if tables.fragments(&of, look) == Some(false) {
        Admission::Overlap
    } else {
        Admission::Welcome
    }
}

/// Whether a later fragment may follow; puts into `key` what the first has told.
///
/// `#[inline(never)]`: as above.
#[inline(never)]
fn of_later<A: Family, T: Tables<A>>(
    tables: &T,
    key: &mut FlowKey<A>,
    identification: u32,
    protocol: u8,
    stretch: u32,
) -> Admission {
    let (now, patience) = (tables.now(), patience(tables));
    let of = fragment_key(key, identification, protocol);
    let look = |fragments: &mut Fragments| {
        let admission = admit(fragments, stretch, now, patience);
        if admission == Admission::Welcome {
            key.ports = fragments.ports;
            key.protocol = fragments.protocol;
        }
        admission
    };
    tables.fragments(&of, look).unwrap_or(Admission::Late)
}

/// Where the first fragment at hand lies in its packet; 0 if it is none.
///
/// VERIFIER: kept in memory, where the verifier does not follow it: else all that first fragments have in
/// common with whole packets would be verified for each.
#[inline(always)]
fn first_at_hand<T: Shared>(tables: &T) -> u32 {
    tables.per_cpu(|cpu| cpu.first).unwrap_or(0)
}

/// A packet of TCP or UDP, or a part of one.
#[inline(always)]
#[expect(
    clippy::too_many_arguments,
    reason = "inlined; a struct of them would live on the stack"
)]
fn of_a_flow<A: Network, F: Frame, T: Tables<A>>(
    frame: &F,
    tables: &T,
    link: LinkLayer,
    ip: &A::Header,
    key: &mut FlowKey<A>,
    part: Part,
    start: usize,
    terms: Terms<'_>,
) -> Result<Step, Reason> {
    let packet = match part {
        Part::Later(_) => Packet {
            ip,
            transport: Transport::Later(frame.at(link.offset).ok_or(Reason::Truncated)?),
            length: ip.length(),
            start: 0,
        },
        _ => match transport(frame, ip, link.offset, start, key) {
            Ok(packet) => packet,
            Err(reason) => {
                // A header in two pieces is how filters are got around (RFC 1858 section 3, RFC 7112
                // section 5).
                let is_cut = matches!(reason, Reason::BadLength | Reason::Truncated);
                let reason = if is_cut && first_at_hand(tables) != 0 {
                    Reason::FragmentTiny
                } else {
                    reason
                };
                let ingress = vlan::ingress_device(frame, tables);
                let reason = first::without_flow(tables, key, ingress, reason);
                return public::or_else(tables, key, reason);
            }
        },
    };
    let Terms { settings, now } = terms;
    let mut flow = known(tables, key, heard(&packet.transport), settings, now);
    if flow.is_none() {
        flow = former::alive(tables, key, settings, now);
    }
    match flow {
        Some(flow) => {
            forward::forward::<true, A, F, T>(frame, tables, link, &packet, key, flow, terms)
        }
        None if !concerns_us(tables, key) => Err(Reason::NotOurs),
        None => first::hand_over(tables, key, packet.start),
    }
}

/// Keeps what a first fragment told.
///
/// `#[inline(never)]`: as above.
#[inline(never)]
pub(super) fn remember<A: Family, T: Tables<A>>(
    tables: &T,
    key: &FlowKey<A>,
    identification: u32,
    stretch: u32,
) {
    let of = fragment_key(key, identification, key.protocol as u8);
    let fragments = Fragments {
        since: tables.now(),
        ports: key.ports,
        protocol: key.protocol,
        stretches: [stretch, 0, 0, 0],
    };
    tables.remember_fragments(&of, &fragments);
}

/// Whether a fragment may go on, as a word that fits a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Admission {
    Welcome,
    Overlap,
    Late,
}

const fn begin(stretch: u32) -> u32 {
    stretch & 0xffff
}

const fn end(stretch: u32) -> u32 {
    stretch >> 16
}

/// Judges a later fragment, and writes down where it lies. A packet of which two fragments overlap is
/// given up (RFC 5722 section 3, RFC 8200 section 4.5).
///
/// The first place is the first fragment's own; neighbours among the others grow together. When there
/// are more gaps than places, a fragment that overlaps none of the known ones is let through unwritten:
/// its receiver looks too.
#[inline(always)]
fn admit(fragments: &mut Fragments, stretch: u32, now: u64, patience: u64) -> Admission {
    if now > fragments.since.wrapping_add(patience) {
        return Admission::Late;
    }
    let meets = |known: &u32| begin(*known) < end(stretch) && begin(stretch) < end(*known);
    let [first, a, b, c] = fragments.stretches;
    if fragments.protocol == 0 || meets(&first) || meets(&a) || meets(&b) || meets(&c) {
        fragments.protocol = 0;
        return Admission::Overlap;
    }
    let [_, others @ ..] = &mut fragments.stretches;
    for place in others.iter_mut() {
        if *place != 0 && end(*place) == begin(stretch) {
            *place = end(stretch) << 16 | begin(*place);
            return Admission::Welcome;
        }
        if *place != 0 && begin(*place) == end(stretch) {
            *place = end(*place) << 16 | begin(stretch);
            return Admission::Welcome;
        }
        if *place == 0 {
            *place = stretch;
            return Admission::Welcome;
        }
    }
    Admission::Welcome
}

/// Whether a first fragment may begin a packet: not with other bounds than the one that is under way.
#[inline(always)]
fn admit_first(fragments: &Fragments, stretch: u32, now: u64, patience: u64) -> bool {
    let [first, ..] = fragments.stretches;
    now > fragments.since.wrapping_add(patience) || (fragments.protocol != 0 && first == stretch)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENT: u64 = 500;

    fn begun() -> Fragments {
        Fragments {
            since: 100,
            ports: 7,
            protocol: 17,
            stretches: [185 << 16, 0, 0, 0],
        }
    }

    fn piece(begin: u32, end: u32) -> u32 {
        end << 16 | begin
    }

    #[test]
    fn fragments_in_any_order_are_welcome_once() {
        let mut fragments = begun();
        for (from, to) in [(555, 740), (185, 370), (370, 555), (740, 741)] {
            assert_eq!(
                admit(&mut fragments, piece(from, to), 100, PATIENT),
                Admission::Welcome,
                "{from}..{to} in {fragments:?}"
            );
        }
        assert_eq!(
            admit(&mut fragments, piece(185, 370), 100, PATIENT),
            Admission::Overlap
        );
    }

    #[test]
    fn a_packet_with_an_overlap_is_given_up() {
        for (from, to) in [(0, 1), (184, 200), (100, 400), (1, 185)] {
            let mut fragments = begun();
            assert_eq!(
                admit(&mut fragments, piece(from, to), 100, PATIENT),
                Admission::Overlap,
                "{from}..{to}"
            );
            assert_eq!(
                admit(&mut fragments, piece(1000, 1001), 100, PATIENT),
                Admission::Overlap,
                "what follows is lost too"
            );
        }
    }

    #[test]
    fn patience_ends() {
        let mut fragments = begun();
        assert_eq!(
            admit(&mut fragments, piece(185, 370), 600, PATIENT),
            Admission::Welcome
        );
        assert_eq!(
            admit(&mut fragments, piece(370, 555), 601, PATIENT),
            Admission::Late
        );
    }

    #[test]
    fn more_gaps_than_places_are_let_through() {
        let mut fragments = begun();
        for at in [200, 400, 600, 800, 1000] {
            assert_eq!(
                admit(&mut fragments, piece(at, at + 1), 100, PATIENT),
                Admission::Welcome
            );
        }
    }

    #[test]
    fn a_first_fragment_comes_again_only_alike_or_late() {
        let fragments = begun();
        assert!(admit_first(&fragments, piece(0, 185), 100, PATIENT));
        assert!(!admit_first(&fragments, piece(0, 100), 100, PATIENT));
        assert!(admit_first(&fragments, piece(0, 100), 601, PATIENT));
    }
}
