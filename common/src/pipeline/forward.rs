//! A packet of a known flow: next hop, rewrite, state, counters.

use super::vlan;
use super::{Goes, Step, Terms};
use crate::abi::{Interface, Settings};
use crate::family::{Family, V6};
use crate::flow::{Direction, FlowKey, FlowKind, FlowRef, Seen};
use crate::reason::Reason;
use crate::tables::{Route, Shared, Tables};
use crate::wire::{Ethernet, Frame, IpHeader, LinkLayer, Packet, Transport, tcp_flags};

/// How far beyond what its receiver has acknowledged a RST may lie and still be believed, bytes.
const RESET_WINDOW: u32 = 1 << 22;

/// Packets up to this length pass every link that IP runs on (RFC 791 section 3.2, RFC 8200 section 5
/// for IPv6, whose links take more), so they need not ask for the MTU of a narrow route.
const PASSES_EVERYWHERE: u32 = 576;

/// How a hop lookup ended, as a word that fits a register.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Resolved {
    Hop,
    Kernel,
    TooBig,
    NeighborUnknown,
    None,
}

/// Translates a packet and says where it goes. What it tells about an untrusted flow, a copy, is left to
/// [`super::untrusted::settle`].
#[inline(always)]
pub(super) fn forward<const TRUSTED: bool, A: Family, F: Frame, T: Tables<A>>(
    frame: &F,
    tables: &T,
    link: LinkLayer,
    packet: &Packet<'_, A>,
    key: &FlowKey<A>,
    flow: FlowRef<'_, A>,
    terms: Terms<'_>,
) -> Result<Step, Reason> {
    let now = terms.now;
    if packet.ip.hops() <= 1 {
        return Err(Reason::HopsExceeded);
    }
    let out = way_out(frame, tables, link, packet, key.protocol, flow, terms)?;
    let ethernet = frame.at::<Ethernet>(0).ok_or(Reason::Runt)?;
    account::<TRUSTED, A, T>(tables, packet, key.protocol, flow, now);
    let changed = change_addresses(packet, key, flow);
    let Some(out) = out else {
        packet.ip.repair(changed);
        return Ok(Step::pass(Reason::ForwardedByKernel));
    };
    let hop = flow.hop();
    packet.ip.spend_hop(changed);
    ethernet.destination.set(hop.mac);
    ethernet.source.set(out.mac());
    let slot = u32::from(hop.slot);
    Ok(depart(frame, link, out, slot, Reason::Forwarded))
}

/// The last step of a frame that is complete but for its tags.
#[inline(always)]
pub(super) fn depart<F: Frame>(
    frame: &F,
    link: LinkLayer,
    out: &Interface,
    slot: u32,
    reason: Reason,
) -> Step {
    let goes = if vlan::concerns(link, out) {
        Goes::Tagged
    } else if out.nic == frame.ingress_ifindex() {
        Goes::Back
    } else {
        Goes::Across
    };
    Step::to(goes, reason, slot)
}

/// The interface by which a packet leaves, now that its flow knows the next hop; `None` when the kernel
/// must see to it.
///
/// VERIFIER: no more than a pointer, so that nothing of it is ever undefined.
#[inline(always)]
fn way_out<'t, A: Family, F: Frame, T: Tables<A>>(
    frame: &F,
    tables: &'t T,
    link: LinkLayer,
    packet: &Packet<'_, A>,
    protocol: u32,
    flow: FlowRef<'_, A>,
    terms: Terms<'_>,
) -> Result<Option<&'t Interface>, Reason> {
    let Terms { settings, now } = terms;
    let mut hop = flow.hop();
    let asks = hop.is_narrow && packet.length > PASSES_EVERYWHERE;
    if asks || hop.slot == 0 || hop_is_stale(flow, settings, now) {
        let ingress = vlan::ingress_device(frame, tables);
        let length = packet.length.min(0xffff);
        match resolve(tables, flow, protocol << 16 | length, ingress, now) {
            Resolved::Hop => {}
            Resolved::Kernel => return Ok(None),
            Resolved::TooBig => return too_big::<A>(packet.ip),
            Resolved::NeighborUnknown => return Err(Reason::NeighborUnknown),
            Resolved::None => return Err(Reason::NoRoute),
        }
        hop = flow.hop();
    }
    let out = tables
        .interface(u32::from(hop.slot))
        .ok_or(Reason::NoRoute)?;
    if packet.length > out.mtu {
        note_mtu(tables, out.mtu);
        return too_big::<A>(packet.ip);
    }
    if takes_no_redirect(out, frame.ingress_ifindex()) {
        return Ok(None);
    }
    vlan::may_leave(frame, tables, link, out)?;
    Ok(Some(out))
}

/// Whether a frame that came in on `ingress` cannot leave by this interface but through the kernel.
#[inline(always)]
pub(super) fn takes_no_redirect(out: &Interface, ingress: u32) -> bool {
    out.flags & Interface::NO_REDIRECT != 0 && out.nic != ingress
}

/// What becomes of a packet that is too long: the kernel cuts it if its sender allows that, else the
/// sender is told.
#[inline(always)]
fn too_big<'t, A: Family>(ip: &A::Header) -> Result<Option<&'t Interface>, Reason> {
    if ip.may_be_fragmented() {
        Ok(None)
    } else {
        Err(Reason::TooBig)
    }
}

/// Keeps the MTU that a sender is to be told.
#[inline(always)]
pub(super) fn note_mtu<T: Shared>(tables: &T, mtu: u32) {
    let _ = tables.per_cpu(|cpu| cpu.mtu = mtu);
}

/// Whether the next hop must be looked up again: it was too long ago, or before routes or
/// neighbours last changed. The low word of jiffies wraps (first five minutes after boot), so times are
/// compared by their distance from now.
#[inline(always)]
fn hop_is_stale<A: Family>(flow: FlowRef<'_, A>, settings: &Settings, now: u64) -> bool {
    let age = (now as u32).wrapping_sub(flow.hop_stamp());
    let since_change = (now as u32).wrapping_sub(settings.hops_valid_from);
    age > settings.hop_lifetime || since_change < age
}

/// Asks the host's routing for the next hop of a flow and keeps it.
///
/// `#[inline(never)]`: the kernel's lookup needs 64 bytes of stack, the key up to 40 more.
#[inline(never)]
fn resolve<A: Family, T: Tables<A>>(
    tables: &T,
    flow: FlowRef<'_, A>,
    protocol_length: u32,
    ingress: u32,
    now: u64,
) -> Resolved {
    let key = FlowKey {
        source: flow.source(),
        destination: flow.destination(),
        ports: flow.ports(),
        protocol: protocol_length >> 16,
    };
    if flow.kind() & FlowKind::MAPPED_BIT != 0 {
        tables.touch(flow, key.protocol);
    }
    match tables.route(&key, protocol_length & 0xffff, ingress) {
        Route::Hop(hop) => {
            flow.set_hop(hop, now as u32);
            Resolved::Hop
        }
        // The kernel would tell the sender to go to the neighbour by itself. What it tells of an answer, it
        // tells the frontend, which is nobody on the link; and nobody else resolves clients.
        Route::NoNeighbor(device)
            if A::AF == V6::AF
                && device == ingress
                && FlowKind::direction(flow.kind()) == Direction::ToInstance =>
        {
            Resolved::NeighborUnknown
        }
        Route::NoNeighbor(_) | Route::Kernel => Resolved::Kernel,
        Route::TooBig(mtu) => {
            note_mtu(tables, mtu);
            Resolved::TooBig
        }
        // To the host itself: no member and no client is there.
        Route::Local | Route::None => Resolved::None,
    }
}

/// Puts the flow's addresses and ports into the packet; returns the one's complement difference of
/// the addresses, which the IP header's checksum still has to take in.
#[inline(always)]
fn change_addresses<A: Family>(
    packet: &Packet<'_, A>,
    key: &FlowKey<A>,
    flow: FlowRef<'_, A>,
) -> u64 {
    let (source, destination) = (flow.source(), flow.destination());
    let changed = key.source.sum_complement()
        + key.destination.sum_complement()
        + source.sum()
        + destination.sum();
    packet.ip.set_addresses(source, destination);
    packet.transport.set_ports(flow.ports(), changed);
    changed
}

/// State, time and counters of a packet that is about to leave.
#[inline(always)]
fn account<const TRUSTED: bool, A: Family, T: Tables<A>>(
    tables: &T,
    packet: &Packet<'_, A>,
    protocol: u32,
    flow: FlowRef<'_, A>,
    now: u64,
) {
    let direction = FlowKind::direction(flow.kind());
    let flags = packet.transport.tcp_flags();
    let events = Seen::of(protocol, flags);
    let seen = match direction {
        Direction::ToInstance => flow.seen_to_instance(),
        Direction::FromInstance => flow.seen_from_instance(),
    };
    if TRUSTED && events.0 & !seen != 0 {
        let sequence = match packet.transport {
            Transport::Tcp(tcp) => u32::from_be(tcp.sequence.get()),
            _ => 0,
        };
        tables.record(flow, protocol << 8 | u32::from(events.0), sequence);
    }
    if !flow.state(protocol).has_ended() && flow.last_seen() != now {
        flow.set_last_seen(now);
    }
    if let Transport::Tcp(tcp) = packet.transport
        && flags & tcp_flags::ACK != 0
    {
        flow.set_last_ack(tcp.acknowledgement.get());
    }
    flow.count(packet.length);
    tables.count_rule(flow.rule(), direction, packet.length);
}

/// Writes new events to both directions of a flow, and the time of its end when they end it.
///
/// Reached by way of [`Tables::record`].
#[inline(always)]
pub fn record<A: Family, T: Tables<A>>(
    tables: &T,
    flow: FlowRef<'_, A>,
    protocol_events: u32,
    sequence: u32,
) {
    let now = tables.now();
    let protocol = protocol_events >> 8;
    let mut events = Seen(protocol_events as u8);
    let direction = FlowKind::direction(flow.kind());
    let other = tables.flow(&flow.reply_key(protocol));
    if events.any(Seen::RST)
        && let Some(other) = other
        && !reset_is_believable(other, sequence)
    {
        events = Seen(events.0 & !Seen::RST.0);
    }
    let before = flow.state(protocol);
    add_events(flow, direction, events);
    let after = flow.state(protocol);
    // A RST after both FINs is an end of its own: its timeout counts from the RST.
    let ends = after.has_ended() && after != before;
    if ends {
        flow.set_last_seen(now);
    }
    if let Some(other) = other {
        add_events(other, direction, events);
        if ends {
            other.set_last_seen(now);
        }
    }
}

/// Whether the receiver of a RST would accept it: its sequence number follows what the receiver last
/// acknowledged (RFC 5961 section 3.2, with room for data in flight). `receiver` is the entry of the
/// receiver's own packets; before it has acknowledged anything, any RST is believed, as that of a
/// refused SYN must be.
#[inline(always)]
pub(super) fn reset_is_believable<A: Family>(receiver: FlowRef<'_, A>, sequence: u32) -> bool {
    let acknowledged = u32::from_be(receiver.last_ack());
    acknowledged == 0 || sequence.wrapping_sub(acknowledged) <= RESET_WINDOW
}

#[inline(always)]
pub(super) fn add_events<A: Family>(flow: FlowRef<'_, A>, direction: Direction, events: Seen) {
    match direction {
        Direction::ToInstance => flow.set_seen_to_instance(flow.seen_to_instance() | events.0),
        Direction::FromInstance => {
            flow.set_seen_from_instance(flow.seen_from_instance() | events.0)
        }
    }
}
