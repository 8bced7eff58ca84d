//! What a document names is there.

use std::path::{Path, PathBuf};

use super::root;

/// Folders that hold the code; a path in backticks that begins with one must exist.
const FOLDERS: [&str; 7] = [
    "common/",
    "ebpf/",
    "userspace/",
    "tests/",
    "xtask/",
    "docs/",
    ".ci/",
];

/// Every document of the repository.
fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().flatten() {
            match entry.path() {
                path if path.is_dir() => folders.push(path),
                path => found.push(path),
            }
        }
    }
    found.extend(
        std::fs::read_dir(root())
            .unwrap()
            .flatten()
            .map(|e| e.path()),
    );
    found.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    assert!(found.len() > 10, "{found:?}");
    found
}

/// What stands in pairs of backticks, outside blocks of code.
fn code_spans(text: &str) -> Vec<&str> {
    let mut in_block = false;
    let mut spans = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            spans.extend(line.split('`').skip(1).step_by(2));
        }
    }
    spans
}

/// Targets of the links, without their anchors, and the anchors.
fn targets(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split("](").skip(1).filter_map(|rest| {
        let (target, _) = rest.split_once(')')?;
        Some(target.split_once('#').unwrap_or((target, "")))
    })
}

/// The anchor that a heading gets.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter_map(|c| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c.to_ascii_lowercase()),
        _ => None,
    });
    kept.collect()
}

fn has_anchor(document: &Path, wanted: &str) -> bool {
    let text = std::fs::read_to_string(document).unwrap();
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| anchor(line.trim_start_matches('#').trim()))
        .any(|found| found == wanted)
}

#[test]
fn paths_that_documents_name_exist() {
    let mut missing = Vec::new();
    for document in documents() {
        let text = std::fs::read_to_string(&document).unwrap();
        for span in code_spans(&text) {
            let is_path = FOLDERS.iter().any(|folder| span.starts_with(folder))
                && !span.contains(char::is_whitespace);
            if is_path && !root().join(span).exists() {
                missing.push(format!("{}: {span}", document.display()));
            }
        }
    }
    assert!(missing.is_empty(), "no such path:\n{}", missing.join("\n"));
}

#[test]
fn the_architecture_names_the_files_it_speaks_of() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let named = code_spans(&text);
    let paths = named
        .iter()
        .filter(|span| FOLDERS.iter().any(|folder| span.starts_with(folder)));
    assert!(paths.count() > 15);
}

#[test]
fn links_stay_inside_the_repository_and_lead_somewhere() {
    let mut wrong = Vec::new();
    for document in documents() {
        let text = std::fs::read_to_string(&document).unwrap();
        let folder = document.parent().unwrap();
        for (target, anchor) in targets(&text) {
            let path = match target {
                "" => document.clone(),
                target => folder.join(target),
            };
            let found = !target.contains("://")
                && path.exists()
                && (anchor.is_empty() || has_anchor(&path, anchor));
            if !found {
                wrong.push(format!("{}: {target}#{anchor}", document.display()));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "these lead nowhere:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn anchors_are_made_of_headings() {
    assert_eq!(anchor("`[[instance.ip_configs]]`"), "instanceip_configs");
    assert_eq!(
        anchor("What works, and what does not yet"),
        "what-works-and-what-does-not-yet"
    );
}
