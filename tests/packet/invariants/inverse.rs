//! Translating a packet and then its answer gives back the original addresses and ports, with
//! checksums that are right when recomputed in full.

use std::net::{Ipv4Addr, Ipv6Addr};

use forebay_common::balance::Distribution;
use forebay_common::reason::Reason;
use forebay_tests::chance::Chance;
use forebay_tests::engine::Engine;
use forebay_tests::frame::{Frame, IcmpMessage, SYN, TCP, UDP, decode, verify};
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

/// An error about a translated packet, told by who got it, quotes what its sender has sent.
fn quote_round_trip(engine: &mut dyn Engine, chance: &mut Chance) {
    let mut world = World::default();
    let mut request = request(chance, &mut world);
    if request.version == IpVersion::V6 {
        request.extensions = vec![60; chance.below(4) as usize];
        request.payload.truncate(1_300);
    }
    request.payload.truncate(1_380);
    engine.load(&world);
    let outcome = engine.run(&request.build(), request.ingress);
    assert_eq!(outcome.reason(), Reason::Forwarded);
    let instance = instance_of(&outcome.frame);

    let kind = match request.version {
        IpVersion::V4 => *chance.pick(&[(3, 4), (3, 1), (11, 0)]),
        IpVersion::V6 => *chance.pick(&[(2, 0), (1, 4), (3, 0)]),
    };
    let seen = Frame {
        hops: request.hops - 1,
        ..request.clone()
    };
    let header = seen.ip_length() as usize - seen.transport().len();
    let most = seen.ip_length() as usize;
    // Whole words: a cut through a sum leaves half of it as it was.
    let length = (chance.within(header as u64 + 8, most as u64) as usize & !1).min(1_400);
    let quoting = |mut body: Vec<u8>, reporter: Host| {
        body.truncate(length);
        IcmpMessage {
            rest: 1_300,
            body,
            ..IcmpMessage::new(request.version, reporter, request.source, kind)
        }
    };
    let sent = quoting(outcome.frame[14..].to_vec(), instance.host);
    let sent = sent.from_link(instance.mac, &SOUTH);
    let outcome = engine.run(&sent.build(), &SOUTH);
    assert_eq!(
        outcome.reason(),
        Reason::IcmpTranslated,
        "{}",
        decode(&sent.build())
    );
    let original = quoting(seen.packet(), request.destination).leaving(&SOUTH, GATEWAY.way());
    assert_eq!(
        outcome.frame,
        original.build(),
        "{} of {length} octets",
        decode(&outcome.frame)
    );
}

#[test]
fn inverse_an_error_quotes_what_was_sent() {
    on_both(4_000, |engine, rounds| {
        let mut chance = Chance::new(33);
        for _ in 0..rounds {
            quote_round_trip(engine, &mut chance);
        }
    });
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
