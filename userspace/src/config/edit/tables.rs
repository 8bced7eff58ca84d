//! Tables of a file that is being edited, whichever way they are written.

use toml_edit::{Array, DocumentMut, InlineTable, Item, RawString, Table, Value};

/// A table: under a header of its own, or in braces.
pub(super) enum TableMut<'d> {
    Headed(&'d mut Table),
    Braced(&'d mut InlineTable),
}

impl TableMut<'_> {
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match self {
            Self::Headed(table) => table.get(key)?.as_str(),
            Self::Braced(table) => table.get(key)?.as_str(),
        }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        match self {
            Self::Headed(table) => table.contains_key(key),
            Self::Braced(table) => table.contains_key(key),
        }
    }

    /// Sets a key that is not there, after the others.
    pub(super) fn set(&mut self, key: &str, text: &str) {
        match self {
            Self::Headed(table) => {
                table.insert(key, toml_edit::value(text));
            }
            Self::Braced(table) => set_braced(table, key, text),
        }
    }

    /// Changes a key that is there, where it stands, or sets it.
    pub(super) fn put(&mut self, key: &str, text: &str) {
        let there = match self {
            Self::Headed(table) => table.get_mut(key).and_then(Item::as_value_mut),
            Self::Braced(table) => table.get_mut(key),
        };
        match there {
            Some(there) => {
                let decor = there.decor().clone();
                *there = Value::from(text);
                *there.decor_mut() = decor;
            }
            None => self.set(key, text),
        }
    }

    /// Removes a key with its comment.
    pub(super) fn remove(&mut self, key: &str) {
        match self {
            Self::Headed(table) => drop(table.remove(key)),
            Self::Braced(table) => remove_braced(table, key),
        }
    }

    /// The values in a list of this one; empty when there is no such list, or one of tables under headers.
    pub(super) fn values(&mut self, key: &str) -> Vec<&mut Value> {
        let list = match self {
            Self::Headed(table) => table.get_mut(key).and_then(Item::as_array_mut),
            Self::Braced(table) => table.get_mut(key).and_then(Value::as_array_mut),
        };
        list.into_iter().flat_map(Array::iter_mut).collect()
    }

    /// The tables in a list of this one; empty when there is no such list.
    pub(super) fn list(&mut self, key: &str) -> Vec<TableMut<'_>> {
        match self {
            Self::Headed(table) => table.get_mut(key).map_or_else(Vec::new, tables),
            Self::Braced(table) => table.get_mut(key).map_or_else(Vec::new, braced),
        }
    }
}

/// The tables of a list.
pub(super) fn tables(item: &mut Item) -> Vec<TableMut<'_>> {
    match item {
        Item::ArrayOfTables(list) => list.iter_mut().map(TableMut::Headed).collect(),
        Item::Value(value) => braced(value),
        _ => Vec::new(),
    }
}

fn braced(value: &mut Value) -> Vec<TableMut<'_>> {
    let elements = value.as_array_mut().into_iter().flat_map(Array::iter_mut);
    let tables = elements.filter_map(Value::as_inline_table_mut);
    tables.map(TableMut::Braced).collect()
}

/// What stands before the closing brace stays there.
fn set_braced(table: &mut InlineTable, key: &str, text: &str) {
    let last = table.iter_mut().last();
    let end = last.map(|(_, last)| {
        let end = last.decor().suffix().cloned();
        last.decor_mut().set_suffix("");
        end.unwrap_or_default()
    });
    table.insert(
        key,
        Value::from(text).decorated(" ", end.unwrap_or_default()),
    );
}

fn remove_braced(table: &mut InlineTable, key: &str) {
    let is_last = (table.iter().last()).is_some_and(|(last, _)| last == key);
    let removed = table.remove(key);
    let end = removed.and_then(|value| value.decor().suffix().cloned());
    let last = table.iter_mut().last();
    if let (true, Some(end), Some((_, last))) = (is_last, end, last) {
        last.decor_mut().set_suffix(end);
    }
}

/// A new table at the end of the file: nothing that stands there already moves.
pub(super) fn append(document: &mut DocumentMut, kind: &str, mut table: Table) -> bool {
    table.decor_mut().set_prefix("\n");
    table.set_position(Some(isize::MAX));
    let list = document
        .as_table_mut()
        .entry(kind)
        .or_insert_with(|| Item::ArrayOfTables(toml_edit::ArrayOfTables::new()));
    match list {
        Item::ArrayOfTables(list) => {
            list.push(table);
            true
        }
        Item::Value(Value::Array(list)) => {
            list.push(table.into_inline_table());
            true
        }
        _ => false,
    }
}

/// Removes a table from a list, with the comment right above it. What stands further up belongs to nobody in
/// particular, and stays.
pub(super) fn remove(document: &mut DocumentMut, kind: &str, name: &str) -> bool {
    let is_meant = |found: Option<&str>| found == Some(name);
    let removed = match document.get_mut(kind) {
        Some(Item::ArrayOfTables(list)) => {
            let named = |table: &Table| is_meant(table.get("name").and_then(Item::as_str));
            let Some(index) = list.iter().position(named) else {
                return false;
            };
            list.remove(index)
        }
        Some(Item::Value(Value::Array(list))) => {
            let before = list.len();
            list.retain(|value| {
                let table = value.as_inline_table();
                let found = table.and_then(|table| table.get("name"));
                !is_meant(found.and_then(Value::as_str))
            });
            return list.len() < before;
        }
        _ => return false,
    };
    let above = removed.decor().prefix().and_then(RawString::as_str);
    if let Some((kept, _)) = above.unwrap_or_default().rsplit_once("\n\n")
        && !kept.trim().is_empty()
    {
        keep(
            document,
            removed.position().unwrap_or(0),
            &format!("{kept}\n"),
        );
    }
    true
}

/// Puts text above the first table after a position.
fn keep(document: &mut DocumentMut, after: isize, text: &str) {
    fn next<'d>(table: &'d mut Table, after: isize, best: &mut Option<&'d mut Table>) {
        for (_, item) in table.iter_mut() {
            let below: Vec<&mut Table> = match item {
                Item::Table(table) => vec![table],
                Item::ArrayOfTables(list) => list.iter_mut().collect(),
                _ => Vec::new(),
            };
            for table in below {
                let at = table.position().filter(|at| *at > after);
                let is_nearer = at.is_some_and(|at| {
                    (best.as_ref()).is_none_or(|best| best.position().is_none_or(|b| at < b))
                });
                if is_nearer {
                    *best = Some(table);
                } else {
                    next(table, after, best);
                }
            }
        }
    }
    let mut best = None;
    next(document.as_table_mut(), after, &mut best);
    match best {
        Some(table) => {
            let own = table.decor().prefix().and_then(RawString::as_str);
            let both = format!("{text}{}", own.unwrap_or_default());
            table.decor_mut().set_prefix(both);
        }
        None => {
            let own = document.trailing().as_str().unwrap_or_default();
            let both = format!("{text}{own}");
            document.set_trailing(both);
        }
    }
}
