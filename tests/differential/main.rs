//! The program in the kernel against the pure pipeline: the same frames over the same tables must
//! have the same verdict, the same reason, the same bytes and the same changes in the tables.
//!
//! The cases of the packet suite, and random frames. `SEED=n` begins with the sequence of that seed,
//! as a failure prints it; `FOREBAY_FRAMES=n` sets how many frames are sent, `FOREBAY_LONG=1` makes
//! them millions. Without root the tests print `skipped: why`.

#[path = "../packet/cases/mod.rs"]
mod cases;

mod random;
mod twins;

use forebay_tests::engine::{Engine, Model, with_live};

use crate::cases::TABLES;
use crate::twins::differences;

#[test]
fn kernel_and_model_agree_on_every_case() {
    with_live(|live| {
        let mut model = Model::default();
        let mut failures = Vec::new();
        for case in TABLES.iter().flat_map(|(_, cases)| cases()) {
            let mut engines: [&mut dyn Engine; 2] = [&mut *live, &mut model];
            case.play(&mut engines, |number, step, engines| {
                let outcomes = [
                    engines[0].run(&step.frame, step.ingress),
                    engines[1].run(&step.frame, step.ingress),
                ];
                let mut text = differences(&outcomes);
                text += &engines[0].flows().difference(&engines[1].flows());
                let counters = [engines[0].rule_counters(), engines[1].rule_counters()];
                if counters[0] != counters[1] {
                    text += &format!("rule counters: {counters:?}\n");
                }
                if !text.is_empty() {
                    failures.push(format!("{}, step {}\n{text}", case.name, number + 1));
                }
            });
        }
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    });
}
