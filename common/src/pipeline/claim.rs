//! Taking the two keys of a new flow.
//!
//! Both are inserted only if free, the reply key first: it is what makes the tuple towards the
//! instance unique. Whoever finds a key taken looks at its holder, because the holder may be the same
//! flow (another CPU was faster), a flow that is over, or one that has ended and may begin anew.

use super::life::is_over_for;
use super::service;
use crate::abi::{Rule, Settings};
use crate::family::Family;
use crate::flow::{self, Direction, Flow, FlowKey, FlowRef, Seen, marks};
use crate::reason::Reason;
use crate::tables::{InsertError, Scratch, Tables};

/// What a flow is made of besides its keys.
pub(super) struct Claim<'t> {
    pub(super) rule: &'t Rule,
    pub(super) settings: &'t Settings,
    pub(super) now: u64,
    pub(super) events: Seen,
}

/// Who holds a key, as a word that fits a register.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Holder {
    /// Nobody any more.
    Gone,
    /// The flow that we want to make.
    SameFlow,
    /// The flow that we want to make, which had ended and has begun anew.
    Reopened,
    /// A flow that has ended too recently to be removed.
    Ending,
    /// A live flow of others.
    Other,
}

impl Claim<'_> {
    /// Inserts both directions of the flow with these keys (`scratch.reply` is the reply key).
    ///
    /// `#[inline(never)]`: the known-flow path must not pay for its stack and registers.
    #[inline(never)]
    pub(super) fn take<A: Family, T: Tables<A>>(
        &self,
        tables: &T,
        key: &FlowKey<A>,
        scratch: &mut Scratch<A>,
    ) -> Result<(), Reason> {
        self.entry(key, scratch);
        scratch.flow.source = key.destination;
        scratch.flow.destination = key.source;
        scratch.flow.ports = key.ports.rotate_left(16);
        scratch.flow.kind = self.kind(Direction::FromInstance);
        let mut inserted = tables.insert(&scratch.reply, &scratch.flow);
        if inserted == Err(InsertError::Taken) {
            match self.reply_holder(tables, key, scratch) {
                Holder::Gone => inserted = tables.insert(&scratch.reply, &scratch.flow),
                Holder::SameFlow => inserted = Ok(()),
                Holder::Reopened => return Ok(()),
                Holder::Ending => return Err(Reason::FlowEnding),
                Holder::Other => return Err(Reason::ReplyTupleTaken),
            }
        }
        outcome(inserted)?;
        scratch.flow.source = scratch.reply.destination;
        scratch.flow.destination = scratch.reply.source;
        scratch.flow.ports = scratch.reply.ports.rotate_left(16);
        scratch.flow.kind = self.kind(Direction::ToInstance);
        inserted = tables.insert(key, &scratch.flow);
        if inserted == Err(InsertError::Taken) {
            match self.key_holder(tables, key, scratch) {
                Holder::Gone => inserted = tables.insert(key, &scratch.flow),
                // The winner's entries are ours too.
                Holder::SameFlow => return Ok(()),
                // Another translation counts: ours goes.
                Holder::Other => {
                    tables.remove(&scratch.reply);
                    return Ok(());
                }
                Holder::Ending | Holder::Reopened => inserted = Err(InsertError::Taken),
            }
        }
        if let Err(reason) = outcome(inserted) {
            tables.remove(&scratch.reply);
            return Err(reason);
        }
        tables.count_new_flow(self.rule.id);
        Ok(())
    }

    #[inline(always)]
    fn kind(&self, direction: Direction) -> u8 {
        service::kind(self.rule).byte(direction, self.rule.flags & Rule::TCP_RESET != 0)
    }

    /// Fills in what both directions share.
    #[inline(always)]
    fn entry<A: Family>(&self, key: &FlowKey<A>, scratch: &mut Scratch<A>) {
        let flow = FlowRef::over(&mut scratch.flow);
        flow.set_fixed(service::idle_timeout(self.rule, key), self.rule.id);
        self.reopen(flow);
        flow.set_hop_head(0);
        flow.set_hop_tail(0);
        flow.set_hop_slot(0);
        flow.set_hop_stamp(0);
        flow.set_marks(0);
    }

    /// Who holds the reply key? Makes room if nobody really does, and begins an ended flow with the
    /// same member anew.
    #[inline(always)]
    fn reply_holder<A: Family, T: Tables<A>>(
        &self,
        tables: &T,
        key: &FlowKey<A>,
        scratch: &mut Scratch<A>,
    ) -> Holder {
        let Some(found) = tables.flow(&scratch.reply) else {
            return Holder::Gone;
        };
        scratch.other = found.reply_key(key.protocol);
        match self.standing(found, tables.flow(&scratch.other), key.protocol) {
            Standing::Over => {
                tables.remove(&scratch.other);
                tables.remove(&scratch.reply);
                Holder::Gone
            }
            Standing::Leaving => Holder::Ending,
            _ if scratch.other != *key => Holder::Other,
            Standing::Live => Holder::SameFlow,
            Standing::Ended => {
                self.reopen(found);
                match tables.flow(key) {
                    Some(first) => {
                        self.reopen(first);
                        tables.count_new_flow(self.rule.id);
                        Holder::Reopened
                    }
                    None => Holder::SameFlow,
                }
            }
        }
    }

    /// Who holds the first key, now that the reply key is ours? Makes room if nobody really does.
    #[inline(always)]
    fn key_holder<A: Family, T: Tables<A>>(
        &self,
        tables: &T,
        key: &FlowKey<A>,
        scratch: &mut Scratch<A>,
    ) -> Holder {
        let Some(found) = tables.flow(key) else {
            return Holder::Gone;
        };
        scratch.other = found.reply_key(key.protocol);
        match self.standing(found, tables.flow(&scratch.other), key.protocol) {
            Standing::Over => {
                if scratch.other != scratch.reply {
                    tables.remove(&scratch.other);
                }
                tables.remove(key);
                Holder::Gone
            }
            Standing::Leaving => Holder::Ending,
            Standing::Live if scratch.other == scratch.reply => Holder::SameFlow,
            Standing::Live => Holder::Other,
            Standing::Ended => {
                // The connection has ended and its successor goes to another member: give up the old
                // translation; the sender's next attempt finds the tuple free.
                retire(found, self.now);
                if let Some(other) = tables.flow(&scratch.other) {
                    retire(other, self.now);
                }
                Holder::Ending
            }
        }
    }

    #[inline(always)]
    fn standing<A: Family>(
        &self,
        found: FlowRef<'_, A>,
        other: Option<FlowRef<'_, A>>,
        protocol: u32,
    ) -> Standing {
        let is_over = |grace| is_over_for(self.settings, found, other, protocol, self.now, grace);
        if found.marks() & marks::RETIRING != 0 {
            // The sweep removes it at once, unless its daemon has died.
            if flow::is_over(self.now, found.last_seen(), self.settings.second) {
                Standing::Over
            } else {
                Standing::Leaving
            }
        } else if is_over(self.settings.grace) {
            Standing::Over
        } else if is_over(0) {
            Standing::Leaving
        } else if found.state(protocol).has_ended() {
            Standing::Ended
        } else {
            Standing::Live
        }
    }

    /// Begins a new connection in the entry of one that has ended, with the same member.
    #[inline(always)]
    fn reopen<A: Family>(&self, flow: FlowRef<'_, A>) {
        flow.set_seen_from_instance(0);
        flow.set_seen_to_instance(self.events.0);
        flow.set_last_ack(0);
        flow.set_packets(0);
        flow.set_bytes(0);
        flow.set_last_seen(self.now);
    }
}

/// How a flow that holds a key we want stands.
enum Standing {
    /// Over, and nobody can still be using its entries.
    Over,
    /// Over, but too recently; or retiring, which the sweep removes soon.
    Leaving,
    /// Its connection has ended, its time has not.
    Ended,
    /// In use.
    Live,
}

#[inline(always)]
fn outcome(inserted: Result<(), InsertError>) -> Result<(), Reason> {
    inserted.map_err(|error| match error {
        InsertError::Taken => Reason::FlowEnding,
        InsertError::Full => Reason::FlowTableFull,
    })
}

#[inline(always)]
fn retire<A: Family>(flow: FlowRef<'_, A>, now: u64) {
    flow.set_last_seen(now);
    flow.set_marks(flow.marks() | marks::RETIRING);
}

// Keeps the entry's size in sight: it is copied in whole by every insert.
const _: () = assert!(size_of::<Flow<crate::family::V6>>() <= 88);
