//! Translating a packet and then its answer gives back the original addresses and ports, with
//! checksums that are right when recomputed in full.

use std::net::{Ipv4Addr, Ipv6Addr};

use forebay_common::balance::Distribution;
use forebay_common::reason::Reason;
use forebay_tests::chance::Chance;
use forebay_tests::engine::Engine;
use forebay_tests::frame::{Frame, SYN, TCP, UDP, decode, verify};
use forebay_tests::network::plan::{FRONTEND, GATEWAY, INSTANCES, Neighbor, SOUTH};
use forebay_tests::network::{Host, IpVersion};
use forebay_tests::world::{RING_THREE, World, frontend_id, rule};

use super::on_both;

/// A client somewhere on the internet.
fn client(chance: &mut Chance) -> Host {
    let bits = chance.bits();
    Host {
        v4: Ipv4Addr::from(0x0800_0000 | bits as u32 & 0x00ff_ffff),
        v6: Ipv6Addr::from(0x2a00_u128 << 112 | u128::from(bits) << 40 | u128::from(chance.bits())),
    }
}

/// A first packet, to a rule with these ports.
fn request(chance: &mut Chance, world: &mut World) -> Frame {
    let version = *chance.pick(&IpVersion::BOTH);
    let protocol = *chance.pick(&[TCP, UDP]);
    let port = chance.bits() as u16;
    let offset = chance.bits() as u16;
    let id = frontend_id(version, 1);
    let rule = rule(9, RING_THREE, offset, Distribution::FiveTuple);
    world.rules.clear();
    world.add_rule(id, protocol, port, rule);
    let length = *chance.pick(&[0, 1, 2, 33, 700, 1_400]);
    let payload = (0..length).map(|_| chance.bits() as u8).collect();
    Frame {
        protocol,
        flags: SYN,
        sequence: chance.bits() as u32,
        payload,
        option_words: chance.below(11) as u8,
        hops: chance.within(2, 255) as u8,
        ..Frame::of(version)
            .coming_from(client(chance), chance.bits() as u16)
            .towards(FRONTEND, port)
    }
}

/// Which instance the frame went to: by the MAC address it was sent to.
fn instance_of(frame: &[u8]) -> Neighbor {
    INSTANCES
        .into_iter()
        .find(|instance| frame.starts_with(&instance.mac))
        .unwrap_or_else(|| panic!("to no instance: {}", decode(frame)))
}

fn round_trip(engine: &mut dyn Engine, chance: &mut Chance) {
    let mut world = World::default();
    let request = request(chance, &mut world);
    engine.load(&world);
    let outcome = engine.run(&request.build(), request.ingress);
    assert_eq!(
        outcome.reason(),
        Reason::Forwarded,
        "{}",
        decode(&outcome.frame)
    );
    assert_eq!(verify(&outcome.frame), Ok(()), "{}", decode(&outcome.frame));

    let instance = instance_of(&outcome.frame);
    let offset = world
        .rules
        .values()
        .map(|rule| rule.port_offset)
        .sum::<u16>();
    let port = request.destination_port.wrapping_add(offset);
    let translated = request
        .clone()
        .towards(instance.host, port)
        .leaving(instance.way());
    assert_eq!(
        outcome.frame,
        translated.build(),
        "{}",
        decode(&outcome.frame)
    );

    let answer = Frame {
        payload: request.payload.iter().rev().copied().collect(),
        macs: [instance.mac, SOUTH.mac],
        hops: chance.within(2, 255) as u8,
        ..translated.turned().from_link(&SOUTH)
    };
    let outcome = engine.run(&answer.build(), answer.ingress);
    assert_eq!(
        outcome.reason(),
        Reason::Forwarded,
        "{}",
        decode(&outcome.frame)
    );
    assert_eq!(verify(&outcome.frame), Ok(()), "{}", decode(&outcome.frame));
    let original = answer
        .towards(request.source, request.source_port)
        .coming_from(request.destination, request.destination_port)
        .leaving(GATEWAY.way());
    assert_eq!(
        outcome.frame,
        original.build(),
        "{}",
        decode(&outcome.frame)
    );
}

#[test]
fn inverse_an_answer_comes_from_where_the_request_went() {
    on_both(4_000, |engine, rounds| {
        let mut chance = Chance::new(3);
        for _ in 0..rounds {
            round_trip(engine, &mut chance);
        }
    });
}
