//! Flows that instances open: SNAT ports, mappings, exhaustion, public IPs, hairpins.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use forebay_common::abi::Way as Outbound;
use forebay_common::reason::Reason;
use forebay_tests::engine::{Action, Engine, Model, Outcome, with_live};
use forebay_tests::frame::{ACK, FIN, Frame, RST, SYN, TCP, UDP, verify};
use forebay_tests::network::plan::{
    CLIENT, CLIENT_2, FRONTEND, FRONTEND_2, GATEWAY, INSTANCES, NORTH,
};
use forebay_tests::network::{Host, IpVersion};
use forebay_tests::world::{HOP_LIFETIME, IDLE, NOW, Outward, SECOND, World};

use crate::invariants::assert_paired;

/// A public address that is no frontend with rules.
const NAT: Host = Host::new([203, 0, 113, 64], [0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x64]);
/// A public IP.
const PUBLIC: Host = Host::new([203, 0, 113, 50], [0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x50]);
/// Another one.
const PUBLIC_2: Host = Host::new([203, 0, 113, 51], [0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x51]);

/// Runs a test on the model and on the live program, for both families.
fn on_both(test: fn(&mut dyn Engine, IpVersion)) {
    for version in IpVersion::BOTH {
        test(&mut Model::default(), version);
    }
    with_live(|live| {
        for version in IpVersion::BOTH {
            test(live, version);
        }
    });
}

/// Addresses and ports of a frame, and its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    source: (IpAddr, u16),
    destination: (IpAddr, u16),
    /// TCP flags, sequence and acknowledgement number.
    tcp: Option<(u8, u32, u32)>,
}

fn seen(frame: &[u8]) -> Seen {
    verify(frame).unwrap();
    let found = SlicedPacket::from_ethernet(frame).unwrap();
    let [source, destination] = match found.net.unwrap() {
        NetSlice::Ipv4(ip) => {
            [ip.header().source_addr(), ip.header().destination_addr()].map(IpAddr::from)
        }
        NetSlice::Ipv6(ip) => {
            [ip.header().source_addr(), ip.header().destination_addr()].map(IpAddr::from)
        }
        other => panic!("{other:?}"),
    };
    let (ports, tcp) = match found.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let flags = tcp.slice()[13];
            let numbers = (flags, tcp.sequence_number(), tcp.acknowledgment_number());
            ([tcp.source_port(), tcp.destination_port()], Some(numbers))
        }
        Some(TransportSlice::Udp(udp)) => ([udp.source_port(), udp.destination_port()], None),
        _ => ([0; 2], None),
    };
    Seen {
        source: (source, ports[0]),
        destination: (destination, ports[1]),
        tcp,
    }
}

fn address(host: Host, version: IpVersion) -> IpAddr {
    match version {
        IpVersion::V4 => host.v4.into(),
        IpVersion::V6 => host.v6.into(),
    }
}

/// A packet of an instance.
fn from_instance(
    version: IpVersion,
    number: usize,
    port: u16,
    to: (Host, u16),
    protocol: u8,
) -> Frame {
    let instance = INSTANCES[number];
    Frame {
        macs: [instance.mac, instance.link.mac],
        ingress: instance.link,
        protocol,
        ..Frame::of(version)
            .coming_from(instance.host, port)
            .towards(to.0, to.1)
            .flagged(if protocol == TCP { SYN } else { 0 })
    }
}

/// The answer of whoever got a frame as `seen`.
fn answer(version: IpVersion, request: &Frame, seen: &Seen) -> Frame {
    let (to, port) = seen.source;
    let host = [NAT, PUBLIC, PUBLIC_2, FRONTEND, FRONTEND_2]
        .into_iter()
        .find(|host| address(*host, version) == to)
        .unwrap();
    Frame {
        macs: [GATEWAY.mac, NORTH.mac],
        ingress: &NORTH,
        protocol: request.protocol,
        acknowledgement: 1_001,
        ..Frame::of(version)
            .coming_from(request.destination, request.destination_port)
            .towards(host, port)
            .flagged(if request.protocol == TCP {
                SYN | ACK
            } else {
                0
            })
    }
}

fn send(engine: &mut dyn Engine, frame: &Frame) -> Outcome {
    engine.run(&frame.build(), frame.ingress)
}

/// Sends a frame that must leave; how it does.
fn leaves(engine: &mut dyn Engine, frame: &Frame) -> Seen {
    let outcome = send(engine, frame);
    let forwarded = matches!(outcome.action, Action::Transmit | Action::Redirect);
    assert!(forwarded, "{}: {outcome:?}", engine.name());
    seen(&outcome.frame)
}

/// Sends a frame that must not leave; what it was counted under.
fn ends(engine: &mut dyn Engine, frame: &Frame) -> Reason {
    let outcome = send(engine, frame);
    assert!(
        matches!(outcome.action, Action::Drop | Action::Transmit),
        "{outcome:?}"
    );
    outcome.reason()
}

fn world(outward: &Outward) -> World {
    let mut world = World::default();
    world.add_way(INSTANCES[0].host, outward);
    world
}

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
fn an_instance_reaches_frontends_of_its_own_and_of_others() {
    on_both(|engine, version| {
        let instance = address(INSTANCES[0].host, version);
        for protocol in [TCP, UDP] {
            let port = if protocol == TCP { 80 } else { 53 };
            let mut world = world(&Outward::by(NAT, 2_000..=2_999));
            // The only member is the instance itself.
            world.only_backend(1);
            engine.load(&world);
            let request = from_instance(version, 0, 33_000, (FRONTEND, port), protocol);
            let inside = leaves(engine, &request);
            assert_eq!(inside.source.0, address(NAT, version));
            assert_eq!(inside.destination.0, instance);
            let backend = inside.destination.1;
            let back = Frame {
                acknowledgement: 1_001,
                ..from_instance(version, 0, backend, (NAT, inside.source.1), protocol)
            };
            let back = back.flagged(if protocol == TCP { SYN | ACK } else { 0 });
            let answered = leaves(engine, &back);
            assert_eq!(answered.source, (address(FRONTEND, version), port));
            assert_eq!(answered.destination, (instance, 33_000));
        }
    });
}

#[test]
fn an_instance_reaches_the_public_ip_of_another() {
    on_both(|engine, version| {
        let addresses = [0, 1].map(|n| address(INSTANCES[n].host, version));
        for protocol in [TCP, UDP] {
            for has_own in [false, true] {
                let mut world = world(&Outward::by(NAT, 2_000..=2_999));
                world.add_public_ip(INSTANCES[1].host, PUBLIC_2);
                if has_own {
                    world.add_public_ip(INSTANCES[0].host, PUBLIC);
                }
                engine.load(&world);
                let request = from_instance(version, 0, 33_000, (PUBLIC_2, 22), protocol);
                let inside = leaves(engine, &request);
                assert_eq!(inside.destination, (addresses[1], 22));
                let outer = if has_own { PUBLIC } else { NAT };
                assert_eq!(inside.source.0, address(outer, version));
                let back = from_instance(version, 1, 22, (outer, inside.source.1), protocol);
                let back = back.flagged(if protocol == TCP { SYN | ACK } else { 0 });
                let answered = leaves(engine, &back);
                assert_eq!(answered.source, (address(PUBLIC_2, version), 22));
                assert_eq!(answered.destination, (addresses[0], 33_000));
            }
        }
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
        let _ = SECOND;
    });
}
