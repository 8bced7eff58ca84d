//! Frontends, public IPs, instances, pools and probes.

use crate::config::tests::refuses_added;

const PROBE: &str = "[[probe]]\nname = \"p\"\n";
const NAME: &str = "a name of 1 to 80 characters";

#[test]
fn names_that_are_no_names() {
    for (name, found) in [("\"\"", "\"\""), ("5", "5"), ("\"a/b\"", "\"a/b\"")] {
        let text = format!("[[probe]]\nname = {name} #<");
        let key = if name == "\"a/b\"" {
            "probe \"a/b\".name"
        } else {
            "probe[1].name"
        };
        refuses_added(&text, (key, found, NAME, ""));
    }
}

#[test]
fn frontends_and_public_ips() {
    let address = "ipv4, ipv6 or both";
    let ipv4 = "an IPv4 address such as \"203.0.113.10\", or a prefix for outbound";
    for (text, key, found, expected, message) in [
        (
            "[[frontend]] #<\nname = \"f\"",
            "frontend \"f\"",
            "[[frontend]]",
            address,
            "it has no address",
        ),
        (
            "[[public_ip]] #<\nname = \"a\"",
            "public_ip \"a\"",
            "[[public_ip]]",
            address,
            "it has no address",
        ),
        (
            "[[frontend]]\nname = \"f\"\nipv4 = \"224.0.0.1\" #<",
            "frontend \"f\".ipv4",
            "\"224.0.0.1\"",
            ipv4,
            "multicast",
        ),
        (
            "[[frontend]]\nname = \"f\"\nipv4 = \"127.0.0.1\" #<",
            "frontend \"f\".ipv4",
            "\"127.0.0.1\"",
            ipv4,
            "loopback",
        ),
        (
            "[[frontend]]\nname = \"f\"\nipv4 = \"203.0.113.9/29\" #<",
            "frontend \"f\".ipv4",
            "\"203.0.113.9/29\"",
            ipv4,
            "write \"203.0.113.8/29\"",
        ),
        (
            "[[frontend]]\nname = \"f\"\nshared = true\nipv4 = \"203.0.113.16/29\" #<",
            "frontend \"f\".ipv4",
            "\"203.0.113.16/29\"",
            "one address",
            "an address of this host",
        ),
        (
            "[[public_ip]]\nname = \"a\"\nipv4 = \"203.0.113.8/29\" #<",
            "public_ip \"a\".ipv4",
            "\"203.0.113.8/29\"",
            "an IPv4 address such as \"10.0.1.11\"",
            "without a prefix length",
        ),
        (
            "[[public_ip]]\nname = \"a\"\nipv4 = \"203.0.113.8\"\ndns_label = \"a.b\" #<",
            "public_ip \"a\".dns_label",
            "\"a.b\"",
            "a label such as \"alice\"",
            "1 to 63 letters",
        ),
    ] {
        refuses_added(text, (key, found, expected, message));
    }
}

#[test]
fn instances() {
    let ipv6 = "an IPv6 address such as \"fd00:1::11\"";
    for (text, key, found, expected, message) in [
        (
            "[[instance]] #<\nname = \"i\"",
            "instance \"i\"",
            "[[instance]]",
            "ipv4, ipv6 or both",
            "it has no address",
        ),
        (
            "[[instance]]\nname = \"i\"\nip_configs = [{ name = \"a\" }] #<",
            "instance \"i\".ip_configs \"a\"",
            "{ name = \"a\" }",
            "ipv4, ipv6 or both",
            "it has no address",
        ),
        (
            "[[instance]]\nname = \"i\"\nip_configs = [{ ipv4 = \"10.0.0.1\" }] #<",
            "instance \"i\".ip_configs[1].name",
            "nothing",
            NAME,
            "is missing",
        ),
        (
            "[[instance]]\nname = \"i\"\nipv6 = \"fe80::1\" #<",
            "instance \"i\".ipv6",
            "\"fe80::1\"",
            ipv6,
            "link-local",
        ),
        (
            "[[instance]]\nname = \"i\"\nipv6 = \"::\" #<",
            "instance \"i\".ipv6",
            "\"::\"",
            ipv6,
            "no address",
        ),
        (
            "[[instance]]\nname = \"i\"\nipv4 = \"10.0.0.2\" #<\nip_configs = [{ name = \"a\", ipv4 = \"10.0.0.1\" }]",
            "instance \"i\".ipv4",
            "\"10.0.0.2\"",
            "either this or ip_configs",
            "put it into",
        ),
        (
            "[[instance]]\nname = \"i\"\nip_configs = [{ name = \"a\", ipv4 = \"10.0.0.1\" },\n{ name = \"a\", ipv4 = \"10.0.0.2\" }] #<",
            "instance \"i\".ip_configs \"a\".name",
            "\"a\"",
            "a name that no other IP configuration has",
            "uses this name already",
        ),
    ] {
        refuses_added(text, (key, found, expected, message));
    }
}

#[test]
fn members() {
    let member = "an instance such as \"web-1\", or one of its IP configurations such as \"web-1/secondary\"";
    for (members, key, found, expected, message) in [
        ("[5]", "pool \"p\".members[1]", "5", member, "in quotes"),
        (
            "[\"web-1/\"]",
            "pool \"p\".members[1]",
            "\"web-1/\"",
            member,
            "it is empty",
        ),
        (
            "[{ instance = \"web-1\", weight = 0 }]",
            "pool \"p\".members[1].weight",
            "0",
            "a number from 1 to 256",
            "the smallest is 1",
        ),
        (
            "[{ instance = \"web-1\", weight = 257 }]",
            "pool \"p\".members[1].weight",
            "257",
            "a number from 1 to 256",
            "the largest is 256",
        ),
        (
            "[{ instance = \"web-1\", admin_state = \"drain\" }]",
            "pool \"p\".members[1].admin_state",
            "\"drain\"",
            "\"none\", \"up\" or \"down\"",
            "use one of",
        ),
        (
            "[{ instance = \"web-1/primary\", ip_config = \"secondary\" }]",
            "pool \"p\".members[1].ip_config",
            "\"secondary\"",
            "either this or the slash",
            "remove one",
        ),
        (
            "[\"web-1\", \"web-1/primary\"]",
            "pool \"p\".members[2]",
            "\"web-1/primary\"",
            "each member once",
            "has it already",
        ),
    ] {
        let text = format!("[[pool]]\nname = \"p\"\nmembers = {members} #<");
        refuses_added(&text, (key, found, expected, message));
    }
}

#[test]
fn probes() {
    let interval = "a duration from \"100ms\" to \"24h\"";
    let status = "a status code from 100 to 599 or a range such as \"200-299\"";
    for (keys, key, found, expected, message) in [
        (
            "protocol = \"icmp\" #<",
            "probe \"p\".protocol",
            "\"icmp\"",
            "\"tcp\", \"http\" or \"https\"",
            "use one of",
        ),
        (
            "port = 0 #<",
            "probe \"p\".port",
            "0",
            "a port from 1 to 65535",
            "the smallest is 1",
        ),
        (
            "interval = \"50ms\" #<",
            "probe \"p\".interval",
            "\"50ms\"",
            interval,
            "the shortest is \"100ms\"",
        ),
        (
            "timeout = \"0s\" #<",
            "probe \"p\".timeout",
            "\"0s\"",
            "a duration from \"1ms\" to \"24h\"",
            "the shortest is \"1ms\"",
        ),
        (
            "rise = 0 #<",
            "probe \"p\".rise",
            "0",
            "a number from 1 to 1000",
            "the smallest is 1",
        ),
        (
            "fall = \"2\" #<",
            "probe \"p\".fall",
            "\"2\"",
            "a number from 1 to 1000",
            "without quotes: 2",
        ),
        (
            "path = \"healthz\" #<",
            "probe \"p\".path",
            "\"healthz\"",
            "the path of a request, such as \"/healthz\"",
            "slash",
        ),
        (
            "host = \"http://x\" #<",
            "probe \"p\".host",
            "\"http://x\"",
            "a host name such as \"www.example.org\", or \"\"",
            "only the name",
        ),
        (
            "expect_status = [] #<",
            "probe \"p\".expect_status",
            "[]",
            "a list of status codes such as [200, \"300-399\"]",
            "no answer would ever be right",
        ),
        (
            "expect_status = [200, 2000] #<",
            "probe \"p\".expect_status[2]",
            "2000",
            status,
            "the largest is 599",
        ),
        (
            "expect_status = 200 #<",
            "probe \"p\".expect_status",
            "200",
            "a list of status codes such as [200, \"300-399\"]",
            "expect_status = [200]",
        ),
        (
            "family = \"both\" #<",
            "probe \"p\".family",
            "\"both\"",
            "\"each\", \"ipv4\" or \"ipv6\"",
            "use one of",
        ),
        (
            "tls_verify = true #<",
            "probe \"p\".tls_verify",
            "true",
            "false, or an https probe",
            "no certificate without TLS",
        ),
        (
            "protocol = \"https\"\nca_file = \"/ca\" #<",
            "probe \"p\".ca_file",
            "\"/ca\"",
            "tls_verify = true",
            "nothing is verified",
        ),
    ] {
        refuses_added(&format!("{PROBE}{keys}"), (key, found, expected, message));
    }
}
