//! The test programs: which there are, how they are built, how they are run.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{process, vm, workspace};

/// The tests inside the crates.
pub(crate) const UNIT: &str = "unit";
/// The tests that are given NICs, in guests.
pub(crate) const NIC: &str = "nic";
/// The order to run in: what fails fast and explains most comes first.
const ORDER: &[&str] = &[UNIT, "packet", "differential", "simulation", "e2e", NIC];
/// Everything but the crate that only compiles for the kernel. Always the same
/// set, so that cargo always chooses the same features and builds things once.
const CRATES: &[&str] = &["--workspace", "--exclude", "forebay-ebpf"];

/// How many random frames a suite sends.
const FRAMES: &str = "FOREBAY_FRAMES";
/// Where their sequence begins.
const SEED: &str = "SEED";
/// Emulation is slow; the kernel's own verifier and helpers are what differs there.
const FRAMES_IN_GUEST: &str = "5000";
/// Tells a suite that it runs in a guest.
const GUEST: &str = "FOREBAY_GUEST";

/// A built test program.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Program {
    /// The suite it belongs to.
    pub(crate) suite: String,
    pub(crate) name: String,
    path: PathBuf,
    /// The folder of its crate, where it expects to be run.
    folder: PathBuf,
}

/// Whether a suite changes networks or loads programs.
pub(crate) fn needs_root(suite: &str) -> bool {
    ![UNIT, "simulation"].contains(&suite)
}

/// The wanted suites in their order, all when none is named.
pub(crate) fn choose(wanted: &[String]) -> Result<Vec<String>> {
    let manifest = workspace::root().join("tests/Cargo.toml");
    let manifest = std::fs::read_to_string(&manifest)
        .with_context(|| format!("cannot read {}", manifest.display()))?;
    let mut there = vec![UNIT.to_owned()];
    there.extend(suites_in(&manifest));
    there.sort_by_key(|suite| {
        ORDER
            .iter()
            .position(|known| known == suite)
            .unwrap_or(ORDER.len())
    });
    if let Some(unknown) = wanted.iter().find(|suite| !there.contains(suite)) {
        bail!("no suite `{unknown}`; there are: {}", there.join(", "));
    }
    there.retain(|suite| wanted.is_empty() || wanted.contains(suite));
    Ok(there)
}

/// The names of the `[[test]]` tables.
fn suites_in(manifest: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut in_test = false;
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            in_test = line == "[[test]]";
        } else if let Some(value) = line.strip_prefix("name").filter(|_| in_test) {
            names.extend(value.split('"').nth(1).map(ToOwned::to_owned));
        }
    }
    names
}

/// Builds `forebay` and the programs of the suites.
pub(crate) fn build(suites: &[String]) -> Result<Vec<Program>> {
    process::run(process::cargo().arg("build").args(CRATES).arg("--bins"))?;
    let mut command = process::cargo();
    command.args([
        "test",
        "--no-run",
        "--message-format",
        "json-render-diagnostics",
    ]);
    command.args(CRATES);
    if !suites.iter().any(|suite| suite == UNIT) {
        for suite in suites {
            command.args(["--test", suite]);
        }
    }
    println!("$ {}", process::shown(&command));
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    if !output.status.success() {
        bail!("the tests do not build");
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut programs: Vec<Program> = text.lines().filter_map(program_in).collect();
    programs.retain(|program| suites.contains(&program.suite));
    Ok(programs)
}

/// The test program that a message of cargo tells about.
fn program_in(message: &str) -> Option<Program> {
    let (_, profile) = message.split_once(r#""profile":{"#)?;
    let (profile, _) = profile.split_once('}')?;
    if !message.contains(r#""reason":"compiler-artifact""#) || !profile.contains(r#""test":true"#) {
        return None;
    }
    let path = PathBuf::from(text_of(message, "executable")?);
    let folder = Path::new(&text_of(message, "manifest_path")?)
        .parent()?
        .to_owned();
    let (_, target) = message.split_once(r#""target":"#)?;
    let name = text_of(target, "name")?;
    let is_suite = folder.ends_with("tests") && target.starts_with(r#"{"kind":["test"]"#);
    Some(Program {
        suite: if is_suite {
            name.clone()
        } else {
            UNIT.to_owned()
        },
        name,
        path,
        folder,
    })
}

/// The text that a key has in a message of cargo. Enough for names and paths,
/// and saves a parser that would have to be compiled first.
fn text_of(json: &str, key: &str) -> Option<String> {
    let (_, rest) = json.split_once(&format!("\"{key}\":\""))?;
    let (value, _) = rest.split_once('"')?;
    Some(value.to_owned())
}

/// The examples in the documentation, compiled and run.
pub(crate) fn documentation() -> Command {
    let mut command = process::cargo();
    command
        .args(["test", "--quiet", "--doc", "--no-fail-fast"])
        .args(CRATES);
    command
}

impl Program {
    /// The command that runs it here.
    pub(crate) fn command(&self, long: bool) -> Result<Command> {
        println!("$ {}", self.path.display());
        let environment: Vec<_> = self
            .environment(long)
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        let mut command = if needs_root(&self.suite) {
            process::as_root(&self.path, &environment)?
        } else {
            let mut command = Command::new(&self.path);
            process::forget_this_run(&mut command);
            command.envs(environment);
            command
        };
        if self.suite == UNIT {
            command.arg("--quiet");
        }
        command.current_dir(&self.folder);
        Ok(command)
    }

    /// The same for a guest, where one test at a time is quick enough.
    pub(crate) fn guest_job(&self, long: bool, filter: Option<&str>) -> vm::Job {
        let mut arguments = vec!["--test-threads=1".to_owned(), "--color=never".to_owned()];
        arguments.extend(filter.map(ToOwned::to_owned));
        vm::Job {
            name: self.name.clone(),
            folder: self.folder.clone(),
            program: self.path.clone(),
            arguments,
            environment: self.guest_environment(long),
            wants_nics: self.suite == NIC,
        }
    }

    fn guest_environment(&self, long: bool) -> Vec<(String, String)> {
        let mut pairs = self.environment(long);
        pairs.push((GUEST.to_owned(), "1".to_owned()));
        if !long && !pairs.iter().any(|(name, _)| name == FRAMES) {
            pairs.push((FRAMES.to_owned(), FRAMES_IN_GUEST.to_owned()));
        }
        pairs
    }

    fn environment(&self, long: bool) -> Vec<(String, String)> {
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let mut pairs = vec![
            ("CARGO_MANIFEST_DIR".to_owned(), text(self.folder.clone())),
            (
                "FOREBAY_BIN".to_owned(),
                text(workspace::target().join("debug/forebay")),
            ),
            (
                workspace::OBJECT_VARIABLE.to_owned(),
                text(workspace::bpf_object()),
            ),
        ];
        for name in [FRAMES, SEED] {
            pairs.extend(std::env::var(name).map(|value| (name.to_owned(), value)));
        }
        if long {
            pairs.push(("FOREBAY_LONG".to_owned(), "1".to_owned()));
        }
        pairs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_are_the_test_targets_of_the_manifest() {
        let manifest = "[package]\nname = \"forebay-tests\"\n\n[[bin]]\nname = \"forebay-lab\"\n\n\
            [[test]]\nname = \"packet\"\npath = \"packet/main.rs\"\n\n[[test]]\nname=\"e2e\"\n";
        assert_eq!(suites_in(manifest), ["packet", "e2e"]);
    }

    #[test]
    fn a_suite_is_told_from_a_unit_test() {
        let message = |folder: &str, kind: &str, test: bool| {
            format!(
                r#"{{"reason":"compiler-artifact","package_id":"x","manifest_path":"/w/{folder}/Cargo.toml","target":{{"kind":["{kind}"],"crate_types":["bin"],"name":"packet","src_path":"/w/x.rs","doctest":false,"test":true}},"profile":{{"opt_level":"0","test":{test}}},"features":[],"filenames":["/t/p"],"executable":"/t/p-1","fresh":true}}"#
            )
        };
        let suite = program_in(&message("tests", "test", true)).unwrap();
        assert_eq!(suite.suite, "packet");
        assert_eq!(suite.path, Path::new("/t/p-1"));
        assert_eq!(suite.folder, Path::new("/w/tests"));
        assert_eq!(
            program_in(&message("common", "lib", true)).unwrap().suite,
            UNIT
        );
        assert_eq!(program_in(&message("tests", "test", false)), None);
    }

    #[test]
    fn a_library_without_program_is_no_test() {
        let message = r#"{"reason":"compiler-artifact","profile":{"test":true},"executable":null}"#;
        assert_eq!(program_in(message), None);
    }

    #[test]
    fn only_suites_that_touch_the_system_need_root() {
        assert!(needs_root("e2e") && needs_root("packet"));
        assert!(!needs_root("unit") && !needs_root("simulation"));
    }
}
