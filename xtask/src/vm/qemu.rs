//! QEMU: the installed one, else Debian's, unpacked beside the build output.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::debian::Debian;
use super::guest::Guest;
use crate::process;

const PROGRAM: &str = "qemu-system-x86_64";
const PACKAGE: &str = "qemu-system-x86";

/// A QEMU that runs on this machine.
pub(crate) struct Emulator {
    program: PathBuf,
    /// Set when it is not installed but unpacked here.
    unpacked: Option<PathBuf>,
}

/// Looks for QEMU, fetches it when there is none.
pub(crate) fn find(debian: &Debian) -> Result<Emulator> {
    if let Some(program) = process::find(PROGRAM) {
        return Ok(Emulator {
            program,
            unpacked: None,
        });
    }
    let folder = debian.cache.join("qemu");
    let done = folder.join("unpacked");
    if !done.exists() {
        println!("fetching {PACKAGE}, to be unpacked in {}", folder.display());
        for package in debian.download_with_dependencies(PACKAGE)? {
            process::read(
                process::system("dpkg-deb")
                    .arg("-x")
                    .args([&package, &folder]),
            )?;
        }
        debian.forget_downloads();
        std::fs::write(done, "")?;
    }
    Ok(Emulator {
        program: folder.join("usr/bin").join(PROGRAM),
        unpacked: Some(folder),
    })
}

impl Emulator {
    /// Boots the guest and hands each line of its results to `read`, until it
    /// powers itself off.
    pub(crate) fn run(
        &self,
        guest: &Guest,
        timeout: Duration,
        read: impl FnMut(&str),
    ) -> Result<()> {
        let mut command = self.command(guest);
        println!("$ {}", process::shown(&command));
        let status = process::follow(&mut command, timeout, read)
            .with_context(|| format!("console: {}", guest.console.display()))?;
        if !status.success() {
            bail!(
                "QEMU failed ({status}); console: {}",
                guest.console.display()
            );
        }
        Ok(())
    }

    fn command(&self, guest: &Guest) -> Command {
        let mut command = Command::new(&self.program);
        process::forget_this_run(&mut command);
        if let Some(folder) = &self.unpacked {
            command.env("LD_LIBRARY_PATH", libraries(folder));
            for data in ["usr/share/qemu", "usr/share/seabios"] {
                command.arg("-L").arg(folder.join(data));
            }
        }
        command.args(["-no-user-config", "-nodefaults", "-no-reboot"]);
        command.args(["-display", "none", "-m", "1024", "-smp", "2"]);
        command.args(accelerator(Path::new("/sys/module")));
        command.arg("-kernel").arg(&guest.image);
        command.arg("-initrd").arg(&guest.initial);
        command.args(["-append", &guest.command_line]);
        command.args([
            "-chardev",
            &format!("file,id=console,path={}", guest.console.display()),
        ]);
        command.args(["-serial", "chardev:console", "-serial", "stdio"]);
        command.args([
            "-virtfs",
            "local,path=/,security_model=none,readonly=on,mount_tag=hostroot,multidevs=remap",
        ]);
        command
    }
}

fn libraries(folder: &Path) -> OsString {
    let places = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"];
    std::env::join_paths(places.map(|place| folder.join(place)))
        .expect("the build folder has no colon in its name")
}

/// Hardware help only where the kernel has the ordinary driver for it: some
/// hosts offer a /dev/kvm that cannot run a stock kernel.
fn accelerator(modules: &Path) -> [&'static str; 4] {
    let hardware = ["kvm_intel", "kvm_amd"]
        .iter()
        .any(|module| modules.join(module).is_dir());
    if hardware {
        ["-accel", "kvm", "-cpu", "host"]
    } else {
        ["-accel", "tcg,thread=multi,tb-size=256", "-cpu", "max"]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_driver_for_virtualisation_the_machine_is_emulated() {
        assert_eq!(
            accelerator(Path::new("/nowhere"))[1],
            "tcg,thread=multi,tb-size=256"
        );
    }
}
