//! Packages of Debian, fetched without touching the system: own package lists,
//! own downloads. The mirror is the one this machine is configured for.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;

/// A private state of apt.
pub(crate) struct Debian {
    /// Where everything about virtual machines is kept.
    pub(crate) cache: PathBuf,
    updated: std::cell::Cell<bool>,
}

impl Debian {
    /// Uses a folder for lists and downloads; fetches nothing yet.
    pub(crate) fn new(cache: &Path) -> Result<Self> {
        Ok(Self {
            cache: cache.canonicalize()?,
            updated: false.into(),
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
        write_sources(&apt.join("parts"))?;
        write_status(&apt.join("status"))?;
        std::fs::write(apt.join("debian.list"), "")?;
        process::read(self.command("apt-get").args(["-qq", "update"]))
            .context("the package lists could not be downloaded")?;
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

    /// Downloads a package and what it needs and this machine lacks.
    pub(crate) fn download_with_dependencies(&self, package: &str) -> Result<Vec<PathBuf>> {
        self.update()?;
        process::read(self.command("apt-get").args([
            "-qq",
            "install",
            "--download-only",
            "--no-install-recommends",
            "--yes",
            package,
        ]))?;
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

fn name_of(file: &Path) -> &str {
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
            if rebuild.contains('-') {
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

/// The entries of this machine's sources that are Debian's own.
fn write_sources(folder: &Path) -> Result<()> {
    let release = std::fs::read_to_string("/etc/os-release")?;
    let codename = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .context("/etc/os-release names no VERSION_CODENAME")?;
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = std::fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(entries.flatten().map(|entry| entry.path()));
    }
    let mut found = false;
    for file in files {
        let Ok(text) = std::fs::read_to_string(&file) else {
            continue;
        };
        let kept = match file.extension().and_then(|end| end.to_str()) {
            Some("list") => own_lines(&text, codename),
            Some("sources") => own_stanzas(&text, codename),
            _ => continue,
        };
        if !kept.is_empty() {
            found = true;
            std::fs::write(folder.join(name_of(&file)), kept)?;
        }
    }
    if !found {
        bail!("no source of packages for `{codename}` is configured in /etc/apt");
    }
    Ok(())
}

fn is_own(suite: &str, codename: &str) -> bool {
    suite
        .strip_prefix(codename)
        .is_some_and(|rest| ["", "-updates", "-security", "/updates"].contains(&rest))
}

fn own_lines(text: &str, codename: &str) -> String {
    let own = |line: &&str| {
        line.starts_with("deb ") && line.split_whitespace().any(|word| is_own(word, codename))
    };
    text.lines()
        .filter(own)
        .map(|line| format!("{line}\n"))
        .collect()
}

fn own_stanzas(text: &str, codename: &str) -> String {
    let own = |stanza: &&str| {
        stanza.lines().any(|line| {
            line.strip_prefix("Suites:")
                .is_some_and(|suites| suites.split_whitespace().any(|word| is_own(word, codename)))
        })
    };
    text.split("\n\n")
        .filter(own)
        .map(|stanza| format!("{}\n\n", stanza.trim()))
        .collect()
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
    fn only_sources_of_the_release_itself_are_kept() {
        let lines = "# comment\n\
            deb http://mirror/debian bookworm main\n\
            deb http://cloud/apt cloud-sdk-bookworm main\n\
            deb [signed-by=/k] http://mirror/debian-security bookworm-security main\n";
        assert_eq!(own_lines(lines, "bookworm").lines().count(), 2);
        let stanzas = "Types: deb\nURIs: http://mirror/debian\nSuites: bookworm bookworm-updates\n\n\
            Types: deb\nURIs: https://other\nSuites: nodistro\n";
        let kept = own_stanzas(stanzas, "bookworm");
        assert!(kept.contains("mirror") && !kept.contains("other"));
    }

    #[test]
    fn installed_parts_of_qemu_are_left_out() {
        let status = "Package: libc6\nVersion: 1\n\nPackage: qemu-utils\nVersion: 2\n\nPackage: zlib1g\nVersion: 3\n";
        let kept = without_qemu(status);
        assert!(kept.contains("libc6") && kept.contains("zlib1g") && !kept.contains("qemu"));
    }
}
