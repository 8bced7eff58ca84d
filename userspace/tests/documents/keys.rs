//! `docs/configuration.md` has every key, no other, and the right defaults.

use std::collections::BTreeSet;

use forebay::config::model::Config;
use forebay::config::{Options, parse_with};
use toml_edit::{DocumentMut, Item, TableLike, Value};

use super::{cells, code, text};

/// The file that has one of everything.
pub(super) const EVERYTHING: &str = "tests/fixtures/contract.toml";

/// A key of the document.
#[derive(Debug)]
pub(super) struct Row {
    /// The table, as in `security_group.rule`.
    pub(super) section: String,
    pub(super) key: String,
    /// The cell.
    default: String,
    /// The last cell.
    pub(super) available: String,
}

/// Rows of the tables below headings that are a TOML header in backticks.
pub(super) fn rows() -> Vec<Row> {
    let mut section = None;
    let mut rows = Vec::new();
    for line in text("docs/configuration.md").lines() {
        if line.starts_with('#') {
            let header = code(line).filter(|header| header.starts_with('['));
            section = header.map(|header| header.trim_matches(['[', ']']).to_owned());
        }
        let (Some(section), Some(cells)) = (&section, cells(line)) else {
            continue;
        };
        // The line of titles and the ruled one have no code in their first cell.
        if let (Some(key), [_, _, default, _, _, available]) = (code(&cells[0]), cells.as_slice()) {
            rows.push(Row {
                section: section.clone(),
                key: key.to_owned(),
                default: default.clone(),
                available: available.clone(),
            });
        }
    }
    assert!(rows.len() > 80, "only {} rows", rows.len());
    rows
}

fn contract() -> DocumentMut {
    text(EVERYTHING).parse().unwrap()
}

fn read(text: &str) -> Result<Config, forebay::config::Diagnostics> {
    let options = Options {
        host_name: Some("lb1".to_owned()),
        accept_unavailable: true,
        host: None,
    };
    parse_with("f.toml", text, &options).map(|loaded| loaded.config)
}

/// The first table of a kind, wherever and however it is written.
pub(super) fn table_of<'d>(
    document: &'d mut DocumentMut,
    section: &str,
) -> Option<&'d mut dyn TableLike> {
    let mut table: &mut dyn TableLike = document.as_table_mut();
    for part in section.split('.') {
        table = first_table(table.get_mut(part)?)?;
    }
    Some(table)
}

fn first_table(item: &mut Item) -> Option<&mut dyn TableLike> {
    match item {
        Item::Table(table) => Some(table),
        Item::ArrayOfTables(tables) => Some(tables.get_mut(0)?),
        Item::Value(Value::InlineTable(table)) => Some(table),
        Item::Value(Value::Array(array)) => {
            let mut values = array.iter_mut();
            Some(values.find_map(Value::as_inline_table_mut)?)
        }
        Item::Value(_) | Item::None => None,
    }
}

/// Every table and key of the contract's sample.
fn keys_of(kind: &str, table: &dyn TableLike, found: &mut BTreeSet<(String, String)>) {
    for (key, item) in table.iter() {
        let inner = match kind {
            "" => key.to_owned(),
            kind => format!("{kind}.{key}"),
        };
        let mut tables: Vec<&dyn TableLike> = Vec::new();
        match item {
            Item::Table(table) => tables.push(table),
            Item::ArrayOfTables(list) => tables.extend(list.iter().map(|t| t as &dyn TableLike)),
            Item::Value(Value::InlineTable(table)) => tables.push(table),
            Item::Value(Value::Array(array)) => {
                let inline = array.iter().filter_map(Value::as_inline_table);
                tables.extend(inline.map(|table| table as &dyn TableLike));
            }
            Item::Value(_) | Item::None => {}
        }
        if !kind.is_empty() {
            found.insert((kind.to_owned(), key.to_owned()));
        }
        tables
            .iter()
            .for_each(|table| keys_of(&inner, *table, found));
    }
}

#[test]
fn every_key_of_the_contract_is_documented() {
    let mut known = BTreeSet::new();
    keys_of("", contract().as_table(), &mut known);
    assert!(known.len() > 80);
    for row in rows() {
        known.remove(&(row.section, row.key));
    }
    // A list of tables has a heading of its own.
    known.remove(&("security_group".to_owned(), "rule".to_owned()));
    assert_eq!(known, BTreeSet::new(), "not in docs/configuration.md");
}

#[test]
fn every_documented_key_exists() {
    for Row { section, key, .. } in rows() {
        let mut document = contract();
        let table = table_of(&mut document, &section).unwrap_or_else(|| panic!("[{section}]"));
        // Of no type that any key has.
        table.insert(&key, Item::Value(Value::from(1.5)));
        let errors = read(&document.to_string()).expect_err(&key).errors;
        let unknown = errors
            .iter()
            .find(|error| error.message.starts_with("unknown key"));
        assert!(unknown.is_none(), "[{section}] {key}: {unknown:?}");
    }
}

#[test]
fn documented_defaults_are_what_an_absent_key_means() {
    let mut checked = 0;
    for Row {
        section,
        key,
        default,
        ..
    } in rows()
    {
        let literal = code(&default).filter(|literal| default.len() == literal.len() + 2);
        let Some(value) = literal.map(|literal| literal.parse::<Value>().unwrap()) else {
            continue;
        };
        let mut absent = contract();
        table_of(&mut absent, &section).unwrap().remove(&key);
        let mut written = absent.clone();
        table_of(&mut written, &section)
            .unwrap()
            .insert(&key, Item::Value(value));
        let (absent, written) = (read(&absent.to_string()), read(&written.to_string()));
        assert!(absent.is_ok(), "[{section}] {key}: {absent:?}");
        assert_eq!(absent, written, "[{section}] {key} = {default}");
        checked += 1;
    }
    assert!(checked > 40, "only {checked} defaults are checked");
}
