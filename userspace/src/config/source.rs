//! The text of one file, and everything said about it.

use std::cell::{Cell, RefCell};
use std::ops::Range;

use super::diagnostic::Diagnostic;
use super::place::{Place, Spot};

/// Longest quotation of the file in a diagnostic.
const LONGEST_QUOTE: usize = 60;

/// The text of one file, the diagnostics about it and the places read so far.
pub(super) struct Source<'t> {
    file: &'t str,
    text: &'t str,
    line_starts: Vec<usize>,
    errors: RefCell<Vec<Diagnostic>>,
    warnings: RefCell<Vec<Diagnostic>>,
    error_count: Cell<usize>,
    places: RefCell<Vec<Place>>,
    /// Stands in for a table that the file leaves out.
    pub(super) empty: toml_edit::Table,
}

impl<'t> Source<'t> {
    pub(super) fn new(file: &'t str, text: &'t str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self {
            file,
            text,
            line_starts: std::iter::once(0)
                .chain(breaks.map(|(at, _)| at + 1))
                .collect(),
            errors: RefCell::default(),
            warnings: RefCell::default(),
            error_count: Cell::new(0),
            places: RefCell::default(),
            empty: toml_edit::Table::new(),
        }
    }

    /// Line of a byte, from 1. The end of the file counts to its last line.
    pub(super) fn line(&self, offset: usize) -> usize {
        let last_byte = self.text.trim_end_matches('\n').len();
        self.line_starts
            .partition_point(|start| *start <= offset.min(last_byte))
            .max(1)
    }

    /// A part of the text on one line, fit for a message.
    pub(super) fn quote(&self, span: Option<Range<usize>>) -> String {
        one_line(span.and_then(|span| self.text.get(span)).unwrap_or(""))
    }

    /// The whole line around a byte, fit for a message.
    pub(super) fn quote_line(&self, offset: usize) -> String {
        let index = self.line(offset) - 1;
        let start = self.line_starts[index];
        let end = self.line_starts.get(index + 1).copied();
        self.quote(Some(start..end.unwrap_or(self.text.len())))
    }

    /// Records an error.
    pub(super) fn error(
        &self,
        spot: Spot,
        expected: impl Into<String>,
        message: impl Into<String>,
    ) {
        self.error_count.set(self.error_count.get() + 1);
        let diagnostic = self.diagnostic(spot, expected.into(), message.into());
        self.errors.borrow_mut().push(diagnostic);
    }

    /// Records a warning.
    pub(super) fn warning(
        &self,
        spot: Spot,
        expected: impl Into<String>,
        message: impl Into<String>,
    ) {
        let diagnostic = self.diagnostic(spot, expected.into(), message.into());
        self.warnings.borrow_mut().push(diagnostic);
    }

    fn diagnostic(&self, spot: Spot, expected: String, message: String) -> Diagnostic {
        Diagnostic {
            file: self.file.to_owned(),
            line: spot.line,
            key: spot.key,
            found: spot.found,
            expected,
            message,
        }
    }

    /// How many errors were recorded so far.
    pub(super) fn error_count(&self) -> usize {
        self.error_count.get()
    }

    /// Remembers where a table stood, whether or not it was valid.
    pub(super) fn remember(&self, place: &Place) {
        self.places.borrow_mut().push(place.clone());
    }

    /// Every table read so far.
    pub(super) fn places(&self) -> Vec<Place> {
        self.places.borrow().clone()
    }

    /// Errors and warnings, by line.
    pub(super) fn into_diagnostics(self) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
        let mut errors = self.errors.into_inner();
        let mut warnings = self.warnings.into_inner();
        errors.sort_by_key(|diagnostic| diagnostic.line);
        warnings.sort_by_key(|diagnostic| diagnostic.line);
        (errors, warnings)
    }
}

fn one_line(text: &str) -> String {
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if flat.is_empty() {
        return "nothing".to_owned();
    }
    let mut quote = String::new();
    for character in flat.chars().take(LONGEST_QUOTE + 1) {
        if character.is_control() {
            quote.extend(character.escape_default());
        } else {
            quote.push(character);
        }
    }
    if quote.chars().count() <= LONGEST_QUOTE {
        return quote;
    }
    let shortened: String = quote.chars().take(LONGEST_QUOTE - 1).collect();
    format!("{shortened}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_count_from_one_and_the_end_belongs_to_the_last_line() {
        let source = Source::new("f", "a\nbc\n");
        let lines: Vec<_> = (0..=5).map(|offset| source.line(offset)).collect();
        assert_eq!(lines, [1, 1, 2, 2, 2, 2]);
        assert_eq!(Source::new("f", "").line(0), 1);
        assert_eq!(Source::new("f", "\n\n").line(2), 1);
    }

    #[test]
    fn quotations_are_one_short_printable_line() {
        assert_eq!(one_line("[ 1,\n   2 ]\n"), "[ 1, 2 ]");
        assert_eq!(one_line("\"a\u{7}b\""), "\"a\\u{7}b\"");
        assert_eq!(one_line(" \n"), "nothing");
        let long = one_line(&"ä".repeat(100));
        assert_eq!(long.chars().count(), LONGEST_QUOTE);
        assert!(long.ends_with('…'));
    }

    #[test]
    fn diagnostics_come_out_by_line() {
        let source = Source::new("f", "a\nb\n");
        for line in [2, 1] {
            let spot = Spot {
                key: String::new(),
                line,
                found: String::new(),
            };
            source.error(spot, "", "");
        }
        assert_eq!(source.error_count(), 2);
        let (errors, _) = source.into_diagnostics();
        assert_eq!(errors.iter().map(|e| e.line).collect::<Vec<_>>(), [1, 2]);
    }
}
