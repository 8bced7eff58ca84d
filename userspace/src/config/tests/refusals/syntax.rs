//! What is wrong before any value is looked at.

use crate::config::tests::{errors, refuses, refuses_added};

const NODE: &str = "[node]\ninterfaces = [\"eth0\"]\n";
const RULE: &str = "[[rule]]\nname = \"r\"\nfrontend = \"web\"\npool = \"web\"\n";
const RULE_PORT: &str =
    "a port from 1 to 65535, a range such as \"8000-8099\", or 0 for every port";
const NAME: &str = "a name of 1 to 80 characters";

#[test]
fn text_that_is_not_toml() {
    for (text, found, expected, message) in [
        (
            "[node]\ninterfaces = [\"eth0\"\n[log] #<\n",
            "[log] #<",
            "`,`",
            "missing comma between array elements",
        ),
        (
            "node = eth0 #<",
            "node = eth0 #<",
            "literal string",
            "string values must be quoted",
        ),
        ("[node #<\n", "[node #<", "`]`", "unclosed table"),
        ("[node]\nx #<\n", "x #<", "`=`", "key with no value"),
        (
            "[node]\na = 1\na = 2 #<\n",
            "a = 2 #<",
            "valid TOML",
            "duplicate key",
        ),
        (
            "[node]\n[node] #<\n",
            "[node] #<",
            "valid TOML",
            "duplicate",
        ),
        (
            "frontend = 203.0.113.10 #<",
            "frontend = 203.0.113.10 #<",
            "valid TOML",
            "invalid float; write addresses, durations and other text in quotes",
        ),
        (
            "timeouts.tcp_idle = 4m #<",
            "timeouts.tcp_idle = 4m #<",
            "literal string",
            "string values must be quoted",
        ),
    ] {
        refuses(text, ("", found, expected, message));
        assert!(errors(text)[0].message.starts_with("this is not TOML: "));
    }
}

#[test]
fn unknown_keys_and_tables() {
    let node = "one of name, interfaces, xdp_mode, virtual_network, advertise, allow_direct, \
                full_nat_ipv4, full_nat_ipv6, manage_host, bpf_fs, state_dir, hash_seed";
    for (line, key, found, message) in [
        (
            "xdp-mode = \"auto\" #<",
            "node.xdp-mode",
            "xdp-mode",
            "did you mean xdp_mode?",
        ),
        (
            "interface = \"eth0\" #<",
            "node.interface",
            "interface",
            "did you mean interfaces?",
        ),
        (
            "colour = 1 #<",
            "node.colour",
            "colour",
            "unknown key; remove it",
        ),
    ] {
        refuses(&format!("{NODE}{line}"), (key, found, node, message));
    }
    let tables = "one of node, frontend, rule, limits, timeouts, api, log, public_ip, instance, \
                  pool, probe, inbound_nat_rule, outbound_rule, default_outbound, dns, \
                  security_group";
    refuses_added(
        "[[rules]] #<\nname = \"x\"",
        ("rules", "rules", tables, "did you mean rule?"),
    );
    refuses_added(
        "[metrics] #<",
        ("metrics", "metrics", tables, "unknown key; remove it"),
    );
    let rule = "one of name, frontend, protocol, port, pool, backend_port, probe, distribution, \
                forwarding, idle_timeout, tcp_reset, no_healthy_backends, outbound_snat";
    let added = format!("{RULE}port = 81\nprot = \"tcp\" #<");
    refuses_added(
        &added,
        ("rule \"r\".prot", "prot", rule, "did you mean protocol?"),
    );
    let member = "one of instance, ip_config, weight, admin_state, nat_port";
    refuses_added(
        "[[pool]]\nname = \"p\"\nmembers = [{ instance = \"web-1\", wieght = 2 }] #<",
        (
            "pool \"p\".members[1].wieght",
            "wieght",
            member,
            "did you mean weight?",
        ),
    );
}

#[test]
fn what_must_be_there() {
    let interfaces = "a list of interfaces such as [\"eth0\", \"eth1\"]";
    for (text, key, expected, message) in [
        (
            "#<",
            "node.interfaces",
            interfaces,
            "interfaces is missing; add it",
        ),
        (
            "[node] #<\nname = \"lb\"",
            "node.interfaces",
            interfaces,
            "is missing",
        ),
    ] {
        refuses(text, (key, "nothing", expected, message));
    }
    for (text, key, expected) in [
        (
            "[[frontend]] #<\nipv4 = \"203.0.113.9\"",
            "frontend[3].name",
            NAME,
        ),
        (
            "[[rule]] #<\nname = \"r\"\nport = 81\npool = \"web\"",
            "rule \"r\".frontend",
            "the name of a frontend",
        ),
        (
            "[[rule]] #<\nname = \"r\"\nport = 81\nfrontend = \"web\"",
            "rule \"r\".pool",
            "the name of a pool",
        ),
        (
            "[[rule]] #<\nname = \"r\"\npool = \"web\"\nfrontend = \"web\"",
            "rule \"r\".port",
            RULE_PORT,
        ),
        (
            "[[pool]]\nname = \"p\"\nmembers = [{ weight = 2 }] #<",
            "pool \"p\".members[1].instance",
            "an instance such as \"web-1\", or one of its IP configurations such as \"web-1/secondary\"",
        ),
        (
            "[[outbound_rule]] #<\nname = \"o\"\npool = \"web\"",
            "outbound_rule \"o\".frontends",
            "a list of frontends such as [\"web\"]",
        ),
        (
            "[[outbound_rule]] #<\nname = \"o\"\nfrontends = [\"nat\"]",
            "outbound_rule \"o\".pool",
            "the name of a pool",
        ),
        (
            "[default_outbound] #<",
            "default_outbound.frontends",
            "a list of frontends such as [\"web\"]",
        ),
        (
            "[dns] #<\nserver = \"192.0.2.1:53\"",
            "dns.zone",
            "a zone such as \"lb.example.org\"",
        ),
        (
            "[dns] #<\nzone = \"a\"",
            "dns.server",
            "the address of a name server with its port, such as \"192.0.2.53:53\"",
        ),
    ] {
        refuses_added(text, (key, "nothing", expected, "is missing; add it"));
    }
}

#[test]
fn tables_of_a_wrong_shape() {
    for (text, key, found, expected, message) in [
        (
            "[[node]] #<\ninterfaces = [\"eth0\"]",
            "node",
            "[[node]]",
            "[node]",
            "only once",
        ),
        (
            "node.interfaces = [\"eth0\"]\nlimits = 5 #<",
            "limits",
            "5",
            "[limits]",
            "this is a table of keys",
        ),
    ] {
        refuses(text, (key, found, expected, message));
    }
    for (text, key, found, expected, message) in [
        (
            "[probe] #<\nname = \"p\"",
            "probe",
            "[probe]",
            "[[probe]]",
            "write [[probe]]",
        ),
        (
            "[[pool]]\nname = \"p\"\nmembers = \"web-1\" #<",
            "pool \"p\".members",
            "\"web-1\"",
            "a list",
            "members = [\"web-1\"]",
        ),
        (
            "[[instance]]\nname = \"i\"\nip_configs = [\"10.0.0.1\"] #<",
            "instance \"i\".ip_configs[1]",
            "\"10.0.0.1\"",
            "a table",
            "write a table",
        ),
        (
            "[[instance]]\nname = \"i\"\nip_configs = [] #<",
            "instance \"i\".ip_configs",
            "[]",
            "at least one IP configuration",
            "add one",
        ),
        (
            "[[probe]]\nname = \"p\"\n[probe.port] #<\na = 1",
            "probe \"p\".port",
            "[probe.port]",
            "a port from 1 to 65535",
            "port = ...",
        ),
        (
            "[[outbound_rule]]\nname = \"o\"\npool = \"web\"\nfrontends = [\"nat\"]\nmapping = \"per-destination\" #<",
            "outbound_rule \"o\".mapping",
            "\"per-destination\"",
            "a table: mapping = { ... }",
            "not a value",
        ),
    ] {
        refuses_added(text, (key, found, expected, message));
    }
}

#[test]
fn all_mistakes_of_a_file_are_told_at_once_and_by_line() {
    let text = r#"
[node]
interfaces = ["eth0", 5]
nmae = "lb"
[timeouts]
tcp_idle = "4"
[[frontend]]
name = "web"
ipv4 = "203.0.113.300"
[[rule]]
name = "a"
frontend = "web"
port = 80
pool = "none"
[[rule]]
frontend = "wbe"
port = 80000
"#;
    let errors = errors(text);
    let told: Vec<_> = errors
        .iter()
        .map(|error| (error.line, error.key.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            (3, "node.interfaces[2]"),
            (4, "node.nmae"),
            (6, "timeouts.tcp_idle"),
            (9, "frontend \"web\".ipv4"),
            (14, "rule \"a\".pool"),
            (15, "rule[2].name"),
            (15, "rule[2].pool"),
            (17, "rule[2].port"),
        ]
    );
}
