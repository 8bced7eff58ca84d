//! Random frames from few words, so that they meet: flows are hit, answered, closed and reopened,
//! tuples collide.

use std::net::{IpAddr, Ipv6Addr};

use crate::chance::Chance;
use crate::frame::{
    ACK, ArpMessage, Checksum, FIN, Fragment, Frame, NeighborMessage, PSH, RST, SYN, TCP, UDP,
};
use crate::network::plan::{
    APART, CLIENT, CLIENT_2, DEAF, FRONTEND, FRONTEND_2, INSTANCES, LINKS, LOCAL_CLIENT, Link,
    NORTH, ONE_ARM_CLIENT, SILENT_CLIENT, SOUTH, VLAN_CLIENT,
};
use crate::network::{Host, IpVersion, Side};
use crate::world::{BACKENDS, Flows};
use forebay_common::flow::{Flow, FlowKey};

use super::scenes::{PUBLIC_IP, TRIAL_MAC, TRIAL_PORTS, TRIALS};
use super::{around, garbage};

/// Where frames come from.
#[derive(Debug)]
pub struct Grammar {
    /// How many clients and ports there are in this sequence: few meet often.
    clients: usize,
    client_ports: u64,
    services: usize,
    last: Option<Frame>,
    /// Fragments that are still to come, the last of them first.
    pieces: Vec<Frame>,
}

const CLIENTS: [Host; 5] = [
    CLIENT,
    CLIENT_2,
    LOCAL_CLIENT.host,
    ONE_ARM_CLIENT.host,
    VLAN_CLIENT.host,
];

const FLAGS: [u8; 12] = [
    SYN,
    SYN,
    SYN,
    ACK,
    ACK,
    ACK | PSH,
    SYN | ACK,
    FIN | ACK,
    FIN | ACK,
    RST,
    RST | ACK,
    0,
];
const PORTS: [u16; 9] = [80, 53, 443, 1443, 2443, 81, 8_003, 8_006, 2_202];

impl Grammar {
    /// Words for a sequence.
    pub fn new(chance: &mut Chance) -> Self {
        Self {
            clients: chance.within(1, CLIENTS.len() as u64) as usize,
            client_ports: chance.within(1, 4),
            services: chance.within(1, PORTS.len() as u64) as usize,
            last: None,
            pieces: Vec::new(),
        }
    }

    /// The next frame and the interface it comes in on. `flows` are those there are.
    pub fn next(
        &mut self,
        chance: &mut Chance,
        flows: &Flows,
        now: u64,
    ) -> (Vec<u8>, &'static Link) {
        let mut frame = match chance.below(35) {
            0..7 => self.request(chance),
            7..14 => of_a_flow(chance, flows, now).unwrap_or_else(|| self.request(chance)),
            14 => from_instance(chance),
            15 => between_any(chance),
            16 => {
                return (
                    neighbor(chance),
                    *chance.pick(&[&NORTH, &NORTH, &SOUTH, &APART]),
                );
            }
            17 => match self.last.take() {
                Some(last) => last,
                None => self.request(chance),
            },
            26..33 => outward(chance),
            33 => any_protocol(chance),
            34 => self.trial(chance),
            20..23 => return around::icmp(chance, flows),
            23..26 => return self.piece(chance, flows, now),
            18 => return (garbage::bytes(chance), *chance.pick(&LINKS)),
            _ => self.request(chance).turned(),
        };
        decorate(&mut frame, chance);
        let ingress = frame.ingress;
        let mut bytes = frame.build();
        self.last = Some(frame);
        if chance.one_in(6) {
            garbage::damage(&mut bytes, chance);
        }
        (bytes, ingress)
    }

    /// A fragment.
    fn piece(&mut self, chance: &mut Chance, flows: &Flows, now: u64) -> (Vec<u8>, &'static Link) {
        if self.pieces.is_empty() {
            let whole = of_a_flow(chance, flows, now).filter(|_| chance.one_in(2));
            let mut whole = whole.unwrap_or_else(|| self.request(chance));
            if chance.one_in(8) {
                whole = from_instance(chance);
            }
            if whole.version == IpVersion::V6 && chance.one_in(4) {
                whole.extensions = vec![*chance.pick(&[0, 60])];
            }
            whole.tags = around::tags(chance);
            self.pieces = around::fragments(&whole, chance);
        }
        let piece = self.pieces.pop().unwrap_or_default();
        (piece.build(), piece.ingress)
    }

    /// A trial of the node's own, or what looks like one.
    fn trial(&self, chance: &mut Chance) -> Frame {
        let is_genuine = !chance.one_in(4);
        let port = TRIAL_PORTS.start + chance.below(TRIAL_PORTS.len() as u64 + 1) as u16;
        let frame = self.request(chance).coming_from(TRIALS, port);
        let mac = if is_genuine { TRIAL_MAC } else { frame.macs[0] };
        Frame {
            macs: [mac, frame.macs[1]],
            protocol: TCP,
            flags: *chance.pick(&[SYN, SYN, SYN, RST]),
            ..frame
        }
    }

    /// A packet of a client to a frontend.
    fn request(&self, chance: &mut Chance) -> Frame {
        let version = *chance.pick(&IpVersion::BOTH);
        let links = [&NORTH, &NORTH, &NORTH, &NORTH, &SOUTH, &DEAF];
        let source = if chance.one_in(12) {
            anybody(chance)
        } else {
            *chance.pick(&CLIENTS[..self.clients])
        };
        let port = *chance.pick(&PORTS[..self.services]);
        let usual = if port == 53 { UDP } else { TCP };
        Frame {
            protocol: if chance.one_in(5) { UDP } else { usual },
            flags: *chance.pick(&FLAGS),
            sequence: chance.bits() as u32,
            acknowledgement: chance.bits() as u32,
            ..Frame::of(version)
                .from_link(link(chance, &links))
                .coming_from(source, 40_000 + chance.below(self.client_ports) as u16)
                .towards(*chance.pick(&[FRONTEND, FRONTEND, FRONTEND_2]), port)
        }
    }
}

pub(super) fn link(chance: &mut Chance, links: &[&'static Link]) -> &'static Link {
    let chosen: &&'static Link = chance.pick(links);
    chosen
}

pub(super) fn anybody(chance: &mut Chance) -> Host {
    let hosts = [
        PUBLIC_IP,
        CLIENT,
        CLIENT_2,
        LOCAL_CLIENT.host,
        ONE_ARM_CLIENT.host,
        SILENT_CLIENT,
        FRONTEND,
        FRONTEND_2,
        NORTH.address,
        SOUTH.address,
        chance.pick(&BACKENDS).1,
        Host::new([224, 0, 0, 5], [0xff02, 0, 0, 0, 0, 0, 0, 5]),
        Host::new([255; 4], [0xff0e, 0, 0, 0, 0, 0, 0, 1]),
        Host::new([169, 254, 1, 1], [0xfe80, 0, 0, 0, 0, 0, 0, 1]),
        Host::new([0; 4], [0; 8]),
        Host::new([127, 0, 0, 1], [0, 0, 0, 0, 0, 0, 0, 1]),
        Host {
            v4: (chance.bits() as u32).into(),
            v6: (u128::from(chance.bits()) << 64 | u128::from(chance.bits())).into(),
        },
    ];
    *chance.pick(&hosts)
}

/// A packet of an instance to the outside, to a frontend or to a public IP; few ports, so that flows meet again.
fn outward(chance: &mut Chance) -> Frame {
    let most = *chance.pick(&[1, 2, 2, INSTANCES.len()]);
    let instance = chance.pick(&INSTANCES[..most]);
    let protocol = *chance.pick(&[TCP, TCP, UDP, UDP, UDP]);
    let outside = [CLIENT, CLIENT, CLIENT_2, LOCAL_CLIENT.host];
    let own = [FRONTEND, FRONTEND_2, PUBLIC_IP];
    let (to, port) = if chance.one_in(3) {
        // To a rule, or to the port that another instance has.
        (
            *chance.pick(&own),
            *chance.pick(&[80, 53, 2_000, 2_000, 2_001, 3_000]),
        )
    } else {
        (*chance.pick(&outside), *chance.pick(&[443, 443, 53]))
    };
    let flags = *chance.pick(&[SYN, SYN, SYN, ACK, SYN | ACK, RST, FIN | ACK]);
    Frame {
        macs: [instance.mac, instance.link.mac],
        ingress: instance.link,
        protocol,
        sequence: chance.bits() as u32,
        acknowledgement: *chance.pick(&[0, 1_001]),
        ..Frame::of(*chance.pick(&IpVersion::BOTH))
            .coming_from(instance.host, 33_000 + chance.below(6) as u16)
            .towards(to, port)
            .flagged(if protocol == TCP { flags } else { 0 })
            .with_payload(*chance.pick(&[0, 0, 32, 1_400]))
    }
}

/// A packet of a protocol that only public IPs carry, or one to or from them.
fn any_protocol(chance: &mut Chance) -> Frame {
    let protocol = *chance.pick(&[50, 47, 33, 136, 4, 41, 132, TCP, UDP]);
    let frame = if chance.one_in(2) {
        outward(chance)
    } else {
        Frame::of(*chance.pick(&IpVersion::BOTH))
            .towards(PUBLIC_IP, *chance.pick(&[22, 443, 33_000]))
    };
    if protocol == TCP || protocol == UDP {
        return Frame { protocol, ..frame };
    }
    let length = chance.within(0, 60) as u8;
    Frame {
        protocol,
        raw: Some((0..length).collect()),
        ..frame
    }
}

/// A packet of a flow that is there.
fn of_a_flow(chance: &mut Chance, flows: &Flows, now: u64) -> Option<Frame> {
    if chance.one_in(2) {
        entry(&flows.v4, chance, now)
    } else {
        entry(&flows.v6, chance, now)
    }
}

fn entry<A: Side>(
    table: &std::collections::BTreeMap<FlowKey<A>, Flow<A>>,
    chance: &mut Chance,
    now: u64,
) -> Option<Frame> {
    if table.is_empty() {
        return None;
    }
    // Lately used flows more often: the others are but filling.
    let mut chosen = table
        .iter()
        .nth(chance.below(table.len() as u64) as usize)?;
    for _ in 0..3 {
        let other = table
            .iter()
            .nth(chance.below(table.len() as u64) as usize)?;
        if now.saturating_sub(other.1.last_seen) < now.saturating_sub(chosen.1.last_seen) {
            chosen = other;
        }
    }
    let (key, flow) = chosen;
    // What the receiver of this packet has acknowledged, for RSTs about the window.
    let acknowledged = table
        .get(&flow.reply_key(key.protocol))
        .map_or(0, |other| u32::from_be(other.last_ack));
    let ahead = *chance.pick(&[0, 1, 1_000, 1 << 22, (1 << 22) + 1, u32::MAX, 1 << 31]);
    let frame = Frame {
        protocol: key.protocol as u8,
        flags: *chance.pick(&FLAGS),
        sequence: acknowledged.wrapping_add(ahead),
        acknowledgement: *chance.pick(&[1_000, 0xffff_ff00, 0x7fff_ffff]),
        ..Frame::of(A::VERSION)
            .from_link(link(chance, &[&NORTH, &SOUTH]))
            .coming_from(host_of(key.source), key.source_port())
            .towards(host_of(key.destination), key.destination_port())
    };
    Some(frame)
}

/// A host with this address, and any of the other family.
pub(super) fn host_of<A: Side>(address: A) -> Host {
    match address.into() {
        IpAddr::V4(v4) => Host { v4, ..CLIENT },
        IpAddr::V6(v6) => Host { v6, ..CLIENT },
    }
}

fn from_instance(chance: &mut Chance) -> Frame {
    let source = chance.pick(&BACKENDS).1;
    let destination = anybody(chance);
    Frame {
        protocol: *chance.pick(&[TCP, UDP, 1, 58, 50]),
        flags: *chance.pick(&FLAGS),
        ..Frame::of(*chance.pick(&IpVersion::BOTH))
            .from_link(link(chance, &LINKS))
            .coming_from(source, *chance.pick(&[8_080, 5_353, 443]))
            .towards(destination, 40_000 + chance.below(4) as u16)
    }
}

fn between_any(chance: &mut Chance) -> Frame {
    let (source, destination) = (anybody(chance), anybody(chance));
    Frame {
        protocol: *chance.pick(&[TCP, UDP, 1, 58, 47, 132]),
        ..Frame::of(*chance.pick(&IpVersion::BOTH))
            .from_link(link(chance, &LINKS))
            .coming_from(source, *chance.pick(&PORTS))
            .towards(destination, *chance.pick(&PORTS))
    }
}

fn neighbor(chance: &mut Chance) -> Vec<u8> {
    let asker = chance.pick(&[LOCAL_CLIENT, ONE_ARM_CLIENT, INSTANCES[0]]);
    let target = anybody(chance);
    let tags = around::tags(chance);
    let target = if chance.one_in(2) { FRONTEND } else { target };
    let mut bytes = if chance.one_in(2) {
        ArpMessage {
            tags,
            operation: *chance.pick(&[1, 1, 1, 1, 2]),
            ..ArpMessage::request((asker.mac, asker.host.v4), target.v4)
        }
        .build()
    } else {
        let source = *chance.pick(&[asker.host.v6, asker.host.v6, Ipv6Addr::UNSPECIFIED]);
        let message = NeighborMessage::solicitation((asker.mac, source), target.v6);
        let group = message.addresses[1];
        NeighborMessage {
            tags,
            hops: *chance.pick(&[255, 255, 255, 255, 64]),
            addresses: [source, *chance.pick(&[group, group, target.v6, CLIENT.v6])],
            ..message
        }
        .build()
    };
    if chance.one_in(6) {
        garbage::damage(&mut bytes, chance);
    }
    bytes
}

/// What a packet may have besides.
fn decorate(frame: &mut Frame, chance: &mut Chance) {
    frame.tags = around::tags(chance);
    if chance.one_in(8) {
        frame.hops = *chance.pick(&[255, 2, 2, 1, 0]);
    }
    let length = *chance.pick(&[
        0, 0, 1, 32, 500, 1_200, 1_232, 1_240, 1_260, 1_440, 1_460, 1_600,
    ]);
    frame.payload = (0..length).map(|_| chance.bits() as u8).collect();
    if chance.one_in(15) {
        frame.checksum = Checksum::Value(*chance.pick(&[0, 0, 0xffff, 1]));
    }
    if chance.one_in(15) {
        frame.option_words = chance.within(1, 10) as u8;
    }
    if chance.one_in(40) {
        frame.extensions = (0..chance.within(1, 9))
            .map(|_| *chance.pick(&[0, 51, 60, 60, 60, 43]))
            .collect();
    }
    if chance.one_in(40) {
        frame.fragment = Some(Fragment {
            offset: *chance.pick(&[0, 1, 185]),
            more: chance.one_in(2),
        });
    }
    if chance.one_in(40) {
        frame.faults.padding = chance.within(1, 40) as usize;
    }
}
