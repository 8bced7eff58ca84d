//! What must hold whatever the tables and whatever the frames, of the model and of the live program.
//!
//! One file for each invariant of the packet path, under its name: *unique*, *complete*, *inverse*, *fail closed*,
//! *never evict*, *stable*, *consistent*, *on time*, *total*, *counted*, *quiet host*; and one for several of them on two
//! CPUs at once. Random frames come from fixed seeds, so that a failure is there again at the next run.

mod at_once;
mod complete;
mod consistent;
mod counted;
mod fail_closed;
mod inverse;
mod never_evict;
mod on_time;
mod quiet_host;
mod stable;
mod total;
mod unique;

pub(crate) use unique::assert_paired;

use forebay_tests::chance::Chance;
use forebay_tests::engine::{Engine, Keys, Model, Outcome, Retire, with_live};
use forebay_tests::network::plan::Link;
use forebay_tests::random::{Grammar, disturb, scene};
use forebay_tests::world::{Flows, World};

/// Frames of a random sequence.
const LENGTH: u32 = 200;

/// Set in guests: the model there is what it is here, and takes much longer.
const GUEST: &str = "FOREBAY_GUEST";

/// Runs a test in the model, then on the live program, where a frame costs more. `rounds` is for the
/// model.
fn on_both(rounds: u64, test: impl Fn(&mut dyn Engine, u64)) {
    if std::env::var_os(GUEST).is_none() {
        test(&mut Model::default(), rounds);
    }
    with_live(|live| test(live, rounds / 4));
}

/// One frame of a random sequence.
struct Event<'e> {
    ingress: &'static Link,
    frame: &'e [u8],
    outcome: &'e Outcome,
    flows: &'e Flows,
    world: &'e World,
    /// Whether the next event is of another sequence.
    is_last: bool,
}

/// Runs random frames over random tables, reloads and sweeps in between, and shows each to `check`.
/// `begin` may change the tables that a sequence begins with.
fn random_frames(
    engine: &mut dyn Engine,
    sequences: u64,
    begin: fn(&mut World),
    check: impl Fn(&Event<'_>),
) {
    for seed in 0..sequences {
        let mut chance = Chance::new(seed);
        let mut world = scene(&mut chance);
        begin(&mut world);
        engine.load(&world);
        let mut grammar = Grammar::new(&mut chance);
        let mut flows = engine.flows();
        for step in 0..LENGTH {
            if chance.one_in(20) {
                disturb(&mut world, &mut chance);
                engine.configure(&world);
            }
            if chance.one_in(3) {
                world.advance(*chance.pick(&[1, 5, 40, 200]));
                engine.set_now(world.now());
            }
            if chance.one_in(30) {
                let step = *chance.pick(&[Retire::Mark, Retire::Remove]);
                let keys = Keys::of(&engine.flows());
                engine.retire(step, &keys);
            }
            let (frame, ingress) = grammar.next(&mut chance, &flows, world.now());
            let outcome = engine.run(&frame, ingress);
            flows = engine.flows();
            check(&Event {
                ingress,
                frame: &frame,
                outcome: &outcome,
                flows: &flows,
                world: &world,
                is_last: step + 1 == LENGTH,
            });
        }
    }
}
