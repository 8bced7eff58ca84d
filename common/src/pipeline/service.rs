//! What a frontend's port offers: the rule of a packet, and what the rule makes of it.

use crate::abi::{PortKey, Rule, Settings};
use crate::balance::{flow_hash, slot_of};
use crate::family::{Family, V4};
use crate::flow::{FlowKey, FlowKind};
use crate::reason::Reason;
use crate::tables::{Shared, Tables};
use crate::wire::TCP;

/// The port that names are asked for on.
const DNS: u16 = 53;

/// The rule for a packet with this key to a frontend's address: of the single port, else of the smallest
/// range with the port. Which rule wins the daemon has decided.
///
/// `#[inline(never)]`: two callers, one of which has no stack for the key of a trie.
#[inline(never)]
pub(super) fn rule_for<'t, A: Family, T: Shared>(
    tables: &'t T,
    frontend: u32,
    key: &FlowKey<A>,
) -> Option<&'t Rule> {
    let port = PortKey::new(frontend, key.protocol as u8, key.destination_port());
    let bound = match tables.port(&port) {
        Some(bound) => bound,
        None => tables.port_range(&port)?,
    };
    match active(tables, bound.first) {
        None => active(tables, bound.second),
        found => found,
    }
}

#[inline(always)]
fn active<T: Shared>(tables: &T, binding: u32) -> Option<&Rule> {
    tables.binding(binding).filter(|rule| rule.is_active())
}

/// What chooses the member for a packet.
///
/// `#[inline(never)]`: its state fills every register.
#[inline(never)]
pub(super) fn hash<A: Family>(settings: &Settings, key: &FlowKey<A>, distribution: u8) -> u64 {
    flow_hash(settings.hash_key, key, distribution)
}

/// Address of the member that gets the flow with this key and hash; `attempt` counts those before it whose
/// tuple was taken.
#[inline(always)]
pub(super) fn member<A: Family, T: Tables<A>>(
    tables: &T,
    rule: &Rule,
    key: &FlowKey<A>,
    hash: u64,
    attempt: u32,
) -> Result<A, Reason> {
    let [v4, v6] = rule.targets;
    let target = if A::AF == V4::AF { v4 } else { v6 };
    let id = if rule.way == Rule::RING {
        tables
            .ring_slot(target, slot_of(hash, attempt))
            .unwrap_or(0)
    } else if attempt != 0 {
        // There is no other member.
        return Err(Reason::ReplyTupleTaken);
    } else if rule.way == Rule::BACKEND {
        target
    } else {
        let place = key.destination_port().wrapping_sub(rule.first_port);
        tables.spread_place(target, u32::from(place)).unwrap_or(0)
    };
    if id == 0 {
        return Err(Reason::NoBackend);
    }
    Ok(tables.backend(id).ok_or(Reason::NoBackend)?.address)
}

/// The port, host byte order, at which the member expects the flow with this key.
#[inline(always)]
pub(super) fn backend_port<A: Family>(rule: &Rule, key: &FlowKey<A>) -> u16 {
    if rule.flags & Rule::FIXED_PORT != 0 {
        return rule.port_offset;
    }
    key.destination_port().wrapping_add(rule.port_offset)
}

/// Idle timeout of the established flow with this key, jiffies.
#[inline(always)]
pub(super) fn idle_timeout<A: Family>(rule: &Rule, key: &FlowKey<A>) -> u32 {
    if key.protocol == u32::from(TCP) {
        rule.tcp_idle
    } else if key.destination_port() == DNS {
        rule.udp_dns
    } else {
        rule.udp_idle
    }
}

/// The kind of the flows that a rule makes.
#[inline(always)]
pub(super) fn kind(rule: &Rule) -> FlowKind {
    if rule.flags & Rule::INBOUND_NAT != 0 {
        FlowKind::InboundNat
    } else {
        FlowKind::Rule
    }
}
