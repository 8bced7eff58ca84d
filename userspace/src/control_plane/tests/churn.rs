//! Members come, go and change their weight, one after the other: what moves, beyond what has to.

use std::fmt::Write;

use forebay_common::abi::RING_SIZE;
use forebay_common::balance::build_ring;

use super::*;

/// Machines that are members or not.
const MACHINES: usize = 40;
/// Times that something changes, for each sort of pool.
const CHANGES: usize = 250;
/// What may move besides what must: invariant "consistent".
const MOST: f64 = 0.015;

/// Weights by machine; 0: no member.
type Weights = [u16; MACHINES];

/// A pool with these members.
fn text(weights: &Weights) -> String {
    let mut text = String::from(
        "[node]\nname = \"lb1\"\ninterfaces = [\"c0\", \"i0\"]\n\
         [[frontend]]\nname = \"web\"\nipv4 = \"203.0.113.10\"\n\
         [[rule]]\nname = \"http\"\nfrontend = \"web\"\nport = 80\npool = \"web\"\n",
    );
    let mut members = Vec::new();
    for (machine, weight) in weights.iter().enumerate() {
        let _ = write!(
            text,
            "[[instance]]\nname = \"i{machine}\"\nipv4 = \"10.0.{}.{}\"\n",
            machine % 7,
            machine + 1
        );
        if *weight > 0 {
            members.push(format!(
                "{{ instance = \"i{machine}\", weight = {weight} }}"
            ));
        }
    }
    let _ = write!(
        text,
        "[[pool]]\nname = \"web\"\nmembers = [{}]\n",
        members.join(", ")
    );
    text
}

/// Whose each slot of the rule's ring is, as the table would have it: members keep their ids.
fn slots(plane: &ControlPlane) -> Vec<u32> {
    let tables = plane.applied();
    let rule = tables.bindings.values().find(|rule| rule.is_active());
    let Some(Ring::Members(members)) = rule.and_then(|rule| tables.rings.get(&rule.targets[0]))
    else {
        panic!("the rule has a ring")
    };
    build_ring(members)
}

/// The share of slots that have moved although nobody's share asked for it.
fn needless(before: &[u32], after: &[u32]) -> f64 {
    let mut lost = BTreeMap::<u32, i64>::new();
    let mut moved = 0;
    for (before, after) in before.iter().zip(after).filter(|(a, b)| a != b) {
        moved += 1;
        *lost.entry(*before).or_default() += 1;
        *lost.entry(*after).or_default() -= 1;
    }
    let must: i64 = lost.values().map(|lost| *lost.max(&0)).sum();
    (moved - must) as f64 / f64::from(RING_SIZE)
}

/// A reproducible number below `end` (Marsaglia's xorshift).
fn random(state: &mut u64, end: usize) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 11) as usize % end
}

/// Adds, removes or reweights one; at least two members stay.
fn change(weights: &mut Weights, heaviest: u16, machines: usize, state: &mut u64) {
    let machine = random(state, machines);
    let weight = 1 + random(state, heaviest.into()) as u16;
    let members = weights.iter().filter(|weight| **weight > 0).count();
    weights[machine] = match weights[machine] {
        0 => weight,
        _ if members > 2 && random(state, 2) == 0 => 0,
        _ => weight,
    };
}

/// B9-07.
#[test]
fn consistent_changes_of_members_move_little_else() {
    let (mut state, mut worst, mut sum, mut count) = (0x5eed, 0.0_f64, 0.0, 0);
    for (machines, heaviest) in [(4, 1), (5, 4), (12, 4), (MACHINES, 256)] {
        let mut weights = [0; MACHINES];
        weights[..machines].fill(1);
        let mut plane = control_plane();
        plane
            .handle(Event::Config(parsed(&text(&weights))))
            .unwrap();
        let mut before = slots(&plane);
        for _ in 0..CHANGES {
            let former = weights;
            change(&mut weights, heaviest, machines, &mut state);
            if weights == former {
                continue;
            }
            plane
                .handle(Event::Config(parsed(&text(&weights))))
                .unwrap();
            let after = slots(&plane);
            let share = needless(&before, &after);
            assert!(
                share <= MOST,
                "{:.2} % moved besides what had to: {former:?}, {weights:?}",
                share * 100.0
            );
            (worst, sum, count) = (worst.max(share), sum + share, count + 1);
            before = after;
        }
    }
    println!(
        "{count} changes moved {:.2} % of the slots besides what had to, on average; {:.2} % at worst",
        sum / f64::from(count) * 100.0,
        worst * 100.0
    );
}
