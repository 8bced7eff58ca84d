//! A packet to an owned address ends in a verdict of ours, and what an instance sends to the outside
//! leaves translated or not at all. However broken it is.

use std::net::IpAddr;

use forebay_common::reason::{Fate, Reason};
use forebay_tests::chance::Chance;
use forebay_tests::engine::Action;
use forebay_tests::frame::{Frame, NeighborMessage, decode};
use forebay_tests::network::plan::{CLIENT, FRONTEND, INSTANCES, LINKS, NORTH, SOUTH};
use forebay_tests::network::{Host, IpVersion};
use forebay_tests::world::{BACKENDS, World};

use super::{on_both, random_frames};

/// A frame between two addresses, with anything in it.
fn frame(chance: &mut Chance, source: Host, destination: Host) -> (Vec<u8>, IpVersion) {
    let version = *chance.pick(&IpVersion::BOTH);
    let frame = Frame {
        protocol: chance.bits() as u8,
        hops: chance.bits() as u8,
        flags: chance.bits() as u8,
        extensions: vec![chance.bits() as u8; usize::from(chance.one_in(3))],
        option_words: *chance.pick(&[0, 0, 0, 1, 10]),
        ..Frame::of(version)
            .coming_from(source, chance.bits() as u16)
            .towards(destination, *chance.pick(&[80, 53, 443, 8_080]))
            .with_payload(chance.below(80) as usize)
    };
    let frame = Frame {
        protocol: *chance.pick(&[6, 6, 17, 17, 1, 58, frame.protocol]),
        ..frame
    };
    let mut bytes = frame.build();
    // Everything but the addresses and what leads to them.
    let addresses = match version {
        IpVersion::V4 => 26..34,
        IpVersion::V6 => 22..54,
    };
    for _ in 0..chance.below(4) {
        let at = chance.within(14, bytes.len() as u64 - 1) as usize;
        if !addresses.contains(&at) {
            bytes[at] = chance.bits() as u8;
        }
    }
    (bytes, version)
}

#[test]
fn fail_closed_packets_to_a_frontend_do_not_reach_the_kernel_as_they_are() {
    on_both(8_000, |engine, rounds| {
        engine.load(&World::default());
        let mut chance = Chance::new(4);
        for round in 0..rounds {
            if round % 50 == 0 {
                engine.load(&World::default());
            }
            let source = *chance.pick(&[CLIENT, INSTANCES[1].host, NORTH.address, FRONTEND]);
            let link = LINKS[chance.below(LINKS.len() as u64) as usize];
            let (bytes, _) = frame(&mut chance, source, FRONTEND);
            let outcome = engine.run(&bytes, link);
            let translated = outcome.reason() == Reason::ForwardedByKernel;
            assert!(
                outcome.action != Action::Pass || translated,
                "{}",
                decode(&bytes)
            );
        }
    });
}

#[test]
fn fail_closed_nothing_of_an_instance_leaves_untranslated() {
    on_both(8_000, |engine, rounds| {
        engine.load(&World::default());
        let mut chance = Chance::new(40);
        for _ in 0..rounds {
            let source = chance.pick(&INSTANCES).host;
            let low = chance.bits() as u8;
            let outside = Host::new([8, low, 1, 1], [0x2a00, low.into(), 0, 0, 0, 0, 0, 1]);
            let link = LINKS[chance.below(LINKS.len() as u64) as usize];
            let (bytes, _) = frame(&mut chance, source, outside);
            let outcome = engine.run(&bytes, link);
            assert_eq!(outcome.action, Action::Drop, "{}", decode(&bytes));
        }
    });
}

/// Source and destination of an IP packet, as far as the frame has them.
fn addresses(frame: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let tags = frame[12..]
        .chunks(4)
        .take(2)
        .take_while(|tag| matches!(tag[..2], [0x81, 0] | [0x88, 0xa8]))
        .count();
    let packet = &frame[14 + 4 * tags..];
    let v4 = |at: usize| <[u8; 4]>::try_from(packet.get(at..at + 4)?).ok();
    let v6 = |at: usize| <[u8; 16]>::try_from(packet.get(at..at + 16)?).ok();
    match packet.first()? >> 4 {
        4 => Some((v4(12)?.into(), v4(16)?.into())),
        _ => Some((v6(8)?.into(), v6(24)?.into())),
    }
}

/// Checks that what was forwarded has the address of an instance as its source only on its way to another one.
pub(super) fn assert_hidden(frame: &[u8], forwarded: &[u8]) {
    let Some((source, destination)) = addresses(forwarded) else {
        panic!("forwarded what is no packet: {}", decode(frame));
    };
    let is_instance = |address: IpAddr| {
        BACKENDS
            .iter()
            .any(|(_, host)| IpVersion::BOTH.map(|v| host.address(v)).contains(&address))
    };
    assert!(
        !is_instance(source) || is_instance(destination),
        "{} left as {}",
        decode(frame),
        decode(forwarded)
    );
}

/// Errors, fragments and all: what the node sends on by itself has the address of an instance as its source
/// only on its way to another one.
#[test]
fn fail_closed_no_instance_is_seen_outside() {
    on_both(120, |engine, sequences| {
        random_frames(
            engine,
            sequences,
            |_| {},
            |event| {
                if event.outcome.reason().fate() != Fate::Forward {
                    return;
                }
                assert_hidden(event.frame, &event.outcome.frame);
            },
        );
    });
}

#[test]
fn fail_closed_neighbour_discovery_is_no_way_out() {
    on_both(2_000, |engine, rounds| {
        engine.load(&World::default());
        let mut chance = Chance::new(41);
        let instance = &INSTANCES[0];
        for _ in 0..rounds {
            let target = *chance.pick(&[FRONTEND, CLIENT, INSTANCES[1].host]);
            let message =
                NeighborMessage::solicitation((instance.mac, instance.host.v6), target.v6);
            let message = NeighborMessage {
                addresses: [instance.host.v6, CLIENT.v6],
                kind: chance.within(133, 137) as u8,
                hops: *chance.pick(&[255, 64]),
                ..message
            };
            let bytes = message.build();
            let outcome = engine.run(&bytes, &SOUTH);
            let answered = outcome.reason() == Reason::NeighborAnswered;
            assert!(
                answered || outcome.action == Action::Drop,
                "{}",
                decode(&bytes)
            );
        }
    });
}
