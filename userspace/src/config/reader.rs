//! Fetches the keys of a table by type and remembers which were asked for, so that every key
//! nobody asked for can be refused at the end.

use toml_edit::{Item, TableLike, Value};

use super::field::Field;
use super::place::{Entry, Finished, Place, Spot, element_key};
use super::source::Source;
use super::suggest::closest;
use super::values::{Mismatch, Parsed};

/// A table of the file that is being read.
pub(super) struct Table<'a> {
    source: &'a Source<'a>,
    items: &'a dyn TableLike,
    place: Place,
    asked: Vec<&'static str>,
    errors_before: usize,
}

/// An element of a list that takes plain values as well as tables.
pub(super) enum Element<'a> {
    Table(Table<'a>),
    Value(&'a Value, Place),
}

impl<'a> Table<'a> {
    /// The whole file.
    pub(super) fn root(source: &'a Source<'a>, items: &'a dyn TableLike) -> Self {
        let place = Place {
            kind: String::new(),
            path: String::new(),
            line: 1,
            found: String::new(),
            entries: Default::default(),
        };
        Self::new(source, items, place)
    }

    fn new(source: &'a Source<'a>, items: &'a dyn TableLike, place: Place) -> Self {
        Self {
            source,
            items,
            place,
            asked: Vec::new(),
            errors_before: source.error_count(),
        }
    }

    /// Where this table stands; its keys are known as far as they have been read.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// The file this table is part of.
    pub(super) fn source(&self) -> &'a Source<'a> {
        self.source
    }

    /// Reads a key that may be absent.
    pub(super) fn get<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&Value) -> Parsed<T>,
    ) -> Field<T> {
        let Some(item) = self.item(key) else {
            return Field::Absent;
        };
        let spot = self.spot(key, item);
        let parsed = match item.as_value() {
            Some(value) => parse(value),
            None => Err(not_a_value(
                &spot,
                parse(&Value::from(toml_edit::Array::new())).err(),
            )),
        };
        match parsed {
            Ok(value) => {
                self.enter(key.to_owned(), spot, item.as_value());
                Field::Present(value)
            }
            Err(mismatch) => {
                self.enter(key.to_owned(), spot.clone(), None);
                self.refuse(spot, mismatch);
                Field::Invalid
            }
        }
    }

    /// Reads a key that must be there.
    pub(super) fn require<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        parse: impl Fn(&Value) -> Parsed<T>,
    ) -> Option<T> {
        match self.get(key, parse) {
            Field::Present(value) => Some(value),
            Field::Invalid => None,
            Field::Absent => {
                self.missing(key, expected);
                None
            }
        }
    }

    /// Says that a key has to be added.
    pub(super) fn missing(&self, key: &str, expected: &str) {
        let message = format!("{key} is missing; add it");
        self.source.error(self.place.at(key), expected, message);
    }

    /// Reads a list of plain values; one bad element spoils the list.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        parse: impl Fn(&Value) -> Parsed<T>,
    ) -> Field<Vec<T>> {
        let Some(item) = self.item(key) else {
            return Field::Absent;
        };
        let spot = self.spot(key, item);
        let Some(array) = item.as_array() else {
            let message = format!("write a list, in brackets: {key} = [{}]", spot.found);
            self.enter(key.to_owned(), spot.clone(), None);
            self.refuse(spot, Mismatch::new(expected, message));
            return Field::Invalid;
        };
        self.enter(key.to_owned(), spot, item.as_value());
        let mut values = Vec::new();
        for (index, element) in array.iter().enumerate() {
            let key = element_key(key, index);
            let spot = self.value_spot(&key, element);
            match parse(element) {
                Ok(value) => {
                    self.enter(key, spot, Some(element));
                    values.push(value);
                }
                Err(mismatch) => {
                    self.enter(key, spot.clone(), None);
                    self.refuse(spot, mismatch);
                }
            }
        }
        if values.len() == array.len() {
            Field::Present(values)
        } else {
            Field::Invalid
        }
    }

    /// A table that is there at most once: `[node]`, or an inline one. An absent one is empty.
    pub(super) fn table(&mut self, key: &'static str) -> Table<'a> {
        let Some(item) = self.item(key) else {
            let spot = self.place.at(key);
            return self.nested(key, &self.source.empty, spot);
        };
        let spot = self.spot(key, item);
        self.enter(key.to_owned(), spot.clone(), None);
        if let Some(items) = item.as_table_like() {
            return self.nested(key, items, spot);
        }
        let tables = item.as_array_of_tables();
        let (expected, message) = if tables.is_some() {
            (self.header(key), "this table can be there only once")
        } else if self.place.kind.is_empty() {
            (self.header(key), "this is a table of keys, not a value")
        } else {
            (
                format!("a table: {key} = {{ ... }}"),
                "this is a table of keys, not a value",
            )
        };
        self.source.error(spot.clone(), expected, message);
        let first = tables.and_then(|tables| tables.get(0));
        self.nested(key, first.unwrap_or(&self.source.empty), spot)
    }

    /// The tables of a list: `[[rule]]`, or inline ones.
    pub(super) fn tables(&mut self, key: &'static str) -> Vec<Table<'a>> {
        let expected = "a table";
        let mut tables = Vec::new();
        for element in self.elements(key) {
            match element {
                Element::Table(table) => tables.push(table),
                Element::Value(_, place) => {
                    let message = "write a table: { name = \"...\", ... }";
                    self.source.error(place.whole(), expected, message);
                }
            }
        }
        tables
    }

    /// The elements of a list that may hold tables and plain values.
    pub(super) fn elements(&mut self, key: &'static str) -> Vec<Element<'a>> {
        let Some(item) = self.item(key) else {
            return Vec::new();
        };
        let spot = self.spot(key, item);
        self.enter(key.to_owned(), spot.clone(), item.as_value());
        match item {
            Item::ArrayOfTables(tables) => (tables.iter().enumerate())
                .map(|(index, table)| {
                    Element::Table(self.element_table(key, index, table, table.span()))
                })
                .collect(),
            Item::Value(Value::Array(array)) => (array.iter().enumerate())
                .map(|(index, value)| match value.as_inline_table() {
                    Some(table) => {
                        Element::Table(self.element_table(key, index, table, value.span()))
                    }
                    None => Element::Value(value, self.element_place(key, index, value)),
                })
                .collect(),
            Item::Value(_) | Item::None => {
                let message = format!("write a list, in brackets: {key} = [{}]", spot.found);
                self.source.error(spot, "a list", message);
                Vec::new()
            }
            Item::Table(table) => {
                let message = format!(
                    "there may be several of these: write {}",
                    self.list_header(key)
                );
                self.source.error(spot, self.list_header(key), message);
                vec![Element::Table(self.element_table(
                    key,
                    0,
                    table,
                    table.span(),
                ))]
            }
        }
    }

    /// Refuses the keys that nobody asked for. Gives the place of the table and whether
    /// everything in it was right.
    pub(super) fn finish(self) -> Finished {
        for (key, item) in self.items.iter() {
            if self.asked.contains(&key) {
                continue;
            }
            let mut spot = self.spot(key, item);
            spot.found = self.source.quote(self.key_span(key));
            let expected = format!("one of {}", self.asked.join(", "));
            let message = match closest(key, self.asked.iter().copied()) {
                Some(meant) => format!("unknown key; did you mean {meant}?"),
                None => "unknown key; remove it".to_owned(),
            };
            self.source.error(spot, expected, message);
        }
        self.source.remember(&self.place);
        let sound = self.source.error_count() == self.errors_before;
        Finished {
            place: self.place,
            sound,
        }
    }

    /// Whether the file has this key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.items.contains_key(key)
    }

    /// Accepts a key without looking at it: something else about it was reported.
    pub(super) fn ignore(&mut self, key: &'static str) {
        self.asked.push(key);
    }

    fn item(&mut self, key: &'static str) -> Option<&'a Item> {
        self.asked.push(key);
        self.items.get(key).filter(|item| !item.is_none())
    }

    fn key_span(&self, key: &str) -> Option<std::ops::Range<usize>> {
        self.items
            .get_key_value(key)
            .and_then(|(key, _)| key.span())
    }

    fn spot(&self, key: &str, item: &Item) -> Spot {
        let start = self
            .key_span(key)
            .or_else(|| item.span())
            .map(|span| span.start);
        Spot {
            key: self.place.path_of(key),
            line: start.map_or(self.place.line, |start| self.source.line(start)),
            found: match item {
                Item::Value(value) => self.source.quote(value.span()),
                Item::ArrayOfTables(_) => self.list_header(key),
                Item::Table(_) | Item::None => self.header(key),
            },
        }
    }

    fn value_spot(&self, key: &str, value: &Value) -> Spot {
        let start = value.span().map(|span| span.start);
        Spot {
            key: self.place.path_of(key),
            line: start.map_or(self.place.line, |start| self.source.line(start)),
            found: self.source.quote(value.span()),
        }
    }

    fn header(&self, key: &str) -> String {
        format!("[{}]", self.kind_of(key))
    }

    fn list_header(&self, key: &str) -> String {
        format!("[[{}]]", self.kind_of(key))
    }

    fn kind_of(&self, key: &str) -> String {
        if self.place.kind.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.place.kind)
        }
    }

    fn enter(&mut self, key: String, spot: Spot, value: Option<&Value>) {
        let entry = Entry {
            line: spot.line,
            found: spot.found,
            value: value.cloned(),
        };
        self.place.entries.insert(key, entry);
    }

    fn refuse(&self, spot: Spot, mismatch: Mismatch) {
        self.source.error(spot, mismatch.expected, mismatch.message);
    }

    fn nested(&self, key: &str, items: &'a dyn TableLike, spot: Spot) -> Table<'a> {
        let place = Place {
            kind: self.kind_of(key),
            path: spot.key,
            line: spot.line,
            found: spot.found,
            entries: Default::default(),
        };
        Table::new(self.source, items, place)
    }

    fn element_table(
        &self,
        key: &str,
        index: usize,
        items: &'a dyn TableLike,
        span: Option<std::ops::Range<usize>>,
    ) -> Table<'a> {
        let path = match items.get("name").and_then(Item::as_str) {
            Some(name) if fits_a_label(name) => format!("{} \"{name}\"", self.place.path_of(key)),
            _ => self.place.path_of(&element_key(key, index)),
        };
        let line = span.as_ref().map(|span| self.source.line(span.start));
        let spot = Spot {
            key: path,
            line: line.unwrap_or(self.place.line),
            found: self.source.quote(span),
        };
        self.nested(key, items, spot)
    }

    fn element_place(&self, key: &str, index: usize, value: &Value) -> Place {
        let spot = self.value_spot(&element_key(key, index), value);
        Place {
            kind: self.kind_of(key),
            path: spot.key,
            line: spot.line,
            found: spot.found,
            entries: Default::default(),
        }
    }
}

/// Whether a name can stand in a diagnostic as it is.
fn fits_a_label(name: &str) -> bool {
    !name.is_empty()
        && name.chars().count() <= 80
        && !name
            .chars()
            .any(|character| character.is_control() || character == '"')
}

/// A table where a plain value belongs: the expectation is the one a wrong value would have met.
fn not_a_value(spot: &Spot, mismatch: Option<Mismatch>) -> Mismatch {
    let message = format!(
        "this is a table; write a value: {} = ...",
        last_part(&spot.key)
    );
    match mismatch {
        Some(mismatch) => Mismatch::new(mismatch.expected, message),
        None => Mismatch::new("a value", message),
    }
}

fn last_part(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}
