//! Taking the two keys of a new flow.
//!
//! Both are inserted only if free, the reply key first: it is what makes the tuple towards the
//! instance unique. Whoever finds a key taken looks at its holder, because the holder may be the same
//! flow (another CPU was faster), a flow that is over, or one that has ended and may begin anew.

use super::life::is_over_for;
use super::open::lock_of;
use crate::abi::Settings;
use crate::family::Family;
use crate::flow::{self, Flow, FlowKey, FlowRef, Untrusted, marks};
use crate::tables::{InsertError, Tables};

/// Takes keys for a flow.
pub(super) struct Claim<'t> {
    pub(super) settings: &'t Settings,
    pub(super) now: u64,
}

/// How a claim ended, as a word that fits a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Claimed {
    /// Both keys are taken for the flow.
    New,
    /// They have been, by another CPU.
    Known,
    /// They were the flow's: it had ended, and has begun anew.
    Reopened,
    /// Another live flow has the reply key.
    ReplyTaken,
    /// One of the keys is still held by a flow that is over.
    Ending,
    /// The table is full.
    Full,
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
    /// Inserts both directions of a flow, each as its entry stands.
    ///
    /// `#[inline(never)]`: few packets claim.
    #[inline(never)]
    pub(super) fn take<A: Family, T: Tables<A>>(
        &self,
        tables: &T,
        forward: &mut Untrusted<A>,
        reply: &mut Untrusted<A>,
        other: &mut FlowKey<A>,
    ) -> Claimed {
        let mut inserted = tables.insert(&reply.key, &reply.flow);
        if inserted == Err(InsertError::Taken) {
            match self.reply_holder(tables, forward, reply, other) {
                Holder::Gone => inserted = tables.insert(&reply.key, &reply.flow),
                Holder::SameFlow => inserted = Ok(()),
                Holder::Reopened => return Claimed::Reopened,
                Holder::Ending => return Claimed::Ending,
                Holder::Other => return Claimed::ReplyTaken,
            }
        }
        if let Err(error) = inserted {
            return refusal(error);
        }
        inserted = tables.insert(&forward.key, &forward.flow);
        if inserted == Err(InsertError::Taken) {
            match self.key_holder(tables, forward, reply, other) {
                Holder::Gone => inserted = tables.insert(&forward.key, &forward.flow),
                // The winner's entries are ours too.
                Holder::SameFlow => return Claimed::Known,
                // Another translation counts: ours goes.
                Holder::Other => {
                    tables.remove(&reply.key);
                    return Claimed::Known;
                }
                Holder::Ending | Holder::Reopened => inserted = Err(InsertError::Taken),
            }
        }
        if let Err(error) = inserted {
            tables.remove(&reply.key);
            return refusal(error);
        }
        Claimed::New
    }

    /// Who holds the reply key? Makes room if nobody really does, and begins an ended flow with the
    /// same member anew.
    #[inline(always)]
    fn reply_holder<A: Family, T: Tables<A>>(
        &self,
        tables: &T,
        forward: &Untrusted<A>,
        reply: &Untrusted<A>,
        other: &mut FlowKey<A>,
    ) -> Holder {
        let protocol = reply.key.protocol;
        let Some(found) = tables.flow(&reply.key) else {
            return Holder::Gone;
        };
        *other = found.reply_key(protocol);
        match self.standing(found, tables.flow(other), protocol) {
            Standing::Over => {
                if *other == forward.key {
                    tables.remove(other);
                } else if !self.remove_partner(tables, other, &reply.key) {
                    return Holder::Ending;
                }
                tables.remove(&reply.key);
                Holder::Gone
            }
            Standing::Leaving => Holder::Ending,
            _ if *other != forward.key => Holder::Other,
            Standing::Live => Holder::SameFlow,
            Standing::Ended => {
                self.reopen(found, &reply.flow);
                match tables.flow(&forward.key) {
                    Some(first) => {
                        self.reopen(first, &forward.flow);
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
        forward: &Untrusted<A>,
        reply: &Untrusted<A>,
        other: &mut FlowKey<A>,
    ) -> Holder {
        let protocol = forward.key.protocol;
        let Some(found) = tables.flow(&forward.key) else {
            return Holder::Gone;
        };
        *other = found.reply_key(protocol);
        match self.standing(found, tables.flow(other), protocol) {
            Standing::Over => {
                if *other != reply.key && !self.remove_partner(tables, other, &forward.key) {
                    return Holder::Ending;
                }
                tables.remove(&forward.key);
                Holder::Gone
            }
            Standing::Leaving => Holder::Ending,
            Standing::Live if *other == reply.key => Holder::SameFlow,
            Standing::Live => Holder::Other,
            Standing::Ended => {
                // The connection has ended and its successor goes to another member: give up the old
                // translation; the sender's next attempt finds the tuple free.
                retire(found, self.now);
                if let Some(other) = tables.flow(other) {
                    retire(other, self.now);
                }
                Holder::Ending
            }
        }
    }

    /// Removes the other direction of a flow that is over, unless another CPU has taken its key for a new one by now;
    /// false if one may be about to.
    ///
    /// `#[inline(never)]`: two callers.
    #[inline(never)]
    fn remove_partner<A: Family, T: Tables<A>>(
        &self,
        tables: &T,
        partner: &FlowKey<A>,
        of: &FlowKey<A>,
    ) -> bool {
        let number = lock_of(self.settings, partner);
        if !tables.lock(number) {
            return false;
        }
        let found = tables.flow(partner);
        if found.is_some_and(|found| found.reply_key(of.protocol) == *of) {
            tables.remove(partner);
        }
        tables.unlock(number);
        true
    }

    /// Whether a flow is over, but too recently for its entries to be taken.
    #[inline(always)]
    pub(super) fn is_leaving<A: Family>(
        &self,
        found: FlowRef<'_, A>,
        other: Option<FlowRef<'_, A>>,
        protocol: u32,
    ) -> bool {
        matches!(self.standing(found, other, protocol), Standing::Leaving)
    }

    /// Whether a connection has ended, and its time has not.
    #[inline(always)]
    pub(super) fn has_ended<A: Family>(
        &self,
        found: FlowRef<'_, A>,
        other: Option<FlowRef<'_, A>>,
        protocol: u32,
    ) -> bool {
        matches!(self.standing(found, other, protocol), Standing::Ended)
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
    fn reopen<A: Family>(&self, flow: FlowRef<'_, A>, anew: &Flow<A>) {
        flow.set_seen_from_instance(anew.seen_from_instance);
        flow.set_seen_to_instance(anew.seen_to_instance);
        flow.set_last_ack(anew.last_ack);
        flow.set_packets(anew.packets);
        flow.set_bytes(anew.bytes);
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
fn refusal(error: InsertError) -> Claimed {
    match error {
        InsertError::Taken => Claimed::Ending,
        InsertError::Full => Claimed::Full,
    }
}

#[inline(always)]
fn retire<A: Family>(flow: FlowRef<'_, A>, now: u64) {
    flow.set_last_seen(now);
    flow.set_marks(flow.marks() | marks::RETIRING);
}

// Keeps the entry's size in sight: it is copied in whole by every insert.
const _: () = assert!(size_of::<Flow<crate::family::V6>>() <= 88);
