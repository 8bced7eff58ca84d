//! Random sequences of frames, reloads, sweeps and pauses.

use std::collections::BTreeMap;

use forebay_common::reason::Reason;
use forebay_tests::chance::{Chance, is_long, number, seed};
use forebay_tests::engine::{Live, Retire, with_live};
use forebay_tests::frame::decode;
use forebay_tests::network::plan::Link;
use forebay_tests::random::{Grammar, disturb_ways, scene_with_ways};
use forebay_tests::world::World;

use crate::twins::Twins;

/// Frames in one sequence; the next begins with fresh tables.
const SEQUENCE: u64 = 300;

fn frames() -> u64 {
    number("FOREBAY_FRAMES").unwrap_or(if is_long() { 3_000_000 } else { 100_000 })
}

/// How often each reason was met.
type Census = BTreeMap<Reason, u64>;

#[test]
fn kernel_and_model_agree_on_random_frames() {
    with_live(|live| {
        let (first, frames) = (seed(), frames());
        println!("SEED={first} FOREBAY_FRAMES={frames}");
        let mut census = Census::new();
        let mut sent = 0;
        while sent < frames {
            let seed = first.wrapping_add(sent / SEQUENCE);
            let length = SEQUENCE.min(frames - sent);
            if let Err(text) = sequence(live, seed, length, &mut census) {
                panic!("kernel and model differ; SEED={seed} begins with this sequence\n{text}");
            }
            sent += length;
        }
        for (reason, count) in &census {
            println!("{count:>9} {}", reason.label());
        }
        assert_no_reason_is_missing(&census, frames);
    });
}

/// What random frames do not meet: a part of the program that is missing, a frame without room, more echo
/// requests in a second than a sequence has frames, a full table where a flow begins anew, and more SNAT ports
/// than the table has room for.
const OUT_OF_REACH: [Reason; 5] = [
    Reason::NotLoaded,
    Reason::NoRoom,
    Reason::AnswerLimit,
    Reason::FlowTableFull,
    Reason::SnatSearching,
];

/// Random frames that never meet a reason do not test it.
fn assert_no_reason_is_missing(census: &Census, frames: u64) {
    let missing: Vec<&str> = Reason::ALL
        .iter()
        .filter(|reason| !census.contains_key(reason) && !OUT_OF_REACH.contains(reason))
        .map(|reason| reason.label())
        .collect();
    assert!(
        frames < 50_000 || missing.is_empty(),
        "no frame ended as {missing:?}"
    );
}

/// One frame of a sequence and what happened before it.
struct Event {
    step: u64,
    now: u64,
    before: String,
    ingress: &'static Link,
    frame: Vec<u8>,
}

impl std::fmt::Display for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (step, now, before) = (self.step, self.now, &self.before);
        let (name, frame) = (self.ingress.name, decode(&self.frame));
        write!(f, "{step} at {now}: {before}{name} {frame}")
    }
}

/// Frames before the failing one that are told.
const TOLD: usize = 4;

/// One sequence from fresh tables.
fn sequence(live: &mut Live, seed: u64, length: u64, census: &mut Census) -> Result<(), String> {
    let mut chance = Chance::new(seed);
    let mut world = scene_with_ways(&mut chance);
    let mut twins = Twins::new(live, &world);
    let mut grammar = Grammar::new(&mut chance);
    let mut events: Vec<Event> = Vec::new();
    for step in 0..length {
        let (before, swept) = meanwhile(&mut twins, &mut world, &mut chance);
        let (frame, ingress) = grammar.next(&mut chance, twins.flows(), world.now());
        let outcome = swept.and_then(|()| twins.run(&frame, ingress));
        events.push(Event {
            step,
            now: world.now(),
            before,
            ingress,
            frame,
        });
        match outcome {
            Ok(outcome) if outcome.reason() == Reason::NotLoaded => {
                let told = events.iter().rev().take(TOLD + 1).rev();
                let lines: Vec<String> = told.map(Event::to_string).collect();
                return Err(format!("{}\ngoes in circles", lines.join("\n")));
            }
            Ok(outcome) => *census.entry(outcome.reason()).or_default() += 1,
            Err(difference) => {
                let told = events.iter().rev().take(TOLD + 1).rev();
                let lines: Vec<String> = told.map(Event::to_string).collect();
                return Err(format!("{}\n{difference}", lines.join("\n")));
            }
        }
    }
    match twins.compare_all() {
        text if text.is_empty() => Ok(()),
        text => Err(text),
    }
}

/// What happens between two frames: a reload, a pause, a sweep. Says what it was, and what was
/// different afterwards.
fn meanwhile(
    twins: &mut Twins<'_>,
    world: &mut World,
    chance: &mut Chance,
) -> (String, Result<(), String>) {
    let mut told = String::new();
    if chance.one_in(12) {
        told = disturb_ways(world, chance);
        twins.configure(world);
    }
    if chance.one_in(3) {
        world.advance(*chance.pick(&[1, 1, 2, 5, 11, 40, 200, 1_500]));
        twins.set_now(world.now());
    }
    if !chance.one_in(25) {
        return (told, Ok(()));
    }
    let step = *chance.pick(&[Retire::Mark, Retire::Remove]);
    (format!("{told}{step:?} "), twins.retire(step))
}
