//! Installing packages of Debian and Ubuntu.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};

use crate::process;

/// Packages whose programs are wanted as such, and the services of theirs that must stay off.
const SERVICES: &[(&str, &str)] = &[
    ("nginx-light", "nginx.service"),
    ("coturn", "coturn.service"),
    ("vsftpd", "vsftpd.service"),
];

static UPDATED: AtomicBool = AtomicBool::new(false);

/// Whether this machine installs packages with apt-get.
pub(crate) fn is_debian_like() -> bool {
    process::find("apt-get").is_some() && process::find("dpkg").is_some()
}

/// Installs packages, or says what the user has to do.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let names = packages.join(" ");
    if !is_debian_like() {
        bail!(
            "this is no Debian or Ubuntu: install what these packages of Debian hold, \
             then run the command again: {names}"
        );
    }
    if !process::is_root() {
        bail!(
            "packages are missing and installing them needs root. Run this, then the command again:\n  \
             sudo apt-get update && sudo apt-get install -y --no-install-recommends {names}"
        );
    }
    update()?;
    println!("$ apt-get install -y --no-install-recommends --no-remove {names}");
    println!("  (services that come along are not started)");
    let status = Command::new("/bin/sh")
        .args(["-c", include_str!("install.sh"), "install"])
        .args(packages)
        .stdin(Stdio::null())
        .status()?;
    if !status.success() {
        bail!("apt-get install failed ({status})");
    }
    if process::find("systemctl").is_none() {
        return Ok(());
    }
    for (_, service) in SERVICES.iter().filter(|(of, _)| packages.contains(of)) {
        println!("  ({service} is not started at boot either)");
        process::run(process::system("systemctl").args(["--quiet", "disable", service]))?;
    }
    Ok(())
}

/// Whether a package can be installed here.
pub(crate) fn offers(package: &str) -> Result<bool> {
    if !is_debian_like() {
        return Ok(false);
    }
    if process::is_root() {
        update()?;
    }
    let policy = process::read(process::system("apt-cache").args(["policy", package]))?;
    Ok(has_candidate(&policy))
}

fn has_candidate(policy: &str) -> bool {
    policy
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Candidate:"))
        .any(|version| version.trim() != "(none)")
}

/// Fetches the package lists, once a run.
fn update() -> Result<()> {
    if UPDATED.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    let mut command = process::system("apt-get");
    command.args(["-qq", "-o", "DPkg::Lock::Timeout=300", "update"]);
    // Lists of other sources may be out of reach; what matters is whether the
    // packages can be installed.
    if let Err(error) = process::run(&mut command) {
        eprintln!("warning: {error:#}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_without_candidate_is_not_offered() {
        assert!(has_candidate(
            "x:\n  Installed: (none)\n  Candidate: 1.2-3\n"
        ));
        assert!(!has_candidate(
            "x:\n  Installed: (none)\n  Candidate: (none)\n"
        ));
        assert!(!has_candidate(""));
    }
}
