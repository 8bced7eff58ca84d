//! Where and when: figures without this mean nothing.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// The machine as it was during a measurement.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) date: String,
    pub(crate) commit: String,
    pub(crate) processor: String,
    pub(crate) processors: usize,
    pub(crate) kernel: String,
    /// `net.core.bpf_jit_enable`
    pub(crate) jit: String,
    /// What the kernel does about flaws of the processor, where there is anything to do.
    pub(crate) mitigations: BTreeMap<String, String>,
    /// Load average when the measurement began.
    pub(crate) load: String,
    /// The processor that measured.
    pub(crate) measured_on: usize,
}

impl Machine {
    /// Looks around.
    pub(crate) fn look(measured_on: usize) -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        let processor = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name"))
            .map_or("unknown", |rest| rest.trim_start_matches(['\t', ':', ' ']));
        let load = read("/proc/loadavg");
        Self {
            date: said("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]),
            commit: commit(),
            processor: processor.to_owned(),
            processors: aya::util::nr_cpus().unwrap_or(0),
            kernel: said("uname", &["-rv"]),
            jit: read("/proc/sys/net/core/bpf_jit_enable"),
            mitigations: mitigations(),
            load: load.split(' ').next().unwrap_or_default().to_owned(),
            measured_on,
        }
    }

    /// Prints the facts.
    pub(crate) fn print(&self) {
        println!(
            "{} | {} | {} x {} | Linux {} | JIT {} | load {} | on CPU {}",
            self.date,
            self.commit,
            self.processors,
            self.processor,
            self.kernel,
            self.jit,
            self.load,
            self.measured_on
        );
        for (flaw, mitigation) in &self.mitigations {
            println!("  {flaw}: {mitigation}");
        }
    }
}

fn read(path: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.trim().to_owned()
}

/// What a program prints; "unknown" when it cannot be run.
fn said(program: &str, arguments: &[&str]) -> String {
    match Command::new(program).args(arguments).output() {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        _ => "unknown".to_owned(),
    }
}

fn commit() -> String {
    let here = env!("CARGO_MANIFEST_DIR");
    said("git", &["-C", here, "describe", "--always", "--dirty"])
}

fn mitigations() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/sys/devices/system/cpu/vulnerabilities")
        .into_iter()
        .flatten()
        .flatten()
    {
        let says = read(&entry.path().to_string_lossy());
        if says != "Not affected" {
            found.insert(entry.file_name().to_string_lossy().into_owned(), says);
        }
    }
    found
}
