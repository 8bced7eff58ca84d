//! `cargo xtask lint`: formatting, clippy on both sides, documentation.

use anyhow::{Result, bail};

use crate::setup::Group;
use crate::setup::toolchain::{self, Compiler};
use crate::{process, setup, workspace};

/// Check formatting, lints and documentation; warnings are errors
#[derive(clap::Args)]
pub(crate) struct Args {}

/// The crates that compile for the host.
const HOST: &[&str] = &["--workspace", "--exclude", "forebay-ebpf"];

/// The verb.
pub(crate) fn run(_: &Args) -> Result<()> {
    setup::ensure(&[Group::Build, Group::Lint])?;
    let mut host = process::cargo();
    host.arg("clippy").args(HOST);
    host.args(["--all-targets", "--", "-D", "warnings"]);
    let mut documentation = process::cargo();
    documentation.args(["doc", "--no-deps"]).args(HOST);
    documentation.env("RUSTDOCFLAGS", "-D warnings");
    let faults: Vec<String> = [
        process::cargo().args(["fmt", "--all", "--check"]),
        &mut host,
        &mut kernel_clippy(&toolchain::find()?),
        &mut documentation,
    ]
    .into_iter()
    .filter_map(|command| process::run(command).err())
    .map(|error| error.to_string())
    .collect();
    if !faults.is_empty() {
        bail!("lint found something:\n  {}", faults.join("\n  "));
    }
    println!("lint: ok");
    Ok(())
}

/// Clippy on the code as the kernel side sees it, which the host never compiles.
fn kernel_clippy(compiler: &Compiler) -> std::process::Command {
    let mut command = compiler.clippy();
    command
        .args(["--package", "forebay-ebpf", "--bin", "forebay-xdp"])
        .args(["--profile", "bpf", "--target", "bpfel-unknown-none"])
        .args(["-Z", "build-std=core", "--locked", "--target-dir"])
        .arg(workspace::target().join("bpf-lint"))
        .args(["--", "-D", "warnings"])
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            "-Ctarget-cpu=v3\u{1f}--cfg=bpf_target_arch=\"x86_64\"",
        );
    command
}
