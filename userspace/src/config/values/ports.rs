//! Ports and ranges of ports.

use std::ops::RangeInclusive;

use toml_edit::Value;

use super::numbers::{integer_as, number_or_range};
use super::{Mismatch, Parsed, string};
use crate::config::model::Ports;

/// What a single port looks like.
pub(in crate::config) const PORT: &str = "a port from 1 to 65535";
/// What the port of a rule looks like.
pub(in crate::config) const RULE_PORT: &str =
    "a port from 1 to 65535, a range such as \"8000-8099\", or 0 for every port";
/// What the ports of an inbound NAT rule over a pool look like.
pub(in crate::config) const PORT_RANGE: &str = "a range of ports such as \"2200-2299\"";

const EVERY_PORT: RangeInclusive<u16> = 1..=u16::MAX;

/// One port.
pub(in crate::config) fn port(value: &Value) -> Parsed<u16> {
    integer_as(value, PORT, &EVERY_PORT)
}

/// The port of a rule: a number, a range, or 0.
pub(in crate::config) fn rule_port(value: &Value) -> Parsed<Ports> {
    match value.as_str() {
        Some(text) if text.contains('-') => range(text, RULE_PORT).map(Ports::Range),
        _ => integer_as(value, RULE_PORT, &(0..=u16::MAX)).map(|port| match port {
            0 => Ports::Every,
            port => Ports::Single(port),
        }),
    }
}

/// The ports of an inbound NAT rule over a pool.
pub(in crate::config) fn port_range(value: &Value) -> Parsed<RangeInclusive<u16>> {
    range(string(value, PORT_RANGE)?, PORT_RANGE)
}

/// An element of `source_ports`; `None` is `"*"`.
pub(in crate::config) fn port_selector(value: &Value) -> Parsed<Option<RangeInclusive<u16>>> {
    const EXPECTED: &str = "a port, a range such as \"8443-8444\", or \"*\"";
    match value.as_str() {
        Some("*") => Ok(None),
        Some(text) => range(text, EXPECTED).map(Some),
        None => integer_as(value, EXPECTED, &EVERY_PORT).map(|port| Some(port..=port)),
    }
}

fn range(text: &str, expected: &str) -> Parsed<RangeInclusive<u16>> {
    let ports = number_or_range(text, expected)?;
    if *ports.start() == 0 {
        return Err(Mismatch::new(expected, "the smallest port is 1"));
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{refusal, value};
    use super::*;

    #[test]
    fn ports_are_numbers_from_1_to_65535() {
        assert_eq!(port(&value("1")), Ok(1));
        assert_eq!(port(&value("65535")), Ok(65535));
        for (text, message) in [
            ("0", "the smallest is 1"),
            ("65536", "the largest is 65535"),
            ("-1", "the smallest is 1"),
            ("\"80\"", "write the number without quotes: 80"),
            ("\"http\"", "write a number"),
        ] {
            assert_eq!(refusal(port(&value(text))), message, "{text}");
        }
    }

    #[test]
    fn a_rule_takes_a_port_a_range_or_every_port() {
        assert_eq!(rule_port(&value("80")), Ok(Ports::Single(80)));
        assert_eq!(rule_port(&value("\"80-80\"")), Ok(Ports::Range(80..=80)));
        assert_eq!(
            rule_port(&value("\"8000-8099\"")),
            Ok(Ports::Range(8000..=8099))
        );
        assert_eq!(rule_port(&value("0")), Ok(Ports::Every));
        for (text, message) in [
            ("65536", "the largest is 65535"),
            ("\"80\"", "write the number without quotes: 80"),
            ("\"0-10\"", "the smallest port is 1"),
            ("\"10-5\"", "the smaller number comes first: \"5-10\""),
            ("\"1-65536\"", "\"1-65536\" is no such number or range"),
            ("\"1-2-3\"", "\"1-2-3\" is no such number or range"),
            ("[80]", "write a number"),
        ] {
            assert_eq!(refusal(rule_port(&value(text))), message, "{text}");
        }
    }

    #[test]
    fn a_range_is_text_even_when_it_has_one_port() {
        assert_eq!(port_range(&value("\"2200-2299\"")), Ok(2200..=2299));
        assert_eq!(port_range(&value("\"2200\"")), Ok(2200..=2200));
        assert_eq!(
            refusal(port_range(&value("2200"))),
            "write it as text, in quotes"
        );
    }

    #[test]
    fn a_security_rule_takes_numbers_ranges_and_a_star() {
        assert_eq!(port_selector(&value("25")), Ok(Some(25..=25)));
        assert_eq!(port_selector(&value("\"25\"")), Ok(Some(25..=25)));
        assert_eq!(
            port_selector(&value("\"8443-8444\"")),
            Ok(Some(8443..=8444))
        );
        assert_eq!(port_selector(&value("\"*\"")), Ok(None));
        assert_eq!(refusal(port_selector(&value("0"))), "the smallest is 1");
        assert_eq!(
            refusal(port_selector(&value("\"any\""))),
            "\"any\" is no such number or range"
        );
    }
}
