//! Connections of honest clients, and what they must find.

use std::net::IpAddr;

use forebay_common::abi::Settings;
use forebay_common::flow::{FlowState, Seen, is_over, lifetime, state_of};
use forebay_tests::chance::Chance;
use forebay_tests::frame::{ACK, FIN, Frame, PSH, RST, SYN, TCP, UDP};
use forebay_tests::network::{Host, IpVersion};

use crate::files::INSTANCES;
use crate::look::Tuple;
use crate::outgoing::Outgoing;

/// Who connects.
pub(crate) const CLIENTS: [Host; 4] = [
    Host::new([198, 51, 100, 1], [0x2001, 0xdb8, 9, 0, 0, 0, 0, 1]),
    Host::new([198, 51, 100, 2], [0x2001, 0xdb8, 9, 0, 0, 0, 0, 2]),
    Host::new([198, 51, 100, 3], [0x2001, 0xdb8, 9, 0, 0, 0, 0, 3]),
    Host::new([198, 51, 100, 4], [0x2001, 0xdb8, 9, 0, 0, 0, 0, 4]),
];

/// A connection, and what is known of its flow without a look at the tables.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    pub(crate) version: IpVersion,
    pub(crate) protocol: u8,
    pub(crate) client: (Host, u16),
    pub(crate) frontend: (Host, u16),
    /// Who has it; nobody yet.
    pub(crate) home: Option<(Host, u16)>,
    /// What packets have shown that were sent on: to the instance, from it.
    seen: [Seen; 2],
    last: u64,
    pub(crate) idle: u32,
    /// Its flow was seen in the flow table.
    pub(crate) is_trusted: bool,
    /// It has been over at some time, or was flushed: nobody owes it anything.
    pub(crate) is_over: bool,
    /// Name of its rule.
    pub(crate) rule: Option<(u32, String)>,
    /// Next sequence numbers of client and instance.
    next: [u32; 2],
    answered: bool,
    acknowledged: bool,
    finished: [bool; 2],
    pub(crate) reset: bool,
}

/// A packet of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packet {
    pub(crate) from_client: bool,
    pub(crate) flags: u8,
    payload: usize,
}

impl Connection {
    pub(crate) fn new(
        chance: &mut Chance,
        frontend: (Host, u16),
        protocol: u8,
        version: IpVersion,
    ) -> Self {
        let client = *chance.pick(&CLIENTS);
        Self {
            version,
            protocol,
            client: (client, 40_000 + chance.below(10) as u16),
            frontend,
            home: None,
            seen: [Seen(0); 2],
            last: 0,
            idle: 0,
            is_trusted: false,
            is_over: false,
            rule: None,
            next: [chance.bits() as u32, chance.bits() as u32],
            answered: false,
            acknowledged: false,
            finished: [false; 2],
            reset: false,
        }
    }

    /// The tuple of the client's packets.
    pub(crate) fn tuple(&self) -> Tuple {
        Tuple {
            source: (self.client.0.address(self.version), self.client.1),
            destination: (self.frontend.0.address(self.version), self.frontend.1),
            protocol: self.protocol,
        }
    }

    /// The tuple of the answers of an instance.
    pub(crate) fn reply(&self, from: (IpAddr, u16)) -> Tuple {
        Tuple {
            source: from,
            destination: (self.client.0.address(self.version), self.client.1),
            protocol: self.protocol,
        }
    }

    /// Where it goes.
    pub(crate) fn home(&self) -> Option<(IpAddr, u16)> {
        self.home
            .map(|(host, port)| (host.address(self.version), port))
    }

    /// A flow that the instance would open if it sent to the client by itself.
    pub(crate) fn as_outgoing(&self) -> Outgoing {
        let home = self.home.unwrap_or((INSTANCES[0], 1));
        Outgoing::between((self.version, self.protocol), home, self.client)
    }

    pub(crate) fn state(&self) -> FlowState {
        state_of(u32::from(self.protocol), self.seen[0], self.seen[1])
    }

    /// Whether its time has run out.
    pub(crate) fn has_expired(&self, settings: &Settings, now: u64) -> bool {
        let protocol = u32::from(self.protocol);
        let lifetime = lifetime(&settings.timeouts, protocol, self.state(), self.idle);
        is_over(now, self.last, lifetime)
    }

    /// Whether both sides said goodbye.
    pub(crate) fn has_ended(&self) -> bool {
        self.state().has_ended()
    }

    /// What one of its sides sends next.
    pub(crate) fn packet(&self, chance: &mut Chance) -> Packet {
        let packet = |from_client, flags, payload| Packet {
            from_client,
            flags,
            payload,
        };
        if self.protocol == UDP {
            let from_client = self.home.is_none() || chance.one_in(2);
            return packet(from_client, 0, chance.below(40) as usize);
        }
        if self.home.is_none() {
            return packet(true, SYN, 0);
        }
        if !self.answered {
            return packet(false, SYN | ACK, 0);
        }
        if !self.acknowledged {
            return packet(true, ACK, 0);
        }
        let from_client = chance.one_in(2);
        let side = usize::from(!from_client);
        if chance.one_in(60) {
            return packet(from_client, RST, 0);
        }
        if !self.finished[side] && chance.one_in(14) {
            return packet(from_client, FIN | ACK, 0);
        }
        if self.finished[side] || chance.one_in(3) {
            return packet(from_client, ACK, 0);
        }
        packet(from_client, PSH | ACK, chance.within(1, 200) as usize)
    }

    /// Its bytes.
    pub(crate) fn frame(&self, packet: Packet) -> Frame {
        let side = usize::from(!packet.from_client);
        let (source, destination) = if packet.from_client {
            (self.client, self.frontend)
        } else {
            (self.home.unwrap_or((INSTANCES[0], 1)), self.client)
        };
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
    }

    /// Takes note of a packet that was sent on. `opened`: it has opened a flow.
    pub(crate) fn sent_on(&mut self, packet: Packet, opened: bool, now: u64) {
        let side = usize::from(!packet.from_client);
        if opened {
            self.seen = [Seen(0); 2];
            self.is_trusted = false;
            self.is_over = false;
            self.rule = None;
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
        if self.protocol == TCP {
            self.answered |= !packet.from_client;
            self.acknowledged |= packet.from_client && packet.flags & ACK != 0;
        }
    }
}
