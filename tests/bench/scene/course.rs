//! What a driver sends.

use forebay_common::flow::FlowKey;
use forebay_common::wire::{Mac, TCP, UDP, tcp_flags};

use super::{
    BACKEND_PORT, INSTANCE_PORT, Net, PORT, SOURCE_PORTS, clients, destination, instance, mac,
};
use crate::frame::Headers;
use crate::shared::{Plan, client_of};

/// Packets that a driver writes, one flow after the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Course<A> {
    /// TCP or UDP.
    pub(crate) protocol: u8,
    /// From the peer to clients rather than from clients to the peer.
    pub(crate) is_reply: bool,
    /// Low word of the first client's address.
    pub(crate) first_client: u32,
    /// The other side.
    pub(crate) peer: A,
    /// Its port.
    pub(crate) peer_port: u16,
    /// How many flows; a power of two.
    pub(crate) flows: u64,
    /// Destination MAC address.
    pub(crate) to: Mac,
    /// Source MAC address.
    pub(crate) from: Mac,
    /// TCP flags; with SYN alone nothing follows the header.
    pub(crate) flags: u8,
}

impl<A: Net> Course<A> {
    /// From known clients to the rule, TCP.
    pub(crate) fn known(flows: u64) -> Self {
        Self {
            protocol: TCP,
            is_reply: false,
            first_client: clients::KNOWN,
            peer: A::FRONTEND,
            peer_port: PORT,
            flows,
            to: mac(1),
            from: mac(2),
            flags: tcp_flags::ACK,
        }
    }

    /// From an instance to the outside, TCP.
    pub(crate) fn outbound(index: u8, flows: u64) -> Self {
        Self {
            is_reply: true,
            first_client: clients::OUTSIDE,
            peer: instance(index),
            peer_port: INSTANCE_PORT,
            ..Self::known(flows)
        }
    }

    /// The answers to that, if it goes out by this address and port.
    pub(crate) fn answered_at(self, peer: A, peer_port: u16) -> Self {
        Self {
            is_reply: false,
            peer,
            peer_port,
            ..self
        }
    }

    /// From many ports of an instance to one port outside, UDP.
    pub(crate) fn storm(index: u8) -> Self {
        Self {
            first_client: clients::INSTANCES + u32::from(index),
            peer: destination(),
            peer_port: PORT,
            ..Self::known(SOURCE_PORTS).udp()
        }
    }

    /// The same with TCP connections that begin.
    pub(crate) fn beginning(self) -> Self {
        Self {
            protocol: TCP,
            flags: tcp_flags::SYN,
            ..self
        }
    }

    /// The same flows' answers.
    pub(crate) fn replies(self) -> Self {
        Self {
            is_reply: true,
            peer: A::backend(0),
            peer_port: BACKEND_PORT,
            ..self
        }
    }

    /// The same with UDP.
    pub(crate) fn udp(self) -> Self {
        Self {
            protocol: UDP,
            ..self
        }
    }

    /// Key of a flow, as its packets in this course have it.
    pub(crate) fn key(&self, flow: u64) -> FlowKey<A> {
        let (host, port) = client_of(flow);
        let client = A::client(self.first_client.wrapping_add(host));
        let protocol = u32::from(self.protocol);
        let to_peer = FlowKey {
            source: client,
            destination: self.peer,
            ports: FlowKey::<A>::ports_word(port, self.peer_port),
            protocol,
        };
        if self.is_reply {
            to_peer.reversed()
        } else {
            to_peer
        }
    }

    /// Headers of a flow's packet.
    pub(crate) fn headers(&self, flow: u64) -> Headers<A> {
        let key = self.key(flow);
        Headers {
            to: self.to,
            from: self.from,
            source: key.source,
            destination: key.destination,
            ports: key.ports,
            protocol: self.protocol,
            flags: self.flags,
            hops: 64,
        }
    }

    /// What the driver needs to know.
    pub(crate) fn plan(&self) -> Plan {
        let mask = self.flows - 1;
        // Sums of what all packets have in common: the client's low word and the ports are missing.
        let mut common = self.headers(0);
        common.ports = 0;
        let nobody = A::client(0);
        if self.is_reply {
            common.destination = nobody;
        } else {
            common.source = nobody;
        }
        let sums = common.sums();
        let (peer, more) = self.peer.words();
        Plan {
            counter: 0,
            mask,
            shift: mask.count_ones().div_ceil(2),
            is_reply: u32::from(self.is_reply),
            peer: [peer, more.unwrap_or(0)],
            client_prefix: A::CLIENT_PREFIX,
            first_client: self.first_client,
            peer_port: u32::from(self.peer_port.to_be()),
            ip_sum: sums.ip,
            transport_sum: sums.transport,
            to_head: self.to.head,
            from_head: self.from.head,
            to_tail: self.to.tail,
            from_tail: self.from.tail,
            padding: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use forebay_common::family::V4;
    use forebay_common::family::V6;

    use super::*;
    use crate::shared::flow_of;

    #[test]
    fn every_flow_gets_its_turn() {
        for flows in [1_u64, 2, 8192, 1 << 18] {
            let plan = Course::<V4>::known(flows).plan();
            let seen: HashSet<u64> = (0..flows)
                .map(|number| flow_of(number, plan.mask, plan.shift))
                .collect();
            assert_eq!(seen.len() as u64, flows);
            assert!(seen.iter().all(|flow| *flow < flows));
        }
    }

    #[test]
    fn flows_have_keys_of_their_own() {
        let course = Course::<V6>::known(1 << 17);
        let keys: HashSet<_> = (0..course.flows).map(|flow| course.key(flow)).collect();
        assert_eq!(keys.len() as u64, course.flows);
    }

    #[test]
    fn answers_have_the_key_under_which_the_flow_is_found_from_the_other_side() {
        let course = Course::<V4>::known(8);
        let (there, back) = (course.key(5), course.replies().key(5));
        assert_eq!(back.destination, there.source);
        assert_eq!(back.destination_port(), there.source_port());
        assert_eq!(back.source, V4::backend(0));
        assert_eq!(back.source_port(), BACKEND_PORT);
    }
}
