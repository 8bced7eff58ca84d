//! Ports of flows that instances open: whose they are, and when they are free again.

use std::collections::{BTreeMap, BTreeSet};

use forebay_common::abi::Way as Outbound;
use forebay_common::reason::Reason;
use forebay_tests::engine::Engine;
use forebay_tests::frame::{ACK, FIN, Frame, RST, TCP, UDP};
use forebay_tests::network::plan::{CLIENT, CLIENT_2, FRONTEND, GATEWAY, INSTANCES, NORTH};
use forebay_tests::world::{GRACE, IDLE, NOW, Outward, TIMEOUTS, World};

use super::{NAT, address, answer, ends, from_instance, leaves, on_both, world};
use crate::invariants::assert_paired;

#[test]
fn an_instance_reaches_the_outside_and_gets_its_answers() {
    on_both(|engine, version| {
        for protocol in [TCP, UDP] {
            engine.load(&world(&Outward::by(NAT, 2_000..=2_999)));
            let request = from_instance(version, 0, 33_000, (CLIENT, 443), protocol);
            let out = leaves(engine, &request);
            assert_eq!(out.source.0, address(NAT, version));
            assert!((2_000..=2_999).contains(&out.source.1), "{out:?}");
            assert_eq!(out.destination, (address(CLIENT, version), 443));
            let back = leaves(engine, &answer(version, &request, &out));
            assert_eq!(back.source, (address(CLIENT, version), 443));
            let instance = address(INSTANCES[0].host, version);
            assert_eq!(back.destination, (instance, 33_000));
            // The flow keeps its port.
            assert_eq!(
                leaves(engine, &request.clone().flagged(ACK)).source,
                out.source
            );
            let flows = engine.flows();
            assert_paired(&flows.v4, &BTreeMap::new());
            assert_paired(&flows.v6, &BTreeMap::new());
        }
    });
}

#[test]
fn what_nobody_asked_for_does_not_come_in_by_a_port() {
    on_both(|engine, version| {
        for protocol in [TCP, UDP] {
            engine.load(&world(
                &Outward::by(NAT, 2_000..=2_999).flagged(Outbound::ENDPOINT_INDEPENDENT),
            ));
            let request = from_instance(version, 0, 33_000, (CLIENT, 443), protocol);
            let out = leaves(engine, &request);
            let mut stranger = answer(version, &request, &out);
            stranger.source = CLIENT_2;
            assert_eq!(ends(engine, &stranger), Reason::NoRule);
            let mut other_port = answer(version, &request, &out);
            other_port.source_port = 444;
            assert_eq!(ends(engine, &other_port), Reason::NoRule);
        }
    });
}

#[test]
fn flows_to_one_destination_need_a_port_each_and_others_share_them() {
    on_both(|engine, version| {
        for protocol in [TCP, UDP] {
            engine.load(&world(&Outward::by(NAT, 2_000..=2_007)));
            let mut ports = BTreeSet::new();
            for number in 0..8 {
                let request = from_instance(version, 0, 33_000 + number, (CLIENT, 443), protocol);
                ports.insert(leaves(engine, &request).source.1);
            }
            assert_eq!(ports, BTreeSet::from_iter(2_000..=2_007));
            let ninth = from_instance(version, 0, 40_000, (CLIENT, 443), protocol);
            assert_eq!(ends(engine, &ninth), Reason::SnatRefused);
            // Another port, and another address, of the destination.
            for to in [(CLIENT, 444), (CLIENT_2, 443)] {
                let request = from_instance(version, 0, 40_000, to, protocol);
                leaves(engine, &request);
            }
        }
    });
}

#[test]
fn one_port_serves_as_many_destinations_as_there_are() {
    on_both(|engine, version| {
        engine.load(&world(&Outward::by(NAT, 2_000..=2_000)));
        for number in 0..50 {
            let to = (CLIENT, 1_000 + number);
            let out = leaves(engine, &from_instance(version, 0, 33_000 + number, to, TCP));
            assert_eq!(out.source.1, 2_000);
        }
    });
}

#[test]
fn a_port_is_free_again_when_its_flow_is_over_and_not_before() {
    on_both(|engine, version| {
        engine.load(&world(&Outward::by(NAT, 2_000..=2_000)));
        let first = from_instance(version, 0, 33_000, (CLIENT, 443), TCP);
        let second = from_instance(version, 0, 33_001, (CLIENT, 443), TCP);
        let open = |engine: &mut dyn Engine| {
            let out = leaves(engine, &first);
            leaves(engine, &answer(version, &first, &out));
            leaves(engine, &first.clone().flagged(ACK));
            out
        };
        let out = open(engine);
        for (wait, more) in [
            // Half open flows last for 30 s, established ones for the idle timeout, ended ones shorter.
            (u64::from(IDLE), Vec::new()),
            (
                65_000,
                vec![
                    first.clone().flagged(FIN | ACK),
                    Frame {
                        acknowledgement: 1_001,
                        ..answer(version, &first, &out)
                    }
                    .flagged(FIN | ACK),
                ],
            ),
        ] {
            engine.load(&world(&Outward::by(NAT, 2_000..=2_000)));
            open(engine);
            for frame in &more {
                leaves(engine, frame);
            }
            engine.set_now(NOW + wait);
            assert_eq!(ends(engine, &second), Reason::SnatRefused, "{wait}");
            engine.set_now(NOW + wait + 60);
            assert_eq!(leaves(engine, &second).source.1, 2_000, "{wait}");
        }
    });
}

#[test]
fn a_port_that_was_freed_is_found_by_the_next_packet_beyond_a_moment() {
    on_both(|engine, version| {
        engine.load(&world(&Outward::by(NAT, 2_000..=2_007)));
        for number in 0..8 {
            leaves(
                engine,
                &from_instance(version, 0, 10_000 + number, (CLIENT, 443), UDP),
            );
        }
        let late = from_instance(version, 0, 20_000, (CLIENT, 443), UDP);
        for _ in 0..3 {
            assert_eq!(ends(engine, &late), Reason::SnatRefused);
        }
        engine.set_now(NOW + 30_000 + 20);
        leaves(engine, &late);
    });
}

#[test]
fn more_ports_than_a_packet_tries_run_out_all_the_same() {
    on_both(|engine, version| {
        // Two hundred times the same eight ports: more to try than a packet may, and few flows to take them.
        let outward = Outward {
            own: vec![(NAT, 2_000..=2_007); 200],
            ..Outward::by(NAT, 2_000..=2_007)
        };
        engine.load(&world(&outward));
        let mut now = NOW;
        for number in 0..8 {
            let first = from_instance(version, 0, 10_000 + number, (CLIENT, 443), TCP);
            leaves(engine, &first);
        }
        let late = from_instance(version, 0, 20_000, (CLIENT, 443), TCP);
        let mut tries = 0;
        while ends(engine, &late) != Reason::SnatRefused {
            tries += 1;
            assert!(tries <= 2, "two packets are enough for 1,600 ports");
        }
        for _ in 0..3 {
            now += 1;
            engine.set_now(now);
            assert_eq!(ends(engine, &late), Reason::SnatRefused, "at once");
        }
    });
}

#[test]
fn two_instances_never_share_a_port_towards_one_destination() {
    on_both(|engine, version| {
        let mut world = World::default();
        // Ranges that overlap, as after a change of sizes.
        world.add_way(INSTANCES[0].host, &Outward::by(NAT, 2_000..=2_007));
        world.add_way(INSTANCES[1].host, &Outward::by(NAT, 2_004..=2_011));
        engine.load(&world);
        let mut ports = BTreeSet::new();
        for number in 0..12_u16 {
            let who = usize::from(number >= 8);
            let request = from_instance(version, who, 33_000, (CLIENT, 443), TCP);
            let request = Frame {
                source_port: 33_000 + number,
                ..request
            };
            assert!(ports.insert(leaves(engine, &request).source.1));
        }
        assert_eq!(ports, BTreeSet::from_iter(2_000..=2_011));
    });
}

#[test]
fn a_connection_begins_anew_with_the_port_that_it_had() {
    on_both(|engine, version| {
        engine.load(&world(&Outward::by(NAT, 2_000..=2_999)));
        let syn = from_instance(version, 0, 33_000, (CLIENT, 443), TCP);
        let out = leaves(engine, &syn);
        leaves(engine, &answer(version, &syn, &out));
        leaves(engine, &syn.clone().flagged(FIN | ACK));
        leaves(engine, &answer(version, &syn, &out).flagged(FIN | ACK));
        assert_eq!(leaves(engine, &syn).source, out.source);
    });
}

#[test]
fn a_lap_over_many_ports_goes_on_with_the_next_packet() {
    on_both(|engine, version| {
        // All but one of 3,000 ports are another's, as far as the flow table of the test goes.
        engine.load(&world(
            &Outward::by(NAT, 2_000..=4_999).flagged(Outbound::LOWEST),
        ));
        for number in 0..30 {
            leaves(
                engine,
                &from_instance(version, 0, 10_000 + number, (CLIENT, 443), TCP),
            );
        }
        let next = from_instance(version, 0, 20_000, (CLIENT, 443), TCP);
        assert_eq!(leaves(engine, &next).source.1, 2_030);
    });
}

#[test]
fn a_port_that_an_outsider_has_by_a_rule_for_all_ports_is_not_given_out_towards_it() {
    on_both(|engine, version| {
        for flags in [0, Outbound::ENDPOINT_INDEPENDENT] {
            let mut world = World::default();
            world.add_forms();
            let outward = Outward::by(FRONTEND, 2_300..=2_300).flagged(flags);
            world.add_way(INSTANCES[0].host, &outward);
            engine.load(&world);
            let asked = Frame {
                macs: [GATEWAY.mac, NORTH.mac],
                ingress: &NORTH,
                protocol: UDP,
                ..Frame::of(version)
                    .coming_from(CLIENT, 5_000)
                    .towards(FRONTEND, 2_300)
                    .flagged(0)
            };
            let inside = leaves(engine, &asked);
            assert_eq!(inside.destination.0, address(INSTANCES[3].host, version));
            let own = from_instance(version, 0, 33_000, (CLIENT, 5_000), UDP);
            let expected = match flags {
                0 => Reason::SnatRefused,
                _ => Reason::ReplyTupleTaken,
            };
            assert_eq!(ends(engine, &own), expected);
            let other = from_instance(version, 0, 33_000, (CLIENT, 5_001), UDP);
            assert_eq!(leaves(engine, &other).source.1, 2_300);
            let reply = from_instance(version, 3, inside.destination.1, (CLIENT, 5_000), UDP);
            let answered = leaves(engine, &reply);
            assert_eq!(answered.source, (address(FRONTEND, version), 2_300));
            assert_eq!(leaves(engine, &asked), inside);
        }
    });
}

#[test]
fn a_connection_that_is_over_gives_up_its_port_and_one_that_has_ended_keeps_it() {
    on_both(|engine, version| {
        let mut world = world(&Outward::by(NAT, 2_000..=2_007).flagged(Outbound::LOWEST));
        engine.load(&world);
        let syn = from_instance(version, 0, 33_000, (CLIENT, 443), TCP);
        let out = leaves(engine, &syn);
        assert_eq!(out.source.1, 2_000);
        leaves(engine, &answer(version, &syn, &out).flagged(RST));
        // Its ports are others' by now.
        world
            .v4
            .snat_ranges
            .values_mut()
            .for_each(|range| range.first += 8);
        world
            .v6
            .snat_ranges
            .values_mut()
            .for_each(|range| range.first += 8);
        engine.configure(&world);
        assert_eq!(leaves(engine, &syn).source.1, 2_000, "it has ended");
        assert_eq!(engine.rule_counters()[&40].new_flows, 2);
        leaves(engine, &answer(version, &syn, &out).flagged(RST));
        world.advance(u64::from(TIMEOUTS.tcp_rst + GRACE) + 1);
        engine.set_now(world.now());
        assert_eq!(leaves(engine, &syn).source.1, 2_008, "it is over");
    });
}
