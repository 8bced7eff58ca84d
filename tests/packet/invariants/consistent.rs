//! Two nodes with the same configuration and seed choose the same backend, and a member that goes
//! takes little along.

use std::collections::BTreeMap;

use forebay_common::balance::{Distribution, RingMember, build_ring};
use forebay_common::reason::Reason;
use forebay_tests::chance::Chance;
use forebay_tests::engine::{Engine, Model, with_live};
use forebay_tests::frame::{Frame, UDP};
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
        for protocol in [forebay_tests::frame::TCP, UDP] {
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

/// One client, several connections of both protocols: by what the distribution counts.
#[test]
fn consistent_distributions_keep_together_what_they_do_not_count() {
    let frames = |protocol: u8| -> Vec<Frame> {
        (0..40)
            .map(|number| Frame {
                protocol,
                source_port: 30_000 + number,
                ..Frame::of(IpVersion::V6).towards(FRONTEND, 443)
            })
            .collect()
    };
    let check = |engine: &mut dyn Engine| {
        let mut kinds = BTreeMap::new();
        for distribution in DISTRIBUTIONS {
            let world = node([1, 2, 3, 4], [1; 4], distribution);
            let mut used = Vec::new();
            for protocol in [forebay_tests::frame::TCP, UDP] {
                let mut chosen = choices(engine, &world, &frames(protocol));
                chosen.sort_unstable();
                chosen.dedup();
                used.push(chosen);
            }
            kinds.insert(distribution as u8, used);
        }
        let of = |distribution: Distribution| &kinds[&(distribution as u8)];
        assert!(
            of(Distribution::FiveTuple)
                .iter()
                .all(|used| used.len() == 4)
        );
        assert!(
            of(Distribution::SourceIpProtocol)
                .iter()
                .all(|used| used.len() == 1)
        );
        let [tcp, udp] = &of(Distribution::SourceIp)[..] else {
            panic!("two protocols");
        };
        assert_eq!((tcp.len(), tcp), (1, udp));
    };
    check(&mut Model::default());
    with_live(|live| check(live));
}

/// The flows that a member's going moves besides its own: at most 1.5 % of all.
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
