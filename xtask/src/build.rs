//! `cargo xtask build`: the program with its eBPF object, and the checks of the object.

use anyhow::Result;

use crate::setup::Group;
use crate::{object, process, setup};

/// Build `forebay` and check its eBPF object
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Optimised, as it is installed
    #[arg(long)]
    release: bool,
}

/// The verb.
pub(crate) fn run(args: &Args) -> Result<()> {
    setup::ensure(&[Group::Build])?;
    let mut command = process::cargo();
    command.args(["build", "--package", "forebay"]);
    if args.release {
        command.arg("--release");
    }
    process::run(&mut command)?;
    object::check()
}
