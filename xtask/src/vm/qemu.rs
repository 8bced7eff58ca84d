//! QEMU: the installed one, else Debian's, unpacked beside the build output.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::debian::Debian;
use super::guest::Guest;
use super::network::Network;
use super::nics::{DRIVERS, Driver};
use crate::process;

const PROGRAM: &str = "qemu-system-x86_64";
const PACKAGE: &str = "qemu-system-x86";
/// Says that a folder is complete.
const UNPACKED: &str = "unpacked";

/// A QEMU that runs on this machine.
pub(crate) struct Emulator {
    program: PathBuf,
    /// Set when it is not installed but unpacked here.
    unpacked: Option<PathBuf>,
    network: Network,
    drivers: Vec<Driver>,
}

/// The QEMU here that has the devices for all drivers, else one that is fetched, else what there is.
pub(crate) fn find(debian: &Debian) -> Result<Emulator> {
    let network = Network::find(&debian.cache)?;
    let folder = debian.cache.join("qemu");
    let mut known: Vec<Emulator> = Vec::new();
    if let Some(program) = process::find(PROGRAM) {
        known.extend(Emulator::new(program, None, &network));
    }
    if folder.join(UNPACKED).exists() {
        known.extend(Emulator::in_folder(&folder, &network));
    }
    if let Some(complete) = known.iter().position(Emulator::has_all_drivers) {
        return Ok(known.swap_remove(complete));
    }
    match fetch(debian, &folder).and_then(|()| Emulator::in_folder(&folder, &network)) {
        Ok(fetched) => Ok(fetched),
        Err(error) if known.is_empty() => Err(error),
        Err(error) => {
            eprintln!("warning: no newer QEMU: {error:#}");
            Ok(known.swap_remove(0))
        }
    }
}

fn fetch(debian: &Debian, folder: &Path) -> Result<()> {
    println!("fetching {PACKAGE}, to be unpacked in {}", folder.display());
    let packages = debian.download_with_dependencies(PACKAGE)?;
    if folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    for package in packages {
        process::read(
            process::system("dpkg-deb")
                .arg("-x")
                .args([&*package, folder]),
        )?;
    }
    debian.forget_downloads();
    std::fs::write(folder.join(UNPACKED), "")?;
    Ok(())
}

impl Emulator {
    fn in_folder(folder: &Path, network: &Network) -> Result<Self> {
        let program = folder.join("usr/bin").join(PROGRAM);
        Self::new(program, Some(folder.to_owned()), network)
    }

    /// Asks the program which devices it has.
    fn new(program: PathBuf, unpacked: Option<PathBuf>, network: &Network) -> Result<Self> {
        let mut emulator = Self {
            program,
            unpacked,
            network: network.clone(),
            drivers: Vec::new(),
        };
        let mut command = Command::new(&emulator.program);
        emulator.prepare(&mut command);
        let devices = process::read(command.args(["-device", "help"]))?;
        emulator.drivers = DRIVERS
            .into_iter()
            .filter(|driver| offers(&devices, driver.device()))
            .collect();
        Ok(emulator)
    }

    fn has_all_drivers(&self) -> bool {
        self.drivers == DRIVERS
    }

    /// Why a driver cannot be tried, if it cannot.
    pub(crate) fn lacks(&self, driver: Driver) -> Option<String> {
        let device = driver.device();
        (!self.drivers.contains(&driver))
            .then(|| format!("this QEMU has no {device}; 8.0 or later has"))
    }

    /// How its guests' NICs are connected.
    pub(crate) fn network(&self) -> &Network {
        &self.network
    }

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
        let mut command = self.network.command(&self.program);
        self.prepare(&mut command);
        command.args(["-no-user-config", "-nodefaults", "-no-reboot"]);
        command.args(["-machine", "q35"]);
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
        for driver in &self.drivers {
            driver.plug_in(&self.network, &mut command);
        }
        command
    }

    /// What the program needs to find its parts.
    fn prepare(&self, command: &mut Command) {
        process::forget_this_run(command);
        if let Some(folder) = &self.unpacked {
            command.env("LD_LIBRARY_PATH", libraries(folder));
            for data in ["usr/share/qemu", "usr/share/seabios"] {
                command.arg("-L").arg(folder.join(data));
            }
        }
    }
}

/// Whether a list of devices has this one.
fn offers(devices: &str, device: &str) -> bool {
    devices.contains(&format!("name \"{device}\""))
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
    fn devices_are_found_by_their_whole_name() {
        let devices =
            "name \"igbvf\", bus PCI\nname \"virtio-net-pci\", bus PCI, alias \"virtio-net\"\n";
        assert!(offers(devices, "virtio-net-pci"));
        assert!(!offers(devices, "igb"));
    }

    #[test]
    fn without_a_driver_for_virtualisation_the_machine_is_emulated() {
        assert_eq!(
            accelerator(Path::new("/nowhere"))[1],
            "tcg,thread=multi,tb-size=256"
        );
    }
}
