//! Durations: `"250ms"`, `"5s"`, `"4m"`, `"1h"`, and sums such as `"1m30s"`.

use std::ops::RangeInclusive;
use std::time::Duration;

use toml_edit::Value;

use super::{Mismatch, Parsed};

/// Units, longest first, in milliseconds.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// The range of every timeout.
pub(in crate::config) const TIMEOUTS: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_hours(24);

/// A duration within bounds.
pub(in crate::config) fn duration(
    range: RangeInclusive<Duration>,
) -> impl Fn(&Value) -> Parsed<Duration> {
    move |value| {
        let (shortest, longest) = (written(*range.start()), written(*range.end()));
        let expected = format!("a duration from \"{shortest}\" to \"{longest}\"");
        let duration = match value.as_str() {
            Some(text) => parse(text),
            None => Err(match value.as_integer() {
                Some(number) => format!("write it with its unit, in quotes, as in \"{number}s\""),
                None => "write it as text, in quotes".to_owned(),
            }),
        };
        let duration = duration.map_err(|message| Mismatch::new(&expected, message))?;
        if duration < *range.start() {
            let message = format!("the shortest is \"{shortest}\"");
            return Err(Mismatch::new(expected, message));
        }
        if duration > *range.end() {
            let message = format!("the longest is \"{longest}\"");
            return Err(Mismatch::new(expected, message));
        }
        Ok(duration)
    }
}

/// A duration the way an operator writes it.
pub(in crate::config) fn written(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, milliseconds) in UNITS {
        if rest >= milliseconds {
            text += &format!("{}{unit}", rest / milliseconds);
            rest %= milliseconds;
        }
    }
    if text.is_empty() {
        "0s".to_owned()
    } else {
        text
    }
}

fn parse(text: &str) -> Result<Duration, String> {
    let mut total = 0u64;
    let mut rest = text.trim();
    let mut previous_unit = u64::MAX;
    while previous_unit == u64::MAX || !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let letters = after
            .bytes()
            .take_while(|byte| !byte.is_ascii_digit())
            .count();
        let (unit, after) = after.split_at(letters);
        let number = number.parse::<u64>().map_err(|_| {
            "write a whole number and a unit, as in \"250ms\", \"5s\", \"4m\" or \"1h\"".to_owned()
        })?;
        let milliseconds = milliseconds_of(unit, number)?;
        if milliseconds >= previous_unit {
            return Err("write each unit once, the longest first, as in \"1m30s\"".to_owned());
        }
        previous_unit = milliseconds;
        total = number
            .checked_mul(milliseconds)
            .and_then(|part| total.checked_add(part))
            .ok_or_else(|| "this is longer than any clock runs".to_owned())?;
        rest = after;
    }
    Ok(Duration::from_millis(total))
}

fn milliseconds_of(unit: &str, number: u64) -> Result<u64, String> {
    let known = UNITS.iter().find(|(name, _)| *name == unit);
    known.map(|(_, milliseconds)| *milliseconds).ok_or_else(|| {
        if unit.is_empty() {
            format!("add the unit: \"{number}ms\", \"{number}s\", \"{number}m\" or \"{number}h\"")
        } else if unit.starts_with(['.', ',']) {
            "use whole numbers of a smaller unit, as in \"1500ms\"".to_owned()
        } else {
            "the units are ms, s, m and h, as in \"250ms\", \"5s\", \"4m\" or \"1h\"".to_owned()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{refusal, value};
    use super::*;

    #[test]
    fn durations_have_a_number_and_a_unit() {
        for (text, milliseconds) in [
            ("250ms", 250),
            ("5s", 5_000),
            ("4m", 240_000),
            ("1h", 3_600_000),
            ("1m30s", 90_000),
            ("1h2m3s4ms", 3_723_004),
            ("0s", 0),
            (" 5s ", 5_000),
        ] {
            assert_eq!(
                parse(text),
                Ok(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
    }

    #[test]
    fn a_mistyped_duration_is_explained() {
        for (text, part) in [
            ("", "write a whole number and a unit"),
            ("s", "write a whole number and a unit"),
            ("-5s", "write a whole number and a unit"),
            ("5", "add the unit: \"5ms\", \"5s\""),
            ("5s3", "add the unit"),
            ("4min", "the units are ms, s, m and h"),
            ("5 s", "the units are"),
            ("1d", "the units are"),
            ("1.5s", "use whole numbers"),
            ("1s1s", "write each unit once"),
            ("1s1m", "write each unit once"),
            ("99999999999999999999s", "write a whole number"),
            ("9999999999999999999h", "longer than any clock"),
            ("5µs", "the units are"),
        ] {
            let message = parse(text).expect_err(text);
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    #[test]
    fn timeouts_lie_between_a_second_and_a_day() {
        let timeout = duration(TIMEOUTS);
        assert_eq!(timeout(&value("\"1s\"")), Ok(Duration::from_secs(1)));
        assert_eq!(timeout(&value("\"24h\"")), Ok(Duration::from_secs(86_400)));
        assert_eq!(
            refusal(timeout(&value("\"999ms\""))),
            "the shortest is \"1s\""
        );
        assert_eq!(
            refusal(timeout(&value("\"24h1ms\""))),
            "the longest is \"24h\""
        );
        assert_eq!(
            refusal(timeout(&value("240"))),
            "write it with its unit, in quotes, as in \"240s\""
        );
        assert_eq!(
            refusal(timeout(&value("1.5"))),
            "write it as text, in quotes"
        );
        let mismatch = timeout(&value("240")).unwrap_err();
        assert_eq!(mismatch.expected, "a duration from \"1s\" to \"24h\"");
    }

    #[test]
    fn what_is_written_can_be_read_again() {
        for milliseconds in [0, 1, 999, 1_000, 61_001, 3_600_000, 90_061_007] {
            let duration = Duration::from_millis(milliseconds);
            assert_eq!(parse(&written(duration)), Ok(duration));
        }
    }
}
