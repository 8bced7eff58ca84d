//! `[[probe]]`.

use std::time::Duration;

use crate::config::field::Field;
use crate::config::model::{Probe, ProbeFamily, ProbeProtocol};
use crate::config::names::Names;
use crate::config::place::Placed;
use crate::config::reader::Table;
use crate::config::values::time::{duration, written};
use crate::config::values::{boolean, numbers, one_of, ports, text, unset_or};

const SHORTEST: Duration = Duration::from_millis(100);
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_hours(24);
const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);
const LONGEST_DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
const MOST_IN_A_ROW: u32 = 1000;

const PROTOCOLS: [(&str, ProbeProtocol); 3] = [
    ("tcp", ProbeProtocol::Tcp),
    ("http", ProbeProtocol::Http),
    ("https", ProbeProtocol::Https),
];

const FAMILIES: [(&str, ProbeFamily); 3] = [
    ("each", ProbeFamily::Each),
    ("ipv4", ProbeFamily::Ipv4),
    ("ipv6", ProbeFamily::Ipv6),
];

pub(super) fn probe(mut table: Table<'_>, names: &mut Names) -> Option<Placed<Probe>> {
    let name = names.read(&mut table, "probe");
    let protocol = table
        .get("protocol", one_of(&PROTOCOLS))
        .or_default(ProbeProtocol::Http);
    let port = table.get("port", ports::port).optional();
    let path = table
        .get("path", text::request_path)
        .or_else(|| "/".to_owned());
    let host = table
        .get("host", unset_or(text::host))
        .or(None)
        .unwrap_or_default();
    let expect_status = expect_status(&mut table);
    let interval = table
        .get("interval", duration(SHORTEST..=LONGEST))
        .or(DEFAULT_INTERVAL);
    let timeout = table.get("timeout", duration(SHORTEST_TIMEOUT..=LONGEST));
    let timeout = timeout.or(interval.min(LONGEST_DEFAULT_TIMEOUT));
    let rise = table.get("rise", numbers::integer(1..=MOST_IN_A_ROW)).or(1);
    let fall = table.get("fall", numbers::integer(1..=MOST_IN_A_ROW)).or(2);
    let flap_damping = table.get("flap_damping", boolean).or(true);
    let family = table.get("family", one_of(&FAMILIES)).or(ProbeFamily::Each);
    let tls_verify = table.get("tls_verify", boolean).or(false);
    let ca_file = table.get("ca_file", text::path).present();
    if let Some(protocol) = protocol {
        check_protocol(&table, protocol, tls_verify);
    }
    check_timeout(&table, interval, timeout);
    let finished = table.finish();
    let value = Probe {
        name: name?,
        protocol: protocol?,
        port: port?,
        path,
        host,
        expect_status,
        interval,
        timeout,
        rise,
        fall,
        flap_damping,
        family,
        tls_verify,
        ca_file,
    };
    Some(finished.with(value, Vec::new()))
}

fn expect_status(table: &mut Table<'_>) -> Vec<std::ops::RangeInclusive<u16>> {
    const EXPECTED: &str = "a list of status codes such as [200, \"300-399\"]";
    let field = table.list("expect_status", EXPECTED, numbers::status_codes);
    if let Field::Present(codes) = &field
        && codes.is_empty()
    {
        let message = "no answer would ever be right; name a status or remove the line";
        table
            .source()
            .error(table.place().at("expect_status"), EXPECTED, message);
    }
    field.or_else(|| vec![200..=200])
}

/// What only one protocol has, on a probe of another.
fn check_protocol(table: &Table<'_>, protocol: ProbeProtocol, tls_verify: bool) {
    let (source, place) = (table.source(), table.place());
    if tls_verify && protocol != ProbeProtocol::Https {
        let message = "there is no certificate without TLS; use protocol = \"https\"";
        source.error(place.at("tls_verify"), "false, or an https probe", message);
    }
    if !tls_verify && place.has("ca_file") {
        let message = "nothing is verified; set tls_verify = true";
        source.error(place.at("ca_file"), "tls_verify = true", message);
    }
    if protocol == ProbeProtocol::Tcp {
        for key in ["path", "host", "expect_status"] {
            if place.has(key) {
                let message = "a tcp probe only connects; remove it or use protocol = \"http\"";
                source.warning(place.at(key), "no such key on a tcp probe", message);
            }
        }
    }
}

fn check_timeout(table: &Table<'_>, interval: Duration, timeout: Duration) {
    if timeout > interval {
        let expected = format!("at most the interval, \"{}\"", written(interval));
        let message = "a probe may still wait for its answer when the next one is due";
        table
            .source()
            .warning(table.place().at("timeout"), expected, message);
    }
}
