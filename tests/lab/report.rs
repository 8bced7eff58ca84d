//! What the demo prints: steps with their duration, aligned tables, claims with their proof.

use std::io::Write;
use std::time::Instant;

use anyhow::Result;

use super::interrupt;

/// Prints a line. A reader that has gone (`| head`) is no reason to stop half-way.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($text)*);
    }};
}
pub(crate) use say;

/// What has been claimed so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    passed: usize,
    failed: Vec<String>,
}

impl Report {
    /// Records a claim and prints whether it holds.
    pub(crate) fn claim(&mut self, holds: bool, claim: impl Into<String>) {
        let claim = claim.into();
        say!("  {} {claim}", if holds { "ok  " } else { "FAIL" });
        if holds {
            self.passed += 1;
        } else {
            self.failed.push(claim);
        }
    }

    /// How many claims held.
    pub(crate) fn passed(&self) -> usize {
        self.passed
    }

    /// The claims that did not hold.
    pub(crate) fn failed(&self) -> &[String] {
        &self.failed
    }
}

/// Does a piece of work that takes a while, saying what and how long.
pub(crate) fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    interrupt::check()?;
    let mut out = std::io::stdout();
    let _ = write!(out, "  {what} ... ").and_then(|()| out.flush());
    let start = Instant::now();
    let done = work();
    match &done {
        Ok(_) => say!("{:.1} s", start.elapsed().as_secs_f64()),
        Err(_) => say!("failed"),
    }
    interrupt::check()?;
    done
}

/// A heading.
pub(crate) fn heading(title: &str) {
    say!("\n{title}\n{}", "-".repeat(title.chars().count()));
}

/// Text of another program, indented.
pub(crate) fn quote(text: &str) {
    for line in text.trim_end().lines() {
        say!("{}", format!("  {line}").trim_end());
    }
}

/// Columns under their titles.
pub(crate) fn table<const N: usize>(titles: [&str; N], rows: &[[String; N]]) {
    let titles = titles.map(str::to_owned);
    let lines = || std::iter::once(&titles).chain(rows);
    let widths: [usize; N] = std::array::from_fn(|column| {
        lines()
            .map(|cells| cells[column].chars().count())
            .max()
            .unwrap_or(0)
    });
    for cells in lines() {
        let padded = cells
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        say!("  {}", padded.collect::<Vec<_>>().join("  ").trim_end());
    }
}
