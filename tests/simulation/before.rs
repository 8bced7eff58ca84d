//! What the tables held of a connection before its packet, and what may therefore become of that.

use std::collections::BTreeMap;
use std::net::IpAddr;

use forebay_common::reason::Reason;
use forebay_tests::frame::{RST, TCP};

use crate::files::Answers;
use crate::honest::{Connection, Packet};
use crate::look::{Entry, Tuple, Where, is_live, look, reverse_of};
use crate::outgoing::Outgoing;
use crate::outside::{Found, Sent};
use crate::packets::Fate;
use crate::play::Play;
use crate::ways::WaysOut;

/// What the tables held of a connection before its packet.
#[derive(Debug)]
pub(crate) struct Before {
    pub(crate) own: Option<Entry>,
    /// Its entry is in a table that flows move from, and over or ended: there, what opens a flow begins it anew.
    pub(crate) may_begin_anew: bool,
    /// The first key of another live flow that has the reply key which this connection had.
    pub(crate) stranger: Option<Tuple>,
    /// As whose reply a packet of the instance may be taken up, and whether that is a flow.
    reverse: Option<((IpAddr, u16), bool)>,
    /// By whom the packet may be sent to: the entry under the reply key, and whether its flow is live.
    replies: BTreeMap<(IpAddr, u16), (Entry, bool)>,
}

impl Before {
    pub(crate) fn of(play: &Play, one: &Connection, answers: &Answers) -> Self {
        let model = &play.node.tables.model;
        let found = answers.destinations.iter().filter_map(|destination| {
            let reply = one.reply(*destination);
            let entry = look(model, &reply)?;
            Some((*destination, (entry, is_live(model, &entry, &reply))))
        });
        let (tuple, own) = (one.tuple(), look(model, &one.tuple()));
        let stranger = one.home().and_then(|home| {
            let reply = one.reply(home);
            let holder = look(model, &reply).filter(|holder| is_live(model, holder, &reply));
            let owner = holder.map(|holder| holder.other);
            owner.filter(|owner| *owner != tuple)
        });
        let may_begin_anew = own.as_ref().is_some_and(|own| {
            own.lies == Where::Former && (own.state.has_ended() || !is_live(model, own, &tuple))
        });
        let reverse = one.home().filter(|_| one.protocol == TCP).and_then(|home| {
            let public = reverse_of(model, home)?;
            let found = look(
                model,
                &Tuple {
                    destination: public,
                    ..tuple
                },
            );
            Some((public, found.is_some_and(|found| found.is_trusted())))
        });
        Self {
            own,
            may_begin_anew,
            stranger,
            reverse,
            replies: found.collect(),
        }
    }

    /// Whether a live flow other than that of `own` has the reply key of a destination.
    pub(crate) fn is_taken(&self, destination: &(IpAddr, u16), own: &Tuple) -> bool {
        let held = self.replies.get(destination);
        held.is_some_and(|(entry, is_live)| *is_live && entry.other != *own)
    }

    /// Whether a packet of a flow that nothing is owed to may end so.
    pub(crate) fn allows(
        &self,
        play: &Play,
        one: &Connection,
        packet: Packet,
        fate: &Fate,
        answers: &Answers,
    ) -> bool {
        let is_in_the_way = |entry: &Entry| entry.is_trusted();
        match fate.reason {
            Reason::NoFlow
                if !packet.from_client && self.reverse.is_some_and(|(_, is_flow)| is_flow) =>
            {
                true
            }
            _ if !packet.from_client => {
                let (one, sent) = self.as_outgoing(play, one, packet, fate);
                play.may_be_refused(&one, &sent)
            }
            Reason::NoFlow => packet.flags & RST != 0,
            Reason::ReplyTupleTaken => self.replies.values().any(|(_, is_live)| *is_live),
            Reason::FlowEnding => {
                let mut replies = self.replies.values();
                self.own.as_ref().is_some_and(is_in_the_way)
                    || replies.any(|(entry, _)| is_in_the_way(entry))
            }
            Reason::FlowTableFull => play.node.used() + 2 > play.node.entries as usize,
            other => answers.reasons.contains(&other),
        }
    }

    /// Whether an answer whose flow is lost may leave so: as a reply that can only be of one frontend's port, by a
    /// public IP, or as a flow that the instance opens.
    pub(crate) fn leaves_by(
        &self,
        play: &Play,
        one: &Connection,
        packet: Packet,
        fate: &Fate,
    ) -> Result<(), String> {
        let Some([source, _]) = fate.way else {
            return Ok(());
        };
        let (one, sent) = self.as_outgoing(play, one, packet, fate);
        if fate.opened == 0 {
            let is_public = sent.ways.public.contains(&source.0) && source.1 == one.inside.1;
            return if is_public {
                Ok(())
            } else {
                sent.wrong(&one, "inverse: an answer comes from elsewhere")
            };
        }
        if one.protocol == TCP {
            return match self.reverse {
                Some((public, false)) if public == source => Ok(()),
                other => sent.wrong(&one, &format!("it is taken up as another's, not {other:?}")),
            };
        }
        play.check_port(&one, &sent, source)
    }

    /// An instance's packet as one of a flow that it opens.
    fn as_outgoing(
        &self,
        play: &Play,
        one: &Connection,
        packet: Packet,
        fate: &Fate,
    ) -> (Outgoing, Sent) {
        let flow = one.as_outgoing();
        let sent = Sent {
            packet: flow.answer(packet.flags),
            fate: fate.clone(),
            ways: WaysOut::of(&play.node.files, flow.tuple().source.0, one.protocol),
            found: Found::of(play, &flow),
            is_owed: false,
            has_expired: false,
        };
        (flow, sent)
    }
}
