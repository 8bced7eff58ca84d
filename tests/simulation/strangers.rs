//! Packets to SNAT ports and public IPs that no instance has asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use forebay_common::reason::{Fate as End, Reason};
use forebay_tests::frame::{ACK, Frame, SYN, TCP, UDP};
use forebay_tests::network::{Host, IpVersion};

use crate::files::Answers;
use crate::look::{Tuple, Where, forget, is_live, look};
use crate::node::CLIENT_SIDE;
use crate::outgoing::{Outgoing, REMOTES};
use crate::outside::{Found, host};
use crate::packets::Fate;
use crate::play::Play;
use crate::ways::{WaysOut, public_ip};

/// Ports that strangers use; nobody opens a flow to them.
const PORTS: [u16; 3] = [999, 1_999, 2_999];

/// A port that somebody has towards everybody, as its flows have told.
#[derive(Debug, Clone)]
pub(crate) struct Mapped {
    home: (Host, u16),
    is_open_to_all: bool,
    is_open_to_contacted: bool,
    contacted: BTreeSet<IpAddr>,
}

/// All of them by public address, port and protocol.
pub(crate) type Mappings = BTreeMap<(IpAddr, u16, u8), Mapped>;

impl Mapped {
    fn lets_in(&self, source: IpAddr) -> bool {
        self.is_open_to_all || (self.is_open_to_contacted && self.contacted.contains(&source))
    }
}

impl Play {
    /// Takes note of the port that the inside of a flow has for all destinations, if it has one, after a packet of
    /// the flow, which may have been refused all the same.
    pub(crate) fn note_port_of(&mut self, one: &Outgoing) {
        let Some(((address, port), _)) = Found::of(self, one).mapping else {
            return;
        };
        let ways = WaysOut::of(&self.node.files, one.tuple().source.0, one.protocol);
        let new = Mapped {
            home: one.inside,
            is_open_to_all: false,
            is_open_to_contacted: false,
            contacted: BTreeSet::new(),
        };
        let place = (address, port, one.protocol);
        let mapped = self.mappings.entry(place).or_insert_with(|| new.clone());
        if mapped.home != one.inside {
            *mapped = new;
        }
        mapped.is_open_to_all |= ways.open_to_all;
        mapped.is_open_to_contacted |= ways.open_to_contacted;
        mapped.contacted.insert(one.outer().0);
    }

    /// A stranger sends to a port that somebody goes out by, or went.
    pub(crate) fn intrude(&mut self) -> Result<(), String> {
        let Some(public) = self.outlet() else {
            return Ok(());
        };
        let version = if public.0.is_ipv6() {
            IpVersion::V6
        } else {
            IpVersion::V4
        };
        let source = (*self.chance.pick(&REMOTES), *self.chance.pick(&PORTS));
        let frame = Frame {
            version,
            protocol: *self.chance.pick(&[TCP, UDP, UDP]),
            source: source.0,
            source_port: source.1,
            destination: host(public.0),
            destination_port: public.1,
            flags: *self.chance.pick(&[SYN, SYN, ACK]),
            ..Frame::default()
        };
        let tuple = Tuple {
            source: (source.0.address(version), source.1),
            destination: public,
            protocol: frame.protocol,
        };
        let is_known = self.outgoing.iter().any(|one| {
            let reply = one.public.map(|public| one.reply(public));
            one.is_owed() && reply == Some(tuple)
        });
        let model = &self.node.tables.model;
        let is_held = look(model, &tuple).is_some_and(|found| is_live(model, &found, &tuple));
        if is_known || is_held {
            return Ok(());
        }
        let fate = self.send(&frame.build(), CLIENT_SIDE)?;
        self.tell(format!("a stranger: {tuple:?}: {fate:?}"));
        self.count("strangers");
        let home = self.judge_stranger(&tuple, &fate)?;
        if let Some(home) = home {
            self.count("strangers that were let in");
            let ends = [home, source];
            let what = (version, frame.protocol);
            let mut one = Outgoing::let_in(what, ends, public);
            let packet = one.first(if frame.protocol == TCP {
                frame.flags
            } else {
                0
            });
            one.sent_on(packet, true, self.node.tables.model.now);
            self.note_outgoing(&mut one)?;
            self.outgoing.push(one);
        }
        Ok(())
    }

    /// A public address and port.
    fn outlet(&mut self) -> Option<(IpAddr, u16)> {
        let known = self.outgoing.iter().filter_map(|one| one.public);
        let mut all: Vec<_> = known.collect();
        all.extend(
            self.mappings
                .keys()
                .map(|(address, port, _)| (*address, *port)),
        );
        (!all.is_empty()).then(|| *self.chance.pick(&all))
    }

    /// Whether what became of a packet to a SNAT port or public IP, whose flow is not live, may become of it. Says
    /// who has got it by the filtering of a port.
    pub(crate) fn judge_stranger(
        &mut self,
        tuple: &Tuple,
        fate: &Fate,
    ) -> Result<Option<(Host, u16)>, String> {
        let (to, port) = tuple.destination;
        let wrong = |what: &str| Err(format!("{what}: {tuple:?}: {fate:?}"));
        let Some([source, destination]) = fate.way else {
            let passes = fate.reason.fate() == End::Pass;
            let is_blank = self.node.is_blank && fate.reason == Reason::NotConfigured;
            if passes && !is_blank && !(fate.reason == Reason::NotOurs && self.may_be_nobodys(to)) {
                return wrong("a packet to an address of this node is handed to the host");
            }
            return Ok(None);
        };
        if source != tuple.source {
            return wrong("inverse: its source is another");
        }
        if self.has_public_ip(to, destination.0) && destination.1 == port {
            self.count("packets to public IPs");
            return Ok(None);
        }
        let mapped = self.mappings.get(&(to, port, tuple.protocol));
        if let Some(mapped) = mapped.filter(|mapped| mapped.lets_in(source.0)) {
            let home = mapped.home.0.address(if to.is_ipv6() {
                IpVersion::V6
            } else {
                IpVersion::V4
            });
            if destination == (home, mapped.home.1) {
                return Ok(Some(mapped.home));
            }
        }
        let answers = Answers::of(&self.node.files, to, tuple.protocol, port);
        if answers.destinations.contains(&destination) {
            forget(&self.node.tables.model, tuple);
            return Ok(None);
        }
        if fate.opened == 0 && self.begins_anew_where_it_lies(tuple, destination) {
            return Ok(None);
        }
        wrong("unsolicited: it gets to an instance")
    }

    /// Whether a tuple is that of a flow by a rule in a table that flows move from: there it begins anew, even if the
    /// rule has gone.
    fn begins_anew_where_it_lies(&self, tuple: &Tuple, destination: (IpAddr, u16)) -> bool {
        let found = look(&self.node.tables.model, tuple);
        found.is_some_and(|found| {
            let is_outbound = self.rule_name(found.rule).starts_with("outbound_rule/");
            found.lies == Where::Former
                && found.other.source == destination
                && found.rule != 0
                && !is_outbound
        })
    }

    /// Whether a configuration lacks a public address.
    fn may_be_nobodys(&self, address: IpAddr) -> bool {
        let has = |config: &forebay::config::model::Config| {
            let mut frontends = config.frontends.iter().flat_map(|one| one.every_address());
            let ipv6 = address.is_ipv6();
            let mut instances = config.instances.iter();
            frontends.any(|own| own == address)
                || instances.any(|one| public_ip(config, one, ipv6) == Some(address))
        };
        self.node.is_blank || self.node.files.iter().any(|config| !has(config))
    }

    /// Whether an address is the public IP of an instance.
    fn has_public_ip(&self, public: IpAddr, private: IpAddr) -> bool {
        self.node.files.iter().any(|config| {
            let owner = crate::ways::instance(config, private);
            owner.is_some_and(|owner| public_ip(config, owner, public.is_ipv6()) == Some(public))
        })
    }
}
