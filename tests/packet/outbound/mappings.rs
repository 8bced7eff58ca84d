//! Ports that an instance has towards everybody, and whom they let in.

use std::collections::BTreeSet;

use forebay_common::abi::Way as Outbound;
use forebay_common::reason::Reason;
use forebay_tests::frame::{Frame, TCP, UDP};
use forebay_tests::network::plan::{CLIENT, CLIENT_2, INSTANCES};
use forebay_tests::world::{HOP_LIFETIME, IDLE, NOW, Outward};

use super::{NAT, address, answer, ends, from_instance, leaves, on_both, world};

#[test]
fn an_endpoint_independent_mapping_is_one_port_for_all_destinations() {
    on_both(|engine, version| {
        for protocol in [TCP, UDP] {
            let outward = Outward::by(NAT, 2_000..=2_099).flagged(Outbound::ENDPOINT_INDEPENDENT);
            engine.load(&world(&outward));
            let to = |host, port| from_instance(version, 0, 33_000, (host, port), protocol);
            let first = leaves(engine, &to(CLIENT, 443)).source;
            for (host, port) in [(CLIENT, 444), (CLIENT_2, 443), (CLIENT_2, 9)] {
                let request = to(host, port);
                let out = leaves(engine, &request);
                assert_eq!(out.source, first);
                leaves(engine, &answer(version, &request, &out));
            }
            let other = from_instance(version, 0, 33_001, (CLIENT, 443), protocol);
            assert_ne!(leaves(engine, &other).source, first);
        }
    });
}

#[test]
fn mappings_use_up_a_port_for_each_source_port() {
    on_both(|engine, version| {
        let outward = Outward::by(NAT, 2_000..=2_003).flagged(Outbound::ENDPOINT_INDEPENDENT);
        engine.load(&world(&outward));
        let to = |n: u16| from_instance(version, 0, 33_000 + n, (CLIENT, 443 + n), UDP);
        let ports: BTreeSet<u16> = (0..4).map(|n| leaves(engine, &to(n)).source.1).collect();
        assert_eq!(ports.len(), 4);
        assert_eq!(ends(engine, &to(4)), Reason::SnatRefused);
        // Nobody answered: mappings go with their flows.
        engine.set_now(NOW + 30_000 + 20);
        leaves(engine, &to(4));
    });
}

#[test]
fn a_mapping_lives_as_long_as_any_flow_on_it() {
    on_both(|engine, version| {
        let outward = Outward::by(NAT, 2_000..=2_099).flagged(Outbound::ENDPOINT_INDEPENDENT);
        engine.load(&world(&outward));
        let request = from_instance(version, 0, 33_000, (CLIENT, 443), UDP);
        let out = leaves(engine, &request);
        leaves(engine, &answer(version, &request, &out));
        let mut now = NOW;
        for _ in 0..5 {
            now += u64::from(IDLE) - 1_000;
            engine.set_now(now);
            leaves(engine, &answer(version, &request, &out));
        }
        now += u64::from(HOP_LIFETIME);
        engine.set_now(now);
        let other = from_instance(version, 0, 33_000, (CLIENT_2, 443), UDP);
        assert_eq!(leaves(engine, &other).source, out.source);
    });
}

#[test]
fn filtering_lets_in_whom_the_way_says() {
    on_both(|engine, version| {
        for (flag, same_address, anybody) in [
            (0, false, false),
            (Outbound::OPEN_TO_CONTACTED, true, false),
            (Outbound::OPEN_TO_ALL, true, true),
        ] {
            let outward =
                Outward::by(NAT, 2_000..=2_099).flagged(Outbound::ENDPOINT_INDEPENDENT | flag);
            for (lets_in, from) in [(same_address, CLIENT), (anybody, CLIENT_2)] {
                engine.load(&world(&outward));
                let request = from_instance(version, 0, 33_000, (CLIENT, 443), UDP);
                let out = leaves(engine, &request);
                let stranger = Frame {
                    source: from,
                    source_port: 9_999,
                    ..answer(version, &request, &out)
                };
                if !lets_in {
                    let reason = ends(engine, &stranger);
                    let expected = [Reason::NoRule, Reason::Unsolicited];
                    assert!(expected.contains(&reason), "{flag} {reason:?}");
                    continue;
                }
                let inside = leaves(engine, &stranger);
                let instance = address(INSTANCES[0].host, version);
                assert_eq!(inside.destination, (instance, 33_000));
                assert_eq!(inside.source, (address(from, version), 9_999));
                let back = from_instance(version, 0, 33_000, (from, 9_999), UDP);
                assert_eq!(leaves(engine, &back).source, out.source);
            }
        }
    });
}
