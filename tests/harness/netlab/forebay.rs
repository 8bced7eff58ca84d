//! The daemon in the node of a lab, and its command line.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::config::Config;
use super::lab::Lab;
use super::namespace::{Namespace, NamespaceHandle};
use super::process::Process;

/// How long the daemon may take to get ready or to end: emulated, the verifier alone takes seconds.
const PATIENCE: Duration = Duration::from_secs(240);
/// How much of the log is shown when it does not, from its begin and from its end: what the verifier says
/// can have a hundred thousand lines.
const SHOWN: usize = 40;

/// One configuration file, its daemon (running or not) and its command line.
#[derive(Debug)]
pub struct Forebay {
    daemon: Option<Process>,
    node: NamespaceHandle,
    binary: PathBuf,
    config_path: PathBuf,
    log: PathBuf,
    environment: Vec<(&'static str, String)>,
}

/// How a command ended.
#[derive(Debug, Clone)]
pub struct CliOutput {
    /// The exit status; -1 when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Forebay {
    /// Writes the configuration and mounts a bpffs for the pins; starts nothing yet.
    pub fn install(lab: &Lab, config: &Config) -> Result<Self> {
        let folder = lab.path();
        lab.workdir().mount_bpffs("bpf")?;
        let forebay = Self {
            daemon: None,
            node: lab.node.handle().clone(),
            binary: binary()?,
            config_path: folder.join("forebay.toml"),
            log: folder.join("forebay.log"),
            environment: Vec::new(),
        };
        forebay.write_config(&config.to_string())?;
        Ok(forebay)
    }

    /// The same in another node, with a bpffs and files whose names begin with `name`.
    pub fn install_beside(
        lab: &Lab,
        node: &Namespace,
        name: &str,
        config: &Config,
    ) -> Result<Self> {
        lab.workdir().mount_bpffs(&format!("{name}-bpf"))?;
        let forebay = Self {
            daemon: None,
            node: node.handle().clone(),
            binary: binary()?,
            config_path: lab.path().join(format!("{name}.toml")),
            log: lab.path().join(format!("{name}.log")),
            environment: Vec::new(),
        };
        forebay.write_config(&config.to_string())?;
        Ok(forebay)
    }

    /// Sets a variable in the environment of daemons that are started from now on.
    pub fn set_environment(&mut self, name: &'static str, value: impl ToString) {
        self.environment.push((name, value.to_string()));
    }

    /// [`Forebay::install`] and [`Forebay::start`].
    pub fn run(lab: &Lab, config: &Config) -> Result<Self> {
        let mut forebay = Self::install(lab, config)?;
        forebay.start()?;
        Ok(forebay)
    }

    /// Starts the daemon and waits until it says that it is ready.
    pub fn start(&mut self) -> Result<()> {
        self.start_with(&[])
    }

    /// The same with more arguments for `forebay run`.
    pub fn start_with(&mut self, arguments: &[&str]) -> Result<()> {
        let mut command = self.command(&["run"]);
        command.args(arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let mut daemon = Process::spawn(command, &self.log)?;
        let start = Instant::now();
        while !self.is_ready() {
            if let Some(status) = daemon.status()? {
                bail!("`forebay run` ended with {status}:\n{}", self.short_log());
            }
            if start.elapsed() > PATIENCE {
                bail!(
                    "`forebay run` is not ready after {PATIENCE:?}:\n{}",
                    self.short_log()
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.daemon = Some(daemon);
        Ok(())
    }

    fn is_ready(&self) -> bool {
        self.json(&["status"])
            .is_ok_and(|status| status["ready"] == true)
    }

    /// Sends the daemon a signal and waits for its end.
    pub fn stop(&mut self, signal: Signal) -> Result<ExitStatus> {
        let mut daemon = self.daemon.take().context("no daemon runs")?;
        daemon.signal(signal)?;
        daemon.wait(PATIENCE)
    }

    /// Sends the daemon a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.daemon
            .as_ref()
            .context("no daemon runs")?
            .signal(signal)
    }

    /// Replaces the configuration file; the daemon is not told.
    pub fn write_config(&self, text: &str) -> Result<()> {
        std::fs::write(&self.config_path, text)
            .with_context(|| format!("write {}", self.config_path.display()))
    }

    /// The configuration file.
    pub fn config_path(&self) -> &Path {
        &self.config_path
    }

    /// The program.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Everything the daemon has printed so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The begin and the end of that, when it is long.
    pub fn short_log(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        if lines.len() <= 2 * SHOWN {
            return log;
        }
        let (first, rest) = lines.split_at(SHOWN);
        let left_out = rest.len() - SHOWN;
        let last = &rest[left_out..];
        format!(
            "{}\n[{left_out} lines left out]\n{}",
            first.join("\n"),
            last.join("\n")
        )
    }

    /// `forebay WORDS --config FILE` in the node.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = self.node.command(&self.binary);
        command.args(words).arg("--config").arg(&self.config_path);
        command
    }

    /// Runs a command of the command line to its end.
    pub fn cli(&self, words: &[&str]) -> Result<CliOutput> {
        CliOutput::of(&mut self.command(words))
    }

    /// Runs a command that must succeed and returns what it printed.
    pub fn text(&self, words: &[&str]) -> Result<String> {
        let output = self.cli(words)?;
        if output.code != 0 {
            bail!(
                "`forebay {}` failed ({}): {}",
                words.join(" "),
                output.code,
                output.stderr
            );
        }
        Ok(output.stdout)
    }

    /// Runs a command with `--json` that must succeed and returns what it printed.
    pub fn json(&self, words: &[&str]) -> Result<Value> {
        let mut with_json = words.to_vec();
        with_json.push("--json");
        let text = self.text(&with_json)?;
        serde_json::from_str(&text)
            .with_context(|| format!("`forebay {}` printed no JSON: {text}", words.join(" ")))
    }

    /// The entries of a command that prints a JSON list.
    pub fn list(&self, words: &[&str]) -> Result<Vec<Value>> {
        match self.json(words)? {
            Value::Array(entries) => Ok(entries),
            other => bail!("`forebay {}` printed no list: {other}", words.join(" ")),
        }
    }

    /// A counter of `show drops`; 0 when the reason is not listed.
    pub fn drops(&self, reason: &str) -> Result<u64> {
        Ok(self.json(&["show", "drops"])?[reason].as_u64().unwrap_or(0))
    }
}

impl CliOutput {
    /// Runs any command to its end.
    pub fn of(command: &mut Command) -> Result<Self> {
        let output = command
            .output()
            .with_context(|| format!("start {command:?}"))?;
        Ok(Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}

/// The `forebay` program: `FOREBAY_BIN`, else the one built beside the program that runs now.
fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("FOREBAY_BIN") {
        return Ok(path.into());
    }
    let current = std::env::current_exe()?;
    current
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join("forebay"))
        .find(|path| path.is_file())
        .with_context(|| {
            format!(
                "no `forebay` beside {}: run `cargo xtask build` first",
                current.display()
            )
        })
}
