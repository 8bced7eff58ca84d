//! From which side a flow is looked at.

use std::net::IpAddr;

use forebay_common::family::Family;
use forebay_common::flow::{Direction, Flow, FlowKey, FlowKind};

/// Which of its two entries the opener's packets meet; `None` for what is no flow.
fn opened_from(kind: u8) -> Option<Direction> {
    match FlowKind::from_byte(kind) {
        Some(FlowKind::Mapping) => None,
        Some(
            FlowKind::OutboundRule
            | FlowKind::RuleImplied
            | FlowKind::DefaultOutbound
            | FlowKind::Hairpin,
        ) => Some(Direction::FromInstance),
        // Of a newer program's kinds the same is assumed.
        Some(FlowKind::Rule | FlowKind::InboundNat) | None => Some(Direction::ToInstance),
    }
}

/// Whether this entry is the one that the opener's packets meet.
pub fn is_opening(kind: u8) -> bool {
    opened_from(kind) == Some(FlowKind::direction(kind))
}

/// The private address of the instance, seen from the entry that the opener's packets meet.
pub fn instance_of<A: Family + Into<IpAddr>>(key: &FlowKey<A>, flow: &Flow<A>) -> IpAddr {
    match FlowKind::direction(flow.kind) {
        Direction::FromInstance => key.source.into(),
        Direction::ToInstance => flow.destination.into(),
    }
}

/// The public address of the node, seen from there.
pub fn public_address_of<A: Family + Into<IpAddr>>(key: &FlowKey<A>, flow: &Flow<A>) -> IpAddr {
    match FlowKind::direction(flow.kind) {
        Direction::FromInstance => flow.source.into(),
        Direction::ToInstance => key.destination.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use forebay_common::family::V4;

    use super::*;

    #[test]
    fn each_flow_is_looked_at_from_its_opener_and_mappings_are_none() {
        use Direction::{FromInstance, ToInstance};
        for (kind, opener) in [
            (FlowKind::Rule, Some(ToInstance)),
            (FlowKind::InboundNat, Some(ToInstance)),
            (FlowKind::OutboundRule, Some(FromInstance)),
            (FlowKind::RuleImplied, Some(FromInstance)),
            (FlowKind::DefaultOutbound, Some(FromInstance)),
            (FlowKind::Hairpin, Some(FromInstance)),
            (FlowKind::Mapping, None),
        ] {
            for direction in [ToInstance, FromInstance] {
                let byte = kind.byte(direction, true);
                assert_eq!(is_opening(byte), opener == Some(direction), "{kind:?}");
            }
        }
        assert!(is_opening(0x0f), "towards an instance, of an unknown kind");
    }

    #[test]
    fn the_instance_and_its_public_address_are_found_either_way() {
        let v4 = |octets: [u8; 4]| V4::from(Ipv4Addr::from(octets));
        let [d, p, b] = [[192, 0, 2, 1], [203, 0, 113, 64], [10, 0, 1, 11]];
        let key = |source, destination| FlowKey {
            source: v4(source),
            destination: v4(destination),
            ..FlowKey::default()
        };
        let flow = |source, destination, kind: FlowKind, direction| Flow {
            source: v4(source),
            destination: v4(destination),
            kind: kind.byte(direction, false),
            ..Flow::default()
        };
        let out = flow(p, d, FlowKind::RuleImplied, Direction::FromInstance);
        let inward = flow(d, b, FlowKind::Rule, Direction::ToInstance);
        for (key, flow) in [(key(b, d), out), (key(d, p), inward)] {
            assert_eq!(instance_of(&key, &flow), IpAddr::from(b));
            assert_eq!(public_address_of(&key, &flow), IpAddr::from(p));
        }
    }
}
