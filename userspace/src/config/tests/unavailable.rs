//! What the present version cannot run is refused by name.

use super::{BASE, accepted, assert_only};
use crate::config::{Options, parse_with};

const RUNNABLE: &str = r#"
[node]
interfaces = ["eth0"]
[[frontend]]
name = "web"
ipv4 = "203.0.113.10/32"
ipv6 = "2001:db8:1::10"
[[instance]]
name = "web-1"
ipv4 = "10.0.1.11"
ipv6 = "fd00:1::11"
[[probe]]
name = "unused"
[[pool]]
name = "web"
members = ["web-1"]
"#;

/// A rule, to which keys are added.
const RULE: &str = "[[rule]]\nname = \"r\"\nfrontend = \"web\"\npool = \"web\"\n";

fn parse(text: &str) -> Result<crate::config::Loaded, crate::config::Diagnostics> {
    let options = Options {
        host_name: Some("lb".into()),
        accept_unavailable: false,
        host: None,
    };
    parse_with("f.toml", text, &options)
}

/// Refused now, but only because it is not available: the full reading accepts it.
fn unavailable(
    text: &str,
    key: &'static str,
    found: &'static str,
    expected: &'static str,
    feature: &str,
) {
    accepted(text);
    let errors = parse(text).expect_err(text).errors;
    assert_only(text, &errors, (key, found, expected, ""));
    let message = format!("{feature} is not available yet in this version; remove it");
    assert_eq!(errors[0].message, message);
}

#[test]
fn what_is_available_runs() {
    let text = format!(
        "{RUNNABLE}{RULE}port = 80\nprotocol = \"udp\"\nbackend_port = 8080\ndistribution = \
         \"source-ip\"\nidle_timeout = \"5s\"\ntcp_reset = false\n[log]\nformat = \"json\"\n\
         [limits]\nflows = 1000000\n[timeouts]\ntcp_idle = \"1h\"\n[api]\nsocket = \"/run/x\""
    );
    parse(&text).unwrap();
}

#[test]
fn values_that_mean_off_are_available() {
    let off = "full_nat_ipv4 = \"\"\nfull_nat_ipv6 = \"\"\nadvertise = \"none\"\n[limits]\n\
               new_flows_per_second_per_source = 0\n[timeouts]\ndrain = \"\"\n[api]\nmetrics = \"\"\n\
               whoami = \"\"\ngroup = \"\"\n[log]\nflow_log = \"\"\n";
    let text = RUNNABLE
        .replace(
            "interfaces = [\"eth0\"]\n",
            &format!("interfaces = [\"eth0\"]\n{off}"),
        )
        .replace(
            "members = [\"web-1\"]",
            "members = [{ instance = \"web-1\", weight = 2, admin_state = \"none\" }]",
        )
        .replace("2001:db8:1::10\"", "2001:db8:1::10/128\"\nshared = false");
    parse(&text).unwrap();
}

#[test]
fn keys_of_single_tables() {
    for (table, line, key, found, expected, feature) in [
        (
            "node",
            "full_nat_ipv4 = \"192.0.2.1\"",
            "node.full_nat_ipv4",
            "\"192.0.2.1\"",
            "\"\"",
            "full-nat",
        ),
        (
            "node",
            "full_nat_ipv6 = \"2001:db8::1\"",
            "node.full_nat_ipv6",
            "\"2001:db8::1\"",
            "\"\"",
            "full-nat",
        ),
        (
            "api",
            "group = \"adm\"",
            "api.group",
            "\"adm\"",
            "\"\"",
            "reading by a system group",
        ),
        (
            "log",
            "flow_log = \"/var/log/f\"",
            "log.flow_log",
            "\"/var/log/f\"",
            "\"\"",
            "the flow log",
        ),
    ] {
        let line = format!("{line} #<\n");
        let text = match table {
            "node" => RUNNABLE.replace("[node]\n", &format!("[node]\n{line}")),
            table => format!("{RUNNABLE}[{table}]\n{line}"),
        };
        unavailable(&text, key, found, expected, feature);
    }
}

#[test]
fn rules_of_other_kinds() {
    for (keys, key, found, expected, feature) in [
        (
            "port = 80\nforwarding = \"full-nat\" #<",
            "rule \"r\".forwarding",
            "\"full-nat\"",
            "\"nat\"",
            "full-nat",
        ),
        (
            "port = 80\nforwarding = \"dsr\" #<",
            "rule \"r\".forwarding",
            "\"dsr\"",
            "\"nat\"",
            "dsr",
        ),
    ] {
        unavailable(
            &format!("{RUNNABLE}{RULE}{keys}\n"),
            key,
            found,
            expected,
            feature,
        );
    }
}

#[test]
fn tables_of_other_kinds() {
    for (text, key, found, feature) in [
        (
            "[dns] #<\nzone = \"example.org\"\nserver = \"192.0.2.53:53\"",
            "dns",
            "[dns]",
            "keeping names in the DNS",
        ),
        (
            "[[security_group]] #<\nname = \"sg\"",
            "security_group \"sg\"",
            "[[security_group]]",
            "a security group",
        ),
    ] {
        unavailable(
            &format!("{RUNNABLE}{text}\n"),
            key,
            found,
            "no such table",
            feature,
        );
    }
}

#[test]
fn references_to_tables_of_other_kinds_are_named_too() {
    let text = format!(
        "{RUNNABLE}[[security_group]]\nname = \"sg\"\n[[instance]]\nname = \"x\"\nsecurity_group = \
         \"sg\"\nip_configs = [{{ name = \"n\", ipv4 = \"10.0.0.9\", security_group = \"sg\" }}]"
    );
    let errors = parse(&text).unwrap_err().errors;
    let keys: Vec<_> = errors.iter().map(|error| error.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "security_group \"sg\"",
            "instance \"x\".security_group",
            "instance \"x\".ip_configs \"n\".security_group",
        ]
    );
}

#[test]
fn every_way_out_is_available() {
    let text = RUNNABLE
        .replace("name = \"web-1\"", "name = \"web-1\"\npublic_ip = \"a\"")
        .replace("203.0.113.10/32", "203.0.113.8/30")
        .replace("2001:db8:1::10\"", "2001:db8:1::10/124\"")
        + "[[public_ip]]\nname = \"a\"\nipv4 = \"203.0.113.50\"\n[[outbound_rule]]\nname = \"o\"\n\
           pool = \"web\"\nfrontends = [\"web\"]\n[default_outbound]\nfrontends = [\"web\"]\n";
    parse(&text).unwrap();
}

#[test]
fn a_wrong_value_is_not_also_unavailable() {
    let text = format!("{RUNNABLE}{RULE}port = \"90-80\" #<\n");
    let errors = parse(&text).unwrap_err().errors;
    let expected = "a port from 1 to 65535, a range such as \"8000-8099\", or 0 for every port";
    assert_only(
        &text,
        &errors,
        (
            "rule \"r\".port",
            "\"90-80\"",
            expected,
            "the smaller number",
        ),
    );
}

#[test]
fn other_mistakes_are_reported_along_with_it() {
    let text = format!("{BASE}port_x = 1\nforwarding = \"dsr\"\n");
    let errors = parse(&text).unwrap_err().errors;
    let unavailable = errors
        .iter()
        .filter(|error| error.message.contains("not available yet"));
    assert_eq!(unavailable.count(), 1, "forwarding: {errors:#?}");
    assert!(
        errors
            .iter()
            .any(|error| error.key == "rule \"web-http\".port_x")
    );
}
