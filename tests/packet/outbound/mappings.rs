//! Ports that an instance has towards everybody, and whom they let in.

use std::collections::BTreeSet;

use forebay_common::abi::Way as Outbound;
use forebay_common::reason::Reason;
use forebay_tests::engine::Engine;
use forebay_tests::frame::{Frame, TCP, UDP};
use forebay_tests::network::IpVersion;
use forebay_tests::network::plan::{CLIENT, CLIENT_2, GATEWAY, INSTANCES, NORTH};
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

/// Two instances with endpoint-independent ports of one address, open to whom `flags` say; each has sent to the
/// outside. Returns the ports.
fn two_with_mappings(engine: &mut dyn Engine, version: IpVersion, flags: u32) -> [u16; 2] {
    let flags = Outbound::ENDPOINT_INDEPENDENT | flags;
    let mut both = world(&Outward::by(NAT, 2_000..=2_007).flagged(flags));
    let second = Outward::by(NAT, 3_000..=3_007).flagged(flags);
    both.add_way(INSTANCES[1].host, &second);
    engine.load(&both);
    [0, 1].map(|number| {
        let own = from_instance(version, number, 33_000, (CLIENT, 3_478), UDP);
        leaves(engine, &own).source.1
    })
}

#[test]
fn an_instance_reaches_the_open_port_of_another_by_a_port_of_its_own() {
    on_both(|engine, version| {
        let ports = two_with_mappings(engine, version, Outbound::OPEN_TO_ALL);
        let instances = [0, 1].map(|number| address(INSTANCES[number].host, version));
        let nat = address(NAT, version);
        let asks = from_instance(version, 1, 33_000, (NAT, ports[0]), UDP);
        let inside = leaves(engine, &asks);
        assert_eq!(inside.source, (nat, ports[1]));
        assert_eq!(inside.destination, (instances[0], 33_000));
        let back = from_instance(version, 0, 33_000, (NAT, ports[1]), UDP);
        let answered = leaves(engine, &back);
        assert_eq!(answered.source, (nat, ports[0]));
        assert_eq!(answered.destination, (instances[1], 33_000));
    });
}

#[test]
fn two_instances_punch_a_hole_to_each_other_where_contacted_addresses_may_come_in() {
    on_both(|engine, version| {
        let ports = two_with_mappings(engine, version, Outbound::OPEN_TO_CONTACTED);
        let instances = [0, 1].map(|number| address(INSTANCES[number].host, version));
        let first = from_instance(version, 1, 33_000, (NAT, ports[0]), UDP);
        assert_eq!(ends(engine, &first), Reason::Unsolicited);
        let second = from_instance(version, 0, 33_000, (NAT, ports[1]), UDP);
        let inside = leaves(engine, &second);
        assert_eq!(inside.source, (address(NAT, version), ports[0]));
        assert_eq!(inside.destination, (instances[1], 33_000));
        let inside = leaves(engine, &first);
        assert_eq!(inside.source, (address(NAT, version), ports[1]));
        assert_eq!(inside.destination, (instances[0], 33_000));
    });
}

#[test]
fn the_port_of_an_instance_that_others_inside_use_lives_as_long_as_they_do() {
    on_both(|engine, version| {
        let ports = two_with_mappings(engine, version, Outbound::OPEN_TO_ALL);
        let asks = from_instance(version, 1, 33_000, (NAT, ports[0]), UDP);
        let back = from_instance(version, 0, 33_000, (NAT, ports[1]), UDP);
        for turn in 1..=12 {
            leaves(engine, &asks);
            leaves(engine, &back);
            engine.set_now(NOW + turn * u64::from(IDLE) / 4);
        }
        let unasked = Frame {
            macs: [GATEWAY.mac, NORTH.mac],
            ingress: &NORTH,
            protocol: UDP,
            ..Frame::of(version)
                .coming_from(CLIENT_2, 5_000)
                .towards(NAT, ports[0])
                .flagged(0)
        };
        let inside = leaves(engine, &unasked);
        assert_eq!(inside.destination.0, address(INSTANCES[0].host, version));
    });
}

#[test]
fn an_instance_reaches_its_own_open_port() {
    on_both(|engine, version| {
        let [port, _] = two_with_mappings(engine, version, Outbound::OPEN_TO_ALL);
        let public = (address(NAT, version), port);
        for from in [33_000, 34_000] {
            let asks = from_instance(version, 0, from, (NAT, port), UDP);
            let inside = leaves(engine, &asks);
            assert_eq!(inside.source.0, public.0);
            assert_eq!(inside.source.1 == port, from == 33_000);
            assert_eq!(
                inside.destination,
                (address(INSTANCES[0].host, version), 33_000)
            );
            let back = from_instance(version, 0, 33_000, (NAT, inside.source.1), UDP);
            let answered = leaves(engine, &back);
            assert_eq!(answered.source, public);
            assert_eq!(answered.destination.1, from);
        }
    });
}
