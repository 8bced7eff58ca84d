//! Echo requests from instances, and the replies to them: flows whose port is the identifier (RFC 5508
//! section 3).

use super::first::without_flow;
use super::{
    Goes, Outcome, Step, Terms, by_family, conclude, former, forward, known, outbound, public,
    unusual, vlan,
};
use crate::abi::Settings;
use crate::family::{Family, V4, V6};
use crate::flow::FlowKey;
use crate::reason::Reason;
use crate::tables::Tables;
use crate::wire::{Frame, Icmp, IpHeader, LinkLayer, Network, Packet, Transport};

/// Leaves an echo request or reply with this identifier (raw) to this stage. Whether it is a first fragment has
/// been noted before.
#[inline(always)]
pub(super) fn hand_over<A: Family, T: Tables<A>>(
    tables: &T,
    key: &FlowKey<A>,
    start: usize,
    is_request: bool,
    identifier: u16,
) -> Result<Step, Reason> {
    // SAFETY: the stage at hand has let go of it, or never took it.
    let scratch = unsafe { tables.scratch() }.ok_or(Reason::NotConfigured)?;
    let identifier = u16::from_be(identifier);
    scratch.key.source = key.source;
    scratch.key.destination = key.destination;
    scratch.key.protocol = key.protocol;
    scratch.key.ports = if is_request {
        FlowKey::<A>::ports_word(identifier, 0)
    } else {
        FlowKey::<A>::ports_word(0, identifier)
    };
    let noted = tables.per_cpu(|cpu| {
        cpu.transport = start as u32;
        cpu.attempt = 0;
    });
    noted.ok_or(Reason::NotLoaded)?;
    Ok(Step::stage(Goes::Ping))
}

/// The stage of instances' echoes.
#[inline(always)]
pub fn ping<F: Frame, T: Tables<V4> + Tables<V6>>(frame: &mut F, tables: &T) -> Outcome {
    let step = by_family(&*frame, tables, echo::<V4, F, T>, echo::<V6, F, T>);
    conclude(tables, step)
}

#[inline(always)]
fn echo<A: Network, F: Frame, T: Tables<A>>(
    frame: &F,
    tables: &T,
    link: LinkLayer,
    settings: &Settings,
) -> Result<Step, Reason> {
    // SAFETY: the only place of this stage that takes the scratch space.
    let scratch = unsafe { tables.scratch() }.ok_or(Reason::NotConfigured)?;
    let ip = frame.at::<A::Header>(link.offset).ok_or(Reason::Runt)?;
    let cpu = tables.per_cpu(|cpu| [cpu.transport, cpu.attempt, cpu.first, cpu.identification]);
    let [start, attempt, first, identification] = cpu.ok_or(Reason::NotLoaded)?;
    let start = frame.blurred_far(start as usize);
    let header = frame.at::<Icmp>(start).ok_or(Reason::Truncated)?;
    let transport = if A::AF == V4::AF {
        Transport::Echo(header)
    } else {
        Transport::Echo6(header)
    };
    let packet = Packet {
        ip,
        transport,
        length: ip.length(),
        start,
    };
    let now = tables.now();
    let key = &scratch.key;
    let mut flow = known(tables, key, (0, 0), settings, now);
    if flow.is_none() {
        flow = former::alive(tables, key, settings, now);
    }
    let Some(flow) = flow else {
        let device = vlan::ingress_device(frame, tables);
        let is_request = header.kind.host() == u16::from(A::ECHO[0]) << 8;
        if !is_request && public::is_to_one(tables, key) {
            return Ok(Step::stage(Goes::Public));
        }
        let none = if is_request {
            Reason::NoFlow
        } else {
            Reason::Protocol
        };
        let reason = without_flow(tables, key, device, none);
        if is_request && reason == Reason::NoOutbound && public::has_one(tables, key) {
            return Ok(Step::stage(Goes::Public));
        }
        let opens = reason == Reason::NoOutbound || public::is_to_one(tables, key);
        if !is_request || attempt != 0 || !opens {
            return Err(reason);
        }
        if ip.hops() <= 1 {
            return Err(Reason::HopsExceeded);
        }
        let _ = tables.per_cpu(|cpu| cpu.attempt = 1);
        return outbound::hand_over(tables, 0, false);
    };
    let terms = Terms { settings, now };
    let step = forward::forward::<true, A, F, T>(frame, tables, link, &packet, key, flow, terms)?;
    if first != 0 && step.goes != Goes::Complain {
        unusual::remember(tables, key, identification, first);
    }
    Ok(step)
}
