//! Files before and after a command.

use super::*;
use crate::config::parse_all;

const FILE: &str = r#"# The node of rack 7.
[node]
interfaces = ["eth0"] # the only one

[[frontend]]
name = "web"
ipv4 = "203.0.113.10"

# Machines.

# The short form.
[[instance]]
name = "web-1"
ipv4 = "10.0.1.11" # since May
ipv6 = "fd00:1::11"

# The long form.
[[instance]]
name = "web-2"
ip_configs = [
  { name = "primary", ipv4 = "10.0.1.21" }, # first
  { name = "secondary", ipv4 = "10.0.1.22", ipv6 = "fd00:1::22" },
]

[[instance]]
name = "web-3"
[[instance.ip_configs]]
name = "only" # by a header
ipv4 = "10.0.1.31"

[log]
level = "warn"
# the end
"#;

fn alice() -> NewPublicIp {
    NewPublicIp {
        name: "alice".to_owned(),
        ipv4: Some("203.0.113.50".parse().unwrap()),
        ipv6: None,
        dns_label: None,
    }
}

fn owner(instance: &str, ip_config: &str) -> MemberRef {
    MemberRef {
        instance: instance.to_owned(),
        ip_config: ip_config.to_owned(),
    }
}

/// Lines of `after` that `before` has not, and the other way round.
fn difference(before: &str, after: &str) -> (Vec<String>, Vec<String>) {
    let missing = |a: &str, b: &str| -> Vec<String> {
        let lines = a
            .lines()
            .filter(|line| !b.lines().any(|other| other == *line));
        lines.map(str::to_owned).collect()
    };
    (missing(after, before), missing(before, after))
}

#[test]
fn a_public_ip_is_added_where_its_ip_configuration_is_written() {
    for (instance, ip_config, line, was) in [
        ("web-1", "primary", "public_ip = \"alice\"", None),
        (
            "web-2",
            "primary",
            "  { name = \"primary\", ipv4 = \"10.0.1.21\", public_ip = \"alice\" }, # first",
            Some("  { name = \"primary\", ipv4 = \"10.0.1.21\" }, # first"),
        ),
        ("web-3", "only", "public_ip = \"alice\"", None),
    ] {
        let owner = owner(instance, ip_config);
        let after = add_public_ip(FILE, &alice(), &owner).unwrap();
        let (new, gone) = difference(FILE, &after);
        let expected = [
            line,
            "[[public_ip]]",
            "name = \"alice\"",
            "ipv4 = \"203.0.113.50\"",
        ];
        assert_eq!(new, expected, "{after}");
        assert_eq!(gone, was.into_iter().collect::<Vec<_>>(), "{after}");
        let config = parse_all("f", &after).unwrap().config;
        assert_eq!(config.public_ips[0].name, "alice");
        assert_eq!(
            config.ip_config(&owner).unwrap().public_ip.as_deref(),
            Some("alice")
        );
    }
}

#[test]
fn what_was_added_and_removed_leaves_the_file_as_it_was() {
    for (instance, ip_config) in [
        ("web-1", "primary"),
        ("web-2", "secondary"),
        ("web-3", "only"),
    ] {
        let with = add_public_ip(FILE, &alice(), &owner(instance, ip_config)).unwrap();
        assert_eq!(remove_public_ip(&with, "alice").unwrap(), FILE);
    }
}

#[test]
fn a_second_public_ip_follows_the_first_and_order_stays() {
    let first = add_public_ip(FILE, &alice(), &owner("web-1", "primary")).unwrap();
    let bob = NewPublicIp {
        name: "bob".to_owned(),
        ipv4: Some("203.0.113.51".parse().unwrap()),
        ipv6: Some("2001:db8:1::51".parse().unwrap()),
        dns_label: Some("bob".to_owned()),
    };
    let both = add_public_ip(&first, &bob, &owner("web-2", "secondary")).unwrap();
    let at = |text: &str| both.find(text).unwrap();
    assert!(at("name = \"alice\"") < at("name = \"bob\""));
    let config = parse_all("f", &both).unwrap().config;
    assert_eq!(config.public_ips[1].ipv6, bob.ipv6);
    assert_eq!(config.public_ips[1].dns_label, bob.dns_label);
    let without_alice = remove_public_ip(&both, "alice").unwrap();
    let config = parse_all("f", &without_alice).unwrap().config;
    assert_eq!(config.public_ips.len(), 1);
    assert_eq!(config.instances[0].ip_configs[0].public_ip, None);
}

#[test]
fn comments_that_stand_apart_survive_the_table_below_them() {
    let text = "[node]\ninterfaces = [\"eth0\"]\n\n# Public IPs, by customer.\n\n# alice, until June\n\
                [[public_ip]]\nname = \"alice\"\nipv4 = \"203.0.113.50\"\n\n# bob\n[[public_ip]]\n\
                name = \"bob\"\nipv4 = \"203.0.113.51\"\n";
    let without = remove_public_ip(text, "alice").unwrap();
    assert_eq!(
        without,
        "[node]\ninterfaces = [\"eth0\"]\n\n# Public IPs, by customer.\n\n# bob\n[[public_ip]]\n\
         name = \"bob\"\nipv4 = \"203.0.113.51\"\n"
    );
    assert_eq!(
        remove_public_ip(&without, "bob").unwrap(),
        "[node]\ninterfaces = [\"eth0\"]\n\n# Public IPs, by customer.\n"
    );
}

#[test]
fn lists_in_brackets_are_edited_too() {
    let text = "instance = [{ name = \"a\", ipv4 = \"10.0.0.1\" }]\n\
                public_ip = [{ name = \"old\", ipv4 = \"203.0.113.1\" }]\n\
                [node]\ninterfaces = [\"eth0\"]\n";
    let with = add_public_ip(text, &alice(), &owner("a", "primary")).unwrap();
    assert!(
        with.contains("{ name = \"a\", ipv4 = \"10.0.0.1\", public_ip = \"alice\" }"),
        "{with}"
    );
    assert_eq!(parse_all("f", &with).unwrap().config.public_ips.len(), 2);
    assert_eq!(remove_public_ip(&with, "alice").unwrap(), text);
}

#[test]
fn what_cannot_be_edited_is_refused() {
    let with = add_public_ip(FILE, &alice(), &owner("web-1", "primary")).unwrap();
    let other = NewPublicIp {
        name: "other".to_owned(),
        ..alice()
    };
    let refused = |outcome: Result<String>| outcome.unwrap_err().to_string();
    for (message, part) in [
        (
            refused(add_public_ip(&with, &alice(), &owner("web-2", "primary"))),
            "a public IP alice already",
        ),
        (
            refused(add_public_ip(&with, &other, &owner("web-1", "primary"))),
            "has the public IP alice already",
        ),
        (
            refused(add_public_ip(FILE, &alice(), &owner("web-9", "primary"))),
            "no instance is called web-9",
        ),
        (
            refused(add_public_ip(FILE, &alice(), &owner("web-1", "second"))),
            "no IP configuration second",
        ),
        (
            refused(add_public_ip(FILE, &alice(), &owner("web-3", "primary"))),
            "no IP configuration primary",
        ),
        (
            refused(remove_public_ip(FILE, "alice")),
            "no public IP is called alice",
        ),
        (
            refused(remove_public_ip("[node", "alice")),
            "`forebay check` says where",
        ),
    ] {
        assert!(message.contains(part), "{message}");
    }
}
