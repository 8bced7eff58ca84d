//! ICMP and ICMPv6: neighbour discovery, echo requests, and errors about packets of flows.

use super::first::without_flow;
use super::{
    Goes, Outcome, Step, by_family, conclude, echo, is_longer_than_frame, key_of, may_be_ours,
    neighbor, ping, public, vlan,
};
use crate::abi::{Owner, Settings};
use crate::family::{Family, V4, V6};
use crate::reason::Reason;
use crate::tables::Tables;
use crate::wire::{Frame, Icmp, IpHeader, LinkLayer, Network, upper};

/// The stage of ICMP.
#[inline(always)]
pub fn icmp<F: Frame, T: Tables<V4> + Tables<V6>>(frame: &mut F, tables: &T) -> Outcome {
    let step = by_family(frame, tables, message::<V4, F, T>, message_or_question);
    conclude(tables, step)
}

/// What IPv6 has in ICMP: messages, and questions for neighbours.
#[inline(always)]
fn message_or_question<F: Frame, T: Tables<V6>>(
    frame: &mut F,
    tables: &T,
    link: LinkLayer,
    settings: &Settings,
) -> Result<Step, Reason> {
    match neighbor::solicitation(frame, tables, link) {
        // About nobody we answer for: a packet like any other, which must not get past the fence.
        Err(Reason::NeighborNotOurs) => message::<V6, F, T>(frame, tables, link, settings),
        answered => answered,
    }
}

#[inline(always)]
fn message<A: Network, F: Frame, T: Tables<A>>(
    frame: &mut F,
    tables: &T,
    link: LinkLayer,
    settings: &Settings,
) -> Result<Step, Reason> {
    let ip = frame.at::<A::Header>(link.offset).ok_or(Reason::Runt)?;
    let key = key_of::<A>(ip, A::ICMP);
    let ingress = vlan::ingress_device(frame, tables);
    let judged = |reason| without_flow(tables, &key, ingress, reason);
    if is_longer_than_frame(frame, link, ip.length()) {
        return Err(judged(Reason::Truncated));
    }
    let upper = match upper::<A, F>(frame, ip, link.offset) {
        Ok(upper) => upper,
        Err(reason) => return Err(judged(reason)),
    };
    let Some(message) = frame.at::<Icmp>(upper.start) else {
        return Err(judged(Reason::Truncated));
    };
    if link.offset + (ip.length() as usize) < upper.start + size_of::<Icmp>() {
        return Err(judged(Reason::BadLength));
    }
    let kind = (message.kind.host() >> 8) as u8;
    if A::is_icmp_error(kind) {
        return Ok(Step::stage(Goes::Quoted));
    }
    let noted = tables.per_cpu(|cpu| cpu.first = 0);
    noted.ok_or(Reason::NotLoaded)?;
    if public::is_to_one(tables, &key) {
        // An instance may answer a ping that came by way of the public IP's own ports.
        if kind == A::ECHO[1] && may_be_ours(tables, key.source) {
            let [a, b, ..] = message.rest.get().to_ne_bytes();
            let identifier = u16::from_ne_bytes([a, b]);
            return ping::hand_over(tables, &key, upper.start, false, identifier);
        }
        return Ok(Step::stage(Goes::Public));
    }
    of_an_instance(frame, tables, settings, ip, upper.start)
}

/// An echo whose message is at `start`, or the first fragment of one: a flow's if an instance sends it, or gets it
/// at a public address.
#[inline(always)]
pub(super) fn of_an_instance<A: Family, F: Frame, T: Tables<A>>(
    frame: &F,
    tables: &T,
    settings: &Settings,
    ip: &A::Header,
    start: usize,
) -> Result<Step, Reason> {
    let key = key_of::<A>(ip, A::ICMP);
    let message = frame.at::<Icmp>(start).ok_or(Reason::Truncated)?;
    let [a, b, ..] = message.rest.get().to_ne_bytes();
    let identifier = u16::from_ne_bytes([a, b]);
    if message.kind.host() == u16::from(A::ECHO[1]) << 8 {
        let owner = tables.owner(key.destination);
        if owner.is_some_and(|owner| owner.roles & Owner::FRONTEND != 0) {
            return ping::hand_over(tables, &key, start, false, identifier);
        }
    }
    let is_request = message.kind.host() == u16::from(A::ECHO[0]) << 8;
    match echo::request(frame, tables, settings, ip, start) {
        // A flow may outlive its instance, or be older than its public IP.
        Err(Reason::NoOutbound | Reason::NotOurs) if is_request => {
            ping::hand_over(tables, &key, start, true, identifier)
        }
        Err(Reason::NoOutbound) if public::has_one(tables, &key) => Ok(Step::stage(Goes::Public)),
        other => other,
    }
}
