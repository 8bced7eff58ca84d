//! How build scripts of the host's crates build an eBPF object; they include this file.
//!
//! A kernel program needs `core` for a target without a prebuilt one, so a compiler with its
//! library source: the toolchain of `FOREBAY_BPF_CARGO` if set, else rustup's nightly with rust-src,
//! else Debian's `/usr/bin/cargo`. `FOREBAY_SKIP_EBPF=1` leaves the object empty, so that checking
//! and editing need no eBPF toolchain.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const TARGET: &str = "bpfel-unknown-none";
const RUST_FLAGS: [&str; 4] = [
    "-Ctarget-cpu=v3",
    "-Clink-arg=--btf",
    "-Cdebuginfo=2",
    "--cfg=bpf_target_arch=\"x86_64\"",
];

/// Builds a binary of the eBPF crate into `OUT_DIR`, and a second copy to a path that tools can name:
/// `<target>/bpf/<binary>`.
pub(crate) fn build(binary: &str) -> ExitCode {
    match try_build(binary) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn try_build(binary: &str) -> Result<(), String> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let object = out.join(binary);
    println!("cargo:rerun-if-env-changed=FOREBAY_SKIP_EBPF");
    println!("cargo:rerun-if-env-changed=FOREBAY_BPF_CARGO");
    if env::var_os("FOREBAY_SKIP_EBPF").is_some_and(|value| value != "0") {
        return fs::write(&object, [])
            .map_err(|error| format!("write {}: {error}", object.display()));
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for path in ["ebpf", "common", "Cargo.lock", "Cargo.toml"] {
        println!("cargo:rerun-if-changed={}", root.join(path).display());
    }
    // One for all build scripts and profiles, so that `core` is compiled once.
    let target = out.ancestors().nth(4);
    let build_dir = target.unwrap_or(&out).join("bpf-build");
    let output = toolchain()
        .current_dir(&root)
        .args(["build", "--package", "forebay-ebpf", "--bin", binary])
        .args(["--profile", "bpf", "--locked"])
        .args(["-Z", "build-std=core", "--target", TARGET, "--target-dir"])
        .arg(&build_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", RUST_FLAGS.join("\u{1f}"))
        .output()
        .map_err(|error| {
            format!("start cargo for the eBPF program: {error}; run `cargo xtask setup`")
        })?;
    if !output.status.success() {
        return Err(explain(&String::from_utf8_lossy(&output.stderr)));
    }
    let built = build_dir.join(TARGET).join("bpf").join(binary);
    fs::copy(&built, &object).map_err(|error| format!("copy {}: {error}", built.display()))?;
    if let Some(target) = target {
        publish(&target.join("bpf"), &object, binary);
    }
    Ok(())
}

/// Turns the toolchain's least helpful messages into remedies.
fn explain(stderr: &str) -> String {
    let remedy = if stderr.contains("Invalid record") || stderr.contains("Unknown attribute kind") {
        "bpf-linker is built with an older LLVM than the compiler: run `cargo xtask setup`"
    } else if stderr.contains("linker `bpf-linker` not found") {
        "bpf-linker is missing: run `cargo xtask setup`"
    } else if stderr.contains("rust-src") || stderr.contains("library/Cargo.lock") {
        "the compiler for the eBPF program has no library source: run `cargo xtask setup`"
    } else {
        "see the messages above"
    };
    format!("{stderr}\nbuilding the eBPF program failed: {remedy}")
}

fn publish(folder: &Path, object: &Path, binary: &str) {
    if fs::create_dir_all(folder).is_ok() {
        let _ = fs::copy(object, folder.join(binary));
    }
}

/// A cargo that can build `core`, in an environment of its own.
fn toolchain() -> Command {
    let mut command = match env::var_os("FOREBAY_BPF_CARGO") {
        Some(cargo) => Command::new(cargo),
        None if nightly_has_source() => {
            let mut command = Command::new("rustup");
            command.args(["run", "nightly", "cargo"]);
            command
        }
        None => {
            let mut command = Command::new("/usr/bin/cargo");
            command
                .env("RUSTC", "/usr/bin/rustc")
                .env("RUSTC_BOOTSTRAP", "1");
            command
        }
    };
    for (name, _) in env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        let ours =
            text.starts_with("CARGO") || text.starts_with("RUSTC") || text.starts_with("RUSTFLAGS");
        let kept = matches!(text, "CARGO_HOME" | "CARGO_NET_OFFLINE");
        if (ours && !kept) || text == "RUSTUP_TOOLCHAIN" {
            command.env_remove(&name);
        }
    }
    if command.get_program() == "/usr/bin/cargo" {
        command
            .env("RUSTC", "/usr/bin/rustc")
            .env("RUSTC_BOOTSTRAP", "1");
    }
    command
}

fn nightly_has_source() -> bool {
    let Ok(output) = Command::new("rustup")
        .args(["run", "nightly", "rustc", "--print", "sysroot"])
        .output()
    else {
        return false;
    };
    let sysroot = String::from_utf8_lossy(&output.stdout);
    output.status.success()
        && Path::new(sysroot.trim())
            .join("lib/rustlib/src/rust/library/core")
            .is_dir()
}
