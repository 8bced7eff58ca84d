//! Virtual machines with other kernels: `cargo xtask test --vm`.

mod archive;
mod debian;
mod guest;
pub(crate) use guest::is_dynamic;
mod kernel;
mod network;
mod nics;
mod qemu;
mod sources;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::test::summary::{Counts, Row};
use crate::workspace;
use guest::{Guest, Results};
use kernel::Kernel;
use qemu::Emulator;

/// The kernel series that Debian 12 offers; the first is the oldest supported.
const SERIES: &[&str] = &["6.1", "6.12"];
/// Software emulation is slow, and a hanging guest must end.
const TIMEOUT: Duration = Duration::from_secs(1800);
/// Leaves out the tests of several queues.
const OF_QUEUES: [&str; 2] = ["--skip", "queues::"];
/// How much of the kernel's messages is shown when something failed.
const CONSOLE_LINES: usize = 60;

/// One program to run in the guest, as root, in `folder`.
#[derive(Clone)]
pub(crate) struct Job {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    /// Whether it runs once for every driver of NICs, with some of these.
    pub(crate) wants_nics: bool,
}

/// Runs the jobs on every kernel; one row for each kernel and job.
pub(crate) fn run(jobs: &[Job]) -> Result<Vec<Row>> {
    let cache = workspace::target().join("vm");
    std::fs::create_dir_all(&cache)
        .with_context(|| format!("cannot make the folder {}", cache.display()))?;
    let debian = debian::Debian::new(&cache)?;
    let emulator = qemu::find(&debian).context(
        "no QEMU: not installed here, and its packages could not be downloaded. \
         This says nothing about the product",
    )?;
    let mut kernels = Vec::new();
    for series in SERIES {
        kernels.push(kernel::fetch(&debian, series).with_context(|| {
            format!(
                "no kernel {series}: its package could not be downloaded or unpacked. \
                 This says nothing about the product"
            )
        })?);
    }
    let (jobs, skipped) = for_each_driver(&emulator, jobs);
    let mut rows = run_on_all(&kernels, &emulator, &jobs)?;
    rows.extend(skipped);
    Ok(rows)
}

/// The jobs as they are run, and a row for each that cannot be.
fn for_each_driver(emulator: &Emulator, jobs: &[Job]) -> (Vec<Job>, Vec<Row>) {
    let (mut runnable, mut skipped) = (Vec::new(), Vec::new());
    for job in jobs {
        if !job.wants_nics {
            runnable.push(job.clone());
            continue;
        }
        for driver in nics::DRIVERS {
            let mut job = job.clone();
            job.name = format!("{} {}", job.name, driver.name());
            if let Some(why) = emulator.lacks(driver) {
                skipped.push(Row::skipped(&job.name, &why));
                continue;
            }
            if let Some(why) = driver.one_queue(emulator.network()) {
                skipped.push(Row::skipped(&format!("{} queues", job.name), why));
                job.arguments.extend(OF_QUEUES.map(ToOwned::to_owned));
            }
            job.environment.push(driver.environment());
            runnable.push(job);
        }
    }
    (runnable, skipped)
}

/// All kernels at the same time: a guest that runs one test keeps one processor busy.
fn run_on_all(kernels: &[Kernel], emulator: &Emulator, jobs: &[Job]) -> Result<Vec<Row>> {
    let results: Vec<Result<Vec<Row>>> = std::thread::scope(|scope| {
        let running: Vec<_> = kernels
            .iter()
            .map(|kernel| scope.spawn(|| run_on(kernel, emulator, jobs)))
            .collect();
        running
            .into_iter()
            .map(|thread| thread.join().expect("running a guest does not panic"))
            .collect()
    });
    let mut rows = Vec::new();
    for result in results {
        rows.extend(result?);
    }
    Ok(rows)
}

fn run_on(kernel: &Kernel, emulator: &Emulator, jobs: &[Job]) -> Result<Vec<Row>> {
    let started = Instant::now();
    let guest = guest::prepare(kernel, jobs)?;
    let mut results = Results::new(&kernel.series);
    // A guest that did not end is a result like others: some jobs did not finish.
    if let Err(error) = emulator.run(&guest, TIMEOUT, |line| results.read(line)) {
        eprintln!("error: Linux {}: {error:#}", kernel.release);
    }
    let mut rows = vec![boot_row(kernel, &guest, &results, started)];
    rows.extend(jobs.iter().map(|job| results.row(&job.name)));
    if rows.iter().any(|row| row.counts.failed > 0) {
        show_console(kernel, &guest);
    }
    Ok(rows)
}

fn boot_row(kernel: &Kernel, guest: &Guest, results: &Results, started: Instant) -> Row {
    Row {
        name: format!("{} boot", kernel.series),
        counts: Counts::one(results.release.as_deref() == Some(kernel.release.as_str())),
        seconds: results
            .booted_after
            .unwrap_or_else(Instant::now)
            .duration_since(started)
            .as_secs_f64(),
        note: match &results.release {
            Some(release) => format!("Linux {release}"),
            None => format!("no boot; see {}", guest.console.display()),
        },
    }
}

/// The last that a guest's kernel said.
fn show_console(kernel: &Kernel, guest: &Guest) {
    let bytes = std::fs::read(&guest.console).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(CONSOLE_LINES)..];
    eprintln!(
        "--- Linux {}: the end of {} ---",
        kernel.release,
        guest.console.display()
    );
    for line in last {
        eprintln!("{:>4} # {line}", kernel.series);
    }
}
