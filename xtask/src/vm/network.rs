//! What connects the NICs of a guest outside of it: hubs in QEMU itself, or taps for NICs with
//! several queues, which hubs do not have.
//!
//! The taps lie in a network namespace without a name, which QEMU runs in: it is gone when QEMU is,
//! however that ends.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::nics::End;
use crate::process;

/// How the NICs can be connected on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    /// By taps and bridges, which this script makes.
    Taps(PathBuf),
    /// Taps cannot be made, for this reason.
    HubsOnly(String),
}

/// The tap of a NIC, as the script calls it.
pub(crate) fn tap_name(link: usize, end: End) -> String {
    match end {
        End::Near => format!("near{link}"),
        End::Far => format!("far{link}"),
    }
}

impl Network {
    /// Tries whether taps can be made; the script for it is kept in this folder.
    pub(crate) fn find(folder: &Path) -> Result<Self> {
        let script = folder.join("network.sh");
        std::fs::write(&script, include_str!("network.sh"))
            .with_context(|| format!("cannot write {}", script.display()))?;
        Ok(
            match process::read(&mut inside(&script, Path::new("true"))) {
                Ok(_) => Self::Taps(script),
                Err(error) => {
                    Self::HubsOnly(format!("no taps with several queues here: {error:#}"))
                }
            },
        )
    }

    /// A command that runs the program where its taps are.
    pub(crate) fn command(&self, program: &Path) -> Command {
        match self {
            Self::Taps(script) => inside(script, program),
            Self::HubsOnly(_) => Command::new(program),
        }
    }
}

fn inside(script: &Path, program: &Path) -> Command {
    let mut command = process::system("unshare");
    command.arg("--net");
    if !process::is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--", "sh"]).arg(script).arg(program);
    command
}

#[cfg(test)]
mod tests {
    use super::super::nics::LINKS;
    use super::*;

    #[test]
    fn the_script_makes_every_tap() {
        let script = include_str!("network.sh");
        let links: Vec<String> = (0..LINKS).map(|link| link.to_string()).collect();
        assert!(script.contains(&format!("for link in {}; do", links.join(" "))));
        for end in [End::Near, End::Far] {
            let name = tap_name(0, end).replace('0', "$link");
            assert!(
                script.contains(&format!("tuntap add dev \"{name}\"")),
                "{name}"
            );
        }
    }
}
