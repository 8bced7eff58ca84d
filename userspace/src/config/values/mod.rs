//! From a TOML value to a typed one. Every parser says what it expected and what to do.

pub(super) mod net;
pub(super) mod numbers;
pub(super) mod ports;
pub(super) mod text;
pub(super) mod time;

use toml_edit::Value;

use super::suggest::{alternatives, closest};

/// Why a value does not fit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mismatch {
    pub(super) expected: String,
    pub(super) message: String,
}

impl Mismatch {
    pub(super) fn new(expected: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            expected: expected.into(),
            message: message.into(),
        }
    }
}

/// A value or why it does not fit.
pub(super) type Parsed<T> = Result<T, Mismatch>;

/// Text in quotes.
pub(super) fn string<'v>(value: &'v Value, expected: &str) -> Parsed<&'v str> {
    value
        .as_str()
        .ok_or_else(|| Mismatch::new(expected, "write it as text, in quotes"))
}

/// `true` or `false`.
pub(super) fn boolean(value: &Value) -> Parsed<bool> {
    value.as_bool().ok_or_else(|| {
        let message = match value.as_str() {
            Some("true" | "false") => "write it without quotes",
            _ => "write true or false",
        };
        Mismatch::new("true or false", message)
    })
}

/// One of a few words.
pub(super) fn one_of<T: Copy>(words: &[(&'static str, T)]) -> impl Fn(&Value) -> Parsed<T> {
    move |value| {
        let all = || words.iter().map(|(word, _)| *word);
        let expected = alternatives(all());
        let text = string(value, &expected)?;
        let found = words.iter().find(|(word, _)| *word == text);
        found.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let message = match closest(text, all()) {
                Some(meant) => format!("did you mean \"{meant}\"?"),
                None => "use one of these words".to_owned(),
            };
            Mismatch::new(expected, message)
        })
    }
}

/// `""` for "not set", or what `parse` takes.
pub(super) fn unset_or<T>(
    parse: impl Fn(&Value) -> Parsed<T>,
) -> impl Fn(&Value) -> Parsed<Option<T>> {
    move |value| match value.as_str() {
        Some("") => Ok(None),
        _ => parse(value)
            .map(Some)
            .map_err(|mismatch| Mismatch::new(mismatch.expected + ", or \"\"", mismatch.message)),
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// The value that `text` is in TOML.
    pub(in crate::config) fn value(text: &str) -> Value {
        text.parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// The message a refusal carries.
    pub(in crate::config) fn refusal<T: std::fmt::Debug>(parsed: Parsed<T>) -> String {
        let mismatch = parsed.expect_err("a refusal");
        assert!(!mismatch.expected.is_empty());
        mismatch.message
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{refusal, value};
    use super::*;

    const WORDS: &[(&str, u8)] = &[("tcp", 6), ("udp", 17)];

    #[test]
    fn words_are_taken_literally_and_slips_are_named() {
        let parse = one_of(WORDS);
        assert_eq!(parse(&value("\"udp\"")), Ok(17));
        assert_eq!(refusal(parse(&value("\"TCP\""))), "did you mean \"tcp\"?");
        assert_eq!(refusal(parse(&value("\"tpc\""))), "did you mean \"tcp\"?");
        assert_eq!(refusal(parse(&value("\"sctp\""))), "use one of these words");
        assert_eq!(refusal(parse(&value("6"))), "write it as text, in quotes");
        let mismatch = parse(&value("6")).unwrap_err();
        assert_eq!(mismatch.expected, "\"tcp\" or \"udp\"");
    }

    #[test]
    fn truth_needs_no_quotes() {
        assert_eq!(boolean(&value("true")), Ok(true));
        assert_eq!(
            refusal(boolean(&value("\"true\""))),
            "write it without quotes"
        );
        assert_eq!(refusal(boolean(&value("1"))), "write true or false");
    }

    #[test]
    fn empty_text_is_unset_only_where_it_may_be() {
        let parse = unset_or(one_of(WORDS));
        assert_eq!(parse(&value("\"\"")), Ok(None));
        assert_eq!(parse(&value("\"tcp\"")), Ok(Some(6)));
        let mismatch = parse(&value("1")).unwrap_err();
        assert_eq!(mismatch.expected, "\"tcp\" or \"udp\", or \"\"");
        assert!(one_of(WORDS)(&value("\"\"")).is_err());
    }
}
