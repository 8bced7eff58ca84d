//! Two CPUs meet over one flow.

use forebay_common::reason::Reason;
use forebay_tests::engine::{Action, Engine, Live, with_live};
use forebay_tests::frame::{Frame, SYN};
use forebay_tests::network::IpVersion;
use forebay_tests::network::plan::{FRONTEND_2, Link};
use forebay_tests::world::{Flows, GRACE, IDLE, NOW, Pair, RULE_WEB, World};

use crate::invariants::assert_paired;

/// Connections at once.
const CONNECTIONS: u16 = 25;
/// Races of each kind.
const ROUNDS: u32 = 150;

fn two_cpus_meet(test: impl Fn(&mut Live, IpVersion)) {
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        println!("skipped: a race needs two CPUs");
        return;
    }
    with_live(|live| {
        for _ in 0..ROUNDS {
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
