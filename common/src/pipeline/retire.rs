//! Ending flows whose time has run out, in two steps, for the daemon's sweep.
//!
//! Other CPUs may have found an entry a moment before it was over and still be using it, and a freed
//! entry is at once somebody else's. So a flow is first marked, which makes it a miss for everybody,
//! and removed a few jiffies later. A flow that is to end at once is marked while it is alive.

use super::life::is_over_for;
use crate::family::Family;
use crate::flow::{FlowKey, FlowRef, is_over, marks};
use crate::tables::Tables;
use crate::wire::TCP;

/// Marks both directions of a flow as retiring if it is over. Says whether it did.
#[inline(always)]
pub fn mark_retiring<A: Family, T: Tables<A>>(tables: &T, key: &FlowKey<A>) -> bool {
    let (Some(settings), Some(flow)) = (tables.settings(), tables.flow(key)) else {
        return false;
    };
    let now = tables.now();
    let other = tables.flow(&flow.reply_key(key.protocol));
    // Read before the judgement: what is marked must be what was judged.
    let last_seen = flow.last_seen();
    let other_last_seen = other.map_or(0, FlowRef::last_seen);
    let retiring = flow.marks() & marks::RETIRING != 0;
    if retiring || !is_over_for(settings, flow, other, key.protocol, now, settings.grace) {
        return false;
    }
    if !mark(flow, last_seen, now) {
        return false;
    }
    if let Some(other) = other {
        mark(other, other_last_seen, now);
    }
    true
}

/// Marks an entry, unless a claim has made it another flow's since its time was read.
#[inline(always)]
fn mark<A: Family>(flow: FlowRef<'_, A>, judged: u64, now: u64) -> bool {
    flow.set_marks(flow.marks() | marks::RETIRING);
    if flow.last_seen() != judged {
        flow.set_marks(flow.marks() & !marks::RETIRING);
        return false;
    }
    flow.set_last_seen(now);
    true
}

/// Marks both directions of a flow as retiring, alive or not. Says whether it did.
///
/// A connection stays marked for a while longer than one that is over: its sides go on sending until they are
/// told, and what they send opens no flow meanwhile.
#[inline(always)]
pub fn mark_flushed<A: Family, T: Tables<A>>(tables: &T, key: &FlowKey<A>) -> bool {
    let (Some(settings), Some(flow)) = (tables.settings(), tables.flow(key)) else {
        return false;
    };
    if flow.marks() & marks::RETIRING != 0 {
        return false;
    }
    let is_connection = key.protocol == u32::from(TCP);
    let linger = if is_connection { settings.second } else { 0 };
    let until = tables.now().wrapping_add(u64::from(linger));
    end(flow, until);
    if let Some(other) = tables.flow(&flow.reply_key(key.protocol)) {
        end(other, until);
    }
    true
}

/// Takes in what the sender of a packet has received, while its flow waits to be removed after a flush: that
/// is the number that a RST to it must have. Later, the entry may be somebody else's at any moment.
#[inline(always)]
pub(super) fn hear<A: Family>(flow: FlowRef<'_, A>, acknowledgement: u32, now: u64) {
    if flow.marks() & marks::RETIRING != 0 && now <= flow.last_seen() && acknowledgement != 0 {
        flow.set_last_ack(acknowledgement);
    }
}

/// Marks an entry, to be removed some time after `until`. The mark comes first: who finds the entry then
/// leaves its time alone.
#[inline(always)]
fn end<A: Family>(flow: FlowRef<'_, A>, until: u64) {
    flow.set_marks(flow.marks() | marks::RETIRING);
    flow.set_last_seen(until);
}

/// Removes both directions of a flow that was marked long enough ago. Says whether it did.
#[inline(always)]
pub fn remove_retiring<A: Family, T: Tables<A>>(tables: &T, key: &FlowKey<A>) -> bool {
    let (Some(settings), Some(flow)) = (tables.settings(), tables.flow(key)) else {
        return false;
    };
    if flow.marks() & marks::RETIRING == 0
        || !is_over(tables.now(), flow.last_seen(), settings.grace)
    {
        return false;
    }
    let reply = flow.reply_key(key.protocol);
    let pair = tables
        .flow(&reply)
        .is_some_and(|other| other.marks() & marks::RETIRING != 0);
    if pair {
        tables.remove(&reply);
    }
    tables.remove(key);
    true
}
