//! Where things stand in the file, so that a check made later can point there.

use std::collections::BTreeMap;

use toml_edit::Value;

/// One place of the file, ready for a diagnostic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) key: String,
    pub(super) line: usize,
    pub(super) found: String,
}

/// A key of a table, as it stands in the file.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) line: usize,
    pub(super) found: String,
    /// The value, when it could be read.
    pub(super) value: Option<Value>,
}

/// A table of the file.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// Which kind of table: `rule`, `pool.members`.
    pub(super) kind: String,
    /// The table in the operator's words: `rule "web"`.
    pub(super) path: String,
    pub(super) line: usize,
    /// How the table looks: `[[rule]]`, or the text of an inline one.
    pub(super) found: String,
    /// Its keys; an element of a list is `frontends[1]`.
    pub(super) entries: BTreeMap<String, Entry>,
}

impl Place {
    /// The table as a whole.
    pub(super) fn whole(&self) -> Spot {
        Spot {
            key: self.path.clone(),
            line: self.line,
            found: self.found.clone(),
        }
    }

    /// One key. A key that is absent is at the line of the table.
    pub(super) fn at(&self, key: &str) -> Spot {
        let entry = self.entries.get(key);
        Spot {
            key: self.path_of(key),
            line: entry.map_or(self.line, |entry| entry.line),
            found: entry.map_or_else(|| "nothing".to_owned(), |entry| entry.found.clone()),
        }
    }

    /// The dotted path of one key.
    pub(super) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// One key, or the table when the key is absent: a member written as a plain string has none.
    pub(super) fn at_or_whole(&self, key: &str) -> Spot {
        if self.has(key) {
            self.at(key)
        } else {
            self.whole()
        }
    }

    /// An element of a list, counted from 0 here and from 1 in the message.
    pub(super) fn element(&self, key: &str, index: usize) -> Spot {
        self.at(&element_key(key, index))
    }

    /// Whether the file has this key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }
}

/// How an element of a list is called.
pub(super) fn element_key(key: &str, index: usize) -> String {
    format!("{key}[{}]", index + 1)
}

/// What [`super::reader::Table::finish`] gives.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) place: Place,
    /// Nothing in the table was wrong.
    pub(super) sound: bool,
}

impl Finished {
    /// Puts the value of the table next to its place.
    pub(super) fn with<T>(self, value: T, parts: Vec<Place>) -> Placed<T> {
        Placed {
            value,
            place: self.place,
            parts,
            sound: self.sound,
        }
    }
}

/// A value of the model with the table it came from.
#[derive(Debug, Clone)]
pub(super) struct Placed<T> {
    pub(super) value: T,
    pub(super) place: Place,
    /// The places of what is nested in it (members, IP configurations, security rules), in the
    /// order of the model.
    pub(super) parts: Vec<Place>,
    /// Nothing in it was wrong: advice about the whole makes sense.
    pub(super) sound: bool,
}
