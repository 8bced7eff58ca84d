//! Every way of writing rules of any sort that is allowed.

use std::time::Duration;

use super::{BASE, accepted, added};
use crate::config::model::*;

#[test]
fn a_rule_takes_every_word() {
    let rule = |keys: &str| {
        let text = format!(
            "[[rule]]\nname = \"r\"\nfrontend = \"web\"\npool = \"web\"\noutbound_snat = false\n{keys}"
        );
        added(&text).rules.remove(1)
    };
    for (text, protocol) in [
        ("tcp", Protocol::Tcp),
        ("udp", Protocol::Udp),
        ("all", Protocol::All),
    ] {
        for (port, ports) in [
            ("0", Ports::Every),
            ("81", Ports::Single(81)),
            ("\"8000-8099\"", Ports::Range(8000..=8099)),
        ] {
            let rule = rule(&format!("protocol = \"{text}\"\nport = {port}"));
            assert_eq!((rule.protocol, rule.port), (protocol, ports));
        }
    }
    for (text, distribution) in [
        ("5-tuple", Distribution::FiveTuple),
        ("source-ip", Distribution::SourceIp),
        ("source-ip-protocol", Distribution::SourceIpProtocol),
    ] {
        let rule = rule(&format!("port = 81\ndistribution = \"{text}\""));
        assert_eq!(rule.distribution, distribution);
    }
    for (text, forwarding) in [
        ("nat", Forwarding::Nat),
        ("full-nat", Forwarding::FullNat),
        ("dsr", Forwarding::Dsr),
    ] {
        assert_eq!(
            rule(&format!("port = 81\nforwarding = \"{text}\"")).forwarding,
            forwarding
        );
    }
    let rule = rule(
        "port = \"8000-8099\"\nbackend_port = 65436\nidle_timeout = \"1h\"\ntcp_reset = false\nno_healthy_backends = \"up\"",
    );
    assert_eq!(rule.port.backend_range(rule.backend_port), 65436..=65535);
    assert_eq!(rule.idle_timeout, Some(Duration::from_hours(1)));
    assert_eq!(
        (rule.tcp_reset, rule.no_healthy_backends),
        (false, NoHealthyBackends::Up)
    );
}

#[test]
fn an_inbound_nat_rule_goes_to_an_instance_or_over_a_pool() {
    let config = added(
        r#"
        [[inbound_nat_rule]]
        name = "one"
        frontend = "web"
        protocol = "udp"
        port = 2201
        instance = "web-1/secondary"
        backend_port = 22
        [[inbound_nat_rule]]
        name = "many"
        frontend = "web"
        protocol = "all"
        port = "2200-2299"
        pool = "web"
        backend_port = 23
        "#,
    );
    let [one, many] = &config.inbound_nat_rules[..] else {
        panic!("two rules")
    };
    assert_eq!(
        (one.protocol, &one.port),
        (Protocol::Udp, &Ports::Single(2201))
    );
    let NatTarget::Instance(target) = &one.target else {
        panic!("an instance")
    };
    assert_eq!(target.to_string(), "web-1/secondary");
    assert_eq!(
        (many.protocol, &many.port),
        (Protocol::All, &Ports::Range(2200..=2299))
    );
    assert_eq!(many.target, NatTarget::Pool("web".into()));
}

#[test]
fn an_outbound_rule_takes_every_word() {
    let config = added(
        r#"
        [[outbound_rule]]
        name = "o"
        pool = "web"
        frontends = ["web", "nat"]
        protocol = "udp"
        ports_per_instance = 64
        burst = false
        mapping = { tcp = "endpoint-independent", udp = "per-destination" }
        filtering = "address-and-port-dependent"
        frontend_selection = "fill"
        port_selection = "lowest"
        idle_timeout = "5s"
        tcp_reset = false
        on_exhaustion = "drop"
        [[outbound_rule]]
        name = "t"
        pool = "web"
        frontends = ["web"]
        protocol = "tcp"
        mapping.tcp = "endpoint-independent"
        filtering = "address-dependent"
        frontend_selection = "random"
        [default_outbound]
        frontends = ["nat"]
        ports_per_instance = "auto"
        "#,
    );
    let [o, t] = &config.outbound_rules[..] else {
        panic!("two rules")
    };
    assert_eq!(o.ports_per_instance, PortsPerInstance::Fixed(64));
    assert_eq!(
        (o.tcp_mapping, o.udp_mapping),
        (Mapping::EndpointIndependent, Mapping::PerDestination)
    );
    assert_eq!(
        (o.frontend_selection, o.port_selection),
        (FrontendSelection::Fill, PortSelection::Lowest)
    );
    assert_eq!(
        (o.burst, o.tcp_reset, o.on_exhaustion),
        (false, false, OnExhaustion::Drop)
    );
    assert_eq!(
        (t.filtering, t.frontend_selection),
        (Filtering::AddressDependent, FrontendSelection::Random)
    );
    assert_eq!(
        config.default_outbound.unwrap().ports_per_instance,
        PortsPerInstance::Auto
    );
}

#[test]
fn security_rules_come_by_direction_and_priority() {
    let rule = |name: &str, priority: u32, direction: &str, more: &str| {
        format!(
            "[[security_group.rule]]\nname = \"{name}\"\npriority = {priority}\ndirection = \
             \"{direction}\"\naccess = \"allow\"\n{more}\n"
        )
    };
    let text = [
        "[[security_group]]\nname = \"sg\"\n".to_owned(),
        rule(
            "d",
            200,
            "outbound",
            "protocol = \"any\"\nsource = [\"*\"]\nsource_ports = [\"*\"]",
        ),
        rule(
            "b",
            4096,
            "inbound",
            "protocol = \"icmp\"\ndestination_ports = [\"*\"]",
        ),
        rule(
            "a",
            100,
            "inbound",
            "protocol = \"tcp\"\nsource_ports = [1, \"2\", \"3-4\"]",
        ),
        rule(
            "c",
            100,
            "outbound",
            "protocol = \"udp\"\ndestination = [\"10.0.0.1\", \"fd00::/8\", \"Internet\", \
             \"VirtualNetwork\", \"LoadBalancer\"]",
        ),
    ]
    .concat();
    let rules = added(&text).security_groups.remove(0).rules;
    let names: Vec<_> = rules.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c", "d"]);
    assert_eq!(rules[0].source_ports, [1..=1, 2..=2, 3..=4]);
    assert_eq!(
        rules[2].destination,
        [
            Selector::Net("10.0.0.1/32".parse().unwrap()),
            Selector::Net("fd00::/8".parse().unwrap()),
            Selector::Internet,
            Selector::VirtualNetwork,
            Selector::LoadBalancer,
        ]
    );
    assert!(rules[3].source.is_empty() && rules[3].source_ports.is_empty());
    let protocols = rules.iter().map(|rule| rule.protocol);
    assert_eq!(
        protocols.collect::<Vec<_>>(),
        [
            SecurityProtocol::Tcp,
            SecurityProtocol::Icmp,
            SecurityProtocol::Udp,
            SecurityProtocol::Any
        ]
    );
}

#[test]
fn what_does_not_compete_may_share_a_port() {
    for addition in [
        // Another protocol, an exact port within a range, a range within every port, all below tcp.
        "protocol = \"tcp\"\n[[rule]]\nname = \"b\"\nfrontend = \"web\"\nprotocol = \"udp\"\nport = 80\npool = \"web\"\nbackend_port = 8080",
        "[[rule]]\nname = \"b\"\nfrontend = \"web\"\nport = \"1-100\"\npool = \"web\"\nbackend_port = 9001",
        "[[rule]]\nname = \"b\"\nfrontend = \"web\"\nport = 0\npool = \"web\"",
        "[[rule]]\nname = \"b\"\nfrontend = \"web\"\nprotocol = \"all\"\nport = 80\npool = \"web\"\nbackend_port = 81",
        "[[frontend]]\nname = \"w2\"\nipv4 = \"203.0.113.11\"\n[[rule]]\nname = \"b\"\nfrontend = \"w2\"\nport = 80\npool = \"web\"\nbackend_port = 81",
    ] {
        accepted(&format!("{BASE}{addition}"));
    }
}
