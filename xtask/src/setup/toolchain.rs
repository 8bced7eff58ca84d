//! The compiler for the eBPF target: one that comes with the source of `core`,
//! and a linker whose LLVM is not older.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{apt, linker, step};
use crate::process;

/// Packages of Debian that hold a compiler and the source of `core`.
const DEBIAN: &[&str] = &["rustc-web", "cargo-web", "rust-web-src"];
/// Clippy of the same source.
const SYSTEM_CLIPPY: &str = "/usr/bin/cargo-clippy";
/// Names the cargo that builds the eBPF object, whatever else is installed.
const CHOSEN: &str = "FOREBAY_BPF_CARGO";
/// The oldest release the eBPF crates compile with.
const OLDEST: (u32, u32) = (1, 95);

/// A compiler that can build `core` for the eBPF target.
#[derive(Debug)]
pub(crate) struct Compiler {
    /// For people.
    pub(crate) name: String,
    kind: Kind,
    /// The major version of its LLVM; not known of one that the user chose.
    pub(crate) llvm: Option<u32>,
}

/// Where a compiler comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A nightly that rustup manages.
    Nightly,
    /// The system's packages.
    System,
    /// What the user's environment names.
    Chosen,
}

impl Compiler {
    /// A command that runs this compiler's clippy on the workspace.
    pub(crate) fn clippy(&self) -> Command {
        let mut command = match self.kind {
            Kind::Nightly => {
                let mut command = process::system("rustup");
                command.args(["run", "nightly", "cargo"]);
                command.env_remove("CARGO").env_remove("RUSTC");
                command
            }
            Kind::Chosen => {
                let mut command = Command::new(std::env::var_os(CHOSEN).unwrap_or_default());
                process::forget_this_run(&mut command);
                command.env_remove("CARGO").env_remove("RUSTC");
                command
            }
            Kind::System => {
                // By its own name: cargo would take another toolchain's.
                let mut command = process::system(SYSTEM_CLIPPY);
                command
                    .env("CARGO", "/usr/bin/cargo")
                    .env("RUSTC", "/usr/bin/rustc")
                    .env("RUSTC_BOOTSTRAP", "1");
                command
            }
        };
        command
            .arg("clippy")
            .env_remove("RUSTUP_TOOLCHAIN")
            .env_remove("RUSTFLAGS")
            .current_dir(crate::workspace::root());
        command
    }

    /// Installs this compiler's clippy when it is missing.
    pub(crate) fn ensure_clippy(&self) -> Result<()> {
        let is_there = match self.kind {
            Kind::System => Path::new(SYSTEM_CLIPPY).exists(),
            Kind::Nightly | Kind::Chosen => {
                let version = process::finish(self.clippy().arg("--version"))?;
                version.status.success()
            }
        };
        if is_there {
            return Ok(());
        }
        step("clippy of the eBPF compiler", || match self.kind {
            Kind::System => apt::install(&["rust-web-clippy"]),
            Kind::Nightly => process::run(process::system("rustup").args([
                "component",
                "add",
                "clippy",
                "--toolchain",
                "nightly",
            ])),
            Kind::Chosen => bail!("the cargo that {CHOSEN} names has no clippy"),
        })
    }
}

/// The compiler to use, as the build of the eBPF object chooses it.
pub(crate) fn find() -> Result<Compiler> {
    chosen()
        .or_else(nightly)
        .or_else(system)
        .context("no Rust compiler with the source of `core`")
}

fn chosen() -> Option<Compiler> {
    let cargo = std::env::var(CHOSEN).ok()?;
    Some(Compiler {
        name: format!("{cargo}, as {CHOSEN} says"),
        kind: Kind::Chosen,
        llvm: None,
    })
}

fn nightly() -> Option<Compiler> {
    let toolchains = match std::env::var_os("RUSTUP_HOME") {
        Some(dir) => PathBuf::from(dir),
        None => process::home().join(".rustup"),
    }
    .join("toolchains");
    let host = format!("nightly-{}-unknown-linux-gnu", std::env::consts::ARCH);
    compiler("nightly of rustup", Kind::Nightly, &toolchains.join(host))
}

fn system() -> Option<Compiler> {
    if !Path::new("/usr/bin/cargo").exists() {
        return None;
    }
    compiler("system packages", Kind::System, Path::new("/usr"))
}

fn compiler(name: &str, kind: Kind, prefix: &Path) -> Option<Compiler> {
    if !prefix.join("lib/rustlib/src/rust/library/core").is_dir() {
        return None;
    }
    let mut command = Command::new(prefix.join("bin/rustc"));
    process::forget_this_run(&mut command);
    let text = process::read(command.arg("-vV")).ok()?;
    let (release, llvm) = versions(&text)?;
    if release < OLDEST {
        return None;
    }
    Some(Compiler {
        name: format!("rustc {}.{} ({name}), LLVM {llvm}", release.0, release.1),
        kind,
        llvm: Some(llvm),
    })
}

/// Release and LLVM version from what `rustc -vV` prints.
fn versions(text: &str) -> Option<((u32, u32), u32)> {
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
    let mut release = value("release: ")?.split('.');
    let mut next = || release.next()?.parse().ok();
    let release = (next()?, next()?);
    let llvm = value("LLVM version: ")?.split('.').next()?.parse().ok()?;
    Some((release, llvm))
}

/// Packages of a compiler; none where they do not exist.
pub(crate) fn packages() -> Result<&'static [&'static str]> {
    Ok(if apt::offers(DEBIAN[0])? { DEBIAN } else { &[] })
}

/// Makes sure that the eBPF object can be compiled and linked, with the compiler
/// that was found if one was.
pub(crate) fn ensure(found: Option<Compiler>) -> Result<Compiler> {
    let compiler = match found.or_else(|| find().ok()) {
        Some(compiler) => compiler,
        None => {
            install_nightly()?;
            find().context("the compiler that was just installed cannot be used")?
        }
    };
    linker::ensure(&compiler)?;
    Ok(compiler)
}

fn install_nightly() -> Result<()> {
    if process::find("rustup").is_none() {
        bail!(
            "the eBPF program needs a Rust nightly with the source of `core`; \
             install rustup and run the command again"
        );
    }
    step("a Rust nightly with the source of `core`, for eBPF", || {
        process::run(process::system("rustup").args([
            "toolchain",
            "install",
            "nightly",
            "--profile",
            "minimal",
            "--component",
            "rust-src",
        ]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_a_nightly_too() {
        let text = "rustc 1.97.0-nightly (e50 2026-05-19)\nbinary: rustc\n\
            release: 1.97.0-nightly\nLLVM version: 22.1.4\n";
        assert_eq!(versions(text), Some(((1, 97), 22)));
    }

    #[test]
    fn a_compiler_that_does_not_tell_its_llvm_is_not_used() {
        assert_eq!(versions("rustc 1.63.0\nrelease: 1.63.0\n"), None);
    }
}
