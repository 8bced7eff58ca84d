//! Which names the file gives, also those of tables that are otherwise wrong: a reference to
//! such a table is no second mistake.

use std::collections::BTreeMap;

use super::place::Spot;
use super::reader::Table;
use super::source::Source;
use super::suggest::closest;
use super::values::text;

/// How many names a message lists.
const MOST_LISTED: usize = 8;

/// Names by kind, with the line of each.
#[derive(Debug, Default)]
pub(super) struct Names {
    kinds: BTreeMap<&'static str, BTreeMap<String, usize>>,
}

impl Names {
    /// Reads the `name` of a table. Two of one kind cannot share a name.
    pub(super) fn read(&mut self, table: &mut Table<'_>, kind: &'static str) -> Option<String> {
        let name = table.require("name", text::NAME, text::name)?;
        self.claim(table.source(), kind, &name, table.place().at("name"));
        Some(name)
    }

    /// Notes a name; an error when the kind has it already.
    pub(super) fn claim(
        &mut self,
        source: &Source<'_>,
        kind: &'static str,
        name: &str,
        spot: Spot,
    ) {
        let names = self.kinds.entry(kind).or_default();
        if let Some(line) = names.get(name) {
            let expected = format!("a name that no other {kind} has");
            let message = format!("line {line} uses this name already; choose another");
            source.error(spot, expected, message);
        } else {
            names.insert(name.to_owned(), spot.line);
        }
    }

    /// Notes a name that needs no check of its own.
    pub(super) fn note(&mut self, kind: &'static str, name: String, line: usize) {
        self.kinds
            .entry(kind)
            .or_default()
            .entry(name)
            .or_insert(line);
    }

    /// Whether the file has such a thing of this kind.
    pub(super) fn has(&self, kind: &str, name: &str) -> bool {
        self.kinds
            .get(kind)
            .is_some_and(|names| names.contains_key(name))
    }

    /// Refuses a reference to what does not exist.
    pub(super) fn refer(&self, source: &Source<'_>, kind: &str, name: &str, spot: Spot) {
        if self.has(kind, name) {
            return;
        }
        let known = || self.kinds.get(kind).into_iter().flat_map(BTreeMap::keys);
        let message = match closest(name, known().map(String::as_str)) {
            Some(meant) => format!("there is none of this name; did you mean \"{meant}\"?"),
            None if known().next().is_none() => format!("the file has no {kind}; add it"),
            None => format!(
                "there is none of this name; the file has {}",
                listed(known())
            ),
        };
        source.error(
            spot,
            format!("the name of {} {kind}", article(kind)),
            message,
        );
    }
}

/// Names as a message lists them, cut off when there are many.
pub(super) fn listed<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let mut names: Vec<_> = names.map(|name| format!("\"{name}\"")).collect();
    let more = names.len().saturating_sub(MOST_LISTED);
    names.truncate(MOST_LISTED);
    match more {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

fn article(noun: &str) -> &'static str {
    if noun.starts_with(['a', 'e', 'i', 'o', 'I']) {
        "an"
    } else {
        "a"
    }
}
