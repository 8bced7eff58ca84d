//! `cargo xtask demo` and `cargo xtask lab`: a small network on this machine.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;

use anyhow::{Context, Result};

use crate::setup::Group;
use crate::{object, process, setup, workspace};

const PROGRAM: &str = "forebay-lab";

/// Make a small network, run Forebay in it, send it real requests, clean up
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Passed on
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

/// Make the same network and leave it up to play in
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct LabArgs {
    /// Passed on; `--help` tells what there is
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

/// The verb `demo`.
pub(crate) fn run(args: &Args) -> Result<()> {
    start("demo", &args.rest)
}

/// The verb `lab`.
pub(crate) fn lab(args: &LabArgs) -> Result<()> {
    start("lab", &args.rest)
}

fn start(verb: &str, rest: &[OsString]) -> Result<()> {
    setup::ensure(&[Group::Build, Group::Demo])?;
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
    object::check()?;
    let built = workspace::target().join("release");
    let mut command = process::as_root(
        &built.join(PROGRAM),
        &[("FOREBAY_BIN".into(), built.join("forebay").into())],
    )?;
    command.arg(verb).args(rest);
    println!("$ {}", process::shown(&command));
    // In place of this program, so that Ctrl-C reaches only the one that cleans up.
    Err(command.exec()).with_context(|| format!("cannot run {PROGRAM}"))
}
