//! Public IPs: one address for another, whatever the packet is (RFC 2663 section 4.1.1). Nothing is remembered but
//! the way to the instance.

use super::first::may_come_from;
use super::recent::{keep, recent};
use super::untrusted::begin;
use super::{
    Goes, Outcome, Step, Terms, by_family, conclude, forward, is_longer_than_frame, may_be_ours,
    outbound, ping, vlan,
};
use crate::abi::{Owner, Settings};
use crate::family::{Family, V4, V6};
use crate::flow::{Direction, FlowKey, FlowKind, FlowRef};
use crate::reason::Reason;
use crate::tables::{Route, Scratch, Shared, Tables};
use crate::wire::{
    Frame, Icmp, IpHeader, LinkLayer, Network, Packet, Ports, Short, TCP, Tcp, Transport, UDP, Udp,
    Upper, upper,
};

/// DCCP (RFC 4340) and UDP-Lite (RFC 3828): their checksums cover the addresses too.
const DCCP: u8 = 33;
const UDP_LITE: u8 = 136;

/// Where a packet that is judged so goes instead, if it is to a public IP, or from an instance that has one to the
/// outside.
///
/// # Errors
/// It is neither.
#[inline(always)]
pub(super) fn or_else<A: Family, T: Tables<A>>(
    tables: &T,
    key: &FlowKey<A>,
    reason: Reason,
) -> Result<Step, Reason> {
    let goes_out = matches!(reason, Reason::NoOutbound);
    if is_to_one(tables, key) || (goes_out && has_one(tables, key)) {
        return Ok(Step::stage(Goes::Public));
    }
    Err(reason)
}

#[inline(always)]
fn are_there<T: Shared>(tables: &T) -> bool {
    tables
        .settings()
        .is_some_and(|settings| settings.flags & Settings::PUBLIC_IPS != 0)
}

/// Whether a packet is to a public IP.
#[inline(always)]
pub(super) fn is_to_one<A: Family, T: Tables<A>>(tables: &T, key: &FlowKey<A>) -> bool {
    are_there(tables)
        && may_be_ours(tables, key.destination)
        && tables
            .owner(key.destination)
            .is_some_and(|owner| owner.roles & Owner::PUBLIC_IP != 0)
}

/// Whether a packet's source has a public IP.
#[inline(always)]
pub(super) fn has_one<A: Family, T: Tables<A>>(tables: &T, key: &FlowKey<A>) -> bool {
    are_there(tables)
        && tables
            .owner(key.source)
            .is_some_and(|owner| owner.roles & Owner::HAS_PUBLIC_IP != 0)
}

/// Whether packets of a source to public IPs have flows: it is an instance that has none itself.
#[inline(always)]
pub(super) fn has_flows<A: Family, T: Tables<A>>(tables: &T, key: &FlowKey<A>) -> bool {
    let roles = tables.owner(key.source).map_or(0, |owner| owner.roles);
    roles & (Owner::INSTANCE | Owner::HAS_PUBLIC_IP) == Owner::INSTANCE
}

/// The stage of public IPs.
#[inline(always)]
pub fn public<F: Frame, T: Tables<V4> + Tables<V6>>(frame: &mut F, tables: &T) -> Outcome {
    let step = by_family(
        &*frame,
        tables,
        of_family::<V4, F, T>,
        of_family::<V6, F, T>,
    );
    conclude(tables, step)
}

#[inline(always)]
fn of_family<A: Network, F: Frame, T: Tables<A>>(
    frame: &F,
    tables: &T,
    link: LinkLayer,
    settings: &Settings,
) -> Result<Step, Reason> {
    // SAFETY: the only place of this stage that takes the scratch space; who is handed the packet takes it again.
    let scratch = unsafe { tables.scratch() }.ok_or(Reason::NotConfigured)?;
    let ip = frame.at::<A::Header>(link.offset).ok_or(Reason::Runt)?;
    let upper = upper::<A, F>(frame, ip, link.offset)?;
    let device = vlan::ingress_device(frame, tables);
    scratch.key.source = ip.source();
    scratch.key.destination = ip.destination();
    scratch.key.protocol = u32::from(upper.protocol);
    scratch.key.ports = ports(frame, &upper);
    let (now, generation) = (tables.now(), settings.generation());
    let known = recent(tables, &scratch.key, settings, now, device);
    let turn = if known.is_some() {
        Turn::Recent
    } else {
        inward(tables, scratch, device, ip.hops())?
    };
    if turn == Turn::Hairpin {
        if is_longer_than_frame(frame, link, ip.length()) {
            return Err(Reason::Truncated);
        }
        let content = ip.length().wrapping_sub((upper.start - link.offset) as u32);
        return hairpin::<A, F, T>(frame, tables, &scratch.key, &upper, content);
    }
    let packet = Packet {
        ip,
        transport: transport::<A, F>(frame, &upper, link.offset)?,
        length: ip.length(),
        start: upper.start,
    };
    let terms = Terms { settings, now };
    let key = &scratch.key;
    let flow = match known {
        Some(flow) => flow,
        None => FlowRef::over(&mut scratch.own.flow),
    };
    let stamp = flow.hop_stamp();
    let step = forward::forward::<false, A, F, T>(frame, tables, link, &packet, key, flow, terms);
    let step = match step {
        Err(Reason::NoRoute)
            if turn == Turn::Out && matches!(tables.route(key, 0, device), Route::Local) =>
        {
            return Err(Reason::InstanceLocal);
        }
        other => other?,
    };
    if turn == Turn::In && flow.hop_stamp() != stamp {
        let stamp = u64::from(flow.hop_stamp());
        tables.keep_public_hop(key.destination, flow.hop_bits(), stamp);
    }
    if turn != Turn::Recent && flow.hop().slot != 0 {
        keep(tables, key, flow, generation, device);
    }
    Ok(step)
}

/// Which way a packet goes, as a word that fits a register.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Turn {
    /// To the instance of a public IP.
    In,
    /// From one to the outside.
    Out,
    /// Either, and this CPU knows what it becomes.
    Recent,
    /// From an instance without a public IP to one of this node.
    Hairpin,
}

/// What the packet becomes, in `scratch.own`.
///
/// `#[inline(never)]`: has its own stack, beside that of forwarding.
#[inline(never)]
fn inward<A: Family, T: Tables<A>>(
    tables: &T,
    scratch: &mut Scratch<A>,
    device: u32,
    hops: u8,
) -> Result<Turn, Reason> {
    if hops <= 1 {
        return Err(Reason::HopsExceeded);
    }
    let Scratch {
        key, own, other, ..
    } = scratch;
    if !key.source.is_global_unicast() {
        return Err(Reason::BadSource);
    }
    if may_be_ours(tables, key.source) && !may_come_from(tables, key, device) {
        return Err(Reason::BadSource);
    }
    *other = *key;
    let source = tables.owner(key.source).map_or(0, |owner| owner.roles);
    if source & Owner::HAS_PUBLIC_IP != 0 {
        other.source = tables.public_ip(key.source).ok_or(Reason::NoRoute)?.other;
    }
    let to = tables.owner(key.destination).map_or(0, |owner| owner.roles);
    let is_inward = to & Owner::PUBLIC_IP != 0;
    let direction = if is_inward {
        Direction::ToInstance
    } else {
        Direction::FromInstance
    };
    let mut hop = (0, 0);
    if is_inward {
        let public = tables.public_ip(key.destination).ok_or(Reason::NoRoute)?;
        other.destination = public.other;
        hop = (public.hop, public.hop_stamp as u32);
        if source & (Owner::INSTANCE | Owner::HAS_PUBLIC_IP) == Owner::INSTANCE {
            return Ok(Turn::Hairpin);
        }
    }
    begin(own, other, FlowKind::Rule.byte(direction, false));
    let flow = FlowRef::over(&mut own.flow);
    flow.set_fixed(0, 0);
    flow.set_seen_to_instance(0);
    flow.set_seen_from_instance(0);
    flow.set_last_seen(0);
    flow.set_hop_bits(hop.0, hop.1);
    Ok(if is_inward { Turn::In } else { Turn::Out })
}

/// Leaves a packet from an instance without a public IP to those that open its flow, if it can have one.
#[inline(always)]
fn hairpin<A: Family, F: Frame, T: Tables<A>>(
    frame: &F,
    tables: &T,
    key: &FlowKey<A>,
    upper: &Upper,
    content: u32,
) -> Result<Step, Reason> {
    if upper.piece.offset != 0 {
        return Err(Reason::FragmentWithoutFirst);
    }
    let needed = if upper.protocol == TCP {
        size_of::<Tcp>()
    } else {
        size_of::<Udp>()
    };
    if (content as i32) < needed as i32 {
        return Err(Reason::BadLength);
    }
    if upper.protocol == TCP {
        let tcp = frame.at::<Tcp>(upper.start).ok_or(Reason::Truncated)?;
        return outbound::hand_over(tables, tcp.flags.get(), false);
    }
    if upper.protocol == UDP {
        frame.at::<Udp>(upper.start).ok_or(Reason::Truncated)?;
        return outbound::hand_over(tables, 0, false);
    }
    let echo = frame.at::<Icmp>(upper.start).ok_or(Reason::Truncated)?;
    if upper.protocol != A::ICMP || echo.kind.host() != u16::from(A::ECHO[0]) << 8 {
        return Err(Reason::Protocol);
    }
    let [a, b, ..] = echo.rest.get().to_ne_bytes();
    let key = *key;
    ping::hand_over(tables, &key, upper.start, true, u16::from_ne_bytes([a, b]))
}

/// The ports of a packet, which stay; 0 if it has none.
#[inline(always)]
fn ports<F: Frame>(frame: &F, upper: &Upper) -> u32 {
    let has_ports = upper.protocol == TCP || upper.protocol == UDP;
    if !has_ports || upper.piece.offset != 0 {
        return 0;
    }
    frame
        .at::<Ports>(upper.start)
        .map_or(0, |ports| ports.ports.get())
}

/// What of the header above IP depends on the addresses.
#[inline(always)]
fn transport<'f, A: Network, F: Frame>(
    frame: &'f F,
    upper: &Upper,
    offset: usize,
) -> Result<Transport<'f>, Reason> {
    let plain = Transport::Later(frame.at(offset).ok_or(Reason::Truncated)?);
    if upper.piece.offset != 0 {
        return Ok(plain);
    }
    let start = upper.start;
    if upper.protocol == TCP {
        return Ok(Transport::Tcp(
            frame.at::<Tcp>(start).ok_or(Reason::Truncated)?,
        ));
    }
    if upper.protocol == UDP {
        return Ok(Transport::Udp(
            frame.at::<Udp>(start).ok_or(Reason::Truncated)?,
        ));
    }
    let sum_at = if upper.protocol == A::ICMP && A::AF == V6::AF {
        2
    } else if upper.protocol == DCCP || upper.protocol == UDP_LITE {
        6
    } else {
        return Ok(plain);
    };
    let sum = frame.at::<Short>(start + sum_at).ok_or(Reason::Truncated)?;
    Ok(Transport::Sum(sum))
}
