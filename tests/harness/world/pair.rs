//! The two entries of a flow, as a case writes them down.

use forebay_common::flow::{Direction, Flow, FlowKey, FlowKind, Hop, Seen};
use forebay_common::wire::Mac;

use super::{IDLE, NOW, RULE_NAMES, RULE_WEB};
use crate::frame::{Frame, TCP};
use crate::network::plan::{CLIENT, FRONTEND, GATEWAY, INSTANCES, ROUTER, Way};
use crate::network::{Host, IpVersion, Side};

/// What one direction has of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Half {
    /// When it was last used.
    pub last_seen: u64,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// Next hop, and when it was looked up.
    pub hop: Option<(Way, u64)>,
    /// Last acknowledgement number.
    pub last_ack: u32,
}

impl Half {
    /// After one more packet, at `now`.
    #[must_use]
    pub fn with_packet(self, frame: &Frame, now: u64) -> Self {
        let last_ack = if frame.flags & crate::frame::ACK != 0 {
            frame.acknowledgement
        } else {
            self.last_ack
        };
        Self {
            last_seen: now,
            packets: self.packets + 1,
            bytes: self.bytes + u64::from(frame.ip_length()),
            last_ack,
            ..self
        }
    }

    /// With a next hop that was looked up at `now`.
    #[must_use]
    pub fn with_hop(self, way: Way, now: u64) -> Self {
        Self {
            hop: Some((way, now)),
            ..self
        }
    }
}

/// A flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// IPv4 or IPv6.
    pub version: IpVersion,
    /// Protocol number.
    pub protocol: u8,
    /// Who opened it.
    pub client: (Host, u16),
    /// Where to.
    pub frontend: (Host, u16),
    /// Where it was sent.
    pub backend: (Host, u16),
    /// Id of the rule.
    pub rule: u32,
    /// What the rule is.
    pub kind: FlowKind,
    /// Idle timeout.
    pub idle_timeout: u32,
    /// Whether RSTs are sent when it idles out.
    pub tcp_reset: bool,
    /// What was seen of packets towards the instance.
    pub seen_to: Seen,
    /// What was seen of packets from the instance.
    pub seen_from: Seen,
    /// Marks.
    pub marks: u8,
    /// Towards the instance.
    pub to: Half,
    /// From the instance.
    pub from: Half,
}

impl Pair {
    /// An established TCP connection, last used at [`NOW`], with fresh next hops.
    pub fn tcp(version: IpVersion) -> Self {
        let talked = Seen::SYN.with(Seen::ACK);
        let half = |way: Way, last_ack: u32| Half {
            last_seen: NOW,
            packets: 10,
            bytes: 4_000,
            hop: Some((way, NOW)),
            last_ack,
        };
        Self {
            version,
            protocol: TCP,
            client: (CLIENT, 40_000),
            frontend: (FRONTEND, 80),
            backend: (INSTANCES[0].host, 8_080),
            rule: RULE_WEB,
            kind: FlowKind::Rule,
            idle_timeout: IDLE,
            tcp_reset: true,
            seen_to: talked,
            seen_from: talked,
            marks: 0,
            to: half(INSTANCES[0].way(), 5_000),
            from: half(GATEWAY.way(), 1_000),
        }
    }

    /// An answered UDP conversation, last used at [`NOW`], with fresh next hops.
    pub fn udp(version: IpVersion) -> Self {
        let mut pair = Self {
            protocol: crate::frame::UDP,
            frontend: (FRONTEND, 53),
            backend: (INSTANCES[0].host, 5_353),
            rule: RULE_NAMES,
            seen_to: Seen::PACKET,
            seen_from: Seen::PACKET,
            ..Self::tcp(version)
        };
        pair.to.last_ack = 0;
        pair.from.last_ack = 0;
        pair
    }

    /// The flow that a first packet opens at `now` on the way to `backend`, before the packet itself
    /// counts.
    pub fn opened(frame: &Frame, rule: u32, backend: (Host, u16), now: u64) -> Self {
        let half = Half {
            last_seen: now,
            ..Half::default()
        };
        Self {
            protocol: frame.protocol,
            client: (frame.source, frame.source_port),
            frontend: (frame.destination, frame.destination_port),
            backend,
            rule,
            seen_to: Seen::of(u32::from(frame.protocol), frame.flags),
            seen_from: Seen::default(),
            to: half,
            from: half,
            ..Self::tcp(frame.version)
        }
    }

    /// The same flow, both directions last used at another time.
    #[must_use]
    pub fn last_used(mut self, when: u64) -> Self {
        self.to.last_seen = when;
        self.from.last_seen = when;
        self
    }

    /// The same flow, with next hops looked up at another time.
    #[must_use]
    pub fn hops_from(mut self, when: u64) -> Self {
        for half in [&mut self.to, &mut self.from] {
            half.hop = half.hop.map(|(way, _)| (way, when));
        }
        self
    }

    /// A packet of the client.
    pub fn request(&self) -> Frame {
        Frame {
            protocol: self.protocol,
            ..Frame::of(self.version)
                .coming_from(self.client.0, self.client.1)
                .towards(self.frontend.0, self.frontend.1)
        }
        .data_of(self)
    }

    /// A packet of the instance.
    pub fn answer(&self) -> Frame {
        let ingress = self
            .to
            .hop
            .map_or(&crate::network::plan::SOUTH, |hop| hop.0.link);
        let frame = Frame {
            protocol: self.protocol,
            ..Frame::of(self.version)
                .coming_from(self.backend.0, self.backend.1)
                .towards(self.client.0, self.client.1)
        };
        Frame {
            macs: [self.to.hop.map_or([2; 6], |hop| hop.0.mac), ingress.mac],
            ingress,
            ..frame
        }
        .data_of(self)
    }

    /// The key of the client's packets and the key of the instance's, with their entries.
    pub fn entries<A: Side>(&self) -> [(FlowKey<A>, Flow<A>); 2] {
        let key = |source: (Host, u16), destination: (Host, u16)| FlowKey::<A> {
            source: source.0.raw(),
            destination: destination.0.raw(),
            ports: FlowKey::<A>::ports_word(source.1, destination.1),
            protocol: u32::from(self.protocol),
        };
        let inward = self.entry(
            key(self.client, self.backend),
            &self.to,
            Direction::ToInstance,
        );
        let outward = self.entry(
            key(self.frontend, self.client),
            &self.from,
            Direction::FromInstance,
        );
        [
            (key(self.client, self.frontend), inward),
            (key(self.backend, self.client), outward),
        ]
    }

    /// One entry; `translated` is the key that its packets have afterwards.
    fn entry<A: Side>(&self, translated: FlowKey<A>, half: &Half, way: Direction) -> Flow<A> {
        let (hop, stamp) = half.hop.map_or((None, 0), |(way, when)| (Some(way), when));
        let mac = Mac::from_octets(hop.map_or([0; 6], |way| way.mac));
        Flow {
            source: translated.source,
            destination: translated.destination,
            ports: translated.ports,
            idle_timeout: self.idle_timeout,
            last_seen: half.last_seen,
            packets: half.packets,
            bytes: half.bytes,
            hop_head: mac.head,
            hop_tail: mac.tail,
            hop_slot: hop.map_or(0, |way| way.link.slot as u16 | narrow(way)),
            hop_stamp: stamp as u32,
            last_ack: half.last_ack.to_be(),
            rule: self.rule,
            seen_to_instance: self.seen_to.0,
            seen_from_instance: self.seen_from.0,
            kind: self.kind.byte(way, self.tcp_reset),
            marks: self.marks,
        }
    }
}

impl Frame {
    /// With flags, numbers and payload of a packet in the middle of a flow.
    fn data_of(self, pair: &Pair) -> Self {
        if pair.protocol != TCP {
            return Self {
                flags: 0,
                ..self.with_payload(32)
            };
        }
        Self {
            sequence: 5_000,
            ..self.flagged(crate::frame::ACK).with_payload(32)
        }
    }
}

/// Set for a way whose route has a smaller MTU than its interface.
fn narrow(way: Way) -> u16 {
    if way == ROUTER.way() { Hop::NARROW } else { 0 }
}
