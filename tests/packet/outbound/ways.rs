//! Ways out: which frontend and port they choose, who is refused, and how they come and go.

use std::collections::BTreeSet;

use forebay_common::abi::Way as Outbound;
use forebay_common::reason::Reason;
use forebay_tests::engine::{Action, Engine, Model};
use forebay_tests::frame::{ACK, Frame, RST, TCP, UDP};
use forebay_tests::network::plan::{CLIENT, INSTANCES};
use forebay_tests::network::{Host, IpVersion};
use forebay_tests::world::{Outward, World};

use super::{
    NAT, PUBLIC, PUBLIC_2, address, ends, from_instance, leaves, on_both, seen, send, world,
};

#[test]
fn who_gets_no_port_is_told_as_the_way_says() {
    on_both(|engine, version| {
        let taken = |engine: &mut dyn Engine, outward: &Outward, protocol| {
            engine.load(&world(outward));
            leaves(
                engine,
                &from_instance(version, 0, 33_000, (CLIENT, 443), protocol),
            );
            let refused = from_instance(version, 0, 33_001, (CLIENT, 443), protocol);
            (send(engine, &refused), refused)
        };
        let one = Outward::by(NAT, 2_000..=2_000);
        let (outcome, refused) = taken(engine, &one, TCP);
        assert_eq!(outcome.reason(), Reason::SnatRefused);
        assert_eq!(outcome.action, Action::Transmit);
        let told = seen(&outcome.frame);
        assert_eq!(told.source, (address(CLIENT, version), 443));
        let instance = address(INSTANCES[0].host, version);
        assert_eq!(told.destination, (instance, 33_001));
        let length = refused.payload.len() as u32;
        let numbers = (RST | ACK, 0, refused.sequence + 1 + length);
        assert_eq!(told.tcp, Some(numbers));

        let (outcome, _) = taken(engine, &one, UDP);
        assert_eq!(outcome.reason(), Reason::SnatRefused);
        let (at, kind) = match version {
            IpVersion::V4 => (34, [3, 13]),
            IpVersion::V6 => (54, [1, 1]),
        };
        assert_eq!(outcome.frame[at..at + 2], kind);

        let silent = Outward { flags: 0, ..one };
        for protocol in [TCP, UDP] {
            let (outcome, _) = taken(engine, &silent, protocol);
            assert_eq!(outcome.reason(), Reason::SnatExhausted);
            assert_eq!(outcome.action, Action::Drop);
        }
    });
}

#[test]
fn own_ports_come_before_shared_ones() {
    on_both(|engine, version| {
        let outward = Outward::by(NAT, 2_000..=2_003).and_burst(NAT, 50_000..=50_003);
        engine.load(&world(&outward));
        let ports: Vec<u16> = (0..8)
            .map(|n| {
                let request = from_instance(version, 0, 33_000 + n, (CLIENT, 443), TCP);
                leaves(engine, &request).source.1
            })
            .collect();
        let own: BTreeSet<u16> = ports[..4].iter().copied().collect();
        let burst: BTreeSet<u16> = ports[4..].iter().copied().collect();
        assert_eq!(own, BTreeSet::from_iter(2_000..=2_003));
        assert_eq!(burst, BTreeSet::from_iter(50_000..=50_003));
        let ninth = from_instance(version, 0, 34_000, (CLIENT, 443), TCP);
        assert_eq!(ends(engine, &ninth), Reason::SnatRefused);
    });
}

#[test]
fn the_lowest_port_is_taken_where_it_is_asked_for() {
    on_both(|engine, version| {
        engine.load(&world(
            &Outward::by(NAT, 2_000..=2_999).flagged(Outbound::LOWEST),
        ));
        for number in 0..20 {
            let request = from_instance(version, 0, 33_000 + number, (CLIENT, 443), TCP);
            assert_eq!(leaves(engine, &request).source.1, 2_000 + number);
        }
    });
}

#[test]
fn frontends_are_chosen_as_the_way_says() {
    let outward = |flags| Outward {
        own: vec![(NAT, 2_000..=2_015), (PUBLIC, 2_000..=2_015)],
        ..Outward::by(NAT, 0..=0).flagged(flags)
    };
    for version in IpVersion::BOTH {
        let mut engine = Model::default();
        let used = |engine: &mut Model, count: u16, to: fn(u16) -> (Host, u16)| {
            let addresses = (0..count).map(|n| {
                let request = from_instance(version, 0, 33_000 + n, to(n), TCP);
                leaves(engine, &request).source.0
            });
            addresses.collect::<Vec<_>>()
        };
        engine.load(&world(&outward(0)));
        let spread = used(&mut engine, 30, |n| (CLIENT, 1_000 + n));
        assert_eq!(BTreeSet::from_iter(&spread).len(), 2, "all are used");
        engine.load(&world(&outward(0)));
        let stable = used(&mut engine, 20, |_| (CLIENT, 443));
        assert_eq!(
            BTreeSet::from_iter(&stable[..16]).len(),
            1,
            "stable for a destination"
        );
        engine.load(&world(&outward(Outbound::FILL)));
        let filled = used(&mut engine, 32, |_| (CLIENT, 443));
        let first = address(NAT, version);
        let begins = filled.iter().take_while(|used| **used == first).count();
        assert!(begins >= 1, "{filled:?}");
        assert_eq!(filled.iter().filter(|used| **used == first).count(), 16);
    }
}

#[test]
fn segments_of_unknown_connections_are_answered_by_rst() {
    on_both(|engine, version| {
        engine.load(&world(&Outward::by(NAT, 2_000..=2_999)));
        let segment = from_instance(version, 0, 33_000, (CLIENT, 443), TCP);
        let segment = Frame {
            acknowledgement: 77_000,
            ..segment.flagged(ACK).with_payload(10)
        };
        let outcome = send(engine, &segment);
        assert_eq!(outcome.reason(), Reason::ResetSent);
        let told = seen(&outcome.frame);
        assert_eq!(told.source, (address(CLIENT, version), 443));
        assert_eq!(told.tcp, Some((RST, 77_000, 0)));
        assert_eq!(engine.flows().v4.len() + engine.flows().v6.len(), 0);
        let reset = segment.flagged(RST);
        assert_eq!(ends(engine, &reset), Reason::NoFlow);
    });
}

#[test]
fn ways_come_and_go_and_flows_keep_theirs() {
    on_both(|engine, version| {
        let first = world(&Outward::by(NAT, 2_000..=2_999));
        engine.load(&first);
        let old = from_instance(version, 0, 33_000, (CLIENT, 443), TCP);
        let out = leaves(engine, &old);
        let mut second = World::default();
        second.add_way(INSTANCES[0].host, &Outward::by(PUBLIC_2, 3_000..=3_999));
        second.add_way(INSTANCES[3].host, &Outward::by(NAT, 2_000..=2_999));
        engine.configure(&second);
        assert_eq!(leaves(engine, &old.clone().flagged(ACK)).source, out.source);
        let new = from_instance(version, 0, 33_001, (CLIENT, 443), TCP);
        assert_eq!(leaves(engine, &new).source.0, address(PUBLIC_2, version));
        let mut third = second.clone();
        third.add_public_ip(INSTANCES[0].host, PUBLIC);
        engine.configure(&third);
        assert_eq!(leaves(engine, &old.clone().flagged(ACK)).source, out.source);
        let newest = from_instance(version, 0, 33_002, (CLIENT, 443), TCP);
        assert_eq!(leaves(engine, &newest).source.0, address(PUBLIC, version));
        let mut none = World::default();
        none.each_owner(NAT, |owner| owner.roles = 1);
        engine.configure(&none);
        assert_eq!(leaves(engine, &old.flagged(ACK)).source, out.source);
        let last = from_instance(version, 0, 33_003, (CLIENT, 443), TCP);
        assert_eq!(ends(engine, &last), Reason::NoOutbound);
    });
}
