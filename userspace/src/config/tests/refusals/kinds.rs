//! Values of a wrong kind in the tables that are there once.

use crate::config::tests::{refuses, refuses_added};

const NODE: &str = "[node]\ninterfaces = [\"eth0\"]\n";
const NAME: &str = "a name of 1 to 80 characters";
const TIMEOUT: &str = "a duration from \"1s\" to \"24h\"";

#[test]
fn values_of_a_wrong_kind() {
    for (line, key, found, expected, message) in [
        (
            "allow_direct = \"true\" #<",
            "node.allow_direct",
            "\"true\"",
            "true or false",
            "without quotes",
        ),
        (
            "xdp_mode = \"skb\" #<",
            "node.xdp_mode",
            "\"skb\"",
            "\"auto\", \"native\" or \"generic\"",
            "use one of these words",
        ),
        (
            "advertise = \"neighbour\" #<",
            "node.advertise",
            "\"neighbour\"",
            "\"neighbor\", \"standby\" or \"none\"",
            "did you mean \"neighbor\"?",
        ),
        ("name = 5 #<", "node.name", "5", NAME, "in quotes"),
        ("name = \"\" #<", "node.name", "\"\"", NAME, "it is empty"),
        (
            "hash_seed = -1 #<",
            "node.hash_seed",
            "-1",
            "a number from 0 to 9223372036854775807",
            "the smallest is 0",
        ),
        (
            "hash_seed = { a = 1 } #<",
            "node.hash_seed",
            "{ a = 1 }",
            "a number from 0 to 9223372036854775807",
            "write a number",
        ),
        (
            "bpf_fs = \"sys\" #<",
            "node.bpf_fs",
            "\"sys\"",
            "an absolute path",
            "begin it with a slash",
        ),
        (
            "virtual_network = \"10.0.0.0/8\" #<",
            "node.virtual_network",
            "\"10.0.0.0/8\"",
            "a list of prefixes",
            "virtual_network = [\"10.0.0.0/8\"]",
        ),
        (
            "virtual_network = [\"10.0.0.1/8\"] #<",
            "node.virtual_network[1]",
            "\"10.0.0.1/8\"",
            "a prefix such as \"10.0.0.0/8\" or \"fd00::/8\"",
            "write \"10.0.0.0/8\"",
        ),
        (
            "full_nat_ipv4 = \"::1\" #<",
            "node.full_nat_ipv4",
            "\"::1\"",
            "an IPv4 address such as \"10.0.1.11\", or \"\"",
            "use the key ipv6",
        ),
    ] {
        refuses(&format!("{NODE}{line}"), (key, found, expected, message));
    }
    for (line, key, found, expected, message) in [
        (
            "limits.flows = 100 #<",
            "limits.flows",
            "100",
            "a number from 256 to 268435456",
            "the smallest is 256",
        ),
        (
            "timeouts.tcp_idle = 240 #<",
            "timeouts.tcp_idle",
            "240",
            TIMEOUT,
            "as in \"240s\"",
        ),
        (
            "timeouts.tcp_rst = \"500ms\" #<",
            "timeouts.tcp_rst",
            "\"500ms\"",
            TIMEOUT,
            "the shortest is \"1s\"",
        ),
        (
            "timeouts.udp_dns = \"25h\" #<",
            "timeouts.udp_dns",
            "\"25h\"",
            TIMEOUT,
            "the longest is \"24h\"",
        ),
        (
            "timeouts.drain = \"soon\" #<",
            "timeouts.drain",
            "\"soon\"",
            "a duration from \"1s\" to \"24h\", or \"\"",
            "write a whole number",
        ),
        (
            "api.metrics = \"9470\" #<",
            "api.metrics",
            "\"9470\"",
            "an address with a port, such as \"127.0.0.1:9470\" or \"[::1]:9470\", or \"\"",
            "no address with a port",
        ),
        (
            "api.whoami = \"127.0.0.1:9470\" #<",
            "api.whoami",
            "\"127.0.0.1:9470\"",
            "an address of its own",
            "the metrics are served there",
        ),
        (
            "log.level = \"warning\" #<",
            "log.level",
            "\"warning\"",
            "\"error\", \"warn\", \"info\", \"debug\", \"trace\" or \"off\"",
            "did you mean \"warn\"?",
        ),
    ] {
        refuses(
            &format!("node.interfaces = [\"eth0\"]\n{line}"),
            (key, found, expected, message),
        );
    }
}

#[test]
fn interfaces_are_named_once() {
    let list = "a list of interfaces such as [\"eth0\", \"eth1\"]";
    for (line, key, found, expected, message) in [
        (
            "interfaces = [] #<",
            "node.interfaces",
            "[]",
            list,
            "name every NIC",
        ),
        (
            "interfaces = \"eth0\" #<",
            "node.interfaces",
            "\"eth0\"",
            list,
            "interfaces = [\"eth0\"]",
        ),
        (
            "interfaces = [\"a\", \"b\", \"a\"] #<",
            "node.interfaces[3]",
            "\"a\"",
            "each interface once",
            "remove the second",
        ),
        (
            "interfaces = [\n\"a\",\n5, #<\n]",
            "node.interfaces[2]",
            "5",
            "the name of an interface, such as \"eth0\"",
            "in quotes",
        ),
        (
            "interfaces = [\"\"] #<",
            "node.interfaces[1]",
            "\"\"",
            "the name of an interface, such as \"eth0\"",
            "it is empty",
        ),
    ] {
        refuses(&format!("[node]\n{line}"), (key, found, expected, message));
    }
}

#[test]
fn the_dns() {
    for (keys, key, found, expected, message) in [
        (
            "zone = \"a..b\" #<\nserver = \"192.0.2.1:53\"",
            "dns.zone",
            "\"a..b\"",
            "a zone such as \"lb.example.org\"",
            "every part has",
        ),
        (
            "zone = \"a\"\nserver = \"192.0.2.1\" #<",
            "dns.server",
            "\"192.0.2.1\"",
            "an address with a port, such as \"127.0.0.1:9470\" or \"[::1]:9470\"",
            "add the port",
        ),
        (
            "zone = \"a\"\nserver = \"192.0.2.1:53\"\nttl = \"0s\" #<",
            "dns.ttl",
            "\"0s\"",
            "a duration from \"1s\" to \"168h\"",
            "the shortest is \"1s\"",
        ),
    ] {
        refuses_added(&format!("[dns]\n{keys}"), (key, found, expected, message));
    }
}
