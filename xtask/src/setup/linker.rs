//! bpf-linker: there, and its LLVM not older than the compiler's.

use std::path::Path;

use anyhow::{Result, bail};

use super::toolchain::Compiler;
use super::{apt, step};
use crate::process;

const PROGRAM: &str = "bpf-linker";
/// The release this workspace is built with.
const VERSION: &str = "0.13.0";

/// Installs the linker unless one is there that can read the compiler's output.
pub(crate) fn ensure(compiler: &Compiler) -> Result<()> {
    let found = process::find(PROGRAM);
    let Some(needed) = compiler.llvm else {
        return match found {
            Some(_) => Ok(()),
            None => bail!(
                "{PROGRAM} is missing; install one that fits {}",
                compiler.name
            ),
        };
    };
    let Some(path) = found else {
        return install(needed);
    };
    match llvm_of(&path) {
        Some(llvm) if llvm < needed => {
            println!(
                "setup: {} has LLVM {llvm}, the compiler has LLVM {needed}: \
                 an older LLVM cannot read what a newer one wrote",
                path.display()
            );
            install(needed)
        }
        _ => Ok(()),
    }
}

/// The LLVM a linker was built with, as its shared library's name tells;
/// nothing when LLVM is part of the program.
fn llvm_of(linker: &Path) -> Option<u32> {
    llvm_in(&std::fs::read(linker).ok()?)
}

fn llvm_in(program: &[u8]) -> Option<u32> {
    let name = b"libLLVM.so.";
    let start = program.windows(name.len()).position(|part| part == name)? + name.len();
    let digits: String = program[start..]
        .iter()
        .map(|&byte| char::from(byte))
        .take_while(char::is_ascii_digit)
        .collect();
    digits.parse().ok()
}

fn install(llvm: u32) -> Result<()> {
    let prefix = format!("/usr/lib/llvm-{llvm}");
    if !Path::new(&prefix).join("include/llvm-c").is_dir() {
        let package = format!("llvm-{llvm}-dev");
        if !apt::offers(&package)? {
            bail!(
                "{PROGRAM} {VERSION} with LLVM {llvm} or later is missing and cannot be built here: \
                 there is no package {package}. Take a program from the releases page of the \
                 project aya-rs/bpf-linker, put it on the PATH, and run the command again"
            );
        }
        step(&format!("LLVM for {PROGRAM}: {package}"), || {
            apt::install(&[&package])
        })?;
    }
    step(&format!("{PROGRAM} {VERSION}, compiled here"), || {
        let mut command = process::cargo();
        command
            .args([
                "install",
                PROGRAM,
                "--version",
                VERSION,
                "--locked",
                "--force",
            ])
            .args([
                "--no-default-features",
                "--features",
                &format!("llvm-{llvm}"),
            ])
            .env("LLVM_PREFIX", &prefix)
            .env("RUSTFLAGS", format!("-L {prefix}/lib"))
            .env_remove("CARGO_TARGET_DIR");
        process::run(&mut command)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_shared_library_tells_the_llvm() {
        assert_eq!(llvm_in(b"\0libz.so.1\0libLLVM.so.22.1\0"), Some(22));
        assert_eq!(llvm_in(b"\0libc.so.6\0"), None);
    }
}
