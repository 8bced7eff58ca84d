//! ICMP errors about packets that were translated: what they quote is translated back, so that the
//! sender of the packet knows it again (RFC 5508 sections 4.2 and 4.3, RFC 4884, RFC 4443).
//!
//! An answer to the quoted packet is what names the flow: a packet that left as `S → B` has its answers
//! under `B → S`, and their translation says as what it came. A flow is neither refreshed nor ended by
//! what an error says.
//!
//! Up to five sums change: those of both IP headers, of the quoted header above IP if the quote is long
//! enough, and that of the message, over all of the quote.

use super::first::{may_come_from, without_flow};
use super::forward::{depart, takes_no_redirect};
use super::{Step, former, key_of, known, may_be_ours, service, untrusted, vlan};
use crate::abi::{Interface, Owner, Settings};
use crate::family::{Family, V6};
use crate::flow::{Direction, FlowKey, FlowKind, FlowRef, Hop};
use crate::reason::Reason;
use crate::tables::{Route, Scratch, Tables};
use crate::wire::{
    Ethernet, Frame, Icmp, IpHeader, LinkLayer, Network, Ports, Short, TCP, UDP, checksum, upper,
};

/// The header above IP in a quote.
struct Quoted {
    /// Whether it is of TCP, else UDP.
    is_tcp: bool,
    /// Where it begins.
    start: usize,
    /// Where the message ends.
    end: usize,
}

/// What an answer to the quoted packet becomes.
struct Translation<A> {
    /// Its source.
    source: A,
    /// Its destination.
    destination: A,
    /// Its ports.
    ports: u32,
    /// Whether it comes from an instance, so that nobody outside is to see who reports.
    hides: bool,
}

/// Translates the ICMP error whose message is at `start`.
///
/// # Errors
/// The verdict of a message that is about nothing of ours.
#[inline(always)]
pub(super) fn translate<A: Network, F: Frame, T: Tables<A>>(
    frame: &F,
    tables: &T,
    link: LinkLayer,
    settings: &Settings,
    ip: &A::Header,
    start: usize,
) -> Result<Step, Reason> {
    let key = key_of::<A>(ip, A::ICMP);
    let ingress = frame.ingress_ifindex();
    let end = link.offset + ip.length() as usize;
    // SAFETY: the only place of this stage that takes the scratch space.
    let scratch = unsafe { tables.scratch() }.ok_or(Reason::NotConfigured)?;
    let found = read::<A, F>(frame, ip, start + size_of::<Icmp>(), end, &mut scratch.key)
        .and_then(|quoted| Some((lookup(tables, settings, scratch)?, quoted)));
    let Some((new, quoted)) = found else {
        let device = vlan::ingress_device(frame, tables);
        return Err(without_flow(tables, &key, device, Reason::IcmpQuote));
    };
    if ip.hops() <= 1 {
        return Err(Reason::HopsExceeded);
    }
    let device = vlan::ingress_device(frame, tables);
    let is_forged = || {
        !key.source.is_global_unicast()
            || (may_be_ours(tables, key.source) && !may_come_from(tables, &key, device))
    };
    if !new.hides && is_forged() {
        return Err(Reason::BadSource);
    }
    let source = if new.hides { new.source } else { key.source };
    scratch.other = FlowKey {
        source,
        destination: new.destination,
        ports: 0,
        protocol: u32::from(A::ICMP),
    };
    let device = vlan::ingress_device(frame, tables);
    let outer = &scratch.other;
    // What the kernel would redirect towards a client it tells the frontend, which is nobody on the link.
    let turns = if new.hides { 0 } else { device };
    let way = way_out(tables, outer, ip.length(), [device, turns], ingress)?;
    if let Some((_, out)) = way {
        vlan::may_leave(frame, tables, link, out)?;
    }
    let in_quote = change_quote(frame, &quoted, &new, start + size_of::<Icmp>())?;
    let in_header = key.source.sum_complement()
        + key.destination.sum_complement()
        + outer.source.sum()
        + outer.destination.sum();
    let message = frame.at::<Icmp>(start).ok_or(Reason::Truncated)?;
    // The sum of ICMPv6 covers the addresses too (RFC 4443 section 2.3).
    let changed = if A::AF == V6::AF {
        in_quote + in_header
    } else {
        in_quote
    };
    message
        .checksum
        .set(checksum::update(message.checksum.get(), changed));
    ip.set_addresses(outer.source, outer.destination);
    let Some((hop, out)) = way else {
        ip.repair(in_header);
        return Ok(Step::pass(Reason::ForwardedByKernel));
    };
    ip.spend_hop(in_header);
    let ethernet = frame.at::<Ethernet>(0).ok_or(Reason::Runt)?;
    ethernet.destination.set(hop.mac);
    ethernet.source.set(out.mac());
    let slot = u32::from(hop.slot);
    Ok(depart(frame, link, out, slot, Reason::IcmpTranslated))
}

/// Reads the quote at `at` of a message that ends at `end`. `None` if it is too short, a later fragment,
/// of another protocol, or of somebody else than who is told.
#[inline(always)]
fn read<A: Network, F: Frame>(
    frame: &F,
    ip: &A::Header,
    at: usize,
    end: usize,
    answer: &mut FlowKey<A>,
) -> Option<Quoted> {
    let inner = frame.at::<A::Header>(at)?;
    let upper = upper::<A, F>(frame, inner, at).ok()?;
    let ports = frame.at::<Ports>(upper.start)?;
    let is_flow = upper.protocol == TCP || upper.protocol == UDP;
    let is_whole = upper.piece.offset == 0 && upper.start + size_of::<Ports>() <= end;
    if !is_flow || !is_whole || inner.source() != ip.destination() {
        return None;
    }
    *answer = FlowKey {
        source: inner.destination(),
        destination: inner.source(),
        ports: ports.ports.get().rotate_left(16),
        protocol: u32::from(upper.protocol),
    };
    Some(Quoted {
        is_tcp: upper.protocol == TCP,
        start: upper.start,
        end,
    })
}

/// What an answer to the quoted packet (`scratch.key`) becomes: by its flow, else, towards an instance, by
/// the rule and the ring, as a first packet would go, and from one by the rule that alone has its port.
#[inline(always)]
fn lookup<A: Family, T: Tables<A>>(
    tables: &T,
    settings: &Settings,
    scratch: &mut Scratch<A>,
) -> Option<Translation<A>> {
    let of_flow = |flow: FlowRef<'_, A>| Translation {
        source: flow.source(),
        destination: flow.destination(),
        ports: flow.ports(),
        hides: matches!(FlowKind::direction(flow.kind()), Direction::FromInstance),
    };
    if let Some(flow) = known(tables, &scratch.key, (0, 0), settings, tables.now()) {
        return Some(of_flow(flow));
    }
    if let Some(flow) = former::alive(tables, &scratch.key, settings, tables.now()) {
        return Some(of_flow(flow));
    }
    if !may_be_ours(tables, scratch.key.source) && !may_be_ours(tables, scratch.key.destination) {
        return None;
    }
    if untrusted::known(tables, scratch, 0, settings, tables.now()) {
        return Some(of_flow(FlowRef::over(&mut scratch.own.flow)));
    }
    let answer = &scratch.key;
    if answer.protocol == u32::from(TCP)
        && answer.destination.is_global_unicast()
        && !tables.in_virtual_network(answer.destination)
        && let Some(reverse) = tables.reverse(answer.source, answer.source_port())
    {
        let port = answer.source_port().wrapping_add(reverse.port_offset);
        return Some(Translation {
            source: reverse.frontend,
            destination: answer.destination,
            ports: FlowKey::<A>::ports_word(port, answer.destination_port()),
            hides: true,
        });
    }
    let owner = tables.owner(answer.destination)?;
    // A TCP connection on an address that the host has too may be the host's.
    let may_be_the_hosts = owner.roles & Owner::SHARED != 0 && answer.protocol == u32::from(TCP);
    if owner.roles & Owner::FRONTEND == 0 || may_be_the_hosts {
        return None;
    }
    let rule = service::rule_for(tables, owner.id, answer)?;
    let hash = service::hash(settings, answer, rule.distribution);
    let destination = service::member(tables, rule, answer, hash, 0).ok()?;
    let port = service::backend_port(rule, answer);
    Some(Translation {
        source: answer.source,
        destination,
        ports: FlowKey::<A>::ports_word(answer.source_port(), port),
        hides: false,
    })
}

/// Where the message goes that came in on the first of `devices`; `None`: the kernel sees to it. A neighbour
/// on the second one that is not resolved is not left to it.
#[inline(always)]
fn way_out<'t, A: Family, T: Tables<A>>(
    tables: &'t T,
    outer: &FlowKey<A>,
    length: u32,
    devices: [u32; 2],
    ingress: u32,
) -> Result<Option<(Hop, &'t Interface)>, Reason> {
    let hop = match tables.route(outer, length, devices[0]) {
        Route::Hop(hop) => hop,
        Route::NoNeighbor(out) if A::AF == V6::AF && out == devices[1] => {
            return Err(Reason::NeighborUnknown);
        }
        Route::NoNeighbor(_) | Route::Kernel => return Ok(None),
        Route::TooBig(_) => return Err(Reason::TooBig),
        Route::Local | Route::None => return Err(Reason::NoRoute),
    };
    let slot = u32::from(hop.slot);
    let out = tables.interface(slot).ok_or(Reason::NoRoute)?;
    if length > out.mtu {
        return Err(Reason::TooBig);
    }
    Ok((!takes_no_redirect(out, ingress)).then_some((hop, out)))
}

/// Puts the quoted packet back as its sender knows it; returns the one's complement difference that
/// makes in the message.
#[inline(always)]
fn change_quote<A: Family, F: Frame>(
    frame: &F,
    quoted: &Quoted,
    new: &Translation<A>,
    at: usize,
) -> Result<u64, Reason> {
    let inner = frame.at::<A::Header>(at).ok_or(Reason::Truncated)?;
    let transport = frame.at::<Ports>(quoted.start).ok_or(Reason::Truncated)?;
    let in_addresses = inner.source().sum_complement()
        + inner.destination().sum_complement()
        + new.source.sum()
        + new.destination.sum();
    inner.set_addresses(new.destination, new.source);
    let before = inner.checksum();
    inner.repair(in_addresses);
    let ports = new.ports.rotate_left(16);
    let in_ports = u64::from(!transport.ports.get()) + u64::from(ports);
    transport.ports.set(ports);
    let sum_at = quoted.start + if quoted.is_tcp { 16 } else { 6 };
    let mut changed = in_addresses + in_ports + u64::from(!before) + u64::from(inner.checksum());
    // The quote may end before the checksum of the header above IP.
    if sum_at + size_of::<Short>() <= quoted.end
        && let Some(sum) = frame.at::<Short>(sum_at)
    {
        let before = sum.value.get();
        let after = if quoted.is_tcp {
            checksum::update(before, in_addresses + in_ports)
        } else {
            checksum::update_udp(before, in_addresses + in_ports)
        };
        sum.value.set(after);
        changed += u64::from(!before) + u64::from(after);
    }
    Ok(changed)
}
