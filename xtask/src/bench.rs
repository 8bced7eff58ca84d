//! `cargo xtask bench`: how fast it is, compared on this machine.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;

use anyhow::{Context, Result};

use crate::setup::Group;
use crate::{process, setup, workspace};

const PROGRAM: &str = "forebay-bench";

/// Measure the packet path; arguments are passed on
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// Passed on; `--help` tells what there is
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

/// The verb.
pub(crate) fn run(args: &Args) -> Result<()> {
    setup::ensure(&[Group::Build, Group::Bench])?;
    process::run(process::cargo().args([
        "build",
        "--release",
        "--package",
        "forebay",
        "--package",
        "forebay-tests",
        "--bin",
        "forebay",
        "--bin",
        PROGRAM,
    ]))?;
    let built = workspace::target().join("release");
    let mut command = process::as_root(
        &built.join(PROGRAM),
        &[("FOREBAY_BIN".into(), built.join("forebay").into())],
    )?;
    command.args(&args.rest);
    println!("$ {}", process::shown(&command));
    Err(command.exec()).with_context(|| format!("cannot run {PROGRAM}"))
}
