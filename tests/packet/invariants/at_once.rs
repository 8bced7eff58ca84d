//! *Unique*, *stable* and *fail closed* hold as well while two CPUs handle random frames at the same time.

use std::collections::BTreeMap;

use forebay_common::flow::{Flow, FlowKey};
use forebay_common::model::UNTRUSTED_SETS;
use forebay_tests::chance::Chance;
use forebay_tests::engine::{Action, Engine, Keys, Live, Retire};
use forebay_tests::network::Side;
use forebay_tests::network::plan::Link;
use forebay_tests::random::{Grammar, disturb_ways, scene_with_ways};
use forebay_tests::world::{Flows, World};

use super::fail_closed::assert_hidden;
use super::stable::assert_same;
use super::unique::assert_paired;
use crate::races::two_cpus;

/// Random worlds.
const SEQUENCES: u64 = 40;
/// Times in each that both CPUs get frames.
const ROUNDS: u32 = 12;
/// Frames that each CPU gets at a time.
const FRAMES: usize = 24;

/// What the test has seen, or it shows nothing.
#[derive(Debug, Default)]
struct Seen {
    forwarded: u32,
    compared: usize,
    most: usize,
    lost: usize,
}

/// Frames for both CPUs. Many are for both, and come at about the same time.
fn frames(
    grammars: &mut [Grammar; 2],
    chance: &mut Chance,
    flows: &Flows,
    now: u64,
) -> [Vec<(Vec<u8>, &'static Link)>; 2] {
    let mut lists = [Vec::new(), Vec::new()];
    for _ in 0..FRAMES {
        let one = grammars[0].next(chance, flows, now);
        let other = if chance.one_in(3) {
            one.clone()
        } else {
            grammars[1].next(chance, flows, now)
        };
        lists[0].push(one);
        lists[1].push(other);
    }
    lists
}

/// Checks that no two flows share a reply key; says how many untrusted ones had lost theirs: of a packet that was on its
/// way while another CPU took the key, its flow is written back once more.
fn assert_all_paired(flows: &Flows, world: &World) -> usize {
    let mut live = flows.clone().alive(world);
    let lost =
        drop_lost(&mut live.v4, &live.untrusted.v4) + drop_lost(&mut live.v6, &live.untrusted.v6);
    assert_paired(&live.v4, &live.untrusted.v4);
    assert_paired(&live.v6, &live.untrusted.v6);
    lost
}

fn drop_lost<A: Side>(
    flows: &mut BTreeMap<FlowKey<A>, Flow<A>>,
    untrusted: &BTreeMap<FlowKey<A>, [u32; 2]>,
) -> usize {
    let is_lost = |key: &FlowKey<A>| {
        let reply = flows[key].reply_key(key.protocol);
        let other = flows.get(&reply);
        other.is_some_and(|other| other.reply_key(key.protocol) != *key)
    };
    let keys = flows.keys().filter(|key| untrusted.contains_key(*key));
    let lost: Vec<_> = keys.filter(|key| is_lost(key)).copied().collect();
    flows.retain(|key, _| !lost.contains(key));
    lost.len()
}

fn play(live: &mut Live, seed: u64, seen: &mut Seen) {
    let mut chance = Chance::new(seed);
    let mut world = scene_with_ways(&mut chance);
    if world.settings.is_none() {
        return;
    }
    // The scenes' own flows may lack a direction; those that the path makes never do, where all find room.
    world.v4.flows.clear();
    world.v6.flows.clear();
    world.settings_mut().untrusted_mask = UNTRUSTED_SETS - 1;
    live.load(&world);
    let mut grammars = [Grammar::new(&mut chance), Grammar::new(&mut chance)];
    let mut before = live.flows();
    for _ in 0..ROUNDS {
        if chance.one_in(3) {
            disturb_ways(&mut world, &mut chance);
            live.configure(&world);
        }
        if chance.one_in(2) {
            world.advance(*chance.pick(&[1, 5, 40, 200]));
            live.set_now(world.now());
        }
        if chance.one_in(4) {
            let step = *chance.pick(&[Retire::Mark, Retire::Remove]);
            live.retire(step, &Keys::of(&before));
            before = live.flows();
        }
        let lists = frames(&mut grammars, &mut chance, &before, world.now());
        let raced = live.race_frames(&lists);
        for ((frame, _), (action, bytes)) in lists.iter().flatten().zip(raced.iter().flatten()) {
            assert_ne!(*action, Action::Aborted);
            if *action == Action::Redirect {
                assert_hidden(frame, bytes);
                seen.forwarded += 1;
            }
        }
        let after = live.flows();
        seen.lost += assert_all_paired(&after, &world);
        let alive = before.alive(&world);
        seen.compared += assert_same(&alive.v4, &alive.untrusted.v4, &after.v4);
        seen.compared += assert_same(&alive.v6, &alive.untrusted.v6, &after.v6);
        seen.most = seen.most.max(after.v4.len() + after.v6.len());
        before = after;
    }
}

#[test]
fn at_once_two_cpus_with_random_frames_keep_the_invariants() {
    two_cpus(|live| {
        let mut seen = Seen::default();
        for seed in 0..SEQUENCES {
            println!("sequence {seed}");
            play(live, seed, &mut seen);
        }
        println!("{seen:?}");
        assert!(
            seen.forwarded > 1_000 && seen.compared > 500 && seen.most > 20 && seen.lost < 10,
            "{seen:?}"
        );
    });
}
