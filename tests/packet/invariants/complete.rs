//! A port that is free for a destination is found, by that packet, as long as there are no more than 1,024.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use forebay_common::abi::Way;
use forebay_common::flow::FlowKey;
use forebay_tests::chance::Chance;
use forebay_tests::engine::{Action, Engine, Keys, Live, Retire};
use forebay_tests::frame::{Frame, SYN, TCP, UDP};
use forebay_tests::network::plan::{CLIENT, CLIENT_2, FRONTEND, FRONTEND_2, INSTANCES, Link};
use forebay_tests::network::{Host, IpVersion, Side};
use forebay_tests::world::{Flows, GRACE, Outward, World};

use crate::races::two_cpus;

/// Random worlds.
const SEQUENCES: u64 = 24;
/// Times in each that both CPUs get frames.
const ROUNDS: u16 = 8;
/// Frames that each CPU gets at a time.
const FRAMES: usize = 12;
/// Instances that go out.
const THOSE_OUT: usize = 3;
/// Where they go.
const REMOTES: [Host; 2] = [CLIENT, CLIENT_2];
/// Shared by all instances. All ports together are few enough for the flow tables.
const BURST: RangeInclusive<u16> = 50_000..=50_002;

/// Ports that an instance has to itself.
fn own(instance: usize) -> RangeInclusive<u16> {
    let first = 2_000 + 100 * instance as u16;
    first..=first + 1 + instance as u16
}

fn first_packet(
    version: IpVersion,
    protocol: u8,
    instance: usize,
    port: u16,
    remote: Host,
) -> Frame {
    let instance = &INSTANCES[instance];
    Frame {
        macs: [instance.mac, instance.link.mac],
        ingress: instance.link,
        protocol,
        ..Frame::of(version)
            .coming_from(instance.host, port)
            .towards(remote, 443)
            .flagged(if protocol == TCP { SYN } else { 0 })
    }
}

/// Public addresses and ports that flows hold towards a remote.
fn held(flows: &Flows, version: IpVersion, protocol: u8, remote: Host) -> BTreeSet<(IpAddr, u16)> {
    match version {
        IpVersion::V4 => held_in(flows.v4.keys(), protocol, remote.raw()),
        IpVersion::V6 => held_in(flows.v6.keys(), protocol, remote.raw()),
    }
}

fn held_in<'f, A: Side>(
    keys: impl Iterator<Item = &'f FlowKey<A>>,
    protocol: u8,
    remote: A,
) -> BTreeSet<(IpAddr, u16)> {
    keys.filter(|key| key.protocol == u32::from(protocol) && key.source == remote)
        .map(|key| (key.destination.into(), key.destination_port()))
        .collect()
}

fn world(chance: &mut Chance) -> World {
    let mut world = World::default();
    let timeouts = &mut world.settings_mut().timeouts;
    timeouts.tcp_half_open = 100_000;
    timeouts.udp_unreplied = 100_000;
    for (number, instance) in INSTANCES[..THOSE_OUT].iter().enumerate() {
        let flags = *chance.pick(&[0, Way::LOWEST, Way::FILL, Way::RANDOM]);
        let outward = Outward::by(FRONTEND_2, own(number))
            .and_burst(FRONTEND, BURST)
            .flagged(flags);
        world.add_way(instance.host, &outward);
    }
    world
}

/// First packets for a CPU; the same flows come again and again.
fn frames(chance: &mut Chance) -> Vec<(Vec<u8>, &'static Link)> {
    let frames = (0..FRAMES).map(|_| {
        first_packet(
            *chance.pick(&IpVersion::BOTH),
            *chance.pick(&[TCP, UDP]),
            chance.below(THOSE_OUT as u64) as usize,
            33_000 + chance.below(12) as u16,
            *chance.pick(&REMOTES),
        )
    });
    frames.map(|frame| (frame.build(), frame.ingress)).collect()
}

/// Tries one more flow of every kind; it finds a port if there is one. Says how many did, and how many did not.
fn try_all(live: &mut Live, port: u16) -> [u32; 2] {
    let mut found = [0; 2];
    for version in IpVersion::BOTH {
        for (protocol, remote) in [TCP, UDP].into_iter().flat_map(|p| REMOTES.map(|r| (p, r))) {
            for number in 0..THOSE_OUT {
                let flows = live.flows();
                let held = held(&flows, version, protocol, remote);
                let all = own(number).map(|port| (FRONTEND_2, port));
                let all = all.chain(BURST.map(|port| (FRONTEND, port)));
                let free = all
                    .map(|(host, port)| (host.address(version), port))
                    .find(|one| !held.contains(one));
                let frame = first_packet(version, protocol, number, port, remote);
                let outcome = live.run(&frame.build(), frame.ingress);
                assert_eq!(
                    outcome.action == Action::Redirect,
                    free.is_some(),
                    "{outcome:?} {free:?} {frame:?}"
                );
                found[usize::from(free.is_none())] += 1;
            }
        }
    }
    found
}

#[test]
fn complete_a_free_port_is_found_after_two_cpus_have_sought_at_once() {
    two_cpus(|live| {
        let mut found = [0; 2];
        for seed in 0..SEQUENCES {
            let mut chance = Chance::new(seed);
            let mut world = world(&mut chance);
            live.load(&world);
            for round in 0..ROUNDS {
                live.race(&[frames(&mut chance), frames(&mut chance)]);
                // Refusals are remembered for some milliseconds.
                world.advance(50);
                live.set_now(world.now());
                let [some, none] = try_all(live, 50_000 + round);
                found = [found[0] + some, found[1] + none];
                if chance.one_in(3) {
                    let keys = Keys::of(&live.flows());
                    live.retire(Retire::Flush, &keys);
                    world.advance(u64::from(GRACE) + 1);
                    live.set_now(world.now());
                    live.retire(Retire::Remove, &keys);
                }
            }
        }
        assert!(found.iter().all(|count| *count > 100), "{found:?}");
    });
}
