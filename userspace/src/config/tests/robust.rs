//! Whatever the file holds, there is an answer.

use proptest::prelude::*;

use super::{BASE, read};

const SAMPLE: &str = include_str!("../../../../tests/fixtures/contract.toml");

/// The answer is well formed: errors with a line of the text, one printed line each.
fn answers(text: &str) {
    let (errors, warnings) = match read(text) {
        Ok(loaded) => {
            assert_eq!(loaded.sha256.len(), 64);
            (Vec::new(), loaded.warnings)
        }
        Err(refusal) => {
            assert!(!refusal.errors.is_empty());
            (refusal.errors, refusal.warnings)
        }
    };
    let lines = text.lines().count().max(1);
    for diagnostic in errors.iter().chain(&warnings) {
        assert!(
            (1..=lines).contains(&diagnostic.line),
            "{diagnostic}\nin:\n{text}"
        );
        assert!(!diagnostic.found.is_empty(), "{diagnostic}");
        assert!(!diagnostic.expected.is_empty(), "{diagnostic}");
        assert!(!diagnostic.message.is_empty(), "{diagnostic}");
        assert!(!diagnostic.to_string().contains('\n'), "{diagnostic:?}");
    }
}

/// A value of any kind, also many that some key would take.
fn any_value() -> impl Strategy<Value = String> {
    let chosen = prop::sample::select(vec![
        "0",
        "-1",
        "80",
        "65536",
        "9223372036854775807",
        "1.5",
        "nan",
        "true",
        "\"\"",
        "\"auto\"",
        "\"web\"",
        "\"web-1\"",
        "\"web-1/secondary\"",
        "\"80-90\"",
        "\"1-65535\"",
        "\"5s\"",
        "\"99h\"",
        "\"10.0.1.11\"",
        "\"203.0.113.10\"",
        "\"203.0.113.0/24\"",
        "\"::/0\"",
        "\"fd00::1\"",
        "[]",
        "{}",
        "[\"*\"]",
        "[1, \"a\"]",
        "[{}]",
        "[{ name = \"a\" }]",
        "{ a = { b = 1 } }",
        "1979-05-27",
        "\"all\"",
        "\"udp\"",
        "\"dsr\"",
        "\"\\u0000\\n\"",
        "'''\n\n'''",
        "[[[[]]]]",
        "\"ünï\"",
    ]);
    prop_oneof![chosen.prop_map(str::to_owned), ".{0,20}"]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_text(text in "(?s).{0,200}") {
        answers(&text);
    }

    #[test]
    fn text_made_of_our_own_words(
        words in prop::collection::vec(
            prop::sample::select(SAMPLE.split_inclusive([' ', '\n']).collect::<Vec<_>>()), 0..60)
    ) {
        answers(&words.concat());
    }

    #[test]
    fn the_sample_with_values_replaced(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any_value()), 1..6)
    ) {
        let mut lines: Vec<_> = SAMPLE.lines().map(str::to_owned).collect();
        for (index, value) in changes {
            let line = index.get_mut(&mut lines);
            if let Some((key, _)) = line.clone().split_once(" = ") {
                *line = format!("{key} = {value}");
            }
        }
        answers(&lines.join("\n"));
    }

    #[test]
    fn the_sample_with_lines_lost_or_repeated(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 1..8)
    ) {
        let mut lines: Vec<_> = SAMPLE.lines().collect();
        for (index, lose) in edits {
            let at = index.index(lines.len());
            if lose {
                lines.remove(at);
            } else {
                lines.insert(at, lines[at]);
            }
        }
        answers(&lines.join("\n"));
    }

    #[test]
    fn the_base_cut_anywhere(at in 0..BASE.len()) {
        answers(&BASE[..at]);
    }
}

#[test]
fn deep_nesting_is_refused_and_not_followed() {
    answers(&format!("a = {}", "[".repeat(100_000)));
    answers(&format!("a = {}{}", "[".repeat(1000), "]".repeat(1000)));
    answers(&"a.".repeat(50_000));
}
