//! Whole numbers and lists of HTTP status codes.

use std::ops::RangeInclusive;

use toml_edit::Value;

use super::{Mismatch, Parsed};

/// A whole number within bounds.
pub(in crate::config) fn integer<T>(range: RangeInclusive<T>) -> impl Fn(&Value) -> Parsed<T>
where
    T: TryFrom<i64> + Copy + PartialOrd + std::fmt::Display,
{
    let expected = format!("a number from {} to {}", range.start(), range.end());
    move |value| integer_as(value, &expected, &range)
}

/// A whole number within bounds that `expected` describes.
pub(in crate::config) fn integer_as<T>(
    value: &Value,
    expected: &str,
    range: &RangeInclusive<T>,
) -> Parsed<T>
where
    T: TryFrom<i64> + Copy + PartialOrd + std::fmt::Display,
{
    let Some(number) = value.as_integer() else {
        let quoted = value.as_str().map(|text| text.trim().parse::<i64>());
        let message = match quoted {
            Some(Ok(number)) => format!("write the number without quotes: {number}"),
            _ if value.is_float() => "write a whole number".to_owned(),
            _ => "write a number".to_owned(),
        };
        return Err(Mismatch::new(expected, message));
    };
    let converted = T::try_from(number).ok();
    converted
        .filter(|number| range.contains(number))
        .ok_or_else(|| {
            let too_small = converted.map_or(number < 0, |number| number < *range.start());
            let message = if too_small {
                format!("the smallest is {}", range.start())
            } else {
                format!("the largest is {}", range.end())
            };
            Mismatch::new(expected, message)
        })
}

/// An element of `expect_status`: `200`, `"200"` or `"200-299"`.
pub(in crate::config) fn status_codes(value: &Value) -> Parsed<RangeInclusive<u16>> {
    const EXPECTED: &str = "a status code from 100 to 599 or a range such as \"200-299\"";
    const CODES: RangeInclusive<u16> = 100..=599;
    let Some(text) = value.as_str() else {
        return integer_as(value, EXPECTED, &CODES).map(|code| code..=code);
    };
    let codes = number_or_range(text, EXPECTED)?;
    if CODES.contains(codes.start()) && CODES.contains(codes.end()) {
        Ok(codes)
    } else {
        Err(Mismatch::new(EXPECTED, "status codes have three digits"))
    }
}

/// `"8"` or `"8-9"`, the smaller number first.
pub(in crate::config) fn number_or_range(
    text: &str,
    expected: &str,
) -> Parsed<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |part: &str| {
        let digits = part.trim();
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse::<u16>().ok()).flatten()
    };
    let (Some(first), Some(last)) = (number(first), number(last)) else {
        let message = format!("\"{}\" is no such number or range", text.escape_debug());
        return Err(Mismatch::new(expected, message));
    };
    if first > last {
        let message = format!("the smaller number comes first: \"{last}-{first}\"");
        return Err(Mismatch::new(expected, message));
    }
    Ok(first..=last)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{refusal, value};
    use super::*;

    #[test]
    fn numbers_stay_within_their_bounds() {
        let weight = integer(1..=256u16);
        for (text, number) in [("1", 1), ("256", 256), ("0x10", 16)] {
            assert_eq!(weight(&value(text)), Ok(number), "{text}");
        }
        for (text, message) in [
            ("0", "the smallest is 1"),
            ("-5", "the smallest is 1"),
            ("257", "the largest is 256"),
            ("70000", "the largest is 256"),
            ("1.5", "write a whole number"),
            ("\"2\"", "write the number without quotes: 2"),
            ("\"two\"", "write a number"),
            ("true", "write a number"),
        ] {
            assert_eq!(refusal(weight(&value(text))), message, "{text}");
        }
        let mismatch = weight(&value("0")).unwrap_err();
        assert_eq!(mismatch.expected, "a number from 1 to 256");
        assert_eq!(
            integer(0..=u64::MAX)(&value("9223372036854775807")),
            Ok(i64::MAX as u64)
        );
    }

    #[test]
    fn status_codes_are_numbers_or_ranges() {
        assert_eq!(status_codes(&value("200")), Ok(200..=200));
        assert_eq!(status_codes(&value("\"204\"")), Ok(204..=204));
        assert_eq!(status_codes(&value("\"200-299\"")), Ok(200..=299));
        assert_eq!(status_codes(&value("\"200 - 299\"")), Ok(200..=299));
        for (text, message) in [
            ("20", "the smallest is 100"),
            ("600", "the largest is 599"),
            ("\"2xx\"", "\"2xx\" is no such number or range"),
            ("\"299-200\"", "the smaller number comes first: \"200-299\""),
            ("\"1-2\"", "status codes have three digits"),
            ("\"-5\"", "\"-5\" is no such number or range"),
            ("\"\"", "\"\" is no such number or range"),
        ] {
            assert_eq!(refusal(status_codes(&value(text))), message, "{text}");
        }
    }
}
