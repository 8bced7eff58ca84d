//! A packet without a trusted flow: has it an untrusted one, whose is it, and may it open one?

use super::open::{self, Home};
use super::untrusted::{News, forget, known};
use super::{
    Goes, Outcome, Step, Terms, by_family, concerns_us, conclude, forward, goes_out_by_default,
};
use super::{
    is_longer_than_frame, mapping, may_be_ours, outbound, public, service, trial, unusual, vlan,
};
use crate::abi::{Owner, Settings, WayKey};
use crate::family::{Family, V4, V6};
use crate::flow::{FlowKey, FlowRef};
use crate::reason::Reason;
use crate::tables::{Route, Scratch, Shared, Tables};
use crate::wire::{
    Frame, IpHeader, LinkLayer, Network, Packet, TCP, Tcp, Transport, UDP, Udp, tcp_flags,
};

/// Leaves a packet without a trusted flow to the stage of first packets. `start` is where the header above IP
/// begins, 0 if there is none. Whether the packet is a first fragment has been noted before.
#[inline(always)]
pub(super) fn hand_over<A: Family, T: Tables<A>>(
    tables: &T,
    key: &FlowKey<A>,
    start: usize,
) -> Result<Step, Reason> {
    // SAFETY: neither the first program nor the stage of fragments takes the scratch space otherwise.
    let scratch = unsafe { tables.scratch() }.ok_or(Reason::NotConfigured)?;
    scratch.key = *key;
    let noted = tables.per_cpu(|cpu| {
        cpu.transport = start as u32;
        cpu.attempt = 0;
        cpu.waits = 0;
    });
    noted.ok_or(Reason::NotLoaded)?;
    Ok(Step::stage(Goes::First))
}

/// The stage of packets without a trusted flow.
#[inline(always)]
pub fn first<F: Frame, T: Tables<V4> + Tables<V6>>(frame: &mut F, tables: &T) -> Outcome {
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
    // SAFETY: the only place of this stage that takes the scratch space.
    let scratch = unsafe { tables.scratch() }.ok_or(Reason::NotConfigured)?;
    let ip = frame.at::<A::Header>(link.offset).ok_or(Reason::Runt)?;
    let packet = packet::<A, F, T>(frame, tables, ip, link.offset, scratch.key.protocol)?;
    let terms = Terms {
        settings,
        now: tables.now(),
    };
    if trial::is_one(&scratch.key) && !trial::is_genuine(frame, tables, scratch.key.source_port()) {
        return Err(Reason::BadSource);
    }
    let step = go_on(frame, tables, link, &packet, scratch, terms);
    if trial::is_one(&scratch.key) {
        return Ok(trial::told(tables, scratch.key.source_port(), step));
    }
    step
}

/// What becomes of a packet, now that it is known whether it is of a trial.
#[inline(always)]
fn go_on<A: Network, F: Frame, T: Tables<A>>(
    frame: &F,
    tables: &T,
    link: LinkLayer,
    packet: &Packet<'_, A>,
    scratch: &mut Scratch<A>,
    terms: Terms<'_>,
) -> Result<Step, Reason> {
    let settings = terms.settings;
    let flags = packet.transport.tcp_flags();
    let mut home = Home::Known;
    if !known(tables, scratch, flags, settings, terms.now) {
        let ingress = vlan::ingress_device(frame, tables);
        if is_longer_than_frame(frame, link, packet.length) {
            return Err(without_flow(
                tables,
                &scratch.key,
                ingress,
                Reason::Truncated,
            ));
        }
        if matches!(packet.transport, Transport::Later(_)) {
            return Err(Reason::FragmentWithoutFirst);
        }
        let flags_hops = u32::from(flags) << 8 | u32::from(packet.ip.hops());
        home = first_packet(tables, scratch, ingress, flags_hops)?;
    } else if FlowRef::over(&mut scratch.own.flow).destination() == A::TRIALS {
        return trial::caught(tables, &scratch.key, &packet.transport);
    }
    if home == Home::Half {
        home = open::claim(tables, scratch)?;
    }
    match home {
        Home::Half | Home::Trusted => return Ok(Step::stage(Goes::Again)),
        Home::Next => return Ok(Step::stage(Goes::First)),
        Home::Outside => return outbound::hand_over(tables, flags, false),
        Home::Mapped => return outbound::hand_over(tables, flags, true),
        Home::Stateless => return Ok(Step::stage(Goes::Public)),
        Home::Known | Home::New => {}
    }
    let content = packet
        .length
        .wrapping_sub(packet.start.wrapping_sub(link.offset) as u32);
    let news = News::of(&packet.transport, content);
    let flow = FlowRef::over(&mut scratch.own.flow);
    let key = &scratch.key;
    let step = forward::forward::<false, A, F, T>(frame, tables, link, packet, key, flow, terms);
    let step = match step {
        Ok(step) => step,
        Err(reason) => {
            if home == Home::New {
                // Nothing is left of what was reserved for a flow whose first packet goes nowhere.
                forget(tables, &scratch.pair.key);
            }
            return Err(reason);
        }
    };
    if home == Home::New {
        tables.count_new_flow(flow.rule());
    }
    tables.settle(&news, home == Home::New);
    // SAFETY: nobody holds it any more.
    let scratch = unsafe { tables.scratch() }.ok_or(Reason::NotConfigured)?;
    remember_fragment(tables, scratch);
    Ok(step)
}

/// The packet, as the program that handed it over found it.
#[inline(always)]
fn packet<'f, A: Network, F: Frame, T: Shared>(
    frame: &'f F,
    tables: &T,
    ip: &'f A::Header,
    offset: usize,
    protocol: u32,
) -> Result<Packet<'f, A>, Reason> {
    let start = tables.per_cpu(|cpu| cpu.transport).unwrap_or(0);
    let start = frame.blurred_far(start as usize);
    let transport = if start == 0 {
        Transport::Later(frame.at(offset).ok_or(Reason::Truncated)?)
    } else if protocol == u32::from(TCP) {
        Transport::Tcp(frame.at::<Tcp>(start).ok_or(Reason::Truncated)?)
    } else if protocol == u32::from(UDP) {
        Transport::Udp(frame.at::<Udp>(start).ok_or(Reason::Truncated)?)
    } else {
        return Err(Reason::Protocol);
    };
    Ok(Packet {
        ip,
        transport,
        length: ip.length(),
        start,
    })
}

/// Keeps what a first fragment that is on its way told, for those that follow.
#[inline(always)]
fn remember_fragment<A: Family, T: Tables<A>>(tables: &T, scratch: &Scratch<A>) {
    let fragment = tables.per_cpu(|cpu| [cpu.first, cpu.identification]);
    if let Some([stretch, identification]) = fragment
        && stretch != 0
    {
        unusual::remember(tables, &scratch.key, identification, stretch);
    }
}

/// Opens a flow for a packet to a frontend, or for a reply whose flow is lost.
///
/// `#[inline(never)]`: has its own stack, beside that of forwarding.
///
/// # Errors
/// The verdict of a packet that opens none, most often because it is not for a frontend.
#[inline(never)]
fn first_packet<A: Family, T: Tables<A>>(
    tables: &T,
    scratch: &mut Scratch<A>,
    ingress: u32,
    flags_hops: u32,
) -> Result<Home, Reason> {
    let key = &scratch.key;
    let flags = (flags_hops >> 8) as u8;
    match tables.owner(key.destination) {
        Some(owner) if owner.roles & Owner::FRONTEND != 0 => {
            if owner.roles & Owner::SNAT != 0 && mapping::is_open(tables, key) {
                let is_inside = is_instance(tables.owner(key.source)) && has_way(tables, key);
                return Ok(if is_inside {
                    Home::Outside
                } else {
                    Home::Mapped
                });
            }
            if owner.roles & Owner::SHARED != 0 && !is_for_a_rule(tables, key, owner.id, flags) {
                return Err(Reason::SharedToHost);
            }
            if flags_hops & 0xff <= 1 {
                return Err(Reason::HopsExceeded);
            }
            if !key.source.is_global_unicast()
                || (may_be_ours(tables, key.source) && !may_come_from(tables, key, ingress))
            {
                return Err(Reason::BadSource);
            }
            if is_instance(tables.owner(key.source)) && has_way(tables, key) {
                return Ok(Home::Outside);
            }
            open::open(tables, scratch, owner.id, flags)
        }
        Some(owner) if owner.roles & Owner::PUBLIC_IP != 0 => Ok(Home::Stateless),
        _ => match not_for_a_frontend(tables, key, ingress) {
            // Nobody is there.
            Reason::NoOutbound if key.destination == A::TRIALS => Err(Reason::NoOutbound),
            Reason::NoOutbound => match open::reverse(tables, scratch, flags) {
                Err(Reason::NoOutbound) if public::has_one(tables, &scratch.key) => {
                    Ok(Home::Stateless)
                }
                Err(Reason::NoOutbound) if has_way(tables, &scratch.key) => {
                    if flags_hops & 0xff <= 1 {
                        return Err(Reason::HopsExceeded);
                    }
                    Ok(Home::Outside)
                }
                other => other,
            },
            reason => Err(reason),
        },
    }
}

/// Whether there is a way out for the source of a packet, or one for those without that talk to its destination.
///
/// `#[inline(never)]`: its key needs stack.
#[inline(never)]
fn has_way<A: Family, T: Tables<A>>(tables: &T, key: &FlowKey<A>) -> bool {
    let roles = tables.owner(key.source).map_or(0, |owner| owner.roles);
    let mut way = WayKey::new(key.destination, key.protocol);
    let has_own = roles & Owner::HAS_PUBLIC_IP != 0 || tables.way(&way).is_some();
    way.source = if roles & Owner::INSTANCE != 0 {
        key.source
    } else {
        A::default()
    };
    has_own || tables.way(&way).is_some()
}

#[inline(always)]
fn is_instance(owner: Option<&Owner>) -> bool {
    owner.is_some_and(|owner| owner.roles & Owner::INSTANCE != 0)
}

/// Whether a packet to an address that is the host's own too is for a rule: a TCP packet in the middle of
/// a connection may as well be of one that the host has.
#[inline(always)]
fn is_for_a_rule<A: Family, T: Tables<A>>(
    tables: &T,
    key: &FlowKey<A>,
    frontend: u32,
    flags: u8,
) -> bool {
    let opens = flags & (tcp_flags::SYN | tcp_flags::ACK | tcp_flags::RST) == tcp_flags::SYN;
    (key.protocol != u32::from(TCP) || opens) && service::rule_for(tables, frontend, key).is_some()
}

/// Whether a packet with a source that this node knows may come in here: a frontend sends nothing, and
/// an instance sends by the interface that leads to it, else somebody else uses its address.
///
/// `#[inline(never)]`: its route lookup needs stack that opening a flow has no room for.
#[inline(never)]
pub(super) fn may_come_from<A: Family, T: Tables<A>>(
    tables: &T,
    key: &FlowKey<A>,
    ingress: u32,
) -> bool {
    let roles = tables.owner(key.source).map_or(0, |owner| owner.roles);
    if roles & (Owner::FRONTEND | Owner::PUBLIC_IP) != 0 {
        return false;
    }
    if roles & Owner::INSTANCE == 0 {
        return true;
    }
    match tables.route(&key.reversed(), 0, ingress) {
        Route::Hop(hop) => tables
            .interface(u32::from(hop.slot))
            .is_some_and(|way| way.ifindex == ingress),
        // Its neighbour entry is not there yet, or its way is not ours to know.
        Route::NoNeighbor(_) | Route::Kernel | Route::TooBig(_) => true,
        Route::Local | Route::None => false,
    }
}

/// Judges a packet that can belong to no flow: `reason` is why.
///
/// `#[inline(never)]`: off the known-flow path.
#[inline(never)]
pub(super) fn without_flow<A: Family, T: Tables<A>>(
    tables: &T,
    key: &FlowKey<A>,
    ingress: u32,
    reason: Reason,
) -> Reason {
    if !concerns_us(tables, key) {
        return Reason::NotOurs;
    }
    match tables.owner(key.destination) {
        Some(owner) if owner.roles & Owner::SHARED != 0 => Reason::SharedToHost,
        Some(owner) if owner.roles & Owner::FRONTEND != 0 => reason,
        _ => not_for_a_frontend(tables, key, ingress),
    }
}

/// Fails closed: what an instance sends to the outside does not leave untranslated, and outsiders do
/// not reach an instance's private address.
///
/// `#[inline(never)]`: its route lookup needs stack that opening a flow has no room for.
#[inline(never)]
fn not_for_a_frontend<A: Family, T: Tables<A>>(
    tables: &T,
    key: &FlowKey<A>,
    ingress: u32,
) -> Reason {
    let to_instance = is_instance(tables.owner(key.destination));
    let from_instance = is_instance(tables.owner(key.source));
    if !from_instance && !to_instance && goes_out_by_default(tables, key) {
        return if matches!(tables.route(key, 0, ingress), Route::Local) {
            Reason::NotOurs
        } else {
            Reason::NoOutbound
        };
    }
    if from_instance {
        let stays_inside = to_instance
            || !key.destination.is_global_unicast()
            || tables.in_virtual_network(key.destination)
            || matches!(tables.route(key, 0, ingress), Route::Local);
        return if stays_inside {
            Reason::InstanceLocal
        } else {
            Reason::NoOutbound
        };
    }
    if to_instance {
        let direct = tables
            .settings()
            .is_some_and(|settings| settings.flags & Settings::ALLOW_DIRECT != 0);
        let allowed = direct || tables.in_virtual_network(key.source);
        return if allowed {
            Reason::DirectAllowed
        } else {
            Reason::DirectToInstance
        };
    }
    Reason::NotOurs
}
