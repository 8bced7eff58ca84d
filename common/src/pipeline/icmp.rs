//! ICMP and ICMPv6: neighbour discovery, echo requests, and errors about packets of flows.

use super::first::without_flow;
use super::{Outcome, Step, conclude, echo, is_longer_than_frame, key_of, neighbor, quoted, vlan};
use crate::abi::Settings;
use crate::family::{Family, V4, V6};
use crate::reason::Reason;
use crate::tables::Tables;
use crate::wire::{Frame, Icmp, IpHeader, LinkLayer, Network, link_layer, upper};

/// The stage of ICMP.
#[inline(always)]
pub fn icmp<F: Frame, T: Tables<V4> + Tables<V6>>(frame: &mut F, tables: &T) -> Outcome {
    let step = dispatch(frame, tables);
    conclude(tables, step)
}

#[inline(always)]
fn dispatch<F: Frame, T: Tables<V4> + Tables<V6>>(
    frame: &mut F,
    tables: &T,
) -> Result<Step, Reason> {
    let link = link_layer(frame)?;
    let settings = tables.settings().ok_or(Reason::NotConfigured)?;
    match link.ethertype {
        V4::ETHERTYPE => message::<V4, F, T>(frame, tables, link, settings),
        V6::ETHERTYPE => match neighbor::solicitation(frame, tables, link) {
            // About nobody we answer for: a packet like any other, which must not get past the fence.
            Err(Reason::NeighborNotOurs) => message::<V6, F, T>(frame, tables, link, settings),
            answered => answered,
        },
        _ => Err(Reason::NotIp),
    }
}

#[inline(always)]
fn message<A: Network, F: Frame, T: Tables<A>>(
    frame: &F,
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
        quoted::translate(frame, tables, link, settings, ip, upper.start)
    } else {
        echo::request(frame, tables, settings, ip, upper.start)
    }
}
