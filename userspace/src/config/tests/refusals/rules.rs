//! Rules of every sort, each by itself.

use crate::config::tests::refuses_added;

const RULE: &str = "[[rule]]\nname = \"r\"\nfrontend = \"web\"\npool = \"web\"\n";
const OUTBOUND: &str = "[[outbound_rule]]\nname = \"o\"\npool = \"web\"\nfrontends = [\"nat\"]\n";
const RULE_PORT: &str =
    "a port from 1 to 65535, a range such as \"8000-8099\", or 0 for every port";
const TIMEOUT: &str = "a duration from \"1s\" to \"24h\"";

#[test]
fn rules() {
    for (keys, key, found, expected, message) in [
        (
            "port = 70000 #<",
            "rule \"r\".port",
            "70000",
            RULE_PORT,
            "the largest is 65535",
        ),
        (
            "port = \"http\" #<",
            "rule \"r\".port",
            "\"http\"",
            RULE_PORT,
            "write a number",
        ),
        (
            "port = \"90-80\" #<",
            "rule \"r\".port",
            "\"90-80\"",
            RULE_PORT,
            "\"80-90\"",
        ),
        (
            "port = 81\nprotocol = \"sctp\" #<",
            "rule \"r\".protocol",
            "\"sctp\"",
            "\"tcp\", \"udp\" or \"all\"",
            "use one of",
        ),
        (
            "port = 81\nbackend_port = 0 #<",
            "rule \"r\".backend_port",
            "0",
            "a port from 1 to 65535",
            "the smallest is 1",
        ),
        (
            "port = 81\ndistribution = \"source_ip\" #<",
            "rule \"r\".distribution",
            "\"source_ip\"",
            "\"5-tuple\", \"source-ip\" or \"source-ip-protocol\"",
            "did you mean \"source-ip\"?",
        ),
        (
            "port = 81\nforwarding = \"fullnat\" #<",
            "rule \"r\".forwarding",
            "\"fullnat\"",
            "\"nat\", \"full-nat\" or \"dsr\"",
            "did you mean \"full-nat\"?",
        ),
        (
            "port = 81\nidle_timeout = \"0s\" #<",
            "rule \"r\".idle_timeout",
            "\"0s\"",
            TIMEOUT,
            "the shortest is \"1s\"",
        ),
        (
            "port = 81\nno_healthy_backends = true #<",
            "rule \"r\".no_healthy_backends",
            "true",
            "\"down\" or \"up\"",
            "in quotes",
        ),
        (
            "port = 0\nbackend_port = 80 #<",
            "rule \"r\".backend_port",
            "80",
            "no backend_port with port = 0",
            "keeps the port",
        ),
        (
            "port = \"8000-8099\"\nbackend_port = 65437 #<",
            "rule \"r\".backend_port",
            "65437",
            "a port from 1 to 65436",
            "the range has 100 ports and the offset is kept: the last would be 65536",
        ),
        (
            "port = 81\nforwarding = \"dsr\"\nbackend_port = 8080 #<",
            "rule \"r\".backend_port",
            "8080",
            "the port of the rule",
            "dsr translates nothing",
        ),
    ] {
        refuses_added(&format!("{RULE}{keys}"), (key, found, expected, message));
    }
}

#[test]
fn inbound_nat_rules() {
    let target = "either instance or pool";
    for (keys, key, found, expected, message) in [
        (
            "port = 22\ninstance = \"web-1\"\npool = \"web\"",
            "inbound_nat_rule \"n\"",
            "[[inbound_nat_rule]]",
            target,
            "remove one of the two",
        ),
        (
            "port = 22",
            "inbound_nat_rule \"n\"",
            "[[inbound_nat_rule]]",
            target,
            "say where it goes",
        ),
    ] {
        let text = format!("[[inbound_nat_rule]] #<\nname = \"n\"\nfrontend = \"web\"\n{keys}");
        refuses_added(&text, (key, found, expected, message));
    }
    for (keys, found, expected, message) in [
        (
            "instance = \"web-1\"\nport = 0 #<",
            "0",
            "a port from 1 to 65535",
            "the smallest is 1",
        ),
        (
            "instance = \"web-1\"\nport = \"1-2\" #<",
            "\"1-2\"",
            "a port from 1 to 65535",
            "a range goes to a pool",
        ),
        (
            "pool = \"web\"\nport = 2200 #<",
            "2200",
            "a range of ports such as \"2200-2299\"",
            "in quotes",
        ),
    ] {
        let text = format!("[[inbound_nat_rule]]\nname = \"n\"\nfrontend = \"web\"\n{keys}");
        refuses_added(
            &text,
            ("inbound_nat_rule \"n\".port", found, expected, message),
        );
    }
}

#[test]
fn outbound_rules() {
    let ports = "\"auto\" or a multiple of 8";
    let list = "a list of frontends such as [\"web\"]";
    for (keys, key, found, expected, message) in [
        (
            "ports_per_instance = 0 #<",
            "outbound_rule \"o\".ports_per_instance",
            "0",
            ports,
            "write \"auto\" for the table",
        ),
        (
            "ports_per_instance = \"many\" #<",
            "outbound_rule \"o\".ports_per_instance",
            "\"many\"",
            ports,
            "write \"auto\" or a number",
        ),
        (
            "ports_per_instance = \"64\" #<",
            "outbound_rule \"o\".ports_per_instance",
            "\"64\"",
            ports,
            "without quotes: 64",
        ),
        (
            "mapping = { tcp = \"symmetric\" } #<",
            "outbound_rule \"o\".mapping.tcp",
            "\"symmetric\"",
            "\"per-destination\" or \"endpoint-independent\"",
            "use one of",
        ),
        (
            "mapping = { icmp = \"x\" } #<",
            "outbound_rule \"o\".mapping.icmp",
            "icmp",
            "one of tcp, udp",
            "unknown key",
        ),
        (
            "filtering = \"none\" #<",
            "outbound_rule \"o\".filtering",
            "\"none\"",
            "\"endpoint-independent\", \"address-dependent\" or \"address-and-port-dependent\"",
            "use one of",
        ),
        (
            "filtering = \"endpoint-independent\" #<\nprotocol = \"tcp\"",
            "outbound_rule \"o\".filtering",
            "\"endpoint-independent\"",
            "\"address-and-port-dependent\"",
            "endpoint-independent mapping",
        ),
        (
            "filtering = \"address-dependent\" #<\nmapping = { udp = \"per-destination\" }",
            "outbound_rule \"o\".filtering",
            "\"address-dependent\"",
            "\"address-and-port-dependent\"",
            "endpoint-independent mapping",
        ),
        (
            "frontend_selection = \"hash\" #<",
            "outbound_rule \"o\".frontend_selection",
            "\"hash\"",
            "\"spread\", \"fill\" or \"random\"",
            "use one of",
        ),
        (
            "on_exhaustion = \"rst\" #<",
            "outbound_rule \"o\".on_exhaustion",
            "\"rst\"",
            "\"reject\" or \"drop\"",
            "use one of",
        ),
    ] {
        refuses_added(
            &format!("{OUTBOUND}{keys}"),
            (key, found, expected, message),
        );
    }
    for (frontends, key, found, expected, message) in [
        (
            "[]",
            "default_outbound.frontends",
            "[]",
            list,
            "nothing gets out",
        ),
        (
            "\"nat\"",
            "default_outbound.frontends",
            "\"nat\"",
            list,
            "frontends = [\"nat\"]",
        ),
        (
            "[\"nat\", \"nat\"]",
            "default_outbound.frontends[2]",
            "\"nat\"",
            "each frontend once",
            "remove the second",
        ),
    ] {
        let text = format!("[default_outbound]\nfrontends = {frontends} #<");
        refuses_added(&text, (key, found, expected, message));
    }
}
