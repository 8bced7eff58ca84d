//! Virtual machines with other kernels: `cargo xtask test --vm`.

mod archive;
mod debian;
mod guest;
pub(crate) use guest::is_dynamic;
mod kernel;
mod qemu;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::test::summary::{Counts, Row};
use crate::workspace;
use guest::Results;
use kernel::Kernel;
use qemu::Emulator;

/// The kernel series that Debian 12 offers; the first is the oldest supported.
const SERIES: &[&str] = &["6.1", "6.12"];
/// Software emulation is slow, and a hanging guest must end.
const TIMEOUT: Duration = Duration::from_secs(900);

/// One program to run in the guest, as root, in `folder`.
pub(crate) struct Job {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
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
    run_on_all(&kernels, &emulator, jobs)
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
    let boot = Row {
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
    };
    let jobs = jobs.iter().map(|job| results.row(&job.name));
    Ok(std::iter::once(boot).chain(jobs).collect())
}
