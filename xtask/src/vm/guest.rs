//! What runs inside: the initial file system, the script of jobs, and how the
//! results come out. The host's root is the guest's root, read-only.

use std::collections::HashMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::Job;
use super::archive::Archive;
use super::kernel::Kernel;
use crate::process;
use crate::test::summary::{Counts, Row};

/// Starts a line that is for us, not from a job.
const MARK: &str = "@forebay-guest@";

/// A guest that is ready to boot.
pub(crate) struct Guest {
    pub(crate) image: PathBuf,
    pub(crate) initial: PathBuf,
    pub(crate) command_line: String,
    /// Where the kernel's messages go.
    pub(crate) console: PathBuf,
}

/// Writes the guest's files next to its kernel.
pub(crate) fn prepare(kernel: &Kernel, jobs: &[Job]) -> Result<Guest> {
    let folder = kernel
        .image
        .parent()
        .expect("the image lies in a folder of the cache");
    let script = folder.join("jobs.sh");
    std::fs::write(&script, job_script(jobs)?)?;
    let initial = folder.join("initial.cpio");
    std::fs::write(&initial, initial_files(kernel, &script)?)?;
    Ok(Guest {
        image: kernel.image.clone(),
        initial,
        command_line: "console=ttyS0 quiet panic=-1 random.trust_cpu=on".to_owned(),
        console: folder.join("console.log"),
    })
}

fn initial_files(kernel: &Kernel, script: &Path) -> Result<Vec<u8>> {
    let init = include_str!("init.sh")
        .replace("@MARK@", MARK)
        .replace("@SCRIPT@", &quoted(script)?);
    let mut archive = Archive::default();
    for folder in ["bin", "dev", "host", "modules", "proc"] {
        archive.folder(folder);
    }
    archive.program("busybox", &static_busybox()?);
    archive.program("init", init.as_bytes());
    let mut order = String::new();
    for module in &kernel.modules {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        archive.program(&format!("modules/{name}"), &std::fs::read(module)?);
        writeln!(order, "{name}").expect("a string takes any text");
    }
    archive.program("modules/order", order.as_bytes());
    Ok(archive.finish())
}

fn static_busybox() -> Result<Vec<u8>> {
    let path = process::find("busybox").context("busybox is not installed")?;
    let bytes = std::fs::read(&path)?;
    if is_dynamic(&bytes) {
        bail!(
            "{} needs shared libraries; install busybox-static",
            path.display()
        );
    }
    Ok(bytes)
}

/// Whether a program names the loader of shared libraries.
pub(crate) fn is_dynamic(program: &[u8]) -> bool {
    let loader = b"/lib64/ld-linux";
    program.windows(loader.len()).any(|part| part == loader)
}

fn job_script(jobs: &[Job]) -> Result<String> {
    let mut text = String::from(
        "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n\
         export HOME=/run/tmp TMPDIR=/run/tmp\n",
    );
    for job in jobs {
        let name = &job.name;
        writeln!(text, "echo '{MARK} begin {name}'")?;
        let folder = quoted(&job.folder)?;
        let program = quoted(&job.program)?;
        write!(text, "( cd {folder} && exec env")?;
        for (variable, value) in &job.environment {
            write!(text, " {variable}={}", quote(value))?;
        }
        write!(text, " {program}")?;
        for argument in &job.arguments {
            write!(text, " {}", quote(argument))?;
        }
        writeln!(text, " )\necho \"{MARK} exit {name} $?\"")?;
    }
    Ok(text)
}

fn quoted(path: &Path) -> Result<String> {
    let text = path
        .to_str()
        .with_context(|| format!("{} is not UTF-8", path.display()))?;
    Ok(quote(text))
}

fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// What the guest has said so far.
pub(crate) struct Results {
    series: String,
    pub(crate) release: Option<String>,
    pub(crate) booted_after: Option<Instant>,
    running: Option<(String, Instant)>,
    jobs: HashMap<String, Outcome>,
}

#[derive(Default)]
struct Outcome {
    counts: Counts,
    seconds: f64,
    exit: Option<i32>,
}

impl Results {
    /// Nothing yet, from a guest with a kernel of this series.
    pub(crate) fn new(series: &str) -> Self {
        Self {
            series: series.to_owned(),
            release: None,
            booted_after: None,
            running: None,
            jobs: HashMap::new(),
        }
    }

    /// Takes one line of output; lines of the jobs are shown.
    pub(crate) fn read(&mut self, line: &str) {
        let Some(message) = line.strip_prefix(MARK) else {
            println!("{:>4} | {line}", self.series);
            if let Some((name, _)) = &self.running {
                self.jobs.entry(name.clone()).or_default().counts.read(line);
            }
            return;
        };
        let words: Vec<&str> = message.split_whitespace().collect();
        match words[..] {
            ["release", release] => {
                self.release = Some(release.to_owned());
                self.booted_after = Some(Instant::now());
            }
            ["begin", ..] => {
                let name = words[1..].join(" ");
                self.running = Some((name, Instant::now()));
            }
            ["exit", .., code] => {
                let name = words[1..words.len() - 1].join(" ");
                self.job_ended(&name, code.parse().ok());
            }
            _ => {}
        }
    }

    fn job_ended(&mut self, name: &str, exit: Option<i32>) {
        let outcome = self.jobs.entry(name.to_owned()).or_default();
        outcome.exit = exit;
        if let Some((_, started)) = self.running.take() {
            outcome.seconds = started.elapsed().as_secs_f64();
        }
    }

    /// The result of one job, whatever became of it.
    pub(crate) fn row(&mut self, name: &str) -> Row {
        let outcome = self.jobs.remove(name).unwrap_or_default();
        let note = match outcome.exit {
            Some(0) => String::new(),
            Some(code) => format!("exit status {code}"),
            None => "did not finish".to_owned(),
        };
        Row {
            name: format!("{} {name}", self.series),
            counts: outcome.counts.with_status(outcome.exit == Some(0)),
            seconds: outcome.seconds,
            note,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_a_job_are_counted_between_its_marks() {
        let mut results = Results::new("6.1");
        for line in [
            "@forebay-guest@ release 6.1.0-56-amd64",
            "@forebay-guest@ begin packet",
            "test result: ok. 7 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out",
            "@forebay-guest@ exit packet 0",
        ] {
            results.read(line);
        }
        assert_eq!(results.release.as_deref(), Some("6.1.0-56-amd64"));
        let row = results.row("packet");
        assert_eq!((row.counts.passed, row.counts.skipped), (7, 1));
        assert_eq!(row.counts.failed, 0);
    }

    #[test]
    fn a_job_that_the_guest_did_not_finish_has_failed() {
        let mut results = Results::new("6.1");
        results.read("@forebay-guest@ begin packet");
        assert_eq!(results.row("packet").counts.failed, 1);
        assert_eq!(results.row("differential").counts.failed, 1);
    }

    #[test]
    fn the_script_quotes_what_a_shell_would_split() {
        let job = Job {
            name: "packet".to_owned(),
            folder: "/a b".into(),
            program: "/bin/it's".into(),
            arguments: vec!["--x".to_owned()],
            environment: vec![("KEY".to_owned(), "two words".to_owned())],
            wants_nics: false,
        };
        let script = job_script(&[job]).unwrap();
        assert!(script.contains("cd '/a b' && exec env KEY='two words' '/bin/it'\\''s' '--x'"));
    }

    #[test]
    fn a_dynamic_program_names_its_loader() {
        assert!(is_dynamic(b"\x7fELF..../lib64/ld-linux-x86-64.so.2"));
        assert!(!is_dynamic(b"\x7fELF...."));
    }
}
