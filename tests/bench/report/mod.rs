//! What came out: a table for people, a file for the next run and for other programs.

pub(crate) mod micro;
pub(crate) mod path;
mod table;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::target_dir;

/// A result with everything needed to judge it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record<R> {
    pub(crate) machine: Machine,
    pub(crate) result: R,
}

/// A kind of result.
pub(crate) trait Report: Serialize + DeserializeOwned {
    /// Prints it, with what it was last time.
    fn print(&self, last: Option<&Self>);
    /// What was to be reached and was not; and how many there were.
    fn missed(&self) -> (Vec<String>, usize);
}

/// Prints a result and keeps it as the last one of its name, if it has one.
pub(crate) fn publish<R: Report>(name: Option<String>, machine: &Machine, result: R) -> Result<()> {
    let path = name.map(|name| file(&name)).transpose()?;
    let last = path.as_deref().and_then(last_recorded::<R>);
    machine.print();
    result.print(last.as_ref().map(|record| &record.result));
    if let Some(last) = &last {
        println!("last: {} ({})", last.machine.date, last.machine.commit);
    }
    let (missed, of) = result.missed();
    println!("targets reached: {} of {of}", of - missed.len());
    for line in missed {
        println!("  NOT reached: {line}");
    }
    match path {
        Some(path) => record(&path, machine, result),
        None => Ok(()),
    }
}

fn record<R: Report>(path: &Path, machine: &Machine, result: R) -> Result<()> {
    let record = Record {
        machine: machine.clone(),
        result,
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    let text = serde_json::to_string_pretty(&record)?;
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    println!("recorded in {}\n", path.display());
    Ok(())
}

fn file(name: &str) -> Result<PathBuf> {
    Ok(target_dir()?.join("bench").join(format!("{name}.json")))
}

/// The last record, if there is one that this program understands.
fn last_recorded<R: DeserializeOwned>(path: &Path) -> Option<Record<R>> {
    let text = std::fs::read_to_string(path).ok()?;
    match serde_json::from_str(&text) {
        Ok(record) => Some(record),
        Err(error) => {
            eprintln!("{} is not compared with: {error}", path.display());
            None
        }
    }
}
