//! Running other programs: a clean environment, the command shown, the exit status checked.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, IsTerminal};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::workspace;

/// Variables cargo sets for the program it runs. A nested cargo, and the build
/// scripts below it, must not mistake them for their own.
const OF_THIS_RUN: &[&str] = &[
    "CARGO_MANIFEST_",
    "CARGO_PKG_",
    "CARGO_BIN_",
    "CARGO_CRATE_",
    "CARGO_PRIMARY_",
];

/// Tells why a verb failed, and that it did.
pub(crate) fn exit_code(outcome: Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The cargo, and with it the toolchain, that the user called xtask with.
pub(crate) fn cargo() -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(workspace::root());
    forget_this_run(&mut command);
    command
}

/// A program of the system, found also where root's programs live.
pub(crate) fn system(program: &str) -> Command {
    let mut command = Command::new(find(program).unwrap_or_else(|| program.into()));
    forget_this_run(&mut command);
    command
}

/// Removes what cargo set for this run of xtask.
pub(crate) fn forget_this_run(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let known = name.to_string_lossy();
        if OF_THIS_RUN.iter().any(|prefix| known.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
    match libraries_before_cargo() {
        Some(path) => command.env("LD_LIBRARY_PATH", path),
        None => command.env_remove("LD_LIBRARY_PATH"),
    };
}

/// `LD_LIBRARY_PATH` without the toolchain's own folders: they would shadow the
/// libraries of another compiler.
fn libraries_before_cargo() -> Option<OsString> {
    let value = std::env::var_os("LD_LIBRARY_PATH")?;
    let target = workspace::target();
    let kept: Vec<PathBuf> = std::env::split_paths(&value)
        .filter(|dir| !dir.starts_with(&target) && !dir.join("rustlib").is_dir())
        .filter(|dir| !dir.components().any(|part| part.as_os_str() == "rustlib"))
        .collect();
    if kept.is_empty() {
        return None;
    }
    std::env::join_paths(kept).ok()
}

/// Shows the command, runs it, fails unless it succeeds.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    println!("$ {}", shown(command));
    let status = command
        .status()
        .with_context(|| format!("cannot run {}", program(command)))?;
    if !status.success() {
        bail!("{} failed ({status})", shown(command));
    }
    Ok(())
}

/// Runs the command and returns what it printed; fails unless it succeeds.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let output = finish(command)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{} failed ({}): {}",
            shown(command),
            output.status,
            said.trim()
        );
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("{} printed what is not UTF-8", program(command)))
}

/// Runs the command to its end, its output caught.
pub(crate) fn finish(command: &mut Command) -> Result<Output> {
    command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", program(command)))
}

/// The command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let mut text = program(command);
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}

fn program(command: &Command) -> String {
    let path = Path::new(command.get_program());
    path.file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}

/// The path of a program, or nothing when it is not installed.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .chain([cargo_home().join("bin")])
        .map(|dir| dir.join(program))
        .find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    file.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Where cargo installs programs and keeps sources.
pub(crate) fn cargo_home() -> PathBuf {
    match std::env::var_os("CARGO_HOME") {
        Some(dir) => dir.into(),
        None => home().join(".cargo"),
    }
}

/// The user's home folder.
pub(crate) fn home() -> PathBuf {
    std::env::home_dir().unwrap_or_else(|| "/".into())
}

/// Whether this process may do everything.
pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

/// A command that runs as root, through sudo when this process does not.
pub(crate) fn as_root(program: &Path, environment: &[(OsString, OsString)]) -> Result<Command> {
    if is_root() {
        let mut command = Command::new(program);
        forget_this_run(&mut command);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        return Ok(command);
    }
    let sudo = find("sudo").with_context(|| {
        format!(
            "{} needs root, and there is no sudo: run this as root",
            program.display()
        )
    })?;
    let mut command = Command::new(sudo);
    command.arg("env");
    for (name, value) in environment {
        let mut pair = name.clone();
        pair.push("=");
        pair.push(value);
        command.arg(pair);
    }
    command.arg(program);
    Ok(command)
}

/// Why nothing can be run as root here; nothing when it can.
pub(crate) fn no_root() -> Option<&'static str> {
    if is_root() {
        return None;
    }
    if find("sudo").is_none() {
        return Some("not root, and there is no sudo");
    }
    if std::io::stdin().is_terminal() {
        return None;
    }
    let mut probe = system("sudo");
    let allowed = finish(probe.args(["-n", "true"])).is_ok_and(|output| output.status.success());
    (!allowed).then_some("not root, and sudo asks for a password")
}

/// Runs the command and hands each line of its standard output to `read` while
/// it runs. After `limit` it is killed, and that is an error.
pub(crate) fn follow(
    command: &mut Command,
    limit: Duration,
    mut read: impl FnMut(&str),
) -> Result<ExitStatus> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {}", program(command)))?;
    let output = child.stdout.take().expect("the output is a pipe");
    let (sender, lines) = mpsc::channel();
    // Not joined: when the program is killed, one that it started may hold the pipe open.
    std::thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let end = Instant::now() + limit;
    loop {
        match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => read(String::from_utf8_lossy(&line).trim_end_matches('\r')),
            Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(child.wait()?),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                child.kill().context("cannot end it")?;
                child.wait()?;
                let seconds = limit.as_secs();
                bail!(
                    "{} did not end within {seconds} s and was killed",
                    program(command)
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn lines_are_handed_on_and_the_status_is_returned() {
        let mut lines = Vec::new();
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo two; exit 3"]);
        let status = follow(&mut command, LONG, |line| lines.push(line.to_owned())).unwrap();
        assert_eq!(lines, ["one", "two"]);
        assert_eq!(status.code(), Some(3));
    }

    #[test]
    fn a_program_that_hangs_is_killed_although_its_child_holds_the_pipe() {
        let started = Instant::now();
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 5 & sleep 60"]);
        let error = follow(&mut command, Duration::from_millis(50), |_| {}).unwrap_err();
        assert!(error.to_string().contains("was killed"), "{error}");
        assert!(started.elapsed() < Duration::from_secs(4));
    }

    #[test]
    fn what_a_failing_program_complains_about_is_part_of_the_error() {
        let mut command = Command::new("sh");
        let error = read(command.args(["-c", "echo no luck >&2; exit 1"])).unwrap_err();
        assert!(error.to_string().contains("no luck"), "{error}");
    }
}
