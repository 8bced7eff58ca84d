//! What a frontend's port offers: the rule of a packet, and what the rule makes of it.

use crate::abi::{Rule, RuleKey, Settings};
use crate::balance::{flow_hash, slot_of};
use crate::family::Family;
use crate::flow::{FlowKey, FlowKind};
use crate::reason::Reason;
use crate::tables::{Shared, Tables};

/// The rule for a packet with this key to a frontend's address.
#[inline(always)]
pub(super) fn rule_for<'t, A: Family, T: Shared>(
    tables: &'t T,
    frontend: u32,
    key: &FlowKey<A>,
) -> Option<&'t Rule> {
    let port = RuleKey::new(frontend, key.protocol as u8, key.destination_port());
    tables.rule(&port)
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
    _key: &FlowKey<A>,
    hash: u64,
    attempt: u32,
) -> Result<A, Reason> {
    let slot = slot_of(hash, attempt);
    let id = tables.ring_slot(rule.ring, slot).unwrap_or(0);
    if id == 0 {
        return Err(Reason::NoBackend);
    }
    Ok(tables.backend(id).ok_or(Reason::NoBackend)?.address)
}

/// The port, host byte order, at which the member expects the flow with this key.
#[inline(always)]
pub(super) fn backend_port<A: Family>(rule: &Rule, key: &FlowKey<A>) -> u16 {
    key.destination_port().wrapping_add(rule.port_offset)
}

/// Idle timeout of the established flow with this key, jiffies.
#[inline(always)]
pub(super) fn idle_timeout<A: Family>(rule: &Rule, _key: &FlowKey<A>) -> u32 {
    rule.idle_timeout
}

/// The kind of the flows that a rule makes.
#[inline(always)]
pub(super) fn kind(_rule: &Rule) -> FlowKind {
    FlowKind::Rule
}
