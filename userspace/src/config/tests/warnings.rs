//! What is allowed but probably not meant.

use super::{BASE, Expectation, accepted, assert_only};

fn warns(text: &str, expectation: Expectation) {
    assert_only(text, &accepted(text).warnings, expectation);
}

fn warns_added(addition: &str, expectation: Expectation) {
    warns(&format!("{BASE}{addition}"), expectation);
}

fn silent(addition: &str) {
    let text = format!("{BASE}{addition}");
    assert_eq!(accepted(&text).warnings, [], "{text}");
}

const OTHER: &str =
    "[[frontend]]\nname = \"other\"\nipv4 = \"203.0.113.11\"\nipv6 = \"2001:db8:1::11\"\n";

#[test]
fn two_rules_that_send_to_one_port_of_an_instance() {
    let expected = "a backend port of its own";
    let rule = |keys: &str| {
        format!("{OTHER}[[rule]]\nname = \"r\"\nfrontend = \"other\"\npool = \"web\"\n{keys}")
    };
    for (text, key, found, message) in [
        (rule("port = 80\nbackend_port = 8080 #<"), "rule \"r\".backend_port", "8080", "rule \"web-http\" (line 25) sends to port 8080 of 10.0.1.11 as well"),
        (rule("port = 8080 #<"), "rule \"r\".port", "8080", "replies then depend on flow state"),
        (rule("port = \"8000-8099\" #<"), "rule \"r\".port", "\"8000-8099\"", "port 8080 of"),
        (rule("port = \"1-100\"\nbackend_port = 8001 #<"), "rule \"r\".backend_port", "8001", "port 8080 of"),
        (rule("port = 80\nprotocol = \"all\"\nbackend_port = 8080 #<"), "rule \"r\".backend_port", "8080", "port 8080 of"),
        ("[[rule]]\nname = \"r\"\nfrontend = \"web\"\npool = \"web\"\nport = 8080 #<".into(), "rule \"r\".port", "8080", "port 8080 of"),
        ("[[inbound_nat_rule]]\nname = \"n\"\nfrontend = \"web\"\ninstance = \"web-2\"\nport = 8080 #<".into(), "inbound_nat_rule \"n\".port", "8080", "port 8080 of 10.0.1.21"),
        ("[[inbound_nat_rule]]\nname = \"n\"\nfrontend = \"web\"\npool = \"web\"\nport = \"2000-2009\"\nbackend_port = 8080 #<".into(), "inbound_nat_rule \"n\".backend_port", "8080", "port 8080 of"),
    ] {
        warns_added(&text, (key, found, expected, message));
    }
    for keys in [
        "port = 80\nprotocol = \"udp\"\nbackend_port = 8080",
        "port = 80\nbackend_port = 8081",
        "port = 0",
        "port = 8080\nforwarding = \"dsr\"",
        "port = 8080\nforwarding = \"full-nat\"",
    ] {
        silent(&rule(keys));
    }
}

#[test]
fn two_rules_for_every_port_of_one_instance() {
    let rule = |name: &str, frontend: &str, mark: &str| {
        format!(
            "[[rule]]\nname = \"{name}\"\nfrontend = \"{frontend}\"\npool = \"web\"\nport = 0{mark}\nprotocol = \"udp\"\n"
        )
    };
    let text = format!(
        "{OTHER}{}{}",
        rule("a", "web", ""),
        rule("b", "other", " #<")
    );
    warns_added(
        &text,
        (
            "rule \"b\".port",
            "0",
            "a backend port of its own",
            "rule \"a\"",
        ),
    );
}

#[test]
fn other_instances_may_use_the_same_port() {
    silent(
        "[[pool]]\nname = \"p\"\nmembers = [\"web-1/secondary\"]\n[[rule]]\nname = \"r\"\nfrontend = \"web\"\npool = \"p\"\nport = 81\nbackend_port = 8080",
    );
}

const PROBED: &str = r#"
[[probe]]
name = "p"
[[instance]]
name = "guarded"
ipv4 = "10.0.5.5"
security_group = "sg"
[[pool]]
name = "guarded"
members = ["guarded"]
[[rule]]
name = "guarded"
frontend = "v4"
port = 443
pool = "guarded"
probe = "p"
backend_port = 8443
[[frontend]]
name = "v4"
ipv4 = "203.0.113.99"
[[security_group]]
name = "sg"
"#;

fn security_rule(priority: u32, access: &str, keys: &str) -> String {
    let mark = if access == "deny" { " #<" } else { "" };
    format!(
        "[[security_group.rule]]{mark}\nname = \"{access}-{priority}\"\npriority = {priority}\n\
         direction = \"inbound\"\naccess = \"{access}\"\n{keys}\n"
    )
}

#[test]
fn a_security_rule_that_blocks_a_probe() {
    for keys in [
        "protocol = \"any\"",
        "protocol = \"tcp\"\nsource = [\"LoadBalancer\"]",
        "protocol = \"tcp\"\nsource = [\"0.0.0.0/0\"]\ndestination_ports = [\"8000-9000\"]",
        "protocol = \"tcp\"\ndestination = [\"10.0.5.0/24\"]",
        "protocol = \"tcp\"\ndestination = [\"VirtualNetwork\"]\ndestination_ports = [8443]",
    ] {
        let text = format!("{PROBED}{}", security_rule(200, "deny", keys));
        warns_added(
            &text,
            (
                "security_group \"sg\".rule \"deny-200\"",
                "[[security_group.rule]]",
                "a rule that lets the node's probes through",
                "it denies probe \"p\" to port 8443 of guarded/primary (10.0.5.5)",
            ),
        );
    }
    let elsewhere = format!(
        "{PROBED}{}",
        security_rule(200, "deny", "protocol = \"any\"")
    );
    let own_port = elsewhere.replace("name = \"p\"\n[[", "name = \"p\"\nport = 9\n[[");
    let warnings = accepted(&format!("{BASE}{own_port}")).warnings;
    assert!(
        warnings[0].message.contains("to port 9 of"),
        "{}",
        warnings[0]
    );
}

#[test]
fn a_security_rule_that_lets_probes_pass() {
    for rules in [
        String::new(),
        security_rule(200, "deny", "protocol = \"tcp\"\nsource = [\"Internet\"]"),
        security_rule(
            200,
            "deny",
            "protocol = \"tcp\"\nsource = [\"VirtualNetwork\"]",
        ),
        security_rule(200, "deny", "protocol = \"udp\""),
        security_rule(200, "deny", "protocol = \"tcp\"\ndestination_ports = [443]"),
        security_rule(
            200,
            "deny",
            "protocol = \"tcp\"\ndestination = [\"10.0.6.0/24\"]",
        ),
        security_rule(
            200,
            "deny",
            "protocol = \"tcp\"\ndestination = [\"Internet\"]",
        ),
        security_rule(200, "deny", "protocol = \"any\"").replace("\"inbound\"", "\"outbound\""),
        security_rule(4096, "deny", "protocol = \"any\"")
            + &security_rule(
                100,
                "allow",
                "protocol = \"tcp\"\nsource = [\"LoadBalancer\"]",
            ),
    ] {
        silent(&format!("{PROBED}{rules}"));
    }
    let unguarded = PROBED.replace("security_group = \"sg\"", "");
    silent(&format!(
        "{unguarded}{}",
        security_rule(200, "deny", "protocol = \"any\"")
    ));
}

#[test]
fn the_group_of_an_ip_configuration_replaces_that_of_its_instance() {
    let text = PROBED.replace(
        "ipv4 = \"10.0.5.5\"",
        "ip_configs = [{ name = \"primary\", ipv4 = \"10.0.5.5\", security_group = \"open\" }]",
    );
    let rules = security_rule(200, "deny", "protocol = \"any\"");
    silent(&format!("{text}{rules}[[security_group]]\nname = \"open\""));
}

#[test]
fn a_pool_of_one_family_behind_a_frontend_of_two() {
    let pool = |address: &str| {
        format!(
            "[[instance]]\nname = \"i\"\n{address}\n[[pool]]\nname = \"p\"\nmembers = [\"i\"]\n[[rule]]\nname = \"r\"\nfrontend = \"web\"\nport = 81\npool = \"p\""
        )
    };
    warns_added(
        &(pool("ipv4 = \"10.0.0.9\"") + " #<"),
        (
            "rule \"r\".pool",
            "\"p\"",
            "an IPv6 address behind it",
            "frontend \"web\" has an IPv6 address, but no member of pool \"p\" has one",
        ),
    );
    warns_added(
        &(pool("ipv6 = \"fd00::9\"") + " #<"),
        (
            "rule \"r\".pool",
            "\"p\"",
            "an IPv4 address behind it",
            "frontend \"web\" has an IPv4 address",
        ),
    );
    silent(&pool("ipv4 = \"10.0.0.9\"\nipv6 = \"fd00::9\""));
    silent(
        "[[pool]]\nname = \"empty\"\n[[rule]]\nname = \"r\"\nfrontend = \"web\"\nport = 81\npool = \"empty\"",
    );
    warns_added(
        "[[instance]]\nname = \"i\"\nipv4 = \"10.0.0.9\"\n[[inbound_nat_rule]]\nname = \"n\"\nfrontend = \"web\"\nport = 22\ninstance = \"i\" #<",
        (
            "inbound_nat_rule \"n\".instance",
            "\"i\"",
            "an IPv6 address behind it",
            "but i/primary does not have one",
        ),
    );
}

#[test]
fn a_probe_over_a_family_that_a_member_lacks() {
    warns_added(
        "[[probe]]\nname = \"p\"\nfamily = \"ipv6\" #<\n[[frontend]]\nname = \"v4\"\nipv4 = \"203.0.113.9\"\n[[instance]]\nname = \"i\"\nipv4 = \"10.0.0.9\"\n\
         [[pool]]\nname = \"p\"\nmembers = [\"i\"]\n[[rule]]\nname = \"r\"\nfrontend = \"v4\"\nport = 81\npool = \"p\"\nprobe = \"p\"",
        (
            "probe \"p\".family",
            "\"ipv6\"",
            "a family that every member has",
            "i/primary of pool \"p\" has no IPv6 address, so its IPv4 address is probed",
        ),
    );
}

#[test]
fn keys_that_a_probe_does_not_use() {
    for (line, key, found, message) in [
        (
            "path = \"/x\" #<",
            "probe \"p\".path",
            "\"/x\"",
            "a tcp probe only connects",
        ),
        (
            "host = \"x\" #<",
            "probe \"p\".host",
            "\"x\"",
            "a tcp probe only connects",
        ),
        (
            "expect_status = [200] #<",
            "probe \"p\".expect_status",
            "[200]",
            "a tcp probe only connects",
        ),
    ] {
        let text = format!("[[probe]]\nname = \"p\"\nprotocol = \"tcp\"\n{line}");
        warns_added(&text, (key, found, "no such key on a tcp probe", message));
    }
    warns_added(
        "[[probe]]\nname = \"p\"\ninterval = \"1s\"\ntimeout = \"2s\" #<",
        (
            "probe \"p\".timeout",
            "\"2s\"",
            "at most the interval, \"1s\"",
            "when the next one is due",
        ),
    );
}

#[test]
fn ports_of_a_pool_that_do_not_suffice() {
    let nat = "[[inbound_nat_rule]]\nname = \"n\"\nfrontend = \"web\"\npool = \"web\"\nbackend_port = 22\n";
    warns_added(
        &format!("{nat}port = \"2200-2200\" #<"),
        (
            "inbound_nat_rule \"n\".port",
            "\"2200-2200\"",
            "a port for each member",
            "the range has 1 ports and pool \"web\" 2 members: 1 of them get none",
        ),
    );
    warns_added(
        &format!("{nat}port = \"75-85\" #<"),
        (
            "inbound_nat_rule \"n\".port",
            "\"75-85\"",
            "a range without ports of other rules",
            "rule \"web-http\" (line 25) takes port 80 before this range",
        ),
    );
    warns_added(
        "[[pool]]\nname = \"p\"\nmembers = [{ instance = \"web-1\", nat_port = 22 }] #<",
        (
            "pool \"p\".members[1].nat_port",
            "22",
            "no nat_port",
            "no inbound NAT rule spreads ports over this pool",
        ),
    );
}

#[test]
fn warnings_come_with_errors_as_well() {
    let text = format!("{BASE}[[probe]]\nname = \"p\"\ntimeout = \"6s\"\nx = 1");
    let refusal = super::read(&text).unwrap_err();
    assert_eq!((refusal.errors.len(), refusal.warnings.len()), (1, 1));
}
