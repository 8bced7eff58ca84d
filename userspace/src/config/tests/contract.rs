//! The full sample of the documentation.

use std::time::Duration;

use super::{accepted, read};
use crate::config::model::*;
use crate::config::{Options, parse_with};

const SAMPLE: &str = include_str!("../../../../tests/fixtures/contract.toml");

#[test]
fn the_sample_is_valid_without_a_warning() {
    assert_eq!(accepted(SAMPLE).warnings, []);
}

#[test]
fn the_sample_meets_only_what_is_not_available_yet() {
    let refusal = parse_with("f.toml", SAMPLE, &Options::default()).unwrap_err();
    assert!(!refusal.errors.is_empty());
    for error in &refusal.errors {
        assert!(
            error
                .message
                .contains("is not available yet in this version"),
            "{error}"
        );
    }
    let keys: Vec<_> = refusal
        .errors
        .iter()
        .map(|error| error.key.as_str())
        .collect();
    assert_eq!(
        keys,
        [
            "instance \"web-1\".security_group",
            "dns",
            "security_group \"web-sg\"",
        ]
    );
}

#[test]
fn the_sample_says_what_it_says() {
    let config = read(SAMPLE).unwrap().config;
    assert_eq!(config.node.name, "lb1");
    assert_eq!(config.node.interfaces, ["eth0", "eth1"]);
    assert_eq!(config.limits.flows, Some(1_048_576));
    let names: Vec<_> = config.frontends.iter().map(|f| f.name.as_str()).collect();
    assert_eq!(names, ["web", "nat"]);
    assert_eq!(
        config.frontends[1].ipv4,
        Some("203.0.113.64/30".parse().unwrap())
    );
    assert_eq!(
        config.instances[0].ip_configs[1].public_ip.as_deref(),
        Some("alice")
    );
    assert_eq!(
        config.instances[0].security_group.as_deref(),
        Some("web-sg")
    );
    assert_eq!(config.instances[1].ip_configs[0].name, "primary");
    let members = &config.pools[0].members;
    assert_eq!(members[0].target.to_string(), "web-1/primary");
    assert_eq!(
        (members[1].target.to_string().as_str(), members[1].weight),
        ("web-2/primary", 2)
    );
    let rule = &config.rules[0];
    assert_eq!(
        (&rule.port, rule.backend_port),
        (&Ports::Single(80), Some(8080))
    );
    assert_eq!(rule.probe.as_deref(), Some("web-http"));
    assert_eq!(rule.idle_timeout, Some(Duration::from_secs(240)));
    let nat_rule = &config.inbound_nat_rules[0];
    let target = NatTarget::Instance(MemberRef {
        instance: "web-1".into(),
        ip_config: "primary".into(),
    });
    assert_eq!(
        (&nat_rule.target, &nat_rule.port),
        (&target, &Ports::Single(2201))
    );
    let default_outbound = config.default_outbound.unwrap();
    assert_eq!(
        default_outbound.ports_per_instance,
        PortsPerInstance::Fixed(1024)
    );
    let dns = config.dns.unwrap();
    assert_eq!(
        (dns.zone.as_str(), dns.server.to_string().as_str()),
        ("lb.example.org", "192.0.2.53:53")
    );
    let rules = &config.security_groups[0].rules;
    assert_eq!(rules[0].source, [Selector::Internet]);
    assert_eq!(rules[0].destination, []);
    assert_eq!(rules[0].destination_ports, [8080..=8080, 8443..=8444]);
    assert!(rules[0].allow && !rules[1].allow);
    assert_eq!(rules[1].direction, SecurityDirection::Outbound);
}
