//! `cargo xtask test`: every check that needs no second machine.

mod programs;
pub(crate) mod summary;

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::setup::Group;
use crate::{object, process, setup, vm};
use programs::{NIC, Program, UNIT};
use summary::{Counts, Row};

/// A test program that runs longer hangs; with `--long` it may be at work.
const LIMIT: Duration = Duration::from_secs(30 * 60);
const LONG_LIMIT: Duration = Duration::from_secs(24 * 60 * 60);
/// Suites that run in virtual machines as well.
const IN_GUESTS: &[&str] = &["packet", "differential", NIC];

/// Run the tests; the last line is the total
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Boot Linux 6.1 and 6.12 in QEMU and run the suites packet, differential and nic there, nothing else
    #[arg(long)]
    vm: bool,
    /// Give the randomised suites more time
    #[arg(long)]
    long: bool,
    /// Only these: unit, packet, differential, simulation, e2e, nic
    #[arg(long = "suite", value_name = "SUITE", value_delimiter = ',')]
    suites: Vec<String>,
    /// Only tests whose name contains this
    filter: Option<String>,
}

/// The verb.
pub(crate) fn run(args: &Args) -> Result<()> {
    let rows = if args.vm {
        in_guests(args)?
    } else {
        here(args)?
    };
    println!("\n{}", summary::render(&rows));
    let failed = summary::total(&rows).failed;
    if failed > 0 {
        bail!("{failed} failed");
    }
    Ok(())
}

/// Runs the suites on this machine's kernel.
fn here(args: &Args) -> Result<Vec<Row>> {
    setup::ensure(&[Group::Build, Group::Test])?;
    let mut suites = programs::choose(&args.suites)?;
    let mut rows = Vec::new();
    if suites.iter().any(|suite| suite == NIC) {
        suites.retain(|suite| suite != NIC);
        if !args.suites.is_empty() {
            rows.push(Row::skipped(
                NIC,
                "only with --vm: it wants NICs of its own",
            ));
        }
    }
    let programs = programs::build(&suites)?;
    if args.suites.is_empty() {
        rows.push(object_row());
    }
    let no_root = process::no_root();
    for suite in &suites {
        let row = match no_root {
            Some(reason) if programs::needs_root(suite) => Row::skipped(suite, reason),
            _ => suite_row(suite, &programs, args)?,
        };
        rows.push(row);
    }
    if let Some(reason) = no_root {
        println!(
            "\n!!! SKIPPED: the suites above marked `skipped` need root ({reason}).\n\
             !!! Run `sudo -E env PATH=\"$PATH\" cargo xtask test` to have everything tested."
        );
    }
    Ok(rows)
}

fn object_row() -> Row {
    let started = Instant::now();
    let outcome = object::check();
    if let Err(error) = &outcome {
        eprintln!("error: {error:#}");
    }
    Row {
        name: "object".to_owned(),
        counts: Counts::one(outcome.is_ok()),
        seconds: started.elapsed().as_secs_f64(),
        note: String::new(),
    }
}

fn suite_row(suite: &str, programs: &[Program], args: &Args) -> Result<Row> {
    println!("\n--- {suite} ---");
    let started = Instant::now();
    let mut counts = Counts::default();
    let mut notes = Vec::new();
    let limit = if args.long { LONG_LIMIT } else { LIMIT };
    for program in programs.iter().filter(|program| program.suite == suite) {
        let mut command = program.command(args.long)?;
        command.args(&args.filter);
        notes.extend(run_counted(&program.name, &mut command, limit, &mut counts));
    }
    if suite == UNIT && args.filter.is_none() {
        let mut command = programs::documentation();
        notes.extend(run_counted(
            "documentation",
            &mut command,
            limit,
            &mut counts,
        ));
    }
    Ok(Row {
        name: suite.to_owned(),
        counts,
        seconds: started.elapsed().as_secs_f64(),
        note: notes.join(", "),
    })
}

/// Runs one test program; a note tells what went wrong beyond failed tests.
fn run_counted(
    name: &str,
    command: &mut Command,
    limit: Duration,
    counts: &mut Counts,
) -> Option<String> {
    let failed_before = counts.failed;
    let outcome = process::follow(command, limit, |line| {
        println!("{line}");
        counts.read(line);
    });
    let reported = counts.failed > failed_before;
    let note = match outcome {
        Ok(status) if status.success() || reported => return None,
        Ok(status) => format!("{name}: {status}"),
        Err(error) => format!("{name}: {error:#}"),
    };
    counts.failed += 1;
    Some(note)
}

/// Runs some of the suites on other kernels.
fn in_guests(args: &Args) -> Result<Vec<Row>> {
    setup::ensure(&[Group::Build, Group::Vm])?;
    let wanted: Vec<String> = if args.suites.is_empty() {
        IN_GUESTS.iter().map(ToString::to_string).collect()
    } else {
        args.suites.clone()
    };
    let suites = programs::choose(&wanted)?;
    let programs = programs::build(&suites)?;
    object::check()?;
    let filter = args.filter.as_deref();
    let jobs: Vec<vm::Job> = programs
        .iter()
        .map(|program| program.guest_job(args.long, filter))
        .collect();
    vm::run(&jobs)
}
