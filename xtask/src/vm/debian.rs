//! Packages of Debian, fetched without touching the system: own package lists,
//! own downloads. The mirror is the one this machine is configured for.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::sources;
use crate::process;

/// A private state of apt.
pub(crate) struct Debian {
    /// Where everything about virtual machines is kept.
    pub(crate) cache: PathBuf,
    updated: std::cell::Cell<bool>,
    /// The suite of newer packages, when the mirror has it.
    backports: std::cell::OnceCell<String>,
}

impl Debian {
    /// Uses a folder for lists and downloads; fetches nothing yet.
    pub(crate) fn new(cache: &Path) -> Result<Self> {
        Ok(Self {
            cache: cache.canonicalize()?,
            updated: false.into(),
            backports: std::cell::OnceCell::new(),
        })
    }

    fn apt(&self) -> PathBuf {
        self.cache.join("apt")
    }

    /// A command of apt that works on the private state.
    fn command(&self, program: &str) -> Command {
        let apt = self.apt();
        let mut command = process::system(program);
        for (option, value) in [
            ("Dir::Etc::SourceList", apt.join("debian.list")),
            ("Dir::Etc::SourceParts", apt.join("parts")),
            ("Dir::State::Lists", apt.join("lists")),
            ("Dir::Cache", apt.join("cache")),
            ("Dir::State::status", apt.join("status")),
            ("Debug::NoLocking", "1".into()),
            ("APT::Sandbox::User", "root".into()),
        ] {
            command.arg(format!("-o{option}={}", value.display()));
        }
        command
    }

    /// Fetches the package lists, once a run.
    fn update(&self) -> Result<()> {
        if self.updated.get() {
            return Ok(());
        }
        let apt = self.apt();
        for folder in ["lists/partial", "cache/archives/partial", "parts"] {
            std::fs::create_dir_all(apt.join(folder))?;
        }
        for old in std::fs::read_dir(apt.join("parts"))? {
            std::fs::remove_file(old?.path())?;
        }
        let codename = sources::write(&apt.join("parts"))?;
        write_status(&apt.join("status"))?;
        std::fs::write(apt.join("debian.list"), "")?;
        let download = || process::read(self.command("apt-get").args(["-qq", "update"]));
        if let Err(error) = download() {
            // Not every mirror has the suite of newer packages.
            println!("without newer packages: {error:#}");
            sources::forget_backports(&apt.join("parts"))?;
            download().context("the package lists could not be downloaded")?;
        } else {
            self.backports.get_or_init(|| sources::backports(&codename));
        }
        self.updated.set(true);
        Ok(())
    }

    /// The newest kernel package of a series, of the ordinary flavour.
    pub(crate) fn newest_kernel(&self, series: &str) -> Result<String> {
        self.update()?;
        let prefix = format!("linux-image-{series}.");
        let names = process::read(self.command("apt-cache").args(["pkgnames", &prefix]))?;
        newest(names.lines(), &prefix)
            .map(ToOwned::to_owned)
            .with_context(|| format!("the configured mirror has no package {prefix}*-amd64"))
    }

    /// Downloads one package by itself.
    pub(crate) fn download(&self, package: &str) -> Result<PathBuf> {
        self.update()?;
        let folder = self.apt().join("single");
        std::fs::create_dir_all(&folder)?;
        let mut command = self.command("apt-get");
        command
            .args(["-qq", "download", package])
            .current_dir(&folder);
        process::read(&mut command)?;
        let prefix = format!("{package}_");
        packages_in(&folder)?
            .into_iter()
            .find(|file| name_of(file).starts_with(&prefix))
            .with_context(|| format!("apt-get downloaded no file for {package}"))
    }

    /// Downloads a package, as new as there is, and what it needs and this machine lacks.
    pub(crate) fn download_with_dependencies(&self, package: &str) -> Result<Vec<PathBuf>> {
        self.update()?;
        let mut command = self.command("apt-get");
        command.args(["-qq", "install", "--download-only", "--yes"]);
        command.arg("--no-install-recommends");
        if let Some(suite) = self.backports.get() {
            command.args(["--target-release", suite]);
        }
        process::read(command.arg(package))?;
        let files = packages_in(&self.apt().join("cache/archives"))?;
        if files.is_empty() {
            bail!("apt-get downloaded nothing for {package}");
        }
        Ok(files)
    }

    /// Throws downloads away once they are unpacked.
    pub(crate) fn forget_downloads(&self) {
        for folder in ["single", "cache"] {
            // What stays behind costs space only.
            let _ = std::fs::remove_dir_all(self.apt().join(folder));
        }
    }
}

fn packages_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "deb") {
            files.push(path);
        }
    }
    Ok(files)
}

pub(super) fn name_of(file: &Path) -> &str {
    file.file_name()
        .and_then(|name| name.to_str())
        .unwrap_or("")
}

/// The name with the highest version among those of the ordinary flavour.
fn newest<'names>(names: impl Iterator<Item = &'names str>, prefix: &str) -> Option<&'names str> {
    names
        .filter_map(|name| {
            let version = name.strip_prefix(prefix)?.strip_suffix("-amd64")?;
            let (version, rebuild) = version.split_once('+').unwrap_or((version, ""));
            // Another flavour, or a kernel of another release of Debian.
            if rebuild.contains('-') || rebuild.starts_with("bpo") {
                return None;
            }
            let numbers: Option<Vec<u32>> = version
                .split(['.', '-'])
                .map(|number| number.parse().ok())
                .collect();
            Some((numbers?, name))
        })
        .max()
        .map(|(_, name)| name)
}

/// What is installed here, without any part of QEMU: parts of another version
/// would stand in the way of a download.
fn write_status(file: &Path) -> Result<()> {
    let status = std::fs::read_to_string("/var/lib/dpkg/status")
        .context("cannot read the list of installed packages")?;
    std::fs::write(file, without_qemu(&status))?;
    Ok(())
}

fn without_qemu(status: &str) -> String {
    status
        .split("\n\n")
        .filter(|stanza| !stanza.starts_with("Package: qemu-"))
        .map(|stanza| format!("{}\n\n", stanza.trim_start_matches('\n')))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernel_is_the_highest_number_not_the_last_word() {
        let names = [
            "linux-image-6.12.9+deb12-amd64",
            "linux-image-6.12.117+deb12-amd64",
            "linux-image-6.12.118+deb12-cloud-amd64",
            "linux-image-6.12.119+deb12-amd64-dbg",
            "linux-image-6.12.120+deb12-rt-amd64",
            "linux-image-6.12.121+bpo-amd64",
        ];
        let prefix = "linux-image-6.12.";
        assert_eq!(newest(names.into_iter(), prefix), Some(names[1]));
    }

    #[test]
    fn old_style_kernel_names_have_an_abi_number() {
        let names = ["linux-image-6.1.0-9-amd64", "linux-image-6.1.0-56-amd64"];
        assert_eq!(
            newest(names.into_iter(), "linux-image-6.1."),
            Some(names[1])
        );
    }

    #[test]
    fn installed_parts_of_qemu_are_left_out() {
        let status = "Package: libc6\nVersion: 1\n\nPackage: qemu-utils\nVersion: 2\n\nPackage: zlib1g\nVersion: 3\n";
        let kept = without_qemu(status);
        assert!(kept.contains("libc6") && kept.contains("zlib1g") && !kept.contains("qemu"));
    }
}
