//! Packets of flows between instances and the outside, and what must and must not become of them.

use std::net::IpAddr;

use forebay_common::flow::FlowState;
use forebay_common::reason::Reason;
use forebay_tests::frame::{RST, TCP};
use forebay_tests::network::Host;

use crate::look::{Entry, Tuple, Where, is_live, look, nobody};
use crate::node::INSTANCE_SIDE;
use crate::outgoing::{Outgoing, Packet};
use crate::packets::Fate;
use crate::play::Play;
use crate::snat::{free_port, ports_of};
use crate::ways::WaysOut;

/// Flows at once.
const FLOWS: usize = 60;
/// Ports that a packet tries.
const MOST: usize = 1_088;
/// Entries that a new flow may need: its own, its mapping's, its remote address's.
const ENTRIES: usize = 6;

/// Somebody with an address, and whatever of the other family.
pub(crate) fn host(address: IpAddr) -> Host {
    let nobody = Host::new([0; 4], [0; 8]);
    match address {
        IpAddr::V4(v4) => Host { v4, ..nobody },
        IpAddr::V6(v6) => Host { v6, ..nobody },
    }
}

/// Whether a packet is said to have found no free port.
fn is_refused(fate: &Fate) -> bool {
    matches!(fate.reason, Reason::SnatExhausted | Reason::SnatRefused)
}

/// What the tables held of a flow before its packet.
#[derive(Debug)]
pub(crate) struct Found {
    /// Under its tuple, and whether that is live.
    pub(crate) own: Option<(Entry, bool)>,
    /// The public address and port of its inside.
    pub(crate) mapping: Option<((IpAddr, u16), bool)>,
}

impl Found {
    pub(crate) fn of(play: &Play, one: &Outgoing) -> Self {
        let model = &play.node.tables.model;
        let at = |tuple: Tuple| {
            let found = look(model, &tuple).filter(Entry::is_trusted)?;
            Some((found, is_live(model, &found, &tuple)))
        };
        let tuple = one.tuple();
        let mapping = at(Tuple {
            destination: (nobody(tuple.source.0), 0),
            ..tuple
        });
        Self {
            own: at(tuple),
            mapping: mapping.map(|(found, is_live)| (found.other.destination, is_live)),
        }
    }
}

/// A packet that an inside has sent.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) packet: Packet,
    pub(crate) fate: Fate,
    pub(crate) ways: WaysOut,
    pub(crate) found: Found,
    /// The node owes its flow the translation of before.
    pub(crate) is_owed: bool,
    /// Its flow's time has run out.
    pub(crate) has_expired: bool,
}

impl Sent {
    pub(crate) fn wrong<T>(&self, one: &Outgoing, what: &str) -> Result<T, String> {
        Err(format!("{what}: {one:?}\n{self:?}"))
    }
}

impl Play {
    /// An instance opens a flow to the outside.
    pub(crate) fn reach_out(&mut self) -> Result<(), String> {
        let new = Outgoing::new(&mut self.chance);
        let tuple = new.tuple();
        if self.outgoing.iter().all(|old| old.tuple() != tuple) {
            if self.is_held(&tuple) {
                return Ok(());
            }
            if self.outgoing.len() == FLOWS {
                let gone = self.chance.below(FLOWS as u64) as usize;
                self.outgoing.swap_remove(gone);
            }
            self.outgoing.push(new);
        }
        for _ in 0..self.chance.below(5) + 1 {
            let number = self.outgoing.iter().position(|one| one.tuple() == tuple);
            match number {
                Some(number) => self.speak(number)?,
                None => return Ok(()),
            }
        }
        Ok(())
    }

    /// Whether the flow table has a live flow of a tuple, whoever has forgotten it.
    fn is_held(&self, tuple: &Tuple) -> bool {
        let model = &self.node.tables.model;
        look(model, tuple).is_some_and(|found| is_live(model, &found, tuple))
    }

    /// Some packets of flows with the outside.
    pub(crate) fn exchange(&mut self) -> Result<(), String> {
        for _ in 0..self.chance.below(4) {
            if self.outgoing.is_empty() {
                return Ok(());
            }
            let one = self.chance.below(self.outgoing.len() as u64) as usize;
            self.speak(one)?;
        }
        Ok(())
    }

    /// The next packet of a flow.
    fn speak(&mut self, number: usize) -> Result<(), String> {
        let mut one = self.outgoing[number].clone();
        one.is_over |= self.has_expired(&one);
        let packet = one.packet(&mut self.chance);
        let kept = if packet.from_inside {
            self.leave(&mut one, packet)?
        } else {
            self.come_back(&mut one, packet)?
        };
        self.note_outgoing(&mut one)?;
        self.outgoing[number] = one;
        if !kept {
            self.outgoing.swap_remove(number);
        }
        Ok(())
    }

    /// Whether the time of a flow has run out, by the timeouts of this moment.
    pub(crate) fn has_expired(&self, one: &Outgoing) -> bool {
        let model = &self.node.tables.model;
        one.has_expired(&model.settings.unwrap_or_default(), model.now)
    }

    /// Whether a flow is an echo that is about to move: what its requests tell, its replies do not hear of, so it
    /// may end before its time.
    pub(crate) fn is_deaf(&self, one: &Outgoing) -> bool {
        let found = look(&self.node.tables.model, &one.tuple());
        one.is_echo() && found.is_some_and(|found| found.lies == Where::Former)
    }

    /// A packet from the inside; false: its sender gives up.
    fn leave(&mut self, one: &mut Outgoing, packet: Packet) -> Result<bool, String> {
        let begins_anew =
            one.protocol == TCP && packet.opens(TCP) && (one.is_over || one.state().has_ended());
        let ways = WaysOut::of(&self.node.files, one.tuple().source.0, one.protocol);
        let (found, is_deaf) = (Found::of(self, one), self.is_deaf(one));
        let fate = self.send(&one.frame(packet, one.remote), INSTANCE_SIDE)?;
        let is_as_before = fate.way.map(|way| way[0]) == one.public;
        let mut sent = Sent {
            packet,
            ways,
            found,
            is_owed: one.is_owed() && !begins_anew && (is_as_before || !is_deaf),
            has_expired: self.has_expired(one),
            fate,
        };
        self.tell(format!("{:?} {packet:?}: {:?}", one.tuple(), sent.fate));
        if !sent.is_owed
            && is_refused(&sent.fate)
            && let Some(port) = free_port(&self.node.tables.model, one)
        {
            // A lap in vain is remembered for a moment.
            self.node.tables.model.now += 1;
            sent.fate = self.send(&one.frame(packet, one.remote), INSTANCE_SIDE)?;
            if is_refused(&sent.fate) {
                return sent.wrong(one, &format!("complete: {port:?} is free"));
            }
        }
        self.note_port_of(one);
        if sent.fate.way.is_some() {
            return self.left(one, &sent);
        }
        if sent.is_owed {
            return sent.wrong(one, "stable: a flow is not found");
        }
        if !self.may_be_refused(one, &sent) {
            return sent.wrong(one, "a packet to the outside ends so");
        }
        self.count(match sent.fate.reason {
            Reason::SnatExhausted | Reason::SnatRefused => "refused for lack of a port",
            Reason::ResetSent => "resets of lost flows",
            _ => "packets that did not get out",
        });
        one.is_over = true;
        Ok(!self.chance.one_in(3))
    }

    /// A packet from the inside has left.
    fn left(&mut self, one: &mut Outgoing, sent: &Sent) -> Result<bool, String> {
        let Some([source, destination]) = sent.fate.way else {
            return Ok(true);
        };
        let (tuple, opened) = (one.tuple(), sent.fate.opened > 0);
        if source.0 == tuple.source.0 {
            return sent.wrong(one, "fail closed: it leaves as it is");
        }
        if destination != tuple.destination {
            return sent.wrong(one, "inverse: it goes elsewhere");
        }
        let now = self.node.tables.model.now;
        if sent.is_owed {
            if one.public != Some(source) || opened {
                return sent.wrong(one, "stable: another translation");
            }
            self.count("packets of outgoing flows");
            one.sent_on(sent.packet, false, now);
            return Ok(!(one.reset && self.chance.one_in(4)));
        }
        if !opened && sent.ways.public.contains(&source.0) && source.1 == tuple.source.1 {
            self.count("packets by public IPs");
            (one.is_stateless, one.public) = (true, Some(source));
            one.sent_on(sent.packet, false, now);
            return Ok(!self.chance.one_in(8));
        }
        let own = sent.found.own.filter(|(_, is_live)| *is_live);
        let own = own.filter(|(own, _)| own.other.destination == source);
        if opened {
            // Who begins a connection anew keeps its port.
            let is_kept = own.is_some_and(|(own, _)| own.state.has_ended());
            if !is_kept {
                self.check_port(one, sent, source)?;
            }
            one.is_mapped = !is_kept && !sent.ways.independent.contains(&false);
            self.check_new(one, source)?;
        } else if own.is_none() {
            return sent.wrong(one, "a flow of nobody is found");
        } else if sent.has_expired && one.public == Some(source) {
            return sent.wrong(one, "on time: a flow whose time is over is found");
        } else {
            // Longer timeouts have brought it back, or the outside was let in.
            return Ok(false);
        }
        self.count("outgoing flows");
        (one.is_stateless, one.public) = (false, Some(source));
        one.sent_on(sent.packet, true, now);
        Ok(true)
    }

    /// Whether a new flow may have a port.
    pub(crate) fn check_port(
        &self,
        one: &Outgoing,
        sent: &Sent,
        source: (IpAddr, u16),
    ) -> Result<(), String> {
        if !sent.packet.opens(one.protocol) {
            return sent.wrong(one, "it opens a flow");
        }
        if sent.found.mapping == Some((source, true)) {
            return Ok(());
        }
        if !sent.ways.has(source) {
            return sent.wrong(one, "that port is not its own");
        }
        if !self.is_in_ranges(one, source) {
            return sent.wrong(one, "that port is in none of its ranges");
        }
        Ok(())
    }

    /// Whether a port is among those that the tables give the source of a flow.
    fn is_in_ranges(&self, one: &Outgoing, (address, port): (IpAddr, u16)) -> bool {
        let ranges = ports_of(&self.node.tables.model, one);
        let mut ranges = ranges.iter();
        ranges.any(|(own, ports)| *own == address && ports.contains(&port))
    }

    /// Invariant "unique", and the same port for all destinations where that is asked for.
    fn check_new(&self, one: &Outgoing, public: (IpAddr, u16)) -> Result<(), String> {
        let (tuple, reply) = (one.tuple(), one.reply(public));
        let others = self.outgoing.iter();
        let others = others.filter(|other| other.is_owed() && !self.has_expired(other));
        for other in others.filter(|other| other.tuple() != tuple) {
            if other.public.map(|public| other.reply(public)) == Some(reply) {
                return Err(format!("unique: {reply:?} is of {one:?} and {other:?}"));
            }
            // A mapping hears of its flows now and then: before they are answered, it may end a moment earlier.
            let same = other.tuple().source == tuple.source
                && other.protocol == one.protocol
                && other.state() != FlowState::Opening;
            if same && one.is_mapped && other.is_mapped && other.public != Some(public) {
                return Err(format!(
                    "two ports of one endpoint: {public:?} of {one:?}, and {other:?}"
                ));
            }
        }
        Ok(())
    }

    /// Whether a packet that is owed nothing may end so.
    pub(crate) fn may_be_refused(&self, one: &Outgoing, sent: &Sent) -> bool {
        let Sent {
            packet,
            ways,
            found,
            ..
        } = sent;
        let opens = packet.opens(one.protocol);
        let is_reset = one.protocol == TCP && packet.flags & RST != 0;
        let ports = || {
            let ranges = ports_of(&self.node.tables.model, one);
            ranges.iter().map(|(_, ports)| ports.len()).sum::<usize>()
        };
        match sent.fate.reason {
            Reason::NoOutbound => ways.none || self.node.is_blank,
            Reason::NotOurs => ways.unknown || self.node.is_blank,
            Reason::NotConfigured => self.node.is_blank,
            Reason::ResetSent => !opens && !is_reset && ways.is_shared(),
            Reason::NoFlow => is_reset && ways.is_shared(),
            Reason::SnatRefused => opens && ways.reject.contains(&true),
            // Of ICMP errors there may be too many.
            Reason::SnatExhausted => {
                opens && (ways.reject.contains(&false) || (one.protocol != TCP && ways.is_shared()))
            }
            Reason::SnatSearching => opens && ports() > MOST,
            Reason::FlowTableFull => {
                opens && self.node.used() + ENTRIES > self.node.entries as usize
            }
            Reason::FlowEnding => {
                found.own.is_some() || found.mapping.is_some_and(|(_, is_live)| !is_live)
            }
            // Of a port that has changed hands, as the packet may have found it, too.
            Reason::ReplyTupleTaken => Found::of(self, one).mapping.is_some_and(|(public, _)| {
                let model = &self.node.tables.model;
                look(model, &one.reply(public)).is_some_and(|entry| entry.is_trusted())
            }),
            _ => false,
        }
    }
}
