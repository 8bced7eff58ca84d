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
use super::{
    Outcome, Step, by_family, conclude, former, key_of, known, may_be_ours, public, service,
    untrusted, vlan,
};
use crate::abi::{Interface, Owner, Settings};
use crate::family::{Family, V4, V6};
use crate::flow::{Direction, FlowKey, FlowKind, FlowRef, Hop};
use crate::reason::Reason;
use crate::tables::{Route, Scratch, Tables};
use crate::wire::{
    Ethernet, Frame, Icmp, IpHeader, LinkLayer, Network, Ports, Short, TCP, UDP, checksum, upper,
};

/// The header above IP in a quote: where it begins, and from bit 16 on its protocol; 0: none that belongs to a flow.
///
/// VERIFIER: a word, of which no half is ever undefined.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Quoted(u32);

impl Quoted {
    const NONE: Self = Self(0);

    #[inline(always)]
    fn start(self) -> usize {
        (self.0 & 0x3fff) as usize
    }

    #[inline(always)]
    fn protocol(self) -> u32 {
        self.0 >> 16
    }
}

/// Who reports, as a word that fits a register.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Reporter {
    /// About no packet of ours.
    Stranger,
    /// Whoever it is, everybody may see it.
    Seen,
    /// An instance, or somebody behind it: nobody outside is to see who.
    Hidden,
}

/// The stage of ICMP errors.
#[inline(always)]
pub fn quoted<F: Frame, T: Tables<V4> + Tables<V6>>(frame: &mut F, tables: &T) -> Outcome {
    let step = by_family(&*frame, tables, error::<V4, F, T>, error::<V6, F, T>);
    conclude(tables, step)
}

#[inline(always)]
fn error<A: Network, F: Frame, T: Tables<A>>(
    frame: &F,
    tables: &T,
    link: LinkLayer,
    settings: &Settings,
) -> Result<Step, Reason> {
    let ip = frame.at::<A::Header>(link.offset).ok_or(Reason::Runt)?;
    let upper = upper::<A, F>(frame, ip, link.offset)?;
    translate(frame, tables, link, settings, ip, upper.start)
}

/// Translates the ICMP error whose message is at `start`.
///
/// # Errors
/// The verdict of a message that is about nothing of ours.
#[inline(always)]
fn translate<A: Network, F: Frame, T: Tables<A>>(
    frame: &F,
    tables: &T,
    link: LinkLayer,
    settings: &Settings,
    ip: &A::Header,
    start: usize,
) -> Result<Step, Reason> {
    let ingress = frame.ingress_ifindex();
    let end = link.offset + ip.length() as usize;
    // SAFETY: the only place of this stage that takes the scratch space.
    let scratch = unsafe { tables.scratch() }.ok_or(Reason::NotConfigured)?;
    let at = start + size_of::<Icmp>();
    let quoted = read::<A, F>(frame, ip, at, end, &mut scratch.key);
    let reporter = if quoted == Quoted::NONE {
        Reporter::Stranger
    } else {
        lookup(tables, settings, scratch)
    };
    let device = vlan::ingress_device(frame, tables);
    let Scratch {
        third: new,
        other: outer,
        pair,
        ..
    } = scratch;
    let key = &mut pair.key;
    *key = key_of::<A>(ip, A::ICMP);
    if reporter == Reporter::Stranger {
        return Err(without_flow(tables, key, device, Reason::IcmpQuote));
    }
    let hides = reporter == Reporter::Hidden;
    if new.destination == A::TRIALS {
        return Err(Reason::Trial);
    }
    if ip.hops() <= 1 {
        return Err(Reason::HopsExceeded);
    }
    let is_forged = || {
        !key.source.is_global_unicast()
            || (may_be_ours(tables, key.source) && !may_come_from(tables, key, device))
    };
    if !hides && is_forged() {
        return Err(Reason::BadSource);
    }
    outer.source = if hides { new.source } else { key.source };
    outer.destination = new.destination;
    outer.ports = 0;
    outer.protocol = u32::from(A::ICMP);
    // What the kernel would redirect towards a client it tells the frontend, which is nobody on the link.
    let turns = if hides { 0 } else { device };
    let way = way_out(tables, outer, ip.length(), [device, turns], ingress)?;
    if let Some((_, out)) = way {
        vlan::may_leave(frame, tables, link, out)?;
    }
    let in_quote = change_quote(frame, quoted, new, at, end)?;
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
) -> Quoted {
    let Some(inner) = frame.at::<A::Header>(at) else {
        return Quoted::NONE;
    };
    let Ok(upper) = upper::<A, F>(frame, inner, at) else {
        return Quoted::NONE;
    };
    let protocol = u32::from(upper.protocol);
    let is_echo = upper.protocol == A::ICMP;
    let needed = if is_echo {
        size_of::<Icmp>()
    } else {
        size_of::<Ports>()
    };
    let is_flow = upper.protocol == TCP || upper.protocol == UDP || is_echo;
    let is_whole = upper.piece.offset == 0 && upper.start + needed <= end;
    if !is_flow || !is_whole || inner.source() != ip.destination() {
        return Quoted::NONE;
    }
    let ports = if is_echo {
        let Some(echo) = frame.at::<Icmp>(upper.start) else {
            return Quoted::NONE;
        };
        if echo.kind.host() != u16::from(A::ECHO[0]) << 8 {
            return Quoted::NONE;
        }
        // The identifier is the port of who asks.
        let [a, b, ..] = echo.rest.get().to_ne_bytes();
        u32::from_ne_bytes([0, 0, a, b])
    } else {
        let Some(ports) = frame.at::<Ports>(upper.start) else {
            return Quoted::NONE;
        };
        ports.ports.get().rotate_left(16)
    };
    answer.source = inner.destination();
    answer.destination = inner.source();
    answer.ports = ports;
    answer.protocol = protocol;
    Quoted(protocol << 16 | upper.start as u32)
}

/// What an answer to the quoted packet (`scratch.key`) becomes, in `scratch.third`: by its flow, else, towards an
/// instance, by the rule and the ring, as a first packet would go, and from one by the rule that alone has its
/// port. Says who reports.
#[inline(always)]
fn lookup<A: Family, T: Tables<A>>(
    tables: &T,
    settings: &Settings,
    scratch: &mut Scratch<A>,
) -> Reporter {
    let of_flow = |new: &mut FlowKey<A>, flow: FlowRef<'_, A>| {
        flow.source().write(&mut new.source);
        flow.destination().write(&mut new.destination);
        new.ports = flow.ports();
        // Both ends of a hairpin are instances.
        let is_hairpin = flow.kind() & 0x0f == FlowKind::Hairpin as u8;
        match FlowKind::direction(flow.kind()) {
            Direction::ToInstance if !is_hairpin => Reporter::Seen,
            _ => Reporter::Hidden,
        }
    };
    if let Some(flow) = known(tables, &scratch.key, (0, 0), settings, tables.now()) {
        return of_flow(&mut scratch.third, flow);
    }
    if let Some(flow) = former::alive(tables, &scratch.key, settings, tables.now()) {
        return of_flow(&mut scratch.third, flow);
    }
    if !may_be_ours(tables, scratch.key.source) && !may_be_ours(tables, scratch.key.destination) {
        return Reporter::Stranger;
    }
    if untrusted::known(tables, scratch, 0, settings, tables.now()) {
        let flow = FlowRef::over(&mut scratch.own.flow);
        return of_flow(&mut scratch.third, flow);
    }
    let Scratch {
        key: answer,
        third: new,
        ..
    } = scratch;
    *new = *answer;
    let of_public_ip = of_public_ip(tables, answer, new);
    if of_public_ip != Reporter::Stranger {
        return of_public_ip;
    }
    if answer.protocol == u32::from(TCP)
        && answer.destination.is_global_unicast()
        && !tables.in_virtual_network(answer.destination)
        && let Some(reverse) = tables.reverse(answer.source, answer.source_port())
    {
        let port = answer.source_port().wrapping_add(reverse.port_offset);
        reverse.frontend.write(&mut new.source);
        new.ports = FlowKey::<A>::ports_word(port, answer.destination_port());
        return Reporter::Hidden;
    }
    let Some(owner) = tables.owner(answer.destination) else {
        return Reporter::Stranger;
    };
    // A TCP connection on an address that the host has too may be the host's.
    let may_be_the_hosts = owner.roles & Owner::SHARED != 0 && answer.protocol == u32::from(TCP);
    if owner.roles & Owner::FRONTEND == 0 || may_be_the_hosts {
        return Reporter::Stranger;
    }
    let Some(rule) = service::rule_for(tables, owner.id, answer) else {
        return Reporter::Stranger;
    };
    let hash = service::hash(settings, answer, rule.distribution);
    let Ok(member) = service::member(tables, rule, answer, hash, 0) else {
        return Reporter::Stranger;
    };
    member.write(&mut new.destination);
    let port = service::backend_port(rule, answer);
    new.ports = FlowKey::<A>::ports_word(answer.source_port(), port);
    Reporter::Seen
}

/// What an answer to a packet of a public IP becomes, in `new`, where the answer is; says who reports.
#[inline(always)]
fn of_public_ip<A: Family, T: Tables<A>>(
    tables: &T,
    answer: &FlowKey<A>,
    new: &mut FlowKey<A>,
) -> Reporter {
    let is_in = public::is_to_one(tables, answer);
    let is_out = public::has_one(tables, answer);
    if !is_in && !is_out {
        return Reporter::Stranger;
    }
    if is_out {
        let Some(public) = tables.public_ip(answer.source) else {
            return Reporter::Stranger;
        };
        public.other.write(&mut new.source);
    }
    if is_in {
        let Some(public) = tables.public_ip(answer.destination) else {
            return Reporter::Stranger;
        };
        public.other.write(&mut new.destination);
    }
    if is_out {
        Reporter::Hidden
    } else {
        Reporter::Seen
    }
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

/// Puts the quoted packet back as its sender knows it, of whose answer `new` is the translation; returns the one's
/// complement difference that makes in the message.
#[inline(always)]
fn change_quote<A: Family, F: Frame>(
    frame: &F,
    quoted: Quoted,
    new: &FlowKey<A>,
    at: usize,
    end: usize,
) -> Result<u64, Reason> {
    let inner = frame.at::<A::Header>(at).ok_or(Reason::Truncated)?;
    let in_addresses = inner.source().sum_complement()
        + inner.destination().sum_complement()
        + new.source.sum()
        + new.destination.sum();
    inner.set_addresses(new.destination, new.source);
    let before = inner.checksum();
    inner.repair(in_addresses);
    let in_header = u64::from(!before) + u64::from(inner.checksum());
    let start = frame.blurred_far(quoted.start());
    let is_echo = quoted.protocol() == u32::from(A::ICMP);
    let ports = new.ports.rotate_left(16);
    let (in_ports, sum_at) = if is_echo {
        let identifier = frame.at::<Short>(start + 4);
        let identifier = identifier.ok_or(Reason::Truncated)?;
        let before = identifier.value.get();
        let [a, b, c, d] = ports.to_ne_bytes();
        let after = u16::from_ne_bytes([a | c, b | d]);
        identifier.value.set(after);
        (u64::from(!before) + u64::from(after), 2)
    } else {
        let transport = frame.at::<Ports>(start).ok_or(Reason::Truncated)?;
        let in_ports = u64::from(!transport.ports.get()) + u64::from(ports);
        transport.ports.set(ports);
        let is_tcp = quoted.protocol() == u32::from(TCP);
        (in_ports, if is_tcp { 16 } else { 6 })
    };
    // That of ICMP over IPv4 is without the addresses.
    let is_without = is_echo && A::AF == V4::AF;
    let in_sum = if is_without {
        in_ports
    } else {
        in_addresses + in_ports
    };
    let mut changed = in_addresses + in_ports + in_header;
    let sum_at = start + sum_at;
    // The quote may end before the checksum of the header above IP.
    if sum_at + size_of::<Short>() <= end
        && let Some(sum) = frame.at::<Short>(sum_at)
    {
        let before = sum.value.get();
        let after = if quoted.protocol() == u32::from(UDP) {
            checksum::update_udp(before, in_sum)
        } else {
            checksum::update(before, in_sum)
        };
        sum.value.set(after);
        changed += u64::from(!before) + u64::from(after);
    }
    Ok(changed)
}
