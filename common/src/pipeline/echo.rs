//! Echo requests to frontends: the node answers for its instances.

use super::first::{may_come_from, without_flow};
use super::{Goes, Step, complain, key_of, limit, may_be_ours, vlan};
use crate::abi::{Owner, Settings};
use crate::family::Family;
use crate::reason::Reason;
use crate::tables::{AnswerKind, Tables};
use crate::wire::{Ethernet, Frame, Icmp, IpHeader, checksum};

/// Answers an echo request whose message is at `start`, or the first fragment of one.
///
/// # Errors
/// It is no echo request, not to a frontend, or gets no answer.
#[inline(always)]
pub(super) fn request<A: Family, F: Frame, T: Tables<A>>(
    frame: &F,
    tables: &T,
    settings: &Settings,
    ip: &A::Header,
    start: usize,
) -> Result<Step, Reason> {
    let key = key_of::<A>(ip, A::ICMP);
    let ingress = vlan::ingress_device(frame, tables);
    let message = frame
        .at::<Icmp>(start)
        .filter(|message| message.kind.host() == u16::from(A::ECHO[0]) << 8);
    let silence = if message.is_some() {
        Reason::EchoUnanswered
    } else {
        Reason::Protocol
    };
    let judged = without_flow(tables, &key, ingress, silence);
    let Some(message) = message.filter(|_| judged == Reason::EchoUnanswered) else {
        return Err(judged);
    };
    if !key.source.is_global_unicast()
        || (may_be_ours(tables, key.source) && !may_come_from(tables, &key, ingress))
    {
        return Err(Reason::BadSource);
    }
    let ethernet = frame.at::<Ethernet>(0).ok_or(Reason::Runt)?;
    if ethernet.destination.get().is_group() || ethernet.source.get().is_group() {
        return Err(Reason::EchoUnanswered);
    }
    let roles = tables.owner(key.destination).map_or(0, |owner| owner.roles);
    if roles & Owner::ECHO_UNREACHABLE != 0 {
        if !complain::note(tables, Reason::NoBackend) {
            return Err(Reason::NoBackend);
        }
        return Ok(Step::stage(Goes::Complain));
    }
    if roles & Owner::ECHO == 0 {
        return Err(Reason::EchoUnanswered);
    }
    if !limit::admits(tables, settings, AnswerKind::Echo, key.source) {
        return Err(Reason::AnswerLimit);
    }
    let reply = (u16::from(A::ECHO[1]) << 8).to_be();
    let changed = u64::from(!message.kind.get()) + u64::from(reply);
    message.kind.set(reply);
    message
        .checksum
        .set(checksum::update(message.checksum.get(), changed));
    turn_around(frame, tables, ip)
}

/// Sends a packet, or a fragment of one, back to its sender. The sum of the addresses stays.
#[inline(always)]
pub(super) fn turn_around<A: Family, F: Frame, T: Tables<A>>(
    frame: &F,
    tables: &T,
    ip: &A::Header,
) -> Result<Step, Reason> {
    let ethernet = frame.at::<Ethernet>(0).ok_or(Reason::Runt)?;
    let own = vlan::own_mac(frame, tables).unwrap_or(ethernet.destination.get());
    ethernet.destination.set(ethernet.source.get());
    ethernet.source.set(own);
    ip.set_addresses(ip.destination(), ip.source());
    ip.renew_hops();
    Ok(Step::transmit(Reason::EchoAnswered))
}
