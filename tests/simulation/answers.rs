//! Packets of the outside to flows that instances have opened, and what the tables hold of these.

use crate::look::{Entry, Tuple, is_live, look};
use crate::node::CLIENT_SIDE;
use crate::outgoing::{Outgoing, Packet};
use crate::outside::host;
use crate::play::Play;

impl Play {
    /// A packet from the outside; false: the flow is over for both.
    pub(crate) fn come_back(&mut self, one: &mut Outgoing, packet: Packet) -> Result<bool, String> {
        let Some(public) = one.public else {
            return Ok(true);
        };
        let is_deaf = self.is_deaf(one);
        let is_owed = one.is_owed() && !is_deaf;
        let reply = one.reply(public);
        let holder = self.holder(&reply);
        let fate = self.send(&one.frame(packet, (host(public.0), public.1)), CLIENT_SIDE)?;
        let fate = if one.is_echo() { fate.turned() } else { fate };
        self.tell(format!("{reply:?} {packet:?}: {fate:?}"));
        if is_owed {
            let expected = Some([reply.source, one.tuple().source]);
            if fate.way != expected || fate.opened > 0 {
                return Err(format!(
                    "stable: an answer does not reach its instance: {packet:?} of {one:?}: {fate:?}"
                ));
            }
            self.count("answers to outgoing flows");
            one.sent_on(packet, false, self.node.tables.model.now);
            return Ok(!(one.reset && self.chance.one_in(4)));
        }
        if is_deaf && fate.way.is_none() {
            return Ok(false);
        }
        if let Some(owner) = holder {
            if fate.way != Some([reply.source, owner.source]) {
                return Err(format!(
                    "stable: what {owner:?} should get: {packet:?} of {one:?}: {fate:?}"
                ));
            }
            if owner == one.tuple() && self.has_expired(one) {
                return Err(format!(
                    "on time: a flow whose time is over is live: {packet:?} of {one:?}: {fate:?}"
                ));
            }
            // Longer timeouts have brought it back, or it is the answer to who has the port now.
            self.lose_track(&owner);
            return Ok(false);
        }
        self.count("stale answers");
        let home = self.judge_stranger(&reply, &fate)?;
        if let Some((host, port)) = home {
            // It has begun a flow, with whoever has that port now.
            self.lose_track(&Tuple {
                source: (host.address(one.version), port),
                ..one.tuple()
            });
            return Ok(false);
        }
        Ok(!self.chance.one_in(4))
    }

    /// Who has a live flow whose answers have this tuple.
    fn holder(&self, reply: &Tuple) -> Option<Tuple> {
        let model = &self.node.tables.model;
        let found = look(model, reply).filter(|found| is_live(model, found, reply));
        found.map(|found| found.other)
    }

    /// Nothing is known any more of a flow that got a packet of another one.
    fn lose_track(&mut self, tuple: &Tuple) {
        let found = self.outgoing.iter_mut().find(|one| one.tuple() == *tuple);
        if let Some(one) = found {
            (one.is_over, one.public) = (true, None);
        }
    }

    /// Takes from the tables what only they know of a flow: its timeout and its rule.
    pub(crate) fn note_outgoing(&mut self, one: &mut Outgoing) -> Result<(), String> {
        if !one.is_owed() {
            return Ok(());
        }
        let found = look(&self.node.tables.model, &one.tuple());
        let found = found.filter(Entry::is_trusted);
        let Some(found) = found else {
            return Err(format!("{one:?} has no entry"));
        };
        one.idle = found.idle;
        one.rule = found.rule;
        Ok(())
    }

    /// Invariants of flows with the outside: never evicted, stable, unique.
    pub(crate) fn check_outgoing(&mut self) -> Result<(), String> {
        let model = &self.node.tables.model;
        let settings = model.settings.unwrap_or_default();
        for one in &mut self.outgoing {
            one.is_over |= one.has_expired(&settings, model.now);
            let Some(public) = one.public.filter(|_| one.is_owed()) else {
                continue;
            };
            let (tuple, reply) = (one.tuple(), one.reply(public));
            let entries = [look(model, &tuple), look(model, &reply)];
            let [Some(from), Some(to)] = entries else {
                return Err(format!("never evict: {one:?} has the entries {entries:?}"));
            };
            let is_whole = from.other == reply && to.other == tuple;
            // What an echo tells in a former table, only one direction hears.
            let is_same = (from.state == one.state() || one.is_echo())
                && from.idle == one.idle
                && from.rule == one.rule;
            let is_kept =
                from.is_trusted() && to.is_trusted() && !from.is_retiring && !to.is_retiring;
            if !(is_whole && is_same && is_kept) {
                return Err(format!("stable: {one:?} has the entries {entries:?}"));
            }
        }
        Ok(())
    }
}
