//! Two nodes with the same configuration and seed choose the same backend, and a member that goes
//! takes little along.

use std::collections::{BTreeMap, BTreeSet};

use forebay_common::balance::{Distribution, RingMember, build_ring};
use forebay_common::reason::Reason;
use forebay_tests::chance::Chance;
use forebay_tests::engine::{Engine, Model, with_live};
use forebay_tests::frame::{Frame, TCP, UDP};
use forebay_tests::network::plan::{CLIENT, FRONTEND, INSTANCES};
use forebay_tests::network::{Host, IpVersion};
use forebay_tests::world::{World, frontend_id, rule};

/// Members by the name that their preferences come from: the same on every node.
fn members(ids: [u32; 4], weights: [u16; 4]) -> Vec<RingMember> {
    (0..4)
        .map(|number| RingMember {
            identity: format!("web-{number}/primary").into_bytes(),
            weight: weights[number],
            backend: ids[number],
        })
        .collect()
}

/// A node that numbers the instances in its own way.
fn node(ids: [u32; 4], weights: [u16; 4], distribution: Distribution) -> World {
    let mut world = World::default();
    world.v4.backends.clear();
    world.v6.backends.clear();
    for (id, instance) in ids.iter().zip(&INSTANCES) {
        world.v4.backends.insert(*id, instance.host.raw());
        world.v6.backends.insert(*id, instance.host.raw());
    }
    let ring = build_ring(&members(ids, weights));
    world.rings = BTreeMap::from([(ids[0], ring.into())]);
    world.rules.clear();
    for version in IpVersion::BOTH {
        for protocol in [TCP, UDP] {
            let rule = rule(1, ids[0], 0, distribution);
            world.add_rule(frontend_id(version, 1), protocol, 443, rule);
        }
    }
    world
}

/// Which instance takes each of many connections, one after the other.
fn choices(engine: &mut dyn Engine, world: &World, frames: &[Frame]) -> Vec<usize> {
    engine.load(world);
    frames
        .iter()
        .enumerate()
        .map(|(number, frame)| {
            // Before the table is full.
            if number % 50 == 49 {
                engine.load(world);
            }
            let outcome = engine.run(&frame.build(), frame.ingress);
            assert_eq!(outcome.reason(), Reason::Forwarded);
            let to = |instance: &_| outcome.frame.starts_with(&mac(instance));
            INSTANCES.iter().position(to).unwrap()
        })
        .collect()
}

fn mac(instance: &forebay_tests::network::plan::Neighbor) -> [u8; 6] {
    instance.mac
}

/// Connections of many clients.
fn connections(count: u64) -> Vec<Frame> {
    let mut chance = Chance::new(7);
    (0..count)
        .map(|number| {
            let version = *chance.pick(&IpVersion::BOTH);
            let [a, b] = (number as u16).to_be_bytes();
            let mut segments = CLIENT.v6.segments();
            segments[7] = number as u16;
            Frame::of(version)
                .coming_from(Host::new([8, 8, a, b], segments), chance.bits() as u16)
                .towards(FRONTEND, 443)
        })
        .collect()
}

const DISTRIBUTIONS: [Distribution; 3] = [
    Distribution::FiveTuple,
    Distribution::SourceIp,
    Distribution::SourceIpProtocol,
];

#[test]
fn consistent_nodes_choose_alike_whatever_their_ids() {
    let frames = connections(400);
    let mut model = Model::default();
    for distribution in DISTRIBUTIONS {
        for weights in [[1; 4], [1, 2, 3, 4], [256, 1, 1, 10]] {
            let one = node([1, 2, 3, 4], weights, distribution);
            let other = node([70, 9, 1_000, 12], weights, distribution);
            let chosen = choices(&mut model, &one, &frames);
            assert_eq!(
                choices(&mut model, &other, &frames),
                chosen,
                "{distribution:?}"
            );
            with_live(|live| {
                assert_eq!(choices(live, &one, &frames), chosen, "{distribution:?}");
                assert_eq!(choices(live, &other, &frames), chosen, "{distribution:?}");
            });
        }
    }
}

#[test]
fn consistent_another_seed_chooses_otherwise() {
    let frames = connections(400);
    let mut model = Model::default();
    let world = node([1, 2, 3, 4], [1; 4], Distribution::FiveTuple);
    let mut reseeded = world.clone();
    reseeded.settings_mut().hash_key[1] ^= 1;
    let (one, other) = (
        choices(&mut model, &world, &frames),
        choices(&mut model, &reseeded, &frames),
    );
    let same = one.iter().zip(&other).filter(|(a, b)| a == b).count();
    // By chance one in four.
    assert!((60..140).contains(&same), "{same} of 400");
}

#[test]
fn consistent_connections_are_spread_by_weight() {
    let frames = connections(2_000);
    let check = |engine: &mut dyn Engine| {
        let world = node([1, 2, 3, 4], [1, 2, 3, 4], Distribution::FiveTuple);
        let chosen = choices(engine, &world, &frames);
        for number in 0..4 {
            let count = chosen.iter().filter(|choice| **choice == number).count();
            let expected = 200 * (number + 1);
            let far = count.abs_diff(expected);
            assert!(far < 60, "instance {number}: {count} instead of {expected}");
        }
    };
    check(&mut Model::default());
    with_live(|live| check(live));
}

/// Connections of one client over a protocol.
fn of_client(version: IpVersion, number: u8, protocol: u8) -> Vec<Frame> {
    let mut segments = CLIENT.v6.segments();
    segments[7] = number.into();
    let client = Host::new([8, 8, 8, number], segments);
    (0..20)
        .map(|port| Frame {
            protocol,
            ..Frame::of(version)
                .coming_from(client, 30_000 + port)
                .towards(FRONTEND, 443)
        })
        .collect()
}

/// The instances that take the connections of each client, over TCP and over UDP.
fn takers(engine: &mut dyn Engine, distribution: Distribution) -> Vec<[BTreeSet<usize>; 2]> {
    let world = node([1, 2, 3, 4], [1; 4], distribution);
    IpVersion::BOTH
        .into_iter()
        .flat_map(|version| (1..=10).map(move |number| (version, number)))
        .map(|(version, number)| {
            [TCP, UDP].map(|protocol| {
                let frames = of_client(version, number, protocol);
                choices(engine, &world, &frames).into_iter().collect()
            })
        })
        .collect()
}

#[test]
fn consistent_distributions_keep_together_what_they_do_not_count() {
    let check = |engine: &mut dyn Engine| {
        let by_ports = takers(engine, Distribution::FiveTuple);
        assert!(by_ports.iter().flatten().all(|used| used.len() > 1));

        let by_address = takers(engine, Distribution::SourceIp);
        assert!(by_address.iter().flatten().all(|used| used.len() == 1));
        assert!(by_address.iter().all(|[tcp, udp]| tcp == udp));

        let by_protocol = takers(engine, Distribution::SourceIpProtocol);
        assert!(by_protocol.iter().flatten().all(|used| used.len() == 1));
        assert!(by_protocol.iter().any(|[tcp, udp]| tcp != udp));
    };
    check(&mut Model::default());
    with_live(|live| check(live));
}

/// The flows that a member's going moves besides its own: at most 1.5 % of all. B9-07 (acceptance test 28,
/// "consistent remap").
#[test]
fn consistent_a_member_that_goes_moves_little_else() {
    let mut chance = Chance::new(77);
    for round in 0..40 {
        let count = *chance.pick(&[2, 3, 4, 7, 20, 60, 150]);
        let most = *chance.pick(&[1, 2, 10, 256]);
        let all: Vec<RingMember> = (1..=count)
            .map(|number| RingMember {
                identity: format!("instance-{round}-{number}/primary").into_bytes(),
                weight: chance.within(1, most) as u16,
                backend: number,
            })
            .collect();
        let before = build_ring(&all);
        let gone = chance.within(1, count.into()) as u32;
        let rest: Vec<RingMember> = all.iter().filter(|m| m.backend != gone).cloned().collect();
        let after = build_ring(&rest);
        let moved = before
            .iter()
            .zip(&after)
            .filter(|(before, after)| **before != gone && before != after)
            .count();
        let share = moved as f64 / before.len() as f64;
        let weights: Vec<u16> = all.iter().map(|member| member.weight).collect();
        assert!(
            share <= 0.015,
            "{:.2} % moved when {gone} of {weights:?} went",
            share * 100.0
        );
    }
}
