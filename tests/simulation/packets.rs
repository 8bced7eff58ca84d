//! Packets through the model, and what must and must not become of them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use forebay::explain::endpoints;
use forebay_common::pipeline::{self, Exit};
use forebay_common::reason::Reason;
use forebay_common::wire::HostFrame;
use forebay_tests::frame::{ACK, Frame, SYN, TCP, UDP, verify};
use forebay_tests::network::{Host, IpVersion};

use crate::before::Before;
use crate::files::{Answers, FRONTENDS, INSTANCES, PORTS};
use crate::honest::{Connection, Packet};
use crate::look::{Tuple, forget, is_live, look};
use crate::node::{CLIENT_SIDE, INSTANCE_SIDE};
use crate::play::Play;

/// Who asks where packets go, and has no connections.
const PROBER: Host = Host::new([198, 51, 100, 250], [0x2001, 0xdb8, 9, 0, 0, 0, 0, 0xfa]);

/// What became of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fate {
    pub(crate) reason: Reason,
    /// Source and destination, if it was sent on.
    pub(crate) way: Option<[(IpAddr, u16); 2]>,
    /// Flows that it opened.
    pub(crate) opened: u64,
}

impl Fate {
    /// Whether two fates differ only in that one node still answers for a frontend that is gone.
    pub(crate) fn is_no_service(&self, other: &Self) -> bool {
        let is_none = |one: &Self| matches!(one.reason, Reason::NoRule | Reason::NotOurs);
        is_none(self) && is_none(other)
    }
}

impl Fate {
    /// The same of an echo reply: its identifier is the port that it is for.
    pub(crate) fn turned(self) -> Self {
        let way = self
            .way
            .map(|[source, destination]| [(source.0, destination.1), (destination.0, source.1)]);
        Self { way, ..self }
    }
}

fn ends(frame: &[u8]) -> Option<[(IpAddr, u16); 2]> {
    let found = endpoints(frame)?;
    let source = (found.source.parse().ok()?, found.source_port);
    Some([
        source,
        (found.destination.parse().ok()?, found.destination_port),
    ])
}

fn instance(address: IpAddr) -> Option<Host> {
    let version = if address.is_ipv6() {
        IpVersion::V6
    } else {
        IpVersion::V4
    };
    let mut all = INSTANCES.into_iter();
    all.find(|host| host.address(version) == address)
}

impl Play {
    /// Flows opened and packets of flows, by all rules.
    fn counted(&self) -> [u64; 2] {
        let counters = self.node.tables.model.rule_counters.borrow();
        let flows = counters.values().map(|c| c.new_flows).sum();
        let packets = counters.values();
        let packets = packets.map(|c| c.packets_to_instance + c.packets_from_instance);
        [flows, packets.sum()]
    }

    /// Sends a frame, with invariant "counted".
    pub(crate) fn send(&self, frame: &[u8], ifindex: u32) -> Result<Fate, String> {
        let model = &self.node.tables.model;
        model.reasons.borrow_mut().clear();
        let before = self.counted();
        let mut bytes = HostFrame::new(frame, ifindex);
        let verdict = pipeline::run(&mut bytes, model);
        let reasons = model.reasons.borrow().clone();
        if reasons != BTreeMap::from([(verdict.reason, 1)]) {
            return Err(format!("{verdict:?} was counted as {reasons:?}"));
        }
        let after = self.counted();
        let is_sent_on = matches!(
            verdict.reason,
            Reason::Forwarded | Reason::ForwardedByKernel
        );
        if after[1] - before[1] != u64::from(is_sent_on) {
            return Err(format!(
                "{verdict:?}: counted for rules {}",
                after[1] - before[1]
            ));
        }
        if verdict.exit == Exit::Drop && after[0] != before[0] {
            return Err(format!("{verdict:?} opened a flow"));
        }
        let bytes = bytes.to_vec();
        if is_sent_on {
            verify(&bytes)?;
        }
        Ok(Fate {
            reason: verdict.reason,
            way: if is_sent_on { ends(&bytes) } else { None },
            opened: after[0] - before[0],
        })
    }

    /// What becomes of a first packet, of which nothing is left.
    pub(crate) fn fate(&mut self, protocol: u8, to: IpAddr, port: u16) -> Result<Fate, String> {
        self.probes = self.probes.wrapping_add(1);
        let version = if to.is_ipv6() {
            IpVersion::V6
        } else {
            IpVersion::V4
        };
        let frontend = FRONTENDS
            .iter()
            .find(|(_, host)| host.address(version) == to);
        let frame = Frame {
            version,
            protocol,
            source: PROBER,
            source_port: self.probes | 1_024,
            destination: frontend.expect("packets go to frontends").1,
            destination_port: port,
            flags: SYN,
            ..Frame::default()
        };
        let fate = self.send(&frame.build(), CLIENT_SIDE)?;
        let tuple = Tuple {
            source: (PROBER.address(version), frame.source_port),
            destination: (to, port),
            protocol,
        };
        forget(&self.node.tables.model, &tuple);
        Ok(fate)
    }

    /// Invariant "all or nothing": a first packet finds an old rule or a new one.
    pub(crate) fn probe(&mut self) -> Result<(), String> {
        let (protocol, to, port) = self.place();
        let answers = self.answers(to, protocol, port);
        let fate = self.fate(protocol, to, port)?;
        self.count("packets between writes");
        let is_right = match fate.way {
            Some([_, destination]) => answers.destinations.contains(&destination),
            None => answers.reasons.contains(&fate.reason),
        };
        if is_right {
            return Ok(());
        }
        Err(format!(
            "a packet to {to} port {port} ({protocol}) ends as {fate:?}, not as {answers:?}"
        ))
    }

    fn answers(&self, to: IpAddr, protocol: u8, port: u16) -> Answers {
        let mut answers = Answers::of(&self.node.files, to, protocol, port);
        if self.node.is_blank {
            let blank = [Reason::NotConfigured, Reason::NotOurs, Reason::NoRule];
            answers.reasons.extend(blank);
        }
        answers
    }

    /// The next packet of a connection.
    pub(crate) fn talk(&mut self, number: usize) -> Result<(), String> {
        let mut one = self.connections[number].clone();
        let packet = one.packet(&mut self.chance);
        let model = &self.node.tables.model;
        let settings = model.settings.unwrap_or_default();
        let (now, tuple) = (model.now, one.tuple());
        let has_expired = one.home.is_some() && one.has_expired(&settings, now);
        one.is_over |= has_expired;
        let is_owed = one.is_trusted && !one.is_over;
        let (to, port) = tuple.destination;
        let answers = self.answers(to, one.protocol, port);
        let before = Before::of(self, &one, &answers);
        let ifindex = if packet.from_client {
            CLIENT_SIDE
        } else {
            INSTANCE_SIDE
        };
        let fate = self.send(&one.frame(packet).build(), ifindex)?;
        let told = format!("{tuple:?} {packet:?}: {fate:?}");
        self.tell(told.clone());
        let wrong = |what: &str| Err(format!("{what}: {told}\n{one:?}\n{before:?}\n{answers:?}"));
        // Which is no new flow for the counters.
        let opens = one.protocol == UDP || packet.flags & (SYN | ACK) == SYN;
        let begins_anew = packet.from_client && opens && before.may_begin_anew && fate.opened == 0;
        if is_owed && (fate.way.is_none() || fate.opened > 0) {
            return wrong("stable: a trusted flow is not found");
        }
        if let Some(owner) = before.stranger
            && !packet.from_client
            && fate.way == Some([owner.destination, owner.source])
        {
            self.answer_of_another(number, &owner, packet)?;
            return Ok(());
        }
        let is_own = packet.from_client || fate.way.is_some_and(|way| way[0] == tuple.destination);
        if fate.way.is_some() && is_own && fate.opened == 0 && has_expired && !begins_anew {
            return wrong("on time: a flow whose time is over is found");
        }
        let Some([source, destination]) = fate.way else {
            if !before.allows(self, &one, packet, &fate, &answers) {
                return wrong("a packet of an honest connection is dropped");
            }
            if one.home.is_some() && !packet.from_client {
                // Its client is not to hear of it any more.
                one.is_over = true;
                self.note_port_of(&one.as_outgoing());
            }
            self.count(if one.home.is_some() {
                "packets of lost flows"
            } else {
                "refused connections"
            });
            self.connections[number] = one;
            if self.chance.one_in(3) {
                self.connections.swap_remove(number);
            }
            return Ok(());
        };
        if packet.from_client {
            let is_there = if begins_anew {
                before
                    .own
                    .is_some_and(|own| own.other.source == destination)
            } else if fate.opened == 0 && one.home.is_some() {
                one.home() == Some(destination)
            } else {
                answers.destinations.contains(&destination)
            };
            if source != tuple.source || !is_there {
                return wrong("stable: it goes elsewhere");
            }
            if fate.opened > 0 && before.is_taken(&destination, &tuple) {
                return wrong("unique: another flow has the reply key");
            }
            one.home = instance(destination.0).map(|host| (host, destination.1));
        } else if destination != tuple.source {
            return wrong("inverse: an answer goes elsewhere");
        } else if source != tuple.destination {
            before.leaves_by(self, &one, packet, &fate)?;
            self.note_port_of(&one.as_outgoing());
            // Taken up by what the port has now: for its client it is nothing.
            self.count("answers that became others'");
            self.connections.swap_remove(number);
            return Ok(());
        }
        self.count(if is_owed {
            "packets of trusted flows"
        } else {
            "packets of other flows"
        });
        one.sent_on(packet, fate.opened > 0 || begins_anew, now);
        self.note_flow(&mut one)?;
        let is_done = one.reset || (one.has_ended() && self.chance.one_in(4));
        self.connections[number] = one;
        if is_done && self.chance.one_in(3) {
            self.connections.swap_remove(number);
        }
        Ok(())
    }

    /// Whether a tuple is that of a live flow, whoever has forgotten it.
    pub(crate) fn is_in_use(&self, tuple: &Tuple) -> bool {
        let model = &self.node.tables.model;
        let found = look(model, tuple).filter(|found| is_live(model, found, tuple));
        found.is_some_and(|found| !found.state.has_ended())
    }

    /// What an instance sends goes to the client of the flow that has its reply key by now: the same port of the same
    /// client, which knows another frontend.
    fn answer_of_another(
        &mut self,
        number: usize,
        owner: &Tuple,
        packet: Packet,
    ) -> Result<(), String> {
        self.count("answers of other flows");
        let found = self
            .connections
            .iter()
            .position(|one| one.tuple() == *owner);
        let mut over = vec![number];
        match found {
            Some(other) if packet.flags == 0 => {
                let mut one = self.connections[other].clone();
                one.sent_on(packet, false, self.node.tables.model.now);
                self.note_flow(&mut one)?;
                self.connections[other] = one;
            }
            // Its sequence numbers are not those that its sides would go on with.
            Some(other) => over.push(other),
            None => {}
        }
        over.sort_unstable();
        for number in over.into_iter().rev() {
            self.connections.swap_remove(number);
        }
        Ok(())
    }

    /// Takes from the tables what only they know of a flow: its timeout, its rule, whether it is trusted.
    fn note_flow(&mut self, one: &mut Connection) -> Result<(), String> {
        let (model, tuple) = (&self.node.tables.model, one.tuple());
        let found = look(model, &tuple).filter(|found| is_live(model, found, &tuple));
        let Some(found) = found else { return Ok(()) };
        one.idle = found.idle;
        if found.is_trusted() && !one.is_trusted {
            one.is_trusted = true;
            one.rule = Some((found.rule, self.rule_name(found.rule)));
            self.count("connections that became trusted");
        }
        Ok(())
    }

    /// Name of the rule with an id; empty: no daemon knows.
    pub(crate) fn rule_name(&self, id: u32) -> String {
        let daemon = self.node.daemon.as_ref();
        let name = daemon.and_then(|daemon| daemon.ids().rules.key_of(id));
        name.filter(|name| !name.starts_with('('))
            .cloned()
            .unwrap_or_default()
    }

    /// Invariants of trusted flows: never evicted, stable, unique.
    pub(crate) fn check_flows(&mut self) -> Result<(), String> {
        let model = &self.node.tables.model;
        let settings = model.settings.unwrap_or_default();
        let mut owners: BTreeMap<Tuple, Tuple> = BTreeMap::new();
        for one in &mut self.connections {
            one.is_over |= one.home.is_some() && one.has_expired(&settings, model.now);
            let Some(home) = one.home().filter(|_| one.is_trusted && !one.is_over) else {
                continue;
            };
            let (tuple, reply) = (one.tuple(), one.reply(home));
            let entries = [look(model, &tuple), look(model, &reply)];
            let [Some(to), Some(from)] = entries else {
                return Err(format!("never evict: {one:?} has the entries {entries:?}"));
            };
            let is_whole = to.other == reply && from.other == tuple;
            let is_same = to.state == one.state() && to.idle == one.idle;
            let is_kept =
                to.is_trusted() && from.is_trusted() && !to.is_retiring && !from.is_retiring;
            if !(is_whole && is_same && is_kept) {
                return Err(format!("stable: {one:?} has the entries {entries:?}"));
            }
            if let Some(other) = owners.insert(reply, tuple) {
                return Err(format!("unique: {reply:?} is of {other:?} and {tuple:?}"));
            }
        }
        self.check_rules()
    }

    /// Flows keep their rule, and its id is nobody else's.
    fn check_rules(&self) -> Result<(), String> {
        let model = &self.node.tables.model;
        for one in self
            .connections
            .iter()
            .filter(|one| one.is_trusted && !one.is_over)
        {
            let (Some((id, name)), Some(found)) = (&one.rule, look(model, &one.tuple())) else {
                continue;
            };
            let now = self.rule_name(*id);
            if found.rule != *id || !(name.is_empty() || now.is_empty() || now == *name) {
                return Err(format!(
                    "rule {id} of {one:?} is that of {now} by now: {found:?}"
                ));
            }
        }
        Ok(())
    }

    /// Many packets of nobody: SYNs, SYNs with what seems to be the end of a handshake, datagrams, ACKs.
    pub(crate) fn flood(&mut self) -> Result<(), String> {
        let form = self.chance.below(4);
        let many = self.chance.within(10, 80);
        self.tell(format!("a flood of {many} packets, form {form}"));
        self.count("floods");
        for _ in 0..many {
            let bits = self.chance.bits();
            let [a, b, ..] = bits.to_be_bytes();
            let source = Host::new(
                [100, 128 | a, b, bits as u8],
                [
                    0x2001,
                    0xdb8,
                    0xf,
                    0,
                    0,
                    0,
                    (bits >> 16) as u16,
                    bits as u16,
                ],
            );
            let frame = Frame {
                version: *self.chance.pick(&IpVersion::BOTH),
                protocol: if form == 2 { UDP } else { TCP },
                source,
                source_port: 1_024 | bits as u16,
                destination: self.chance.pick(&FRONTENDS).1,
                destination_port: *self.chance.pick(&PORTS),
                flags: if form == 3 { ACK } else { SYN },
                acknowledgement: bits as u32,
                ..Frame::default()
            };
            self.send(&frame.build(), CLIENT_SIDE)?;
            if form == 1 {
                self.send(&frame.flagged(ACK).build(), CLIENT_SIDE)?;
            }
        }
        Ok(())
    }
}
