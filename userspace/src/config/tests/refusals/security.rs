//! Security rules.

use crate::config::tests::{BASE, accepted, errors, refuses_added};

const SECURITY: &str = "[[security_group]]\nname = \"sg\"\n[[security_group.rule]]\nname = \"x\"\n";
const TCP_ALLOW: &str = "access = \"allow\"\nprotocol = \"tcp\"\n";

#[test]
fn security_rules() {
    let priority = "a priority from 100 to 4096";
    let selector =
        "an address, a prefix, \"VirtualNetwork\", \"LoadBalancer\", \"Internet\" or \"*\"";
    let list = "a list, or [\"*\"] for everything";
    let key =
        |key: &str| -> &'static str { format!("security_group \"sg\".rule \"x\".{key}").leak() };
    let inbound = "priority = 100\ndirection = \"inbound\"\n";
    for (keys, at, found, expected, message) in [
        (
            "priority = 99 #<\ndirection = \"inbound\"\n".to_owned() + TCP_ALLOW,
            key("priority"),
            "99",
            priority,
            "the smallest is 100",
        ),
        (
            "priority = 4097 #<\ndirection = \"inbound\"\n".to_owned() + TCP_ALLOW,
            key("priority"),
            "4097",
            priority,
            "the largest is 4096",
        ),
        (
            "priority = 100\ndirection = \"in\" #<\n".to_owned() + TCP_ALLOW,
            key("direction"),
            "\"in\"",
            "\"inbound\" or \"outbound\"",
            "",
        ),
        (
            format!("{inbound}access = \"permit\" #<\nprotocol = \"tcp\""),
            key("access"),
            "\"permit\"",
            "\"allow\" or \"deny\"",
            "use one of",
        ),
        (
            format!("{inbound}access = \"deny\"\nprotocol = \"all\" #<"),
            key("protocol"),
            "\"all\"",
            "\"tcp\", \"udp\", \"icmp\" or \"any\"",
            "use one of",
        ),
        (
            format!("{inbound}{TCP_ALLOW}source = [\"internet\"] #<"),
            key("source[1]"),
            "\"internet\"",
            selector,
            "did you mean \"Internet\"?",
        ),
        (
            format!("{inbound}{TCP_ALLOW}source = \"*\" #<"),
            key("source"),
            "\"*\"",
            list,
            "source = [\"*\"]",
        ),
        (
            format!("{inbound}{TCP_ALLOW}destination = [\"10.0.0.0/8\", \"*\"] #<"),
            key("destination[2]"),
            "\"*\"",
            "\"*\" alone",
            "everything already",
        ),
        (
            format!("{inbound}{TCP_ALLOW}destination = [] #<"),
            key("destination"),
            "[]",
            list,
            "would match nothing",
        ),
        (
            format!("{inbound}{TCP_ALLOW}destination_ports = [\"8444-8443\"] #<"),
            key("destination_ports[1]"),
            "\"8444-8443\"",
            "a port, a range such as \"8443-8444\", or \"*\"",
            "\"8443-8444\"",
        ),
        (
            format!("{inbound}access = \"allow\"\nprotocol = \"icmp\"\nsource_ports = [1] #<"),
            key("source_ports"),
            "[1]",
            "[\"*\"]",
            "icmp has no ports",
        ),
    ] {
        refuses_added(&format!("{SECURITY}{keys}"), (at, found, expected, message));
    }
}

#[test]
fn security_rules_have_names_and_priorities_of_their_own() {
    let second = |name: &str, priority: &str, direction: &str| {
        format!(
            "{SECURITY}priority = 100\ndirection = \"inbound\"\n{TCP_ALLOW}[[security_group.rule]]\n\
             {name}\n{priority}\ndirection = \"{direction}\"\n{TCP_ALLOW}"
        )
    };
    refuses_added(
        &second("name = \"x\" #<", "priority = 101", "inbound"),
        (
            "security_group \"sg\".rule \"x\".name",
            "\"x\"",
            "a name that no other rule of this group has",
            "uses this name already",
        ),
    );
    refuses_added(
        &second("name = \"y\"", "priority = 100 #<", "inbound"),
        (
            "security_group \"sg\".rule \"y\".priority",
            "100",
            "a priority of its own within the direction",
            "\"x\"",
        ),
    );
    accepted(&format!(
        "{BASE}{}",
        second("name = \"y\"", "priority = 100", "outbound")
    ));
    for key in ["priority", "direction", "access", "protocol"] {
        let text = format!("{SECURITY}priority = 100\ndirection = \"inbound\"\n{TCP_ALLOW}");
        let lines: Vec<_> = text.lines().filter(|line| !line.starts_with(key)).collect();
        let errors = errors(&format!("{BASE}{}", lines.join("\n")));
        assert_eq!(errors.len(), 1, "{errors:#?}");
        assert_eq!(
            errors[0].key,
            format!("security_group \"sg\".rule \"x\".{key}")
        );
        assert_eq!(errors[0].found, "nothing");
    }
}
