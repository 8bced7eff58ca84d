//! Tests that a document names as its proof are there.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::{cells, root, text};

/// Names of functions that the sources have, tests among them.
fn functions() -> BTreeSet<String> {
    let folders = ["tests", "common/src", "userspace/src", "userspace/tests"];
    let mut open: Vec<PathBuf> = folders.map(|folder| root().join(folder)).to_vec();
    let mut found = BTreeSet::new();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(path).unwrap().map(|e| e.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let mut is_test = false;
            for line in text.lines().map(str::trim) {
                let name = line
                    .strip_prefix("fn ")
                    .and_then(|rest| rest.split_once("()"));
                if let Some((name, _)) = name.filter(|_| is_test) {
                    found.insert(name.to_owned());
                }
                is_test = line == "#[test]" || (is_test && line.starts_with("#["));
            }
        }
    }
    found
}

/// What the last column of the tables has in backticks, and code spans of the text that look like tests.
fn named(document: &str) -> BTreeSet<String> {
    let is_test = |span: &&str| {
        let words = span.split('_').count();
        words > 3
            && span
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    let mut named = BTreeSet::new();
    for line in document.lines() {
        let spans = line.split('`').skip(1).step_by(2);
        named.extend(spans.filter(is_test).map(str::to_owned));
        if let Some(last) = cells(line).and_then(|cells| cells.last().cloned()) {
            let spans = last.split('`').skip(1).step_by(2);
            named.extend(spans.map(str::to_owned));
        }
    }
    named
}

#[test]
fn tests_that_show_compliance_exist() {
    let named = named(&text("docs/nat-compliance.md"));
    assert!(named.len() > 30, "{named:?}");
    let there = functions();
    let missing: Vec<_> = named.difference(&there).collect();
    assert!(missing.is_empty(), "no such test: {missing:#?}");
}
