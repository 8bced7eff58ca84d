//! `cargo xtask setup`: what this machine lacks is installed, step by step.

mod apt;
mod linker;
mod packages;
pub(crate) mod toolchain;

use std::time::Instant;

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::process;

/// Install what is missing on Debian and Ubuntu; elsewhere, say what it is
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to prepare for; everything when left out
    #[arg(long = "for", value_enum, value_delimiter = ',')]
    groups: Vec<Group>,
}

/// What a package is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Group {
    Build,
    Demo,
    Test,
    Bench,
    Vm,
    Lint,
}

/// The verb: prepares for everything, or for what was named, and reports.
pub(crate) fn run(args: &Args) -> Result<()> {
    let started = Instant::now();
    let groups = if args.groups.is_empty() {
        Group::value_variants()
    } else {
        &args.groups
    };
    ensure(groups)?;
    println!(
        "setup: everything is there ({:.1} s)",
        started.elapsed().as_secs_f64()
    );
    println!("  eBPF compiler: {}", toolchain::find()?.name);
    Ok(())
}

/// Installs what the groups need and this machine lacks. Silent when that is nothing.
pub(crate) fn ensure(groups: &[Group]) -> Result<()> {
    let with_compiler = groups.iter().any(|group| *group != Group::Vm);
    let compiler = toolchain::find().ok().filter(|_| with_compiler);
    let missing = packages::missing(groups);
    let mut names: Vec<&str> = missing.iter().map(|need| need.package).collect();
    if with_compiler && compiler.is_none() {
        names.extend(toolchain::packages()?);
    }
    if !names.is_empty() {
        step(&format!("system packages: {}", names.join(" ")), || {
            apt::install(&names)
        })?;
    }
    if let Some(need) = packages::missing(groups).first() {
        bail!(
            "`{}` is still missing although the package {} was installed",
            need.program,
            need.package
        );
    }
    if with_compiler {
        let compiler = toolchain::ensure(compiler)?;
        if groups.contains(&Group::Lint) {
            compiler.ensure_clippy()?;
            rust_component("clippy", "clippy")?;
            rust_component("fmt", "rustfmt")?;
        }
    }
    Ok(())
}

/// A part of the Rust toolchain that rustup can add.
fn rust_component(subcommand: &str, component: &str) -> Result<()> {
    let mut probe = process::cargo();
    probe.args([subcommand, "--version"]);
    if process::finish(&mut probe)?.status.success() {
        return Ok(());
    }
    if process::find("rustup").is_none() {
        bail!("`cargo {subcommand}` is missing; install {component} for this Rust");
    }
    step(&format!("{component} of the Rust toolchain"), || {
        process::run(process::system("rustup").args(["component", "add", component]))
    })
}

/// Says what is installed, installs it, says how long that took.
fn step(what: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    println!("setup: installing {what}");
    let started = Instant::now();
    work()?;
    println!(
        "setup: done in {:.1} s: {what}",
        started.elapsed().as_secs_f64()
    );
    Ok(())
}
