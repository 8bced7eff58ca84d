//! A trusted flow is never removed to make room: not by first packets, forged second ones, datagrams or
//! fragments, however many, and not when the table is full.

use forebay_common::reason::Reason;
use forebay_tests::chance::Chance;
use forebay_tests::engine::Engine;
use forebay_tests::frame::{ACK, Frame, SYN};
use forebay_tests::network::plan::CLIENT;
use forebay_tests::network::{Host, IpVersion};
use forebay_tests::world::{CAPACITY, Pair, World};

use super::on_both;

/// Somebody out there.
fn stranger(chance: &mut Chance) -> Host {
    let number = chance.bits();
    let [a, b, c, ..] = number.to_be_bytes();
    Host::new(
        [100 + a % 20, 70, b, c],
        [
            0x2001,
            0xdb8,
            0x99,
            0,
            0,
            u16::from(a),
            u16::from(b),
            u16::from(c),
        ],
    )
}

/// A packet of a flood.
fn forged(chance: &mut Chance, version: IpVersion) -> Frame {
    let port = chance.within(1_024, 65_535) as u16;
    let frame = match chance.below(4) {
        0 => Frame::of(version).flagged(SYN),
        1 => Frame::of(version).flagged(ACK),
        2 => Frame::of(version).flagged(SYN | ACK),
        _ => Frame::datagram(version),
    };
    frame.coming_from(stranger(chance), port)
}

/// A table that is full of connections.
fn crowded(version: IpVersion) -> (World, Vec<Pair>) {
    let mut world = World::default();
    let pairs: Vec<Pair> = (0..CAPACITY / 2)
        .map(|number| Pair {
            client: (CLIENT, 10_000 + number as u16),
            ..Pair::tcp(version)
        })
        .collect();
    pairs.iter().for_each(|pair| world.add(pair));
    (world, pairs)
}

fn flood(engine: &mut dyn Engine, seed: u64, frames: u64) {
    let mut chance = Chance::new(seed);
    let version = *chance.pick(&IpVersion::BOTH);
    let (world, pairs) = crowded(version);
    engine.load(&world);
    let before = engine.flows();
    let mut forwarded = 0;
    for number in 0..frames {
        let frame = forged(&mut chance, version);
        let outcome = engine.run(&frame.build(), frame.ingress);
        forwarded += u64::from(outcome.reason() == Reason::Forwarded);
        if number % 100 == 0 {
            let pair = chance.pick(&pairs);
            let request = pair.request();
            let outcome = engine.run(&request.build(), request.ingress);
            assert_eq!(outcome.reason(), Reason::Forwarded, "{pair:?}");
        }
    }
    assert!(
        forwarded > frames / 2,
        "the flood was served too: {forwarded}"
    );
    let after = engine.flows();
    assert_eq!(after.trusted(), before.trusted(), "none came, none went");
    let is_there = |untrusted: bool, found: bool| found && !untrusted;
    for key in before.v4.keys() {
        let untrusted = after.untrusted.v4.contains_key(key);
        assert!(is_there(untrusted, after.v4.contains_key(key)), "{key:?}");
    }
    for key in before.v6.keys() {
        let untrusted = after.untrusted.v6.contains_key(key);
        assert!(is_there(untrusted, after.v6.contains_key(key)), "{key:?}");
    }
}

#[test]
fn never_evict_a_flood_removes_no_trusted_flow() {
    on_both(40, |engine, rounds| {
        for seed in 0..rounds {
            flood(engine, seed, 2_000);
        }
    });
}
