//! Names: given twice, or of nothing.

use crate::config::tests::{BASE, accepted, errors, refuses, refuses_added};

#[test]
fn names_are_given_once() {
    for (text, key, found, expected) in [
        (
            "[[frontend]]\nname = \"web\" #<\nipv4 = \"203.0.113.99\"",
            "frontend \"web\".name",
            "\"web\"",
            "a name that no other frontend has",
        ),
        (
            "[[instance]]\nname = \"web-1\" #<\nipv4 = \"10.0.9.9\"",
            "instance \"web-1\".name",
            "\"web-1\"",
            "a name that no other instance has",
        ),
        (
            "[[pool]]\nname = \"web\" #<",
            "pool \"web\".name",
            "\"web\"",
            "a name that no other pool has",
        ),
        (
            "[[rule]]\nname = \"web-http\" #<\nfrontend = \"web\"\nport = 81\npool = \"web\"",
            "rule \"web-http\".name",
            "\"web-http\"",
            "a name that no other rule has",
        ),
        (
            "[[inbound_nat_rule]]\nname = \"web-http\" #<\nfrontend = \"web\"\nport = 81\ninstance = \"web-1\"",
            "inbound_nat_rule \"web-http\".name",
            "\"web-http\"",
            "a name that no other rule has",
        ),
        (
            "[[probe]]\nname = \"p\"\n[[probe]]\nname = \"p\" #<",
            "probe \"p\".name",
            "\"p\"",
            "a name that no other probe has",
        ),
    ] {
        refuses_added(text, (key, found, expected, "uses this name already"));
    }
}

#[test]
fn references_name_what_exists() {
    for (text, key, found, expected, message) in [
        (
            "[[rule]]\nname = \"r\"\nfrontend = \"wbe\" #<\nport = 81\npool = \"web\"",
            "rule \"r\".frontend",
            "\"wbe\"",
            "the name of a frontend",
            "did you mean \"web\"?",
        ),
        (
            "[[rule]]\nname = \"r\"\nfrontend = \"public\" #<\nport = 81\npool = \"web\"",
            "rule \"r\".frontend",
            "\"public\"",
            "the name of a frontend",
            "the file has \"nat\", \"web\"",
        ),
        (
            "[[rule]]\nname = \"r\"\nfrontend = \"web\"\nport = 81\npool = \"wen\" #<",
            "rule \"r\".pool",
            "\"wen\"",
            "the name of a pool",
            "did you mean \"web\"?",
        ),
        (
            "[[rule]]\nname = \"r\"\nfrontend = \"web\"\nport = 81\npool = \"web\"\nprobe = \"p\" #<",
            "rule \"r\".probe",
            "\"p\"",
            "the name of a probe",
            "the file has no probe; add it",
        ),
        (
            "[[pool]]\nname = \"p\"\nmembers = [\"web-3\"] #<",
            "pool \"p\".members[1]",
            "\"web-3\"",
            "the name of an instance",
            "did you mean \"web-1\"?",
        ),
        (
            "[[pool]]\nname = \"p\"\nmembers = [{ instance = \"db\", weight = 2 }] #<",
            "pool \"p\".members[1].instance",
            "\"db\"",
            "the name of an instance",
            "the file has \"web-1\", \"web-2\"",
        ),
        (
            "[[pool]]\nname = \"p\"\nmembers = [\"web-1/third\"] #<",
            "pool \"p\".members[1]",
            "\"web-1/third\"",
            "an IP configuration of the instance",
            "it has \"web-1/primary\", \"web-1/secondary\"",
        ),
        (
            "[[pool]]\nname = \"p\"\nmembers = [{ instance = \"web-2\", ip_config = \"x\" }] #<",
            "pool \"p\".members[1].ip_config",
            "\"x\"",
            "an IP configuration of the instance",
            "it has \"web-2/primary\"",
        ),
        (
            "[[instance]]\nname = \"i\"\nip_configs = [{ name = \"a\", ipv4 = \"10.0.0.9\" }]\n[[pool]]\nname = \"p\"\nmembers = [\"i\"] #<",
            "pool \"p\".members[1]",
            "\"i\"",
            "an IP configuration of the instance",
            "no such IP configuration called \"primary\"; it has \"i/a\"",
        ),
        (
            "[[instance]]\nname = \"i\"\nipv4 = \"10.0.0.9\"\npublic_ip = \"alice\" #<",
            "instance \"i\".public_ip",
            "\"alice\"",
            "the name of a public_ip",
            "the file has no public_ip",
        ),
        (
            "[[instance]]\nname = \"i\"\nipv4 = \"10.0.0.9\"\nsecurity_group = \"sg\" #<",
            "instance \"i\".security_group",
            "\"sg\"",
            "the name of a security_group",
            "the file has no security_group",
        ),
        (
            "[[instance]]\nname = \"i\"\nip_configs = [{ name = \"a\", ipv4 = \"10.0.0.9\", security_group = \"sg\" }] #<",
            "instance \"i\".ip_configs \"a\".security_group",
            "\"sg\"",
            "the name of a security_group",
            "",
        ),
        (
            "[[inbound_nat_rule]]\nname = \"n\"\nfrontend = \"web\"\nport = 22\ninstance = \"web-9/x\" #<",
            "inbound_nat_rule \"n\".instance",
            "\"web-9/x\"",
            "the name of an instance",
            "did you mean",
        ),
        (
            "[[inbound_nat_rule]]\nname = \"n\"\nfrontend = \"w\" #<\nport = \"22-30\"\npool = \"web\"",
            "inbound_nat_rule \"n\".frontend",
            "\"w\"",
            "the name of a frontend",
            "",
        ),
        (
            "[[inbound_nat_rule]]\nname = \"n\"\nfrontend = \"web\"\nport = \"22-30\"\npool = \"x\" #<",
            "inbound_nat_rule \"n\".pool",
            "\"x\"",
            "the name of a pool",
            "",
        ),
        (
            "[[outbound_rule]]\nname = \"o\"\npool = \"x\" #<\nfrontends = [\"nat\"]",
            "outbound_rule \"o\".pool",
            "\"x\"",
            "the name of a pool",
            "",
        ),
        (
            "[[outbound_rule]]\nname = \"o\"\npool = \"web\"\nfrontends = [\"nat\", \"x\"] #<",
            "outbound_rule \"o\".frontends[2]",
            "\"x\"",
            "the name of a frontend",
            "",
        ),
        (
            "[default_outbound]\nfrontends = [\"ant\"] #<",
            "default_outbound.frontends[1]",
            "\"ant\"",
            "the name of a frontend",
            "did you mean \"nat\"?",
        ),
    ] {
        refuses_added(text, (key, found, expected, message));
    }
}

#[test]
fn a_reference_to_something_that_is_wrong_is_no_second_mistake() {
    let text = BASE.replace("ipv4 = \"203.0.113.10\"", "ipv4 = \"203.0.113\" #<");
    let ipv4 = "an IPv4 address such as \"203.0.113.10\", or a prefix for outbound";
    refuses(
        &text,
        (
            "frontend \"web\".ipv4",
            "\"203.0.113\"",
            ipv4,
            "is no IPv4 address",
        ),
    );
    let text = BASE.replace("ipv4 = \"10.0.1.21\"", "ipv4 = \"10.0.1\" #<");
    let ipv4 = "an IPv4 address such as \"10.0.1.11\"";
    refuses(
        &text,
        (
            "instance \"web-2\".ipv4",
            "\"10.0.1\"",
            ipv4,
            "is no IPv4 address",
        ),
    );
    let text = BASE.replace("ipv4 = \"10.0.1.11\"", "ipv4 = \"10.0.1\"");
    assert_eq!(errors(&text).len(), 1, "{:#?}", errors(&text));
}

#[test]
fn names_in_the_dns_are_labels_of_one_thing() {
    let dns = "[dns]\nzone = \"example.org\"\nserver = \"192.0.2.1:53\"\n";
    refuses_added(
        &format!("{dns}[[frontend]]\nname = \"my web\" #<\nipv4 = \"203.0.113.9\""),
        (
            "frontend \"my web\".name",
            "\"my web\"",
            "a name that the DNS can have",
            "<name>.<zone>",
        ),
    );
    refuses_added(
        &format!(
            "{dns}[[public_ip]]\nname = \"a\"\nipv4 = \"203.0.113.9\"\ndns_label = \"WEB\" #<"
        ),
        (
            "public_ip \"a\".dns_label",
            "\"WEB\"",
            "a label that nothing else has",
            "frontend \"web\" (line 4)",
        ),
    );
    let two = "[[public_ip]]\nname = \"a\"\nipv4 = \"203.0.113.8\"\ndns_label = \"x\"\n[[public_ip]]\nname = \"b\"\nipv4 = \"203.0.113.9\"\ndns_label = \"x\" #<";
    refuses_added(
        two,
        (
            "public_ip \"b\".dns_label",
            "\"x\"",
            "a label that nothing else has",
            "public_ip \"a\"",
        ),
    );
    accepted(&format!(
        "{BASE}[[frontend]]\nname = \"my web\"\nipv4 = \"203.0.113.9\""
    ));
}
