//! Ports that an instance's port has towards everybody (endpoint-independent mapping, RFC 4787 section 4.1).
//!
//! A mapping is a pair of entries in the flow table without a remote side: `B:p → *` becomes `P:s → *`, and
//! `* → P:s` becomes `* → B:p`. Flows hang on it: they are found by themselves, and tell it now and then that
//! they live. With a remote address and no port, such a pair says that the address was contacted from there.

use super::life::{is_over_for, is_quiet};
use super::snat::{self, Found, idle_timeout};
use crate::family::Family;
use crate::flow::{Direction, FlowKey, FlowKind, FlowRef, Seen, marks};
use crate::reason::Reason;
use crate::tables::{Scratch, Tables};

/// What both directions of a mapping whose flows were answered have seen.
const ANSWERED: u8 = Seen::PACKET.0 | Seen::SYN.0 | Seen::ACK.0;

/// In the kind of a mapping: others may send to it than those that flows were opened to.
pub(super) const OPEN: u8 = FlowKind::MAPPED_BIT | FlowKind::CONTACT_BIT;

/// Kind of an entry, without its bits.
#[inline(always)]
fn is_mapping<A: Family>(flow: FlowRef<'_, A>) -> bool {
    flow.kind() & 0x0f == FlowKind::Mapping as u8
}

/// Puts the public address and port of the packet's source (`scratch.key`) into the search, from its mapping or a
/// new one.
///
/// # Errors
/// There is none, and no port is free for it.
#[inline(always)]
pub(super) fn obtain<A: Family, T: Tables<A>>(tables: &T, kind: u32) -> Result<(), Reason> {
    match known(tables) {
        Some(true) => return Ok(()),
        Some(false) => return Err(Reason::FlowEnding),
        None => {}
    }
    // SAFETY: ends before the search takes it.
    let scratch = unsafe { tables.scratch() }.ok_or(Reason::NotConfigured)?;
    scratch.search.kind = u32::from(FlowKind::Mapping.byte(Direction::FromInstance, false)) | kind;
    match snat::search(tables, true) {
        Found::Port => Ok(()),
        Found::Known if known(tables) == Some(true) => Ok(()),
        Found::Known => Err(Reason::FlowEnding),
        Found::Nothing => Err(Reason::SnatSearching),
        Found::Exhausted => Err(Reason::SnatExhausted),
        Found::Full => Err(Reason::FlowTableFull),
    }
}

/// Whether the packet's source has a mapping, which then counts as used and is in the search; `Some(false)`: one
/// that is about to go.
///
/// `#[inline(never)]`: two callers.
#[inline(never)]
fn known<A: Family, T: Tables<A>>(tables: &T) -> Option<bool> {
    let settings = tables.settings()?;
    let now = tables.now();
    // SAFETY: taken once in this function, whose callers have let go of it.
    let scratch = unsafe { tables.scratch() }?;
    let Scratch {
        key,
        other,
        third,
        search,
        ..
    } = scratch;
    third.source = key.source;
    A::default().write(&mut third.destination);
    third.ports = FlowKey::<A>::ports_word(key.source_port(), 0);
    third.protocol = key.protocol;
    let flow = match tables.flow(third) {
        Some(flow) => flow,
        None => tables.former(third)?,
    };
    *other = flow.reply_key(key.protocol);
    let pair = match tables.flow(other) {
        Some(pair) => Some(pair),
        None => tables.former(other),
    };
    if flow.marks() & marks::RETIRING != 0 {
        return Some(false);
    }
    if is_over_for(settings, flow, pair, key.protocol, now, 0) {
        // In a former table it keeps its keys until it has moved.
        let is_gone = is_over_for(settings, flow, pair, key.protocol, now, settings.grace)
            && tables.former(third).is_none();
        return if is_gone { None } else { Some(false) };
    }
    search.for_mapping = 1;
    let idle = idle_timeout(search, settings, key.protocol);
    search.for_mapping = 0;
    flow.source().write(&mut search.address);
    search.port = u32::from((flow.ports() as u16).to_be());
    for half in [Some(flow), pair].into_iter().flatten() {
        half.set_last_seen(now);
        if half.idle_timeout() < idle {
            half.set_fixed(idle, half.rule());
        }
    }
    Some(true)
}

/// Tells the mapping of a flow that the flow lives, and the record of its remote address if there is one.
///
/// Reached by way of [`Tables::touch`].
#[inline(always)]
pub fn touch<A: Family, T: Tables<A>>(tables: &T, flow: FlowRef<'_, A>, protocol: u32) {
    let now = tables.now();
    let is_answer = FlowKind::direction(flow.kind()) == Direction::ToInstance;
    let (source_port, destination_port) = (flow.ports() as u16, (flow.ports() >> 16) as u16);
    let mut key = if is_answer {
        FlowKey {
            source: flow.destination(),
            destination: A::default(),
            ports: u32::from(destination_port),
            protocol,
        }
    } else {
        FlowKey {
            source: A::default(),
            destination: flow.source(),
            ports: u32::from(source_port) << 16,
            protocol,
        }
    };
    refresh(tables, &mut key, is_answer, now);
    if flow.kind() & 0x0f == FlowKind::Hairpin as u8 {
        // The other side may have a mapping too.
        key = if is_answer {
            FlowKey {
                source: A::default(),
                destination: flow.source(),
                ports: u32::from(source_port) << 16,
                protocol,
            }
        } else {
            FlowKey {
                source: flow.destination(),
                destination: A::default(),
                ports: u32::from(destination_port),
                protocol,
            }
        };
        refresh(tables, &mut key, true, now);
    }
    if flow.kind() & FlowKind::CONTACT_BIT == 0 {
        return;
    }
    let mut key = FlowKey {
        source: flow.destination(),
        destination: flow.source(),
        ports: if is_answer {
            u32::from(destination_port)
        } else {
            u32::from(source_port) << 16
        },
        protocol,
    };
    refresh(tables, &mut key, is_answer, now);
}

/// Writes the time into both directions of a mapping.
#[inline(always)]
fn refresh<A: Family, T: Tables<A>>(tables: &T, key: &mut FlowKey<A>, is_answer: bool, now: u64) {
    let find = |key: &FlowKey<A>| {
        let found = match tables.flow(key) {
            Some(flow) => Some(flow),
            None => tables.former(key),
        };
        found.filter(|flow| is_mapping(*flow) && flow.marks() & marks::RETIRING == 0)
    };
    let mut half = find(key);
    let mut turn = 0;
    while turn < 2 {
        turn += 1;
        let Some(flow) = half else { return };
        flow.set_last_seen(now);
        if is_answer {
            flow.set_seen_to_instance(ANSWERED);
            flow.set_seen_from_instance(ANSWERED);
        }
        *key = flow.reply_key(key.protocol);
        half = find(key);
    }
}

/// Remembers that the packet's source has contacted its destination's address; both keys are in the scratch space
/// of the flow that does.
///
/// `#[inline(never)]`: off unless a way wants it.
#[inline(never)]
pub(super) fn note_contact<A: Family, T: Tables<A>>(tables: &T) {
    let (Some(settings), now) = (tables.settings(), tables.now()) else {
        return;
    };
    // SAFETY: taken once in this function, whose callers have let go of it.
    let Some(scratch) = (unsafe { tables.scratch() }) else {
        return;
    };
    let kind = FlowKind::Mapping.byte(Direction::FromInstance, false);
    let kept = scratch.search.kind;
    scratch.search.kind = u32::from(kind);
    scratch.search.for_mapping = 1;
    scratch.own.key.destination = scratch.key.destination;
    scratch.own.key.source = scratch.key.source;
    scratch.own.key.ports = FlowKey::<A>::ports_word(scratch.key.source_port(), 0);
    scratch.own.key.protocol = scratch.key.protocol;
    scratch.pair.key.source = scratch.key.destination;
    scratch.pair.key.destination = scratch.search.address;
    scratch.pair.key.ports = FlowKey::<A>::ports_word(0, scratch.search.port as u16);
    scratch.pair.key.protocol = scratch.key.protocol;
    // An older record stays as it is; flows tell it that they live.
    let _ = snat::take(tables, scratch, settings, now);
    scratch.search.for_mapping = 0;
    scratch.search.kind = kept;
}

/// Whether somebody may send to a public port unasked, as far as its mapping's key alone tells: it has one, and
/// filtering lets others in than those that flows were opened to.
///
/// `#[inline(never)]`: its key needs stack, beside that of opening a flow.
#[inline(never)]
pub(super) fn is_open<A: Family, T: Tables<A>>(tables: &T, key: &FlowKey<A>) -> bool {
    let mut outer = *key;
    open_one(tables, key, &mut outer).is_some()
}

/// The outer entry of that mapping; `outer` takes its key.
#[inline(always)]
pub(super) fn open_one<'t, A: Family, T: Tables<A>>(
    tables: &'t T,
    key: &FlowKey<A>,
    outer: &mut FlowKey<A>,
) -> Option<FlowRef<'t, A>> {
    let settings = tables.settings()?;
    A::default().write(&mut outer.source);
    outer.destination = key.destination;
    outer.ports = FlowKey::<A>::ports_word(0, key.destination_port());
    outer.protocol = key.protocol;
    let flow = tables.flow(outer)?;
    let is_open = is_mapping(flow) && flow.kind() & OPEN != 0;
    (is_open && !is_quiet(flow, key.protocol, settings, tables.now())).then_some(flow)
}

/// Whether the flow of an instance may go to the mapping that it goes to, if it does, from the address at hand (all
/// zero: not known yet), as that of an outsider might (RFC 4787 section 6).
///
/// `#[inline(never)]`: three callers.
///
/// # Errors
/// The filtering of the mapping does not let it in.
#[inline(never)]
pub(super) fn enter<A: Family, T: Tables<A>>(tables: &T) -> Result<(), Reason> {
    let settings = tables.settings().ok_or(Reason::NotConfigured)?;
    // SAFETY: taken once in this function, whose callers have let go of it.
    let scratch = unsafe { tables.scratch() }.ok_or(Reason::NotConfigured)?;
    let Scratch {
        key, third, search, ..
    } = scratch;
    if search.door == 0 || search.door & u32::from(FlowKind::MAPPED_BIT) != 0 {
        return Ok(());
    }
    third.source = search.address;
    third.destination = key.destination;
    third.ports = FlowKey::<A>::ports_word(0, key.destination_port());
    third.protocol = key.protocol;
    let contact = tables.flow(third).filter(|flow| is_mapping(*flow));
    let contact = contact.ok_or(Reason::Unsolicited)?;
    if search.address == A::default() || is_quiet(contact, key.protocol, settings, tables.now()) {
        return Err(Reason::Unsolicited);
    }
    Ok(())
}

/// Whom a packet from outside to a public port (`scratch.key`) reaches by the port's mapping: its keys come to the
/// scratch space.
///
/// # Errors
/// Filtering does not let it in.
///
/// `#[inline(never)]`: has its own stack.
#[inline(never)]
pub(super) fn admit<A: Family, T: Tables<A>>(tables: &T) -> Result<(), Reason> {
    let settings = tables.settings().ok_or(Reason::NotConfigured)?;
    // SAFETY: taken once in this function, whose callers have let go of it.
    let scratch = unsafe { tables.scratch() }.ok_or(Reason::NotConfigured)?;
    let Scratch {
        key,
        third,
        own,
        pair,
        search,
        ..
    } = scratch;
    A::default().write(&mut third.source);
    third.destination = key.destination;
    third.ports = FlowKey::<A>::ports_word(0, key.destination_port());
    third.protocol = key.protocol;
    let mapping = tables.flow(third).ok_or(Reason::Unsolicited)?;
    if mapping.kind() & FlowKind::MAPPED_BIT == 0 {
        third.source = key.source;
        let contact = tables.flow(third).ok_or(Reason::Unsolicited)?;
        if !is_mapping(contact) || is_quiet(contact, key.protocol, settings, tables.now()) {
            return Err(Reason::Unsolicited);
        }
    }
    own.key = *key;
    let inner_port = (mapping.ports() >> 16) as u16;
    mapping.destination().write(&mut pair.key.source);
    pair.key.destination = key.source;
    pair.key.ports = FlowKey::<A>::ports_word(u16::from_be(inner_port), key.source_port());
    pair.key.protocol = key.protocol;
    mapping.destination().write(&mut search.source);
    search.destination_port = u32::from(key.source_port());
    Ok(())
}
