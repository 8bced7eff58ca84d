//! The documents say what the code does: paths exist, tables of keys and reasons are those of the
//! program, samples are accepted.

#![expect(clippy::unwrap_used, reason = "that ends a test")]

mod health;
mod keys;
mod links;
mod metrics;
mod reasons;
mod samples;
mod tests_named;
mod unavailable;

use std::path::{Path, PathBuf};

/// The folder of the repository.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap().to_owned()
}

/// The text of a file of the repository.
fn text(path: &str) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The cells of a line of a table; nothing for other lines.
fn cells(line: &str) -> Option<Vec<String>> {
    let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    // A bar inside a cell is written with a backslash.
    let cells = inner.replace("\\|", "\u{0}");
    let cells = cells.split('|').map(|cell| cell.replace('\u{0}', "|"));
    Some(cells.map(|cell| cell.trim().to_owned()).collect())
}

/// What stands between the first pair of backticks.
fn code(cell: &str) -> Option<&str> {
    cell.split('`').nth(1)
}
