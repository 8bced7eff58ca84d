//! `docs/metrics.md` has a line for each family, and no other.

use forebay::metrics::families;

use super::{cells, code, text};

#[test]
fn the_table_of_families_is_that_of_the_program() {
    let document = text("docs/metrics.md");
    let rows = document.lines().filter_map(cells);
    let documented: Vec<(String, String, String)> = rows
        .filter_map(|row| {
            let name = code(&row[0]).filter(|name| name.starts_with("forebay_"))?;
            Some((name.to_owned(), row[1].clone(), row[2].clone()))
        })
        .collect();
    let labels = |labels: &[&str]| {
        let quoted = labels.iter().map(|label| format!("`{label}`"));
        quoted.collect::<Vec<_>>().join(", ")
    };
    let known: Vec<_> = families()
        .map(|family| {
            let kind = family.kind.label().to_owned();
            (family.name(), kind, labels(family.labels))
        })
        .collect();
    assert_eq!(documented, known);
}

#[test]
fn alerts_ask_for_families_that_there_are() {
    let document = text("docs/metrics.md");
    let (_, alerts) = document.split_once("```yaml").unwrap();
    let alerts = alerts.split("```").next().unwrap();
    let names: Vec<String> = families().map(|family| family.name()).collect();
    let words = alerts.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let asked: Vec<&str> = words.filter(|word| word.starts_with("forebay_")).collect();
    assert!(asked.len() > 5, "{asked:?}");
    for name in asked {
        assert!(names.iter().any(|known| known == name), "{name}");
    }
}
