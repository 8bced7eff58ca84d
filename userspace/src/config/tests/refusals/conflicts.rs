//! Two things that cannot both have what they ask for.

use crate::config::tests::{BASE, accepted, errors, refuses, refuses_added};

const FREE_ADDRESS: &str = "an address that nothing else has";
const FREE_PORT: &str = "a port of the frontend that no other rule takes";

#[test]
fn addresses_belong_to_one() {
    for (text, key, found, message) in [
        (
            "[[frontend]]\nname = \"f\"\nipv4 = \"203.0.113.10\" #<",
            "frontend \"f\".ipv4",
            "\"203.0.113.10\"",
            "frontend \"web\" has 203.0.113.10 already (line 6)",
        ),
        (
            "[[frontend]]\nname = \"f\"\nipv6 = \"2001:db8:1:0::10\" #<",
            "frontend \"f\".ipv6",
            "\"2001:db8:1:0::10\"",
            "frontend \"web\" has 2001:db8:1::10 already (line 7)",
        ),
        (
            "[[public_ip]]\nname = \"a\"\nipv4 = \"203.0.113.10\" #<",
            "public_ip \"a\".ipv4",
            "\"203.0.113.10\"",
            "frontend \"web\" has",
        ),
        (
            "[[public_ip]]\nname = \"a\"\nipv4 = \"203.0.113.66\" #<",
            "public_ip \"a\".ipv4",
            "\"203.0.113.66\"",
            "frontend \"nat\" has 203.0.113.64/30 already",
        ),
        (
            "[[frontend]]\nname = \"f\"\nipv4 = \"203.0.113.0/27\" #<",
            "frontend \"f\".ipv4",
            "\"203.0.113.0/27\"",
            "frontend \"web\" has 203.0.113.10 already",
        ),
        (
            "[[instance]]\nname = \"i\"\nipv4 = \"10.0.1.12\" #<",
            "instance \"i\".ipv4",
            "\"10.0.1.12\"",
            "web-1/secondary has 10.0.1.12 already (line 16)",
        ),
        (
            "[[instance]]\nname = \"i\"\nip_configs = [{ name = \"a\", ipv6 = \"fd00:1::21\" }] #<",
            "instance \"i\".ip_configs \"a\".ipv6",
            "\"fd00:1::21\"",
            "web-2/primary has fd00:1::21 already",
        ),
        (
            "[[instance]]\nname = \"i\"\nipv4 = \"203.0.113.10\" #<",
            "instance \"i\".ipv4",
            "\"203.0.113.10\"",
            "frontend \"web\" has",
        ),
    ] {
        refuses_added(text, (key, found, FREE_ADDRESS, message));
    }
    let text = BASE.replace("[node]", "[node]\nfull_nat_ipv4 = \"203.0.113.10\"");
    let text = text.replace(
        "ipv4 = \"203.0.113.10\"\nipv6",
        "ipv4 = \"203.0.113.10\" #<\nipv6",
    );
    refuses(
        &text,
        (
            "frontend \"web\".ipv4",
            "\"203.0.113.10\"",
            FREE_ADDRESS,
            "node.full_nat_ipv4 has",
        ),
    );
}

#[test]
fn every_later_owner_of_an_address_is_told() {
    let more = "[[frontend]]\nname = \"f\"\nipv4 = \"203.0.113.10\"\n[[public_ip]]\nname = \"a\"\nipv4 = \"203.0.113.10\"";
    let errors = errors(&format!("{BASE}{more}"));
    let keys: Vec<_> = errors.iter().map(|error| error.key.as_str()).collect();
    assert_eq!(keys, ["frontend \"f\".ipv4", "public_ip \"a\".ipv4"]);
}

#[test]
fn a_public_ip_belongs_to_one_ip_configuration_with_its_families() {
    let public_ip =
        "[[public_ip]]\nname = \"alice\"\nipv4 = \"203.0.113.50\"\nipv6 = \"2001:db8:1::50\"\n";
    let text = format!(
        "{public_ip}[[instance]]\nname = \"i\"\nipv4 = \"10.0.0.9\"\npublic_ip = \"alice\" #<"
    );
    refuses_added(
        &text,
        (
            "instance \"i\".public_ip",
            "\"alice\"",
            "a public IP with only the families of its IP configuration",
            "has an IPv6 address and the IP configuration has none; add ipv6 here",
        ),
    );
    let text = format!(
        "{public_ip}[[instance]]\nname = \"i\"\nipv6 = \"fd00::9\"\npublic_ip = \"alice\" #<"
    );
    refuses_added(
        &text,
        (
            "instance \"i\".public_ip",
            "\"alice\"",
            "a public IP with only the families of its IP configuration",
            "has an IPv4 address",
        ),
    );
    let text = format!(
        "{public_ip}[[instance]]\nname = \"i\"\nip_configs = [\n{{ name = \"a\", ipv4 = \"10.0.0.8\", ipv6 = \"fd00::8\", public_ip = \"alice\" }},\n\
         {{ name = \"b\", ipv4 = \"10.0.0.9\", ipv6 = \"fd00::9\", public_ip = \"alice\" }}] #<"
    );
    refuses_added(
        &text,
        (
            "instance \"i\".ip_configs \"b\".public_ip",
            "\"alice\"",
            "a public IP that no other IP configuration has",
            "it belongs to i/a already",
        ),
    );
    let one_family = "[[public_ip]]\nname = \"a\"\nipv4 = \"203.0.113.50\"\n[[instance]]\nname = \"i\"\nipv4 = \"10.0.0.9\"\nipv6 = \"fd00::9\"\npublic_ip = \"a\"";
    accepted(&format!("{BASE}{one_family}"));
}

#[test]
fn one_port_of_a_frontend_goes_to_one_place() {
    let rule =
        |keys: &str| format!("[[rule]]\nname = \"r\"\nfrontend = \"web\"\npool = \"web\"\n{keys}");
    let nat =
        |keys: &str| format!("[[inbound_nat_rule]]\nname = \"n\"\nfrontend = \"web\"\n{keys}");
    for (text, key, found, message) in [
        (
            rule("port = 80 #<"),
            "rule \"r\".port",
            "80",
            "rule \"web-http\" (line 25) takes port 80 of frontend \"web\" for tcp already",
        ),
        (
            nat("port = 80 #<\ninstance = \"web-1\""),
            "inbound_nat_rule \"n\".port",
            "80",
            "rule \"web-http\" (line 25) takes port 80",
        ),
        (
            rule("port = \"90-99\"\nbackend_port = 9090\n")
                + &nat("port = \"99-120\" #<\npool = \"web\""),
            "inbound_nat_rule \"n\".port",
            "\"99-120\"",
            "takes port 99 of",
        ),
        (
            rule("port = \"90-99\"\nbackend_port = 9090\n")
                + &rule("port = \"85-200\" #<\nbackend_port = 10000").replace("\"r\"", "\"s\""),
            "rule \"s\".port",
            "\"85-200\"",
            "rule \"r\" (line 31) takes ports 90-99 of",
        ),
        (
            rule("port = 0\nprotocol = \"udp\"\n")
                + &rule("port = 0 #<\nprotocol = \"udp\"").replace("\"r\"", "\"s\""),
            "rule \"s\".port",
            "0",
            "takes every port of frontend \"web\" for udp",
        ),
    ] {
        refuses_added(&text, (key, found, FREE_PORT, message));
    }
}

#[test]
fn a_wide_range_meets_every_range_within_it() {
    let rule = |name: &str, port: &str, backend: u32| {
        format!(
            "[[rule]]\nname = \"{name}\"\nfrontend = \"web\"\npool = \"web\"\nport = \"{port}\"\nbackend_port = {backend}\n"
        )
    };
    let text = [
        rule("a", "1000-2000", 10000),
        rule("b", "1100-1200", 20000),
        rule("c", "1300-1400", 30000),
    ];
    let errors = errors(&format!("{BASE}{}", text.concat()));
    let keys: Vec<_> = errors.iter().map(|error| error.key.as_str()).collect();
    assert_eq!(keys, ["rule \"b\".port", "rule \"c\".port"]);
}

#[test]
fn prefixes_are_for_outbound_only() {
    for text in [
        "[[rule]]\nname = \"r\"\nfrontend = \"nat\" #<\nport = 80\npool = \"web\"\nbackend_port = 81",
        "[[inbound_nat_rule]]\nname = \"r\"\nfrontend = \"nat\" #<\nport = 80\ninstance = \"web-1\"\nbackend_port = 81",
    ] {
        let key = if text.contains("inbound") {
            "inbound_nat_rule \"r\".frontend"
        } else {
            "rule \"r\".frontend"
        };
        refuses_added(
            text,
            (
                key,
                "\"nat\"",
                "a frontend with single addresses",
                "\"nat\" (line 8) is a prefix",
            ),
        );
    }
}

#[test]
fn a_probe_needs_its_own_port_where_the_rule_has_no_single_one() {
    let probe = "[[probe]]\nname = \"p\"\nprotocol = \"tcp\"\n";
    let rule = "[[rule]]\nname = \"r\"\nfrontend = \"web\"\npool = \"web\"\n";
    for (keys, why) in [
        ("port = 53\nprotocol = \"udp\"", "this rule is for udp"),
        ("port = \"8000-8001\"", "this rule is for a range of ports"),
        ("port = 0", "this rule is for every port"),
    ] {
        let text = format!("{probe}{rule}{keys}\nprobe = \"p\" #<");
        refuses_added(
            &text,
            (
                "rule \"r\".probe",
                "\"p\"",
                "a probe with its own port",
                why,
            ),
        );
        accepted(&format!(
            "{BASE}{probe}port = 9\n{rule}{keys}\nprobe = \"p\""
        ));
    }
    for keys in ["port = 81", "port = 81\nprotocol = \"all\""] {
        accepted(&format!("{BASE}{probe}{rule}{keys}\nprobe = \"p\""));
    }
}

#[test]
fn pinned_ports_lie_in_the_range_and_belong_to_one() {
    let pool = |members: &str| {
        format!(
            "[[pool]]\nname = \"p\"\nmembers = {members}\n[[inbound_nat_rule]]\nname = \"n\"\n\
             frontend = \"web\"\nport = \"2200-2299\"\npool = \"p\"\nbackend_port = 22"
        )
    };
    refuses_added(
        &pool("[{ instance = \"web-1\", nat_port = 2300 }] #<"),
        (
            "pool \"p\".members[1].nat_port",
            "2300",
            "a port from 2200-2299 (inbound_nat_rule \"n\")",
            "no inbound NAT rule over this pool has this port",
        ),
    );
    refuses_added(
        &pool(
            "[{ instance = \"web-1\", nat_port = 2200 },\n{ instance = \"web-2\", nat_port = 2200 }] #<",
        ),
        (
            "pool \"p\".members[2].nat_port",
            "2200",
            "a port that no other member has",
            "web-1/primary has this port already",
        ),
    );
    accepted(&format!(
        "{BASE}{}",
        pool("[{ instance = \"web-1\", nat_port = 2299 }]")
    ));
}

#[test]
fn outbound_rules_of_one_pool_have_different_protocols() {
    let rule = |name: &str, protocol: &str, pool: &str| {
        format!(
            "[[outbound_rule]]\nname = \"{name}\"\npool = \"web\"{pool}\nfrontends = [\"nat\"]\nprotocol = \"{protocol}\"\n"
        )
    };
    for (one, other) in [("all", "tcp"), ("udp", "udp"), ("tcp", "all")] {
        let text = rule("a", one, "") + &rule("b", other, " #<");
        refuses_added(
            &text,
            (
                "outbound_rule \"b\".pool",
                "\"web\"",
                "a pool without another outbound rule for the same protocol",
                "outbound_rule \"a\" (line 31)",
            ),
        );
    }
    accepted(&format!(
        "{BASE}{}{}",
        rule("a", "tcp", ""),
        rule("b", "udp", "")
    ));
}
