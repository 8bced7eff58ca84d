//! Flows between instances and the outside that a SNAT port or a public IP carries, and what they must find.

use std::net::IpAddr;

use forebay_common::abi::Settings;
use forebay_common::flow::{FlowState, Seen, is_over, lifetime, state_of};
use forebay_tests::chance::Chance;
use forebay_tests::frame::{ACK, FIN, Frame, IcmpMessage, PSH, RST, SYN, TCP, UDP};
use forebay_tests::network::{Host, IpVersion};

use crate::files::{GUEST, INSTANCES};
use crate::look::Tuple;

/// Whom instances talk to.
pub(crate) const REMOTES: [Host; 3] = [
    Host::new([192, 0, 2, 1], [0x2001, 0xdb8, 8, 0, 0, 0, 0, 1]),
    Host::new([192, 0, 2, 2], [0x2001, 0xdb8, 8, 0, 0, 0, 0, 2]),
    Host::new([192, 0, 2, 3], [0x2001, 0xdb8, 8, 0, 0, 0, 0, 3]),
];

/// At which ports.
const SERVICES: [u16; 3] = [53, 443, 5_000];
/// Ports that instances use: more than the fewest SNAT ports.
const OWN_PORTS: u64 = 12;

/// Protocol number of ICMP of a version.
pub(crate) const fn icmp(version: IpVersion) -> u8 {
    match version {
        IpVersion::V4 => 1,
        IpVersion::V6 => 58,
    }
}

/// A flow, and what is known of it without a look at the tables. Of an echo, the port is the identifier.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    pub(crate) version: IpVersion,
    pub(crate) protocol: u8,
    pub(crate) inside: (Host, u16),
    pub(crate) remote: (Host, u16),
    /// What the inside is called outside.
    pub(crate) public: Option<(IpAddr, u16)>,
    /// A public IP's: nothing remembers it.
    pub(crate) is_stateless: bool,
    /// The port is the same for all destinations.
    pub(crate) is_mapped: bool,
    /// It has been over at some time, or was flushed: nobody owes it anything.
    pub(crate) is_over: bool,
    pub(crate) idle: u32,
    /// Its rule in the tables.
    pub(crate) rule: u32,
    /// The remote side began.
    from_outside: bool,
    /// What packets have shown that were sent on: to the inside, from it.
    seen: [Seen; 2],
    last: u64,
    next: [u32; 2],
    finished: [bool; 2],
    pub(crate) reset: bool,
    /// Echo requests without a reply.
    asked: bool,
}

/// A packet of a flow.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packet {
    pub(crate) from_inside: bool,
    pub(crate) flags: u8,
    payload: usize,
}

impl Packet {
    /// Whether it is the first of a TCP connection, or of another protocol.
    pub(crate) fn opens(self, protocol: u8) -> bool {
        protocol != TCP || self.flags & (SYN | ACK | RST) == SYN
    }
}

impl Outgoing {
    /// A flow that nobody has opened yet.
    pub(crate) fn between(
        (version, protocol): (IpVersion, u8),
        inside: (Host, u16),
        remote: (Host, u16),
    ) -> Self {
        Self {
            version,
            protocol,
            inside,
            remote,
            public: None,
            is_stateless: false,
            is_mapped: false,
            is_over: false,
            idle: 0,
            rule: 0,
            from_outside: false,
            seen: [Seen(0); 2],
            last: 0,
            next: [0x1000_0000, 0x2000_0000],
            finished: [false; 2],
            reset: false,
            asked: false,
        }
    }

    /// A flow that an instance, or who is none, is about to open.
    pub(crate) fn new(chance: &mut Chance) -> Self {
        let version = *chance.pick(&[IpVersion::V4, IpVersion::V4, IpVersion::V6]);
        let protocol = *chance.pick(&[TCP, TCP, UDP, UDP, icmp(version)]);
        let source = match chance.below(12) {
            0 => GUEST,
            // Most are of one, so that ports run out.
            1..6 => INSTANCES[0],
            _ => *chance.pick(&INSTANCES),
        };
        let inside = (source, 30_000 + chance.below(OWN_PORTS) as u16);
        let service = *chance.pick(&SERVICES);
        let remote = *chance.pick(&[REMOTES[0], REMOTES[0], REMOTES[1], REMOTES[2]]);
        let is_echo = protocol == icmp(version);
        let remote = (remote, if is_echo { 0 } else { service });
        Self::between((version, protocol), inside, remote)
    }

    /// A flow that somebody outside has opened to a SNAT port.
    pub(crate) fn let_in(
        what: (IpVersion, u8),
        [inside, remote]: [(Host, u16); 2],
        public: (IpAddr, u16),
    ) -> Self {
        Self {
            public: Some(public),
            is_mapped: true,
            from_outside: true,
            ..Self::between(what, inside, remote)
        }
    }

    /// A packet of an inside that takes it for an answer.
    pub(crate) fn answer(&self, flags: u8) -> Packet {
        Packet {
            from_inside: true,
            flags,
            payload: 0,
        }
    }

    /// The packet by which the outside has opened it.
    pub(crate) fn first(&self, flags: u8) -> Packet {
        Packet {
            from_inside: false,
            flags,
            payload: 0,
        }
    }

    /// The tuple of packets from the inside.
    pub(crate) fn tuple(&self) -> Tuple {
        Tuple {
            source: (self.inside.0.address(self.version), self.inside.1),
            destination: self.outer(),
            protocol: self.protocol,
        }
    }

    /// The other end.
    pub(crate) fn outer(&self) -> (IpAddr, u16) {
        (self.remote.0.address(self.version), self.remote.1)
    }

    /// The tuple of packets to the inside, as the outside sends them.
    pub(crate) fn reply(&self, public: (IpAddr, u16)) -> Tuple {
        Tuple {
            source: self.outer(),
            destination: public,
            protocol: self.protocol,
        }
    }

    pub(crate) fn is_echo(&self) -> bool {
        self.protocol != TCP && self.protocol != UDP
    }

    pub(crate) fn state(&self) -> FlowState {
        state_of(u32::from(self.protocol), self.seen[0], self.seen[1])
    }

    /// Whether the node still owes it its way.
    pub(crate) fn is_owed(&self) -> bool {
        self.public.is_some() && !self.is_stateless && !self.is_over
    }

    /// Whether its time has run out.
    pub(crate) fn has_expired(&self, settings: &Settings, now: u64) -> bool {
        let protocol = u32::from(self.protocol);
        let lifetime = lifetime(&settings.timeouts, protocol, self.state(), self.idle);
        self.public.is_some() && !self.is_stateless && is_over(now, self.last, lifetime)
    }

    /// What one of its sides sends next.
    pub(crate) fn packet(&self, chance: &mut Chance) -> Packet {
        let packet = |from_inside, flags, payload| Packet {
            from_inside,
            flags,
            payload,
        };
        let opener = !self.from_outside;
        if self.is_echo() {
            return packet(!self.asked, 0, chance.below(40) as usize);
        }
        if self.protocol == UDP {
            let from_inside = self.public.is_none() || chance.one_in(2);
            return packet(from_inside, 0, chance.below(40) as usize);
        }
        let spoke = |side: bool| self.seen[usize::from(side)] != Seen(0);
        if self.public.is_none() || (self.is_over && chance.one_in(3)) {
            return packet(true, SYN, 0);
        }
        if !self.is_stateless && !spoke(!opener) {
            return packet(!opener, SYN | ACK, 0);
        }
        if !self.is_stateless && !self.seen[usize::from(opener)].any(Seen::ACK) {
            return packet(opener, ACK, 0);
        }
        let from_inside = chance.one_in(2);
        let side = usize::from(from_inside);
        if chance.one_in(50) {
            return packet(from_inside, RST, 0);
        }
        if self.state().has_ended() && chance.one_in(3) {
            // The same port again.
            return packet(opener, SYN, 0);
        }
        if !self.finished[side] && chance.one_in(8) {
            return packet(from_inside, FIN | ACK, 0);
        }
        if self.finished[side] || chance.one_in(3) {
            return packet(from_inside, ACK, 0);
        }
        packet(from_inside, PSH | ACK, chance.within(1, 200) as usize)
    }

    /// Its bytes; `public` is where the outside sends to.
    pub(crate) fn frame(&self, packet: Packet, public: (Host, u16)) -> Vec<u8> {
        let (source, destination) = if packet.from_inside {
            (self.inside, self.remote)
        } else {
            (self.remote, public)
        };
        if self.is_echo() {
            let kind = match (self.version, packet.from_inside) {
                (IpVersion::V4, true) => (8, 0),
                (IpVersion::V4, false) => (0, 0),
                (IpVersion::V6, true) => (128, 0),
                (IpVersion::V6, false) => (129, 0),
            };
            let identifier = source.1.max(destination.1);
            let good = Frame::of(self.version).macs;
            return IcmpMessage {
                macs: good,
                rest: u32::from(identifier) << 16 | 7,
                body: vec![0; packet.payload],
                ..IcmpMessage::new(self.version, source.0, destination.0, kind)
            }
            .build();
        }
        let side = usize::from(packet.from_inside);
        let acknowledges = packet.flags & ACK != 0;
        Frame {
            version: self.version,
            protocol: self.protocol,
            source: source.0,
            source_port: source.1,
            destination: destination.0,
            destination_port: destination.1,
            flags: packet.flags,
            sequence: self.next[side],
            acknowledgement: if acknowledges { self.next[1 - side] } else { 0 },
            ..Frame::default()
        }
        .with_payload(packet.payload)
        .build()
    }

    /// Takes note of a packet that was sent on. `opened`: it has opened the flow.
    pub(crate) fn sent_on(&mut self, packet: Packet, opened: bool, now: u64) {
        let side = usize::from(packet.from_inside);
        if opened {
            self.seen = [Seen(0); 2];
            self.finished = [false; 2];
            self.is_over = false;
            self.reset = false;
            self.from_outside = !packet.from_inside;
            self.last = now;
        }
        let before = self.state();
        let events = Seen::of(u32::from(self.protocol), packet.flags);
        self.seen[side] = self.seen[side].with(events);
        // What follows an end does not prolong it; a RST after it ends anew.
        if !before.has_ended() || self.state() != before {
            self.last = now;
        }
        let phantom = u32::from(packet.flags & (SYN | FIN) != 0);
        self.next[side] = self.next[side].wrapping_add(packet.payload as u32 + phantom);
        self.finished[side] |= packet.flags & FIN != 0;
        self.reset |= packet.flags & RST != 0;
        self.asked = self.is_echo() && packet.from_inside;
    }
}
