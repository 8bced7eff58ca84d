//! How fast Forebay is, compared in one run with a do-nothing program, the smallest translator that
//! could be, and the kernel's own NAT.
//!
//! Figures are CPU time of this thread, in rounds in which every case has its turn: on a machine with
//! other work they move together, so only ratios and differences within a run mean anything.

mod bpf;
mod daemon;
mod facts;
mod frame;
#[path = "../lab/interrupt.rs"]
#[expect(dead_code, reason = "the lab waits for what is only looked for here")]
mod interrupt;
mod machine;
mod micro;
mod path;
mod probes;
mod product;
mod report;
mod scene;
#[path = "../../ebpf/src/bench/shared.rs"]
mod shared;
mod stats;
mod yardstick;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::{Pid, geteuid};

use crate::machine::Machine;

/// Measures the packet path and compares it
#[derive(Debug, Parser)]
#[command(name = "forebay-bench")]
struct Arguments {
    /// What to measure
    #[arg(value_enum, default_value = "micro")]
    what: What,
    /// Look only whether it works: few packets, few rounds, recorded apart
    #[arg(long)]
    quick: bool,
    /// How many rounds, every case once in each
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// Measure only cases with this in their name, and what they are compared with; not recorded
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// CPU to measure on; the last one when left out
    #[arg(long)]
    cpu: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// Single programs, in test runs
    Micro,
    /// A router between two hosts, against nftables
    Path,
    /// What the daemon computes for 10,000 rules and 10,000 members, and what 2,000 probes a second cost it
    Daemon,
    /// All of them
    All,
}

impl Arguments {
    /// Name of the record; none of a part of the cases.
    fn record(&self, what: &str) -> Option<String> {
        let suffix = if self.quick { "-quick" } else { "" };
        self.only.is_none().then(|| format!("{what}{suffix}"))
    }

    /// Whether a case is to be measured.
    fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|text| name.contains(text))
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Before any thread exists, so that none of them is ended by the signal and cleaning up is.
    interrupt::watch();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("forebay-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    if !geteuid().is_root() {
        bail!("loading programs and making network namespaces needs root");
    }
    forebay_tests::netlab::sweep();
    let cpu = stay_on(arguments.cpu)?;
    let machine = Machine::look(cpu);
    if matches!(arguments.what, What::Micro | What::All) {
        let report = micro::run(arguments)?;
        report::publish(arguments.record("micro"), &machine, report)?;
    }
    if matches!(arguments.what, What::Daemon | What::All) {
        daemon::run(arguments.quick)?;
        probes::run(arguments.quick)?;
    }
    if matches!(arguments.what, What::Path | What::All) {
        let report = path::run(arguments, cpu)?;
        report::publish(arguments.record("path"), &machine, report)?;
    }
    Ok(())
}

/// Keeps this thread, and those it starts, on one CPU.
fn stay_on(wanted: Option<usize>) -> Result<usize> {
    let last = std::thread::available_parallelism()?.get() - 1;
    let cpu = wanted.unwrap_or(last);
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("stay on CPU {cpu}"))?;
    Ok(cpu)
}

/// The folder that cargo built this program into.
fn target_dir() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.ancestors().nth(2).map(PathBuf::from);
    target.context("this program is not in a folder of cargo's")
}
