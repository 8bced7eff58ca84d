//! Two CPUs meet over one flow.

use std::collections::BTreeMap;

use forebay_common::abi::Way;
use forebay_common::reason::Reason;
use forebay_tests::engine::{Action, Engine, Live, with_live};
use forebay_tests::frame::{Frame, SYN, TCP, UDP};
use forebay_tests::network::IpVersion;
use forebay_tests::network::plan::{CLIENT, FRONTEND_2, INSTANCES, Link};
use forebay_tests::world::{Flows, GRACE, IDLE, NOW, Outward, Pair, RULE_WEB, World};

use crate::invariants::assert_paired;

/// Connections at once.
const CONNECTIONS: u16 = 25;
/// Races of each kind.
const ROUNDS: u32 = 100;

/// Runs a test on the live program if there are two CPUs; says why not.
pub(crate) fn two_cpus(test: impl FnOnce(&mut Live)) {
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        println!("skipped: a race needs two CPUs");
        return;
    }
    with_live(test);
}

fn two_cpus_meet(test: impl Fn(&mut Live, IpVersion)) {
    two_cpus_meet_often(ROUNDS, test);
}

fn two_cpus_meet_often(rounds: u32, test: impl Fn(&mut Live, IpVersion)) {
    two_cpus(|live| {
        for _ in 0..rounds {
            for version in IpVersion::BOTH {
                test(live, version);
            }
        }
    });
}

fn connections(version: IpVersion) -> Vec<Pair> {
    (0..CONNECTIONS)
        .map(|number| {
            let base = Pair::tcp(version);
            Pair {
                client: (base.client.0, 40_000 + number),
                ..base
            }
        })
        .collect()
}

fn sent(frames: impl Iterator<Item = Frame>) -> Vec<(Vec<u8>, &'static Link)> {
    frames.map(|frame| (frame.build(), frame.ingress)).collect()
}

fn assert_all_paired(flows: &Flows) {
    assert_paired(&flows.v4, &flows.untrusted.v4);
    assert_paired(&flows.v6, &flows.untrusted.v6);
}

/// All flows are there, but for what is lost when two CPUs write one slot of the untrusted table at once: the
/// later writer's entry stays.
fn assert_kept(flows: &Flows) {
    const COLLISIONS: usize = 3;
    let entries = flows.v4.len() + flows.v6.len();
    let all = 2 * usize::from(CONNECTIONS);
    assert!(
        entries <= all && entries + COLLISIONS >= all,
        "{entries} of {all}"
    );
}

/// Packets that were dropped because another CPU held the lock of their reply key for too long, as one does
/// that loses its processor in the middle; any other drop fails.
fn gave_up(live: &mut Live, actions: &[Vec<Action>]) -> u64 {
    let strange = |action: &&Action| !matches!(action, Action::Redirect | Action::Drop);
    let strange: Vec<&Action> = actions.iter().flatten().filter(strange).collect();
    assert!(strange.is_empty(), "{strange:?}");
    let counted = live.counted();
    let dropped = actions
        .iter()
        .flatten()
        .filter(|action| **action == Action::Drop);
    let dropped = dropped.count() as u64;
    let ending = counted
        .iter()
        .find(|(reason, _)| *reason == Reason::FlowEnding);
    let ending = ending.map_or(0, |(_, count)| *count);
    assert_eq!(dropped, ending, "{counted:?}");
    dropped
}

#[test]
fn one_syn_on_two_cpus_opens_one_flow() {
    two_cpus_meet(|live, version| {
        live.load(&World::default());
        let syns = sent(
            connections(version)
                .iter()
                .map(|pair| pair.request().flagged(SYN)),
        );
        let actions = live.race(&[syns.clone(), syns]);
        let gave_up = gave_up(live, &actions);
        assert!(gave_up <= u64::from(CONNECTIONS), "{gave_up}");
        let flows = live.flows();
        assert_kept(&flows);
        assert_all_paired(&flows);
        let counted = live.rule_counters()[&RULE_WEB];
        // Nothing locks an untrusted flow: a SYN that is met twice at once may be counted twice.
        let range = u64::from(CONNECTIONS)..=2 * u64::from(CONNECTIONS);
        assert!(range.contains(&counted.new_flows), "{counted:?}");
        let forwarded = 2 * u64::from(CONNECTIONS) - gave_up;
        assert_eq!(counted.packets_to_instance, forwarded);
    });
}

#[test]
fn two_frontends_race_for_one_reply_tuple() {
    two_cpus_meet(|live, version| {
        live.load(&World::default());
        let pairs = connections(version);
        let first = pairs.iter().map(|pair| pair.request().flagged(SYN));
        let second = first.clone().map(|frame| frame.towards(FRONTEND_2, 80));
        let actions = live.race(&[sent(first), sent(second)]);
        let mut neither = 0;
        for (one, other) in actions[0].iter().zip(&actions[1]) {
            let won = [one, other].map(|action| *action == Action::Redirect);
            assert_ne!(won, [true, true], "both have it");
            neither += u64::from(won == [false, false]);
        }
        let counted = live.counted();
        let ending = counted
            .iter()
            .find(|(reason, _)| *reason == Reason::FlowEnding);
        assert!(
            neither <= ending.map_or(0, |(_, count)| *count),
            "{counted:?}"
        );
        let flows = live.flows();
        assert_kept(&flows);
        assert_all_paired(&flows);
    });
}

/// First packets of instances to one destination, each list of another instance.
fn outbound(version: IpVersion, protocol: u8) -> [Vec<(Vec<u8>, &'static Link)>; 2] {
    [0, 1].map(|number| {
        let instance = INSTANCES[number];
        sent((0..CONNECTIONS).map(|port| {
            Frame {
                macs: [instance.mac, instance.link.mac],
                ingress: instance.link,
                protocol,
                ..Frame::of(version)
                    .coming_from(instance.host, 33_000 + port)
                    .towards(CLIENT, 443)
                    .flagged(if protocol == TCP { SYN } else { 0 })
            }
        }))
    })
}

#[test]
fn two_cpus_never_give_one_port_to_two_flows() {
    two_cpus_meet_often(ROUNDS / 5, |live, version| {
        for (protocol, flags) in [(TCP, 0), (UDP, 0), (UDP, Way::ENDPOINT_INDEPENDENT)] {
            let mut world = World::default();
            // Both have the same ports, of which there are enough for all but one flow.
            let ports = 2_000..=2_000 + CONNECTIONS - 2;
            for instance in &INSTANCES[..2] {
                let outward = Outward::by(FRONTEND_2, ports.clone()).flagged(flags);
                world.add_way(instance.host, &outward);
            }
            live.load(&world);
            let actions = live.race(&outbound(version, protocol));
            let flows = live.flows();
            assert_paired(&flows.v4, &BTreeMap::new());
            assert_paired(&flows.v6, &BTreeMap::new());
            let refused = |action: &&Action| **action != Action::Redirect;
            let refused = actions.iter().flatten().filter(refused).count();
            let entries = flows.v4.len() + flows.v6.len();
            let halves = if flags == 0 { 2 } else { 4 };
            let opened = 2 * usize::from(CONNECTIONS) - refused;
            assert!(opened < usize::from(CONNECTIONS), "{opened}");
            assert_eq!(entries, halves * opened, "{:?}", live.counted());
            // A port that is free is found, unless two CPUs have just got in each other's way at it.
            assert!(
                opened + 3 > usize::from(CONNECTIONS),
                "{:?}",
                live.counted()
            );
        }
    });
}

#[test]
fn one_first_packet_of_an_instance_on_two_cpus_takes_one_port() {
    two_cpus_meet_often(ROUNDS / 5, |live, version| {
        for (protocol, flags) in [(TCP, 0), (UDP, 0), (UDP, Way::ENDPOINT_INDEPENDENT)] {
            let mut world = World::default();
            let outward = Outward::by(FRONTEND_2, 2_000..=2_999).flagged(flags);
            world.add_way(INSTANCES[0].host, &outward);
            live.load(&world);
            let [list, _] = outbound(version, protocol);
            live.race(&[list.clone(), list]);
            let flows = live.flows();
            assert_paired(&flows.v4, &BTreeMap::new());
            assert_paired(&flows.v6, &BTreeMap::new());
            let halves = if flags == 0 { 2 } else { 4 };
            let entries = flows.v4.len() + flows.v6.len();
            assert_eq!(entries, halves * usize::from(CONNECTIONS));
        }
    });
}

#[test]
fn two_cpus_replace_one_expired_flow() {
    two_cpus_meet(|live, version| {
        let mut world = World::default();
        let pairs = connections(version);
        pairs.iter().for_each(|pair| world.add(pair));
        world.settings_mut().test_now = NOW + u64::from(IDLE) + u64::from(GRACE) + 1;
        live.load(&world);
        let syns = sent(pairs.iter().map(|pair| pair.request().flagged(SYN)));
        live.race(&[syns.clone(), syns]);
        let flows = live.flows();
        assert_all_paired(&flows);
        assert_kept(&flows);
    });
}
