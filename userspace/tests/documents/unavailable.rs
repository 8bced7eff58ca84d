//! The list of what is not available yet in `docs/configuration.md` is that of the program.

use std::collections::BTreeSet;

use forebay::config::{Diagnostic, parse, parse_all};
use toml_edit::DocumentMut;

use super::keys::{EVERYTHING, rows, table_of};
use super::{cells, code, text};

const HEADING: &str = "## Not available yet";
const REFUSAL: &str = "is not available yet in this version";

/// A runnable file whose first table of each kind can take every line of the list.
const RUNNABLE: &str = r#"
[node]
interfaces = ["eth0"]
[limits]
[timeouts]
[api]
[log]
[[frontend]]
name = "unused"
ipv4 = "203.0.113.11"
ipv6 = "2001:db8:1::11"
[[frontend]]
name = "web"
ipv4 = "203.0.113.10"
ipv6 = "2001:db8:1::10"
[[instance]]
name = "web-1"
ip_configs = [{ name = "primary", ipv4 = "10.0.1.11", ipv6 = "fd00:1::11" }]
[[pool]]
name = "web"
members = [{ instance = "web-1" }]
[[rule]]
name = "http"
frontend = "web"
port = 80
pool = "web"
"#;

/// Table and line of every entry; a whole table has no line.
fn entries() -> Vec<(String, Option<String>)> {
    let document = text("docs/configuration.md");
    let (_, list) = document.split_once(HEADING).unwrap();
    let list = list.split("\n## ").next().unwrap();
    let rows = list.lines().filter_map(cells);
    let entries: Vec<_> = rows
        .filter_map(|row| {
            let table = code(&row[0])?.trim_matches(['[', ']']).to_owned();
            Some((table, code(&row[1]).map(ToOwned::to_owned)))
        })
        .collect();
    assert!(entries.len() > 3, "only {entries:?}");
    entries
}

/// The runnable file with one entry of the list in it.
fn with(table: &str, line: Option<&str>) -> String {
    let mut document: DocumentMut = RUNNABLE.parse().unwrap();
    match line {
        Some(line) => {
            let addition: DocumentMut = line.parse().unwrap_or_else(|e| panic!("{line}: {e}"));
            for (key, item) in addition.iter() {
                let place = table_of(&mut document, table).unwrap_or_else(|| panic!("{table}"));
                place.insert(key, item.clone());
            }
        }
        None => {
            let everything: DocumentMut = text(EVERYTHING).parse().unwrap();
            document.insert(table, everything[table].clone());
        }
    }
    document.to_string()
}

fn refused(text: &str) -> Vec<Diagnostic> {
    let errors = parse("f.toml", text).map_or_else(|refusal| refusal.errors, |_| Vec::new());
    (errors.into_iter())
        .filter(|error| error.message.contains(REFUSAL))
        .collect()
}

#[test]
fn the_base_is_runnable() {
    parse("f.toml", RUNNABLE).unwrap_or_else(|refusal| panic!("{refusal}"));
}

#[test]
fn what_is_listed_is_refused_as_not_available() {
    for (table, line) in entries() {
        let text = with(&table, line.as_deref());
        assert!(
            !refused(&text).is_empty(),
            "[{table}] {line:?} is available:\n{text}"
        );
        if line.is_some() {
            let complaints = parse_all("f.toml", &text).map_or_else(|r| r.errors, |_| Vec::new());
            let wrong = |error: &&Diagnostic| !error.message.contains("file has no");
            assert_eq!(complaints.iter().find(wrong), None, "[{table}] {line:?}");
        }
    }
}

#[test]
fn what_the_contract_has_too_early_is_listed() {
    let listed: BTreeSet<String> = (entries().iter())
        .map(|(table, line)| match line {
            Some(line) => format!("{table}.{}", line.split(' ').next().unwrap()),
            None => table.clone(),
        })
        .collect();
    let found = refused(&text(EVERYTHING));
    assert!(!found.is_empty());
    for error in found {
        let names = error.key.split('"').step_by(2).map(str::trim);
        let key: String = names.collect();
        assert!(listed.contains(&key), "{key} is not in the list: {error}");
    }
}

/// Keys of the list are marked in the tables of keys, and no others are.
#[test]
fn the_tables_of_keys_agree_with_the_list() {
    let (keys, tables): (Vec<_>, Vec<_>) = entries().into_iter().partition(|(_, l)| l.is_some());
    let is_listed = |section: &str, key: &str| {
        let names =
            |line: &Option<String>| line.as_deref().and_then(|l| l.split(' ').next()) == Some(key);
        // In the short form the instance's own table stands for its only IP configuration.
        let same = |table: &str| {
            table == section || (section == "instance" && table == "instance.ip_configs")
        };
        keys.iter().any(|(table, line)| same(table) && names(line))
    };
    for row in rows() {
        let whole = row.section.split('.').next().unwrap();
        let allowed: &[&str] = match is_listed(&row.section, &row.key) {
            _ if tables.iter().any(|(table, _)| table == whole) => &["no"],
            true => &["no", "partly"],
            false => &["yes", "no effect"],
        };
        assert!(
            allowed.contains(&row.available.as_str()),
            "{row:?}: one of {allowed:?}"
        );
    }
}
