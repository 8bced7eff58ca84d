//! Opening a flow: with which member, or, for a reply whose flow is lost, as whose reply.
//!
//! A new flow is untrusted. Only where the flow table knows one of its keys does it take them there at once:
//! what has ended begins anew, and what is over makes room.

use super::claim::{Claim, Claimed};
use super::untrusted::{self, Owner, begin};
use super::{service, sources};
use crate::abi::{LOCKS, Rule, Settings};
use crate::family::Family;
use crate::flow::{Direction, FlowKey, FlowKind, FlowRef, Place, Seen, Untrusted};
use crate::reason::Reason;
use crate::tables::{Scratch, Shared, Tables};
use crate::wire::{TCP, tcp_flags};

/// Ring slots that are looked at, after the first, for a member towards which the reply tuple is free.
const ALTERNATIVES: u32 = 4;

/// How often a packet begins anew because another CPU is at its reply key; the kernel allows 33 such turns in
/// all.
const PATIENCE: u32 = 24;

/// Where the flow of a packet is, as a word that fits a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Home {
    /// Untrusted, and it was there.
    Known,
    /// Untrusted, and new: both directions are in the scratch space, and nowhere else yet.
    New,
    /// New, and the flow table knows one of its keys: [`claim`] is to take both there.
    Half,
    /// In the flow table.
    Trusted,
    /// Nowhere yet: the next member is to be tried.
    Next,
    /// Nowhere yet: an instance opens it to the outside.
    Outside,
    /// Nowhere yet: an outsider opens it to a port that an instance goes out by.
    Mapped,
    /// Nowhere, ever: the packet is one of a public IP.
    Stateless,
}

/// Opens a flow for a packet (`scratch.key`) to a frontend.
///
/// # Errors
/// No rule or member takes it, or its source opens too many.
#[inline(always)]
pub(super) fn open<A: Family, T: Tables<A>>(
    tables: &T,
    scratch: &mut Scratch<A>,
    frontend: u32,
    flags: u8,
) -> Result<Home, Reason> {
    let settings = tables.settings().ok_or(Reason::NotConfigured)?;
    let Scratch { key, other, .. } = scratch;
    let rule = service::rule_for(tables, frontend, key).ok_or(Reason::NoRule)?;
    if key.protocol == u32::from(TCP) && flags & tcp_flags::RST != 0 {
        return Err(Reason::NoFlow);
    }
    let (attempt, waits) = tables
        .per_cpu(|cpu| (cpu.attempt, cpu.waits))
        .unwrap_or((0, 0));
    let is_again = attempt | waits != 0;
    let is_counted = !is_again && key.source != A::TRIALS;
    if is_counted && !sources::admits(tables, settings, key.source) {
        return Err(Reason::NewFlowLimit);
    }
    let hash = service::hash(settings, key, rule.distribution);
    let port = service::backend_port(rule, key);
    let member = service::member(tables, rule, key, hash, attempt)?;
    *other = FlowKey {
        source: member,
        destination: key.source,
        ports: FlowKey::<A>::ports_word(port, key.source_port()),
        protocol: key.protocol,
    };
    match place(tables, scratch, rule, flags) {
        Placed::New => Ok(Home::New),
        Placed::Half => Ok(Home::Half),
        Placed::Taken => next_member(tables),
        Placed::Busy => once_more(tables),
    }
}

/// Has the packet begin anew with the member of the next ring slot, if there are any left to try.
#[inline(always)]
fn next_member<T: Shared>(tables: &T) -> Result<Home, Reason> {
    let tried = tables.per_cpu(|cpu| {
        cpu.attempt += 1;
        cpu.attempt
    });
    match tried {
        Some(tried) if tried <= ALTERNATIVES => Ok(Home::Next),
        _ => Err(Reason::ReplyTupleTaken),
    }
}

/// Has the packet begin anew with the same member: another CPU was at its reply key.
#[inline(always)]
fn once_more<T: Shared>(tables: &T) -> Result<Home, Reason> {
    let waited = tables.per_cpu(|cpu| {
        cpu.waits += 1;
        cpu.waits
    });
    match waited {
        Some(waited) if waited <= PATIENCE => Ok(Home::Next),
        _ => Err(Reason::FlowEnding),
    }
}

/// How a member was tried, as a word that fits a register.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Placed {
    New,
    /// The flow table knows one of the keys.
    Half,
    /// Another flow has the reply key.
    Taken,
    /// Other CPUs are at it.
    Busy,
}

/// Tries the member whose replies have the key `scratch.other`.
///
/// `#[inline(never)]`: has its own stack, beside that of forwarding.
#[inline(never)]
fn place<A: Family, T: Tables<A>>(
    tables: &T,
    scratch: &mut Scratch<A>,
    rule: &Rule,
    flags: u8,
) -> Placed {
    let Some(settings) = tables.settings() else {
        return Placed::Busy;
    };
    let number = lock_of(settings, &scratch.other);
    if !tables.lock(number) {
        return Placed::Busy;
    }
    let placed = reserve(tables, scratch, settings, rule, flags);
    tables.unlock(number);
    placed
}

/// Number of the lock of a reply key. Who holds it asks whether a flow has the key, trusted or not, and takes it for a
/// new one if none has.
#[inline(always)]
pub(super) fn lock_of<A: Family>(settings: &Settings, reply: &FlowKey<A>) -> u32 {
    Place::of(settings.hash_key, reply).set(LOCKS - 1)
}

/// Fills in both directions of a new flow.
#[inline(always)]
fn fill_both<A: Family>(scratch: &mut Scratch<A>, rule: &Rule, flags: u8, now: u64) {
    let Scratch {
        key,
        other,
        own,
        pair,
        ..
    } = scratch;
    own.key = *key;
    pair.key = *other;
    let events = Seen::of(key.protocol, flags).0;
    fill(own, pair, rule, now);
    for entry in [&mut *own, &mut *pair] {
        FlowRef::over(&mut entry.flow).set_seen_to_instance(events);
    }
}

/// Takes both keys of a new flow in the flow table, which knows one of them already.
///
/// `#[inline(never)]`: has its own stack, beside that of forwarding.
///
/// # Errors
/// Another flow holds them, or the table is full.
#[inline(never)]
pub(super) fn claim<A: Family, T: Tables<A>>(
    tables: &T,
    scratch: &mut Scratch<A>,
) -> Result<Home, Reason> {
    let settings = tables.settings().ok_or(Reason::NotConfigured)?;
    let now = tables.now();
    let Scratch {
        other, own, pair, ..
    } = scratch;
    let number = lock_of(settings, &pair.key);
    if !tables.lock(number) {
        return Err(Reason::FlowEnding);
    }
    let claimed = (Claim { settings, now }).take(tables, own, pair, other);
    tables.unlock(number);
    match claimed {
        Claimed::New | Claimed::Reopened => tables.count_new_flow(own.flow.rule),
        Claimed::Known => {}
        Claimed::ReplyTaken => return next_member(tables),
        Claimed::Ending => return Err(Reason::FlowEnding),
        Claimed::Full => return Err(Reason::FlowTableFull),
    }
    untrusted::forget(tables, &own.key);
    untrusted::forget(tables, &pair.key);
    Ok(Home::Trusted)
}

/// Takes the reply key `scratch.other`, which other rules' flows may want too, among untrusted flows, unless a flow has
/// it. The flow table is asked last: a flow that becomes trusted is there before it is gone from here.
#[inline(always)]
fn reserve<A: Family, T: Tables<A>>(
    tables: &T,
    scratch: &mut Scratch<A>,
    settings: &Settings,
    rule: &Rule,
    flags: u8,
) -> Placed {
    let now = tables.now();
    match untrusted::other_owner(tables, scratch, settings, now) {
        Owner::Other => return Placed::Taken,
        Owner::Unclear => return Placed::Busy,
        Owner::Free => {}
    }
    fill_both(scratch, rule, flags, now);
    let is_known = |key| tables.flow(key).is_some() || tables.former(key).is_some();
    if is_known(&scratch.key) || is_known(&scratch.other) {
        return Placed::Half;
    }
    untrusted::keep(tables, &mut scratch.pair);
    Placed::New
}

/// Makes the entries of a new flow by a rule from its keys: what one direction's packets become is what the
/// other direction's answer.
#[inline(always)]
fn fill<A: Family>(forward: &mut Untrusted<A>, reply: &mut Untrusted<A>, rule: &Rule, now: u64) {
    let resets = rule.flags & Rule::TCP_RESET != 0;
    let kind = service::kind(rule).byte(Direction::ToInstance, resets);
    let translated = reply.key.reversed();
    begin(forward, &translated, kind);
    let translated = forward.key.reversed();
    begin(reply, &translated, FlowKind::other_way(kind));
    let idle_timeout = service::idle_timeout(rule, &forward.key);
    // What nobody has sent counts for no rule.
    let rule = if forward.key.source == A::TRIALS {
        Rule::NONE
    } else {
        rule.id
    };
    for entry in [forward, reply] {
        let flow = FlowRef::over(&mut entry.flow);
        flow.set_fixed(idle_timeout, rule);
        flow.set_seen_to_instance(0);
        flow.set_seen_from_instance(0);
        flow.set_last_seen(now);
    }
}

/// Takes up a flow by a packet from an instance to the outside, if it can only be a reply of one frontend's
/// port: a node that has lost all flows, or never had them, goes on with them.
///
/// # Errors
/// It may be anything.
#[inline(never)]
pub(super) fn reverse<A: Family, T: Tables<A>>(
    tables: &T,
    scratch: &mut Scratch<A>,
    flags: u8,
) -> Result<Home, Reason> {
    let key = &scratch.key;
    let opens = flags & (tcp_flags::SYN | tcp_flags::ACK) == tcp_flags::SYN;
    if key.protocol != u32::from(TCP) || opens {
        return Err(Reason::NoOutbound);
    }
    let found = tables
        .reverse(key.source, key.source_port())
        .ok_or(Reason::NoOutbound)?;
    let owner = tables.owner(found.frontend).ok_or(Reason::NoOutbound)?;
    let port = key.source_port().wrapping_add(found.port_offset);
    let Scratch { key, own, pair, .. } = scratch;
    pair.key = FlowKey {
        source: key.destination,
        destination: found.frontend,
        ports: FlowKey::<A>::ports_word(key.destination_port(), port),
        protocol: key.protocol,
    };
    let rule = service::rule_for(tables, owner.id, &pair.key).ok_or(Reason::NoOutbound)?;
    if tables.flow(&pair.key).is_some() || tables.former(&pair.key).is_some() {
        // It goes on with another member.
        return Err(Reason::NoFlow);
    }
    own.key = *key;
    fill(pair, own, rule, tables.now());
    let events = Seen::of(key.protocol, flags).0;
    for entry in [own, pair] {
        FlowRef::over(&mut entry.flow).set_seen_from_instance(events);
    }
    Ok(Home::New)
}
