//! Public IPs: one address for another, without flows.

use forebay_common::reason::Reason;
use forebay_tests::engine::Engine;
use forebay_tests::frame::{ACK, Frame, IcmpMessage, SYN, TCP, UDP};
use forebay_tests::network::plan::{CLIENT, CLIENT_2, FRONTEND, GATEWAY, INSTANCES, NORTH};
use forebay_tests::world::{Outward, World, next_generation};

use super::{
    NAT, PUBLIC, PUBLIC_2, address, answer, ends, from_instance, leaves, on_both, seen, send, world,
};

#[test]
fn a_public_ip_is_the_instance_both_ways_without_flows() {
    on_both(|engine, version| {
        let mut world = world(&Outward::by(NAT, 2_000..=2_999));
        world.add_public_ip(INSTANCES[0].host, PUBLIC);
        engine.load(&world);
        for protocol in [TCP, UDP] {
            let request = from_instance(version, 0, 33_000, (CLIENT, 443), protocol);
            let out = leaves(engine, &request);
            assert_eq!(out.source, (address(PUBLIC, version), 33_000));
            let back = leaves(engine, &answer(version, &request, &out));
            let instance = address(INSTANCES[0].host, version);
            assert_eq!(back.destination, (instance, 33_000));
            let unasked = Frame {
                source: CLIENT_2,
                destination_port: 7,
                ..answer(version, &request, &out)
            };
            assert_eq!(leaves(engine, &unasked).destination, (instance, 7));
        }
        assert_eq!(engine.flows().v4.len() + engine.flows().v6.len(), 0);
    });
}

#[test]
fn every_protocol_passes_a_public_ip() {
    on_both(|engine, version| {
        let mut world = World::default();
        world.add_public_ip(INSTANCES[0].host, PUBLIC);
        engine.load(&world);
        for protocol in [47, 50, 132, 4, 41] {
            let esp = Frame {
                protocol,
                raw: Some((0..40).collect()),
                ..from_instance(version, 0, 0, (CLIENT, 0), UDP)
            };
            let outcome = send(engine, &esp);
            assert_eq!(
                outcome.reason(),
                Reason::Forwarded,
                "{protocol} {outcome:?}"
            );
            let expected = Frame {
                source: PUBLIC,
                ..esp.clone()
            }
            .leaving(GATEWAY.way());
            assert_eq!(outcome.frame, expected.build());
            let answer = Frame {
                source: CLIENT,
                destination: PUBLIC,
                macs: [GATEWAY.mac, NORTH.mac],
                ingress: &NORTH,
                ..esp
            };
            let outcome = send(engine, &answer);
            assert_eq!(outcome.reason(), Reason::Forwarded, "{protocol}");
            let expected = Frame {
                destination: INSTANCES[0].host,
                ..answer
            };
            let expected = expected.leaving(INSTANCES[0].way());
            assert_eq!(outcome.frame, expected.build());
        }
    });
}

#[test]
fn flows_between_two_addresses_keep_their_own_ports() {
    on_both(|engine, version| {
        let mut world = World::default();
        world.add_public_ip(INSTANCES[0].host, PUBLIC);
        engine.load(&world);
        for port in [33_000, 33_001, 33_000] {
            let request = from_instance(version, 0, port, (CLIENT, port - 1_000), UDP);
            let out = leaves(engine, &request);
            assert_eq!(out.source, (address(PUBLIC, version), port));
            assert_eq!(out.destination.1, port - 1_000);
            let back = leaves(engine, &answer(version, &request, &out));
            assert_eq!(back.destination.1, port);
        }
    });
}

#[test]
fn what_is_remembered_of_a_public_ip_goes_with_it() {
    on_both(|engine, version| {
        let without = world(&Outward::by(NAT, 2_000..=2_999));
        let with = |public| {
            let mut world = without.clone();
            world.settings_mut().generation = next_generation();
            world.add_public_ip(INSTANCES[0].host, public);
            world
        };
        let request = |port| from_instance(version, 0, port, (CLIENT, 443), UDP);
        engine.load(&with(PUBLIC));
        for _ in 0..3 {
            let out = leaves(engine, &request(33_000));
            assert_eq!(out.source.0, address(PUBLIC, version));
        }
        engine.configure(&with(PUBLIC_2));
        let out = leaves(engine, &request(33_000));
        assert_eq!(out.source.0, address(PUBLIC_2, version));
        let back = answer(version, &request(33_000), &out);
        leaves(engine, &back);
        let mut last = without.clone();
        last.settings_mut().generation = next_generation();
        engine.configure(&last);
        let out = leaves(engine, &request(33_001));
        assert_eq!(out.source.0, address(NAT, version));
        assert_eq!(send(engine, &back).reason(), Reason::NotOurs);
    });
}

#[test]
fn an_instance_with_a_public_ip_answers_clients_of_its_frontend_from_there() {
    on_both(|engine, version| {
        let mut world = World::default();
        world.only_backend(1);
        world.add_public_ip(INSTANCES[0].host, PUBLIC);
        engine.load(&world);
        let own = from_instance(version, 0, 33_000, (CLIENT, 5_000), UDP);
        for _ in 0..2 {
            assert_eq!(leaves(engine, &own).source.0, address(PUBLIC, version));
        }
        for protocol in [TCP, UDP] {
            let port = if protocol == TCP { 80 } else { 53 };
            let asked = Frame {
                macs: [GATEWAY.mac, NORTH.mac],
                ingress: &NORTH,
                protocol,
                ..Frame::of(version)
                    .coming_from(CLIENT, 5_000)
                    .towards(FRONTEND, port)
                    .flagged(if protocol == TCP { SYN } else { 0 })
            };
            let inside = leaves(engine, &asked);
            let reply = from_instance(version, 0, inside.destination.1, (CLIENT, 5_000), protocol);
            let reply = reply.flagged(if protocol == TCP { SYN | ACK } else { 0 });
            let answered = leaves(engine, &reply);
            assert_eq!(answered.source, (address(FRONTEND, version), port));
        }
        assert_eq!(leaves(engine, &own).source.0, address(PUBLIC, version));
    });
}

#[test]
fn who_sends_from_elsewhere_is_not_the_instance_with_the_public_ip() {
    on_both(|engine, version| {
        let mut world = World::default();
        world.add_public_ip(INSTANCES[0].host, PUBLIC);
        engine.load(&world);
        let request = from_instance(version, 0, 33_000, (CLIENT, 443), UDP);
        leaves(engine, &request);
        let forged = Frame {
            macs: [GATEWAY.mac, NORTH.mac],
            ingress: &NORTH,
            ..request.clone()
        };
        assert_eq!(ends(engine, &forged), Reason::BadSource);
        leaves(engine, &request);
    });
}

#[test]
fn an_echo_that_began_before_its_instance_had_a_public_ip_goes_on_as_it_was() {
    on_both(|engine, version| {
        let mut world = world(&Outward::by(NAT, 2_000..=2_007));
        engine.load(&world);
        let instance = INSTANCES[0];
        let request = IcmpMessage {
            addresses: [instance.host, CLIENT],
            ..IcmpMessage::echo(version, b"ping")
        }
        .from_link(instance.mac, instance.link);
        let source = |engine: &mut dyn Engine, request: &IcmpMessage| {
            let outcome = engine.run(&request.build(), instance.link);
            assert_eq!(outcome.reason(), Reason::Forwarded, "{}", engine.name());
            seen(&outcome.frame).source.0
        };
        assert_eq!(source(engine, &request), address(NAT, version));
        world.add_public_ip(instance.host, PUBLIC);
        engine.configure(&world);
        assert_eq!(source(engine, &request), address(NAT, version));
        let other = IcmpMessage {
            rest: 0x0909_0001,
            ..request
        };
        assert_eq!(source(engine, &other), address(PUBLIC, version));
    });
}
