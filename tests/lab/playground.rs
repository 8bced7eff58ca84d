//! The network left up to play in.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use forebay_tests::netlab::{Arms, Config, Forebay, Lab, address, missing_requirement, sweep};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::interrupt;
use super::report::{heading, say, step, table};

/// Says which process holds the lab up.
const PID_FILE: &str = "/run/forebay-lab.pid";
/// What a detached lab prints.
const LOG_FILE: &str = "/run/forebay-lab.log";

/// Makes the network, says how to use it and waits for Ctrl-C.
pub(crate) fn run(one_armed: bool) -> Result<()> {
    refuse_a_second_lab()?;
    if let Some(why) = missing_requirement(&[]) {
        bail!("{why} (`cargo xtask setup` installs what is missing)");
    }
    // Declared first, so that the file goes when everything else is gone.
    let pid_file = PidFile;
    let arms = if one_armed { Arms::One } else { Arms::Two };
    let lab = step("making the network", || Lab::create(arms))?;
    let config = Config::sample(&lab);
    let forebay = step("starting `forebay run`", || Forebay::run(&lab, &config))?;
    print_manual(&lab, &forebay);
    pid_file.write()?;
    interrupt::wait();
    say!("\n  ending");
    Ok(())
}

fn print_manual(lab: &Lab, forebay: &Forebay) {
    heading("Who is where");
    let rows: Vec<[String; 2]> = lab
        .namespaces()
        .map(|one| {
            let role = one
                .name()
                .rsplit_once(lab.workdir().tag())
                .map_or("", |(_, role)| role);
            let role = role.trim_start_matches('-').to_owned();
            [
                role,
                format!("nsenter --net=/run/netns/{} bash", one.name()),
            ]
        })
        .collect();
    table(["ROLE", "ENTER"], &rows);
    let client = format!("nsenter --net=/run/netns/{}", lab.client.name());
    let (binary, config) = (forebay.binary().display(), forebay.config_path().display());
    let row = |what: &str, command: String| [what.to_owned(), command];
    heading("Try");
    table(
        ["TO", "RUN"],
        &[
            row(
                "ask over IPv4",
                format!("{client} curl http://{}/", address::FRONTEND_V4),
            ),
            row(
                "ask over IPv6",
                format!("{client} curl 'http://[{}]/'", address::FRONTEND_V6),
            ),
            row(
                "see flows",
                format!("{binary} show flows --config {config}"),
            ),
            row(
                "see drops",
                format!("{binary} show drops --config {config}"),
            ),
            row(
                "change something",
                format!("edit {config}, then {binary} reload --config {config}"),
            ),
            row(
                "read the log",
                format!("cat {}", lab.path().join("forebay.log").display()),
            ),
            row("end it", "Ctrl-C here, or: cargo xtask lab down".to_owned()),
        ],
    );
}

/// Starts a lab in the background and returns when it is up.
pub(crate) fn detach(one_armed: bool) -> Result<()> {
    refuse_a_second_lab()?;
    let log = fs::File::create(LOG_FILE).with_context(|| format!("create {LOG_FILE}"))?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("lab").args(one_armed.then_some("--one-armed"));
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    // SAFETY: setsid is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            nix::unistd::setsid()
                .map(drop)
                .map_err(std::io::Error::from)
        });
    }
    let mut child = command.spawn()?;
    while running_lab() != Some(i32::try_from(child.id())?) {
        if child.try_wait()?.is_some() {
            bail!(
                "the lab did not come up:\n{}",
                fs::read_to_string(LOG_FILE)?
            );
        }
        if interrupt::check().is_err() {
            kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGTERM)?;
            child.wait()?;
            bail!("interrupted; everything has been cleaned up");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    say!("{}", fs::read_to_string(LOG_FILE)?.trim_end());
    Ok(())
}

/// Ends the lab that is up, and what killed ones have left.
pub(crate) fn down() -> Result<()> {
    let running = running_lab();
    if let Some(pid) = running {
        kill(Pid::from_raw(pid), Signal::SIGTERM).with_context(|| format!("end process {pid}"))?;
        let start = Instant::now();
        while running_lab() == Some(pid) {
            if start.elapsed() > Duration::from_secs(20) {
                bail!("process {pid} does not end; its log is {LOG_FILE}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    sweep();
    let _ = fs::remove_file(PID_FILE);
    let _ = fs::remove_file(LOG_FILE);
    say!(
        "{}",
        if running.is_some() {
            "the lab is down"
        } else {
            "no lab was up"
        }
    );
    Ok(())
}

fn refuse_a_second_lab() -> Result<()> {
    if let Some(pid) = running_lab() {
        bail!("a lab is up already (process {pid}); `cargo xtask lab down` ends it");
    }
    Ok(())
}

/// The process that holds a lab up.
fn running_lab() -> Option<i32> {
    let pid: i32 = fs::read_to_string(PID_FILE).ok()?.trim().parse().ok()?;
    let name = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("comm")).ok()?;
    (name.trim() == "forebay-lab").then_some(pid)
}

/// The file that says a lab is up; removed when dropped.
struct PidFile;

impl PidFile {
    fn write(&self) -> Result<()> {
        fs::write(PID_FILE, std::process::id().to_string())
            .with_context(|| format!("write {PID_FILE}"))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(PID_FILE);
    }
}
