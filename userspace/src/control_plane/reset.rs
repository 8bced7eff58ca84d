//! Who is told by a RST that a flow has ended, and with which sequence number.

use std::net::{IpAddr, SocketAddr};

use forebay_common::family::Family;
use forebay_common::flow::{Flow, FlowKey, FlowKind, FlowState, marks};
use forebay_common::wire::TCP;

/// Why a flow ends before its connection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Nobody used it for its idle timeout: `tcp_reset` of its rule counts.
    Idle,
    /// An operator asked for it.
    Flush,
}

/// A RST for one side of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reset {
    /// Who the receiver believes to talk to.
    pub source: SocketAddr,
    /// The receiver.
    pub destination: SocketAddr,
    /// What the receiver expects next: a RST with another number is ignored, or answered by a challenge
    /// (RFC 5961 section 3.2).
    pub sequence: u32,
    /// What its peer has acknowledged of what the receiver sent.
    pub acknowledged: u32,
}

/// Whether the end of a flow is worth a RST, as far as one direction tells. Connections that are half
/// open or have ended get none.
pub fn is_told<A: Family>(key: &FlowKey<A>, flow: &Flow<A>, end: End) -> bool {
    key.protocol == u32::from(TCP)
        // A mapping is no connection.
        && FlowKind::from_byte(flow.kind) != Some(FlowKind::Mapping)
        && flow.state(key.protocol) == FlowState::Established
        && (end == End::Flush || FlowKind::tcp_reset(flow.kind))
}

/// The RSTs for a flow that was marked: `flow` is its entry under `key`, `other` that of the other
/// direction, both read after the mark. None when they are not the two directions of one flow that
/// ends: a claim may have made one of them another flow's.
pub fn resets<A: Family + Into<IpAddr>>(
    key: &FlowKey<A>,
    flow: &Flow<A>,
    other: &Flow<A>,
    end: End,
) -> Vec<Reset> {
    let other_key = flow.reply_key(key.protocol);
    let is_pair = other.reply_key(key.protocol) == *key;
    let is_ending = |flow: &Flow<A>| flow.marks & marks::RETIRING != 0;
    if !is_pair || !is_ending(flow) || !is_ending(other) || !is_told(key, flow, end) {
        return Vec::new();
    }
    let sides = [(key, flow, other), (&other_key, other, flow)];
    sides
        .into_iter()
        // Who has acknowledged nothing expects no number that we know.
        .filter(|(_, half, _)| half.last_ack != 0)
        .map(|(sender, half, peer)| Reset {
            source: SocketAddr::new(sender.destination.into(), sender.destination_port()),
            destination: SocketAddr::new(sender.source.into(), sender.source_port()),
            sequence: u32::from_be(half.last_ack),
            acknowledged: u32::from_be(peer.last_ack),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use forebay_common::family::{V4, V6};
    use forebay_common::flow::{Direction, Seen};
    use forebay_common::wire::UDP;

    use super::*;

    type Half<A> = (FlowKey<A>, Flow<A>);

    /// A connection of client C with V, translated to B; what the client expects next is 1000, what the
    /// instance expects 2000.
    fn connection<A: Family>(c: A, v: A, b: A, tcp_reset: bool) -> (Half<A>, Half<A>) {
        let key = |source, destination, ports: (u16, u16)| FlowKey {
            source,
            destination,
            ports: FlowKey::<A>::ports_word(ports.0, ports.1),
            protocol: u32::from(TCP),
        };
        let seen = Seen::SYN.with(Seen::ACK).0;
        let half = |to: FlowKey<A>, direction, expected: u32| Flow {
            source: to.source,
            destination: to.destination,
            ports: to.ports,
            last_ack: expected.to_be(),
            seen_to_instance: seen,
            seen_from_instance: seen,
            kind: FlowKind::Rule.byte(direction, tcp_reset),
            marks: marks::RETIRING,
            ..Flow::default()
        };
        let (original, inside) = (key(c, v, (40000, 80)), key(c, b, (40000, 8080)));
        (
            (original, half(inside, Direction::ToInstance, 1000)),
            (
                inside.reversed(),
                half(original.reversed(), Direction::FromInstance, 2000),
            ),
        )
    }

    fn v4(tcp_reset: bool) -> (Half<V4>, Half<V4>) {
        let [c, v, b] = [[198, 51, 100, 7], [203, 0, 113, 10], [10, 0, 1, 11]];
        let address = |octets| V4::from(Ipv4Addr::from(octets));
        connection(address(c), address(v), address(b), tcp_reset)
    }

    fn reset(source: &str, destination: &str, [sequence, acknowledged]: [u32; 2]) -> Reset {
        Reset {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            sequence,
            acknowledged,
        }
    }

    #[test]
    fn each_side_is_told_by_whom_it_talks_to_with_the_number_it_expects() {
        let (to, from) = v4(true);
        let expected = [
            reset("203.0.113.10:80", "198.51.100.7:40000", [1000, 2000]),
            reset("198.51.100.7:40000", "10.0.1.11:8080", [2000, 1000]),
        ];
        assert_eq!(resets(&to.0, &to.1, &from.1, End::Idle), expected);
        let mut named_by_the_other = resets(&from.0, &from.1, &to.1, End::Idle);
        named_by_the_other.reverse();
        assert_eq!(named_by_the_other, expected);

        let address = |text: &str| V6::from(text.parse::<Ipv6Addr>().unwrap());
        let (to, from) = connection(
            address("2001:db8::7"),
            address("2001:db8:1::10"),
            address("fd00:1::11"),
            true,
        );
        assert_eq!(
            resets(&to.0, &to.1, &from.1, End::Idle),
            [
                reset("[2001:db8:1::10]:80", "[2001:db8::7]:40000", [1000, 2000]),
                reset("[2001:db8::7]:40000", "[fd00:1::11]:8080", [2000, 1000]),
            ]
        );
    }

    #[test]
    fn only_established_connections_are_told() {
        let (syn, ack, none) = (Seen::SYN, Seen::ACK, Seen::default());
        let (fin, rst) = (Seen::FIN, Seen::RST);
        for (to_instance, from_instance, told) in [
            (syn.with(ack), syn.with(ack), 2),
            // One side has said all that it had to say.
            (syn.with(ack).with(fin), syn.with(ack), 2),
            (syn, none, 0),
            (syn, syn, 0),
            (ack, none, 0),
            (syn.with(ack).with(fin), syn.with(ack).with(fin), 0),
            (syn.with(ack), syn.with(ack).with(rst), 0),
        ] {
            let (mut to, mut from) = v4(true);
            for half in [&mut to.1, &mut from.1] {
                half.seen_to_instance = to_instance.0;
                half.seen_from_instance = from_instance.0;
            }
            for end in [End::Idle, End::Flush] {
                let found = resets(&to.0, &to.1, &from.1, end);
                assert_eq!(found.len(), told, "{to_instance:?} {from_instance:?}");
            }
        }
    }

    #[test]
    fn without_tcp_reset_only_a_flush_is_told() {
        let (to, from) = v4(false);
        assert_eq!(resets(&to.0, &to.1, &from.1, End::Idle), []);
        assert_eq!(resets(&to.0, &to.1, &from.1, End::Flush).len(), 2);
    }

    #[test]
    fn what_is_no_connection_or_not_a_pair_that_ends_is_not_told() {
        let (mut to, mut from) = v4(true);
        for half in [&mut to, &mut from] {
            half.0.protocol = u32::from(UDP);
            half.1.seen_to_instance = Seen::PACKET.0;
            half.1.seen_from_instance = Seen::PACKET.0;
        }
        assert_eq!(resets(&to.0, &to.1, &from.1, End::Flush), []);

        let (to, from) = v4(true);
        let alive = |half: &Flow<V4>| Flow { marks: 0, ..*half };
        assert_eq!(resets(&to.0, &alive(&to.1), &from.1, End::Idle), []);
        assert_eq!(resets(&to.0, &to.1, &alive(&from.1), End::Idle), []);
        let mut of_another = from.1;
        of_another.ports = FlowKey::<V4>::ports_word(80, 40001);
        assert_eq!(resets(&to.0, &to.1, &of_another, End::Idle), []);
    }

    #[test]
    fn mappings_are_not_told() {
        let (mut to, mut from) = v4(true);
        to.1.kind = FlowKind::Mapping.byte(Direction::ToInstance, true);
        from.1.kind = FlowKind::Mapping.byte(Direction::FromInstance, true);
        assert!(!is_told(&to.0, &to.1, End::Flush));
        assert_eq!(resets(&to.0, &to.1, &from.1, End::Flush), []);
    }

    #[test]
    fn a_side_that_has_acknowledged_nothing_is_left_alone() {
        let (mut to, from) = v4(true);
        to.1.last_ack = 0;
        assert_eq!(
            resets(&to.0, &to.1, &from.1, End::Idle),
            [reset("198.51.100.7:40000", "10.0.1.11:8080", [2000, 0])]
        );
    }
}
