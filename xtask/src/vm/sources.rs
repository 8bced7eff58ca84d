//! Where packages come from: this machine's own sources, as far as they are Debian's, and the suite
//! of newer packages at the same places.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::debian::name_of;

/// Starts the names of files with the suite of newer packages.
const NEWER: &str = "newer-";

/// The suite of newer packages for a release.
pub(super) fn backports(codename: &str) -> String {
    format!("{codename}-backports")
}

/// Writes the sources to a folder and returns the name of the release.
pub(super) fn write(folder: &Path) -> Result<String> {
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
        let (kept, newer) = match file.extension().and_then(|end| end.to_str()) {
            Some("list") => (own_lines(&text, codename), newer_lines(&text, codename)),
            Some("sources") => (own_stanzas(&text, codename), newer_stanzas(&text, codename)),
            _ => continue,
        };
        if !kept.is_empty() {
            found = true;
            let name = name_of(&file);
            std::fs::write(folder.join(name), kept)?;
            std::fs::write(folder.join(format!("{NEWER}{name}")), newer)?;
        }
    }
    if !found {
        bail!("no source of packages for `{codename}` is configured in /etc/apt");
    }
    Ok(codename.to_owned())
}

/// Takes the suite of newer packages out again.
pub(super) fn forget_backports(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if name_of(&path).starts_with(NEWER) {
            std::fs::remove_file(path)?;
        }
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

/// The lines of the release itself, for the suite of newer packages.
fn newer_lines(text: &str, codename: &str) -> String {
    let newer = |line: &str| {
        let words = line.split_whitespace();
        let changed = words.map(|word| match word == codename {
            true => backports(codename),
            false => word.to_owned(),
        });
        let changed: Vec<String> = changed.collect();
        changed.join(" ") + "\n"
    };
    text.lines()
        .filter(|line| line.starts_with("deb "))
        .filter(|line| line.split_whitespace().any(|word| word == codename))
        .map(newer)
        .collect()
}

fn suites_of(stanza: &str) -> impl Iterator<Item = &str> {
    stanza
        .lines()
        .filter_map(|line| line.strip_prefix("Suites:"))
        .flat_map(str::split_whitespace)
}

fn own_stanzas(text: &str, codename: &str) -> String {
    text.split("\n\n")
        .filter(|stanza| suites_of(stanza).any(|suite| is_own(suite, codename)))
        .map(|stanza| format!("{}\n\n", stanza.trim()))
        .collect()
}

/// The stanzas of the release itself, for the suite of newer packages.
fn newer_stanzas(text: &str, codename: &str) -> String {
    let newer = |line: &str| match line.starts_with("Suites:") {
        true => format!("Suites: {}\n", backports(codename)),
        false => format!("{line}\n"),
    };
    text.split("\n\n")
        .filter(|stanza| suites_of(stanza).any(|suite| suite == codename))
        .map(|stanza| stanza.trim().lines().map(newer).collect::<String>() + "\n")
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = "# comment\n\
        deb http://mirror/debian bookworm main\n\
        deb http://cloud/apt cloud-sdk-bookworm main\n\
        deb [signed-by=/k] http://mirror/debian-security bookworm-security main\n";
    const STANZAS: &str = "Types: deb\nURIs: http://mirror/debian\nSuites: bookworm bookworm-updates\n\n\
        Types: deb\nURIs: https://other\nSuites: nodistro\n";

    #[test]
    fn only_sources_of_the_release_itself_are_kept() {
        assert_eq!(own_lines(LINES, "bookworm").lines().count(), 2);
        let kept = own_stanzas(STANZAS, "bookworm");
        assert!(kept.contains("mirror") && !kept.contains("other"));
    }

    #[test]
    fn newer_packages_come_from_the_same_mirror() {
        assert_eq!(
            newer_lines(LINES, "bookworm"),
            "deb http://mirror/debian bookworm-backports main\n"
        );
        let newer = newer_stanzas(STANZAS, "bookworm");
        assert!(
            newer.contains("mirror/debian\nSuites: bookworm-backports\n"),
            "{newer}"
        );
        assert!(!newer.contains("other"), "{newer}");
    }
}
