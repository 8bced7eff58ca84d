//! Counting what test programs report, and the table at the end.

use std::fmt::Write;

/// Passed, failed and skipped tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
    pub(crate) skipped: u32,
}

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) counts: Counts,
    pub(crate) seconds: f64,
    pub(crate) note: String,
}

impl Row {
    /// Something that was not tried, and why.
    pub(crate) fn skipped(name: &str, why: &str) -> Self {
        Self {
            name: name.to_owned(),
            counts: Counts::skipped(),
            seconds: 0.0,
            note: why.to_owned(),
        }
    }
}

impl Counts {
    /// A single check.
    pub(crate) fn one(passed: bool) -> Self {
        Self {
            passed: passed.into(),
            failed: (!passed).into(),
            skipped: 0,
        }
    }

    /// A single check that was not made.
    pub(crate) fn skipped() -> Self {
        Self {
            skipped: 1,
            ..Self::default()
        }
    }

    /// Adds a line of output if it is the summary of a test program.
    pub(crate) fn read(&mut self, line: &str) {
        let Some((_, result)) = line.split_once("test result:") else {
            return;
        };
        self.passed += number_before(result, "passed");
        self.failed += number_before(result, "failed");
        self.skipped += number_before(result, "ignored");
    }

    /// A program that failed without reporting a failed test counts as one.
    pub(crate) fn with_status(mut self, success: bool) -> Self {
        if !success && self.failed == 0 {
            self.failed = 1;
        }
        self
    }

    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

fn number_before(text: &str, word: &str) -> u32 {
    let words: Vec<&str> = text
        .split([' ', ';', '.'])
        .filter(|w| !w.is_empty())
        .collect();
    words
        .windows(2)
        .find(|pair| pair[1] == word)
        .and_then(|pair| pair[0].parse().ok())
        .unwrap_or(0)
}

/// Adds all rows up.
pub(crate) fn total(rows: &[Row]) -> Counts {
    let mut total = Counts::default();
    for row in rows {
        total.add(row.counts);
    }
    total
}

/// The table; its last line is the total.
pub(crate) fn render(rows: &[Row]) -> String {
    let width = rows
        .iter()
        .map(|row| row.name.len())
        .max()
        .unwrap_or(0)
        .max(5);
    let mut text = format!(
        "{:width$}  result   passed  failed  skipped  seconds\n",
        "suite"
    );
    for row in rows {
        let Counts {
            passed,
            failed,
            skipped,
        } = row.counts;
        let result = match (passed, failed) {
            (_, 1..) => "FAILED",
            (0, 0) => "skipped",
            _ => "ok",
        };
        let line = format!(
            "{:width$}  {result:7}  {passed:6}  {failed:6}  {skipped:7}  {:7.1}  {}",
            row.name, row.seconds, row.note
        );
        writeln!(text, "{}", line.trim_end()).expect("a string takes any text");
    }
    let total = total(rows);
    write!(
        text,
        "{} passed, {} failed, {} skipped",
        total.passed, total.failed, total.skipped
    )
    .expect("a string takes any text");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, counts: Counts) -> Row {
        Row {
            name: name.to_owned(),
            counts,
            seconds: 1.25,
            note: String::new(),
        }
    }

    #[test]
    fn summaries_of_several_programs_add_up() {
        let mut counts = Counts::default();
        counts.read("test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.01s");
        counts.read("test x ... ok");
        counts
            .read("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out");
        assert_eq!(
            counts,
            Counts {
                passed: 8,
                failed: 2,
                skipped: 1
            }
        );
    }

    #[test]
    fn a_program_that_died_counts_as_a_failure() {
        assert_eq!(Counts::default().with_status(false).failed, 1);
        assert_eq!(Counts::one(false).with_status(false).failed, 1);
        assert_eq!(Counts::one(true).with_status(true).failed, 0);
    }

    #[test]
    fn the_last_line_is_the_total() {
        let rows = [
            row("unit", Counts::one(true)),
            row("packet", Counts::one(false)),
            row("e2e", Counts::skipped()),
        ];
        let text = render(&rows);
        assert_eq!(text.lines().last(), Some("1 passed, 1 failed, 1 skipped"));
        let results: Vec<&str> = text
            .lines()
            .skip(1)
            .filter_map(|line| line.split_whitespace().nth(1))
            .take(3)
            .collect();
        assert_eq!(results, ["ok", "FAILED", "skipped"]);
    }
}
