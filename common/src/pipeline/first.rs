//! A packet without a flow: whose is it, may it open one, and with which member?

use super::claim::Claim;
use super::{may_be_ours, service};
use crate::abi::{Owner, Settings};
use crate::family::Family;
use crate::flow::{FlowKey, Seen};
use crate::reason::Reason;
use crate::tables::{Route, Tables};
use crate::wire::{TCP, tcp_flags};

/// Ring slots that are looked at, after the first, for a member towards which the reply tuple is free.
const ALTERNATIVES: u32 = 4;

/// Opens a flow for a packet to a frontend.
///
/// `#[inline(never)]`: the known-flow path must not pay for its stack and registers.
///
/// # Errors
/// The verdict of a packet that opens none, most often because it is not for a frontend.
#[inline(never)]
pub(super) fn first_packet<A: Family, T: Tables<A>>(
    tables: &T,
    key: &FlowKey<A>,
    ingress: u32,
    flags_hops: u32,
) -> Result<(), Reason> {
    match tables.owner(key.destination) {
        Some(owner) if owner.roles & Owner::FRONTEND != 0 => {
            let flags = (flags_hops >> 8) as u8;
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
            open(tables, key, owner.id, flags)
        }
        _ => Err(not_for_a_frontend(tables, key, ingress)),
    }
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
    if roles & Owner::FRONTEND != 0 {
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
    if !may_be_ours(tables, key.source) && !may_be_ours(tables, key.destination) {
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
    let is_instance =
        |owner: Option<&Owner>| owner.is_some_and(|owner| owner.roles & Owner::INSTANCE != 0);
    let to_instance = is_instance(tables.owner(key.destination));
    if is_instance(tables.owner(key.source)) {
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

#[inline(always)]
fn open<A: Family, T: Tables<A>>(
    tables: &T,
    key: &FlowKey<A>,
    frontend: u32,
    flags: u8,
) -> Result<(), Reason> {
    let settings = tables.settings().ok_or(Reason::NotConfigured)?;
    let rule = service::rule_for(tables, frontend, key).ok_or(Reason::NoRule)?;
    if key.protocol == u32::from(TCP) && flags & tcp_flags::RST != 0 {
        return Err(Reason::NoFlow);
    }
    // SAFETY: the only place that takes the scratch space, once a packet.
    let scratch = unsafe { tables.scratch() }.ok_or(Reason::NotConfigured)?;
    let hash = service::hash(settings, key, rule.distribution);
    let port = service::backend_port(rule, key);
    let claim = Claim {
        rule,
        settings,
        now: tables.now(),
        events: Seen::of(key.protocol, flags),
    };
    scratch.reply = FlowKey {
        source: A::default(),
        destination: key.source,
        ports: FlowKey::<A>::ports_word(port, key.source_port()),
        protocol: key.protocol,
    };
    let mut attempt = 0;
    while attempt <= ALTERNATIVES {
        scratch.reply.source = service::member(tables, rule, key, hash, attempt)?;
        match claim.take(tables, key, scratch) {
            Err(Reason::ReplyTupleTaken) => attempt += 1,
            outcome => return outcome,
        }
    }
    Err(Reason::ReplyTupleTaken)
}
