//! What a packet costs in the program: test runs of one program after another, round after round.

mod case;
mod cases;
mod maker;
mod outward;
mod stage;

use std::collections::HashSet;

use anyhow::{Context, Result};
use case::{Case, Goal};
use maker::Effort;
use stage::{Place, Stage};

use crate::Arguments;
use crate::interrupt;
use crate::product::object_path;
use crate::report::micro::{Measured, MicroReport};
use crate::stats::Summary;

/// How often everything is done.
struct Rounds {
    /// Times the objects are loaded: every load gets other addresses, and with them other timings.
    loads: usize,
    /// Rounds in all.
    rounds: usize,
}

/// Measures everything, and reports.
pub(crate) fn run(arguments: &Arguments) -> Result<MicroReport> {
    let object = object_path()?;
    let place = Place::create()?;
    let measured = place
        .namespace
        .enter(|| measure(arguments, &object))
        .context("micro benchmark")?;
    Ok(measured)
}

fn plan(arguments: &Arguments) -> (Rounds, Effort) {
    // Many short samples: other work on the machine then meets what is compared alike.
    let usual = if arguments.quick { 3 } else { 20 };
    let rounds = usize::from(arguments.rounds.unwrap_or(usual));
    let loads = if arguments.quick { 1 } else { 5 };
    let effort = if arguments.quick {
        Effort {
            hot: 100_000,
            cold: 50_000,
            new: 10_000,
        }
    } else {
        Effort {
            hot: 400_000,
            cold: 150_000,
            new: 25_000,
        }
    };
    let loads = loads.min(rounds);
    (Rounds { loads, rounds }, effort)
}

fn measure(arguments: &Arguments, object: &std::path::Path) -> Result<MicroReport> {
    let (rounds, effort) = plan(arguments);
    let cases = wanted(arguments, cases::all(effort));
    let mut samples = vec![Vec::new(); cases.len()];
    let mut facts = None;
    let population = cases::population(&cases);
    for load in 0..rounds.loads {
        let mut stage = Stage::load(object, &population)?;
        if load == 0 {
            for case in &cases {
                case.verify(&mut stage)?;
            }
            facts = Some(crate::facts::read(
                &mut stage.product,
                &mut stage.yardstick,
            )?);
        }
        // Rounds are shared out evenly, the first loads take the rest.
        let share = (rounds.rounds + rounds.loads - 1 - load) / rounds.loads;
        for _ in 0..share {
            for (case, samples) in cases.iter().zip(&mut samples) {
                interrupt::check()?;
                samples.push(case.sample(&mut stage)?);
            }
            eprint!(".");
        }
    }
    eprintln!();
    let summaries: Vec<Summary> = samples.iter().map(|samples| Summary::of(samples)).collect();
    Ok(MicroReport {
        rounds: rounds.rounds,
        loads: rounds.loads,
        cases: evaluate(&cases, &summaries),
        facts: facts.context("no object was loaded")?,
    })
}

/// The cases that were asked for, and what they are compared with.
fn wanted(arguments: &Arguments, all: Vec<Case>) -> Vec<Case> {
    let mut names: HashSet<String> = HashSet::new();
    // A yardstick has a floor of its own.
    for _ in 0..3 {
        for case in &all {
            if arguments.wants(&case.name) || names.contains(&case.name) {
                names.insert(case.name.clone());
                names.extend(case.floor.clone());
                names.extend(case.yardstick.clone());
            }
        }
    }
    all.into_iter()
        .filter(|case| names.contains(&case.name))
        .collect()
}

fn evaluate(cases: &[Case], summaries: &[Summary]) -> Vec<Measured> {
    let find = |name: &str| cases.iter().position(|case| case.name == name);
    let net = |place: usize| {
        let floor = cases[place].floor.as_deref().and_then(find);
        floor.map(|floor| summaries[place].median - summaries[floor].median)
    };
    let evaluate = |(place, case): (usize, &Case)| {
        let own = net(place);
        let yardstick = case.yardstick.as_deref().and_then(find).and_then(net);
        let ratio = own.zip(yardstick).map(|(own, other)| own / other);
        let (goal, reached) = match case.goal {
            Some(Goal::Ratio(limit)) => (
                Some(format!("<= {limit} x")),
                ratio.map(|ratio| ratio <= limit),
            ),
            Some(Goal::Net(limit)) => (Some(format!("<= {limit} ns")), own.map(|own| own <= limit)),
            None => (None, None),
        };
        Measured {
            name: case.name.clone(),
            total: summaries[place],
            net: own,
            compared_with: case.yardstick.clone(),
            ratio,
            goal,
            reached,
        }
    };
    cases.iter().enumerate().map(evaluate).collect()
}
