//! Multicast, broadcast, link-local, the host's own addresses and routed traffic of others reach the
//! kernel untouched.

use forebay_tests::chance::Chance;
use forebay_tests::engine::Action;
use forebay_tests::frame::{Frame, decode};
use forebay_tests::network::plan::{CLIENT, INSTANCES, LINKS, LOCAL_CLIENT, Link, NORTH, SOUTH};
use forebay_tests::network::{Host, IpVersion};
use forebay_tests::random::damage;
use forebay_tests::world::{Flows, Pair, World};

use super::on_both;

/// An address that no frontend and no instance has: a stranger's, the host's, or one of many.
fn destination(chance: &mut Chance) -> Host {
    let bits = chance.bits();
    let [_, _, b, c, d, e, f, g] = bits.to_be_bytes();
    let low = u16::from_be_bytes([b, c]);
    match chance.below(8) {
        0 => Host::new([224 | d & 0x0f, e, f, g], [0xff02, 0, 0, 0, 0, 0, 0, low]),
        1 => Host::new([255; 4], [0xff02, 0, 0, 0, 0, 1, 0xff00, low]),
        2 => Host::new([169, 254, d, e], [0xfe80, 0, 0, 0, 0, 0, 0, low]),
        3 => NORTH.address,
        4 => SOUTH.address,
        5 => Host::new([192, 0, 2, 255], [0x2001, 0xdb8, 2, 0, 0, 0, 0, 0]),
        6 => Host::new([239, d, e, f], [0xff0e, 0, 0, 0, 0, 0, low, 1]),
        _ => Host::new([8, d, e, f], [0x2a00, low, 0, 0, 0, 0, 0, 1]),
    }
}

fn frame(chance: &mut Chance, source: Host, link: &'static Link) -> Frame {
    let version = *chance.pick(&IpVersion::BOTH);
    Frame {
        protocol: *chance.pick(&[6, 17, 1, 2, 58, 89, 112, 50]),
        hops: *chance.pick(&[255, 64, 1, 0]),
        flags: chance.bits() as u8,
        ..Frame::of(version)
            .from_link(link)
            .coming_from(source, chance.bits() as u16)
            .towards(destination(chance), chance.bits() as u16)
            .with_payload(chance.below(200) as usize)
    }
}

/// Some flows that must not be touched.
fn world() -> (World, Flows) {
    let mut world = World::default();
    let pairs = IpVersion::BOTH.map(Pair::tcp);
    pairs.iter().for_each(|pair| world.add(pair));
    // The host's own address is no instance here.
    world.v4.addresses.remove(&SOUTH.address.raw());
    world.v6.addresses.remove(&SOUTH.address.raw());
    (world, Flows::exactly(&pairs))
}

#[test]
fn quiet_host_traffic_of_others_passes_untouched() {
    on_both(6_000, |engine, rounds| {
        let (world, flows) = world();
        engine.load(&world);
        let mut chance = Chance::new(12);
        for _ in 0..rounds {
            let source = *chance.pick(&[
                CLIENT,
                LOCAL_CLIENT.host,
                NORTH.address,
                Host::new([0; 4], [0; 8]),
                Host::new([169, 254, 9, 9], [0xfe80, 0, 0, 0, 0, 0, 0, 9]),
            ]);
            let link = LINKS[chance.below(LINKS.len() as u64) as usize];
            let bytes = frame(&mut chance, source, link).build();
            let outcome = engine.run(&bytes, link);
            assert_eq!(outcome.action, Action::Pass, "{}", decode(&bytes));
            assert_eq!(outcome.frame, bytes, "{}", decode(&bytes));
        }
        assert_eq!(engine.flows(), flows);
    });
}

#[test]
fn quiet_host_what_instances_say_on_their_link_passes_untouched() {
    on_both(3_000, |engine, rounds| {
        let (world, flows) = world();
        engine.load(&world);
        let mut chance = Chance::new(13);
        for _ in 0..rounds {
            let source = chance.pick(&INSTANCES).host;
            let frame = frame(&mut chance, source, &SOUTH);
            let global = match frame.version {
                IpVersion::V4 => frame.destination.v4.octets()[0] == 8,
                IpVersion::V6 => frame.destination.v6.segments()[0] == 0x2a00,
            };
            let bytes = frame.build();
            let outcome = engine.run(&bytes, &SOUTH);
            let expected = if global { Action::Drop } else { Action::Pass };
            assert_eq!(outcome.action, expected, "{}", decode(&bytes));
            assert_eq!(outcome.frame, bytes, "{}", decode(&bytes));
        }
        assert_eq!(engine.flows(), flows);
    });
}

#[test]
fn quiet_host_broken_packets_between_strangers_pass_untouched() {
    on_both(4_000, |engine, rounds| {
        let (world, flows) = world();
        engine.load(&world);
        let mut chance = Chance::new(14);
        for _ in 0..rounds {
            let frame = Frame {
                // No bits of a frontend or an instance, however they are damaged.
                source: Host::new([8, 8, 8, 8], [0x2a00, 8, 8, 8, 8, 8, 8, 8]),
                ..frame(&mut chance, CLIENT, &NORTH)
            };
            let mut bytes = frame.build();
            damage(&mut bytes, &mut chance);
            let outcome = engine.run(&bytes, &NORTH);
            assert_eq!(outcome.action, Action::Pass, "{}", decode(&bytes));
            assert_eq!(outcome.frame, bytes, "{}", decode(&bytes));
        }
        assert_eq!(engine.flows(), flows);
    });
}
