mod outbound;

use std::sync::Arc;

use super::*;
use crate::clock::TickRate;
use crate::config;
use crate::control_plane::{ControlPlane, Event, Sizes, VlanDevice};
use forebay_common::wire::Mac;

const SIZES: Sizes = Sizes {
    entries: 1_000,
    untrusted_sets: 16,
};

const SAMPLE: &str = r#"
[node]
name = "lb1"
interfaces = ["c0", "i0"]
[[frontend]]
name = "web"
ipv4 = "203.0.113.10"
ipv6 = "2001:db8:1::10"
[[instance]]
name = "one"
ipv4 = "10.0.1.1"
ipv6 = "fd00:1::1"
[[pool]]
name = "web"
members = ["one"]
[[rule]]
name = "http"
frontend = "web"
protocol = "tcp"
port = 80
pool = "web"
backend_port = 8080
"#;

fn question(protocol: u8, source: &str, destination: &str, port: u16) -> Question {
    Question {
        protocol,
        source: source.parse().unwrap(),
        source_port: 40_000,
        destination: destination.parse().unwrap(),
        destination_port: port,
        inbound_interface: None,
    }
}

fn explain(question: &Question, way: Option<&Way>) -> (Explanation, Option<Asked>) {
    explain_in(SAMPLE, question, way, &[])
}

fn explain_in(
    text: &str,
    question: &Question,
    way: Option<&Way>,
    flows: &[(FlowKey<V4>, Flow<V4>)],
) -> (Explanation, Option<Asked>) {
    let loaded = config::parse("test.toml", text).unwrap_or_else(|errors| panic!("{errors}"));
    let config = Arc::new(loaded.config);
    let mut control_plane = ControlPlane::new(TickRate(250), SIZES, [1, 2], TableState::default());
    let host = vec![HostInterface {
        name: "i0".to_owned(),
        ifindex: 5,
        mtu: 1500,
        mac: Mac::from_octets([2, 0, 0, 0, 0, 5]),
        networks: vec!["10.0.1.0/24".parse().unwrap()],
        ..HostInterface::default()
    }];
    control_plane.handle(Event::Host(host)).unwrap();
    control_plane.handle(Event::Config(config.clone())).unwrap();
    let snapshot = Snapshot {
        tables: control_plane.applied(),
        config: &config,
        ids: control_plane.ids(),
        host: control_plane.host(),
        now: 1000,
        flows4: flows.to_vec(),
        flows6: Vec::new(),
    };
    run(question, &snapshot, way).unwrap()
}

fn out(neighbor: &str) -> Way {
    Way::Out {
        ifindex: 5,
        interface: "i0".to_owned(),
        neighbor: neighbor.parse().unwrap(),
        mac: Some(Mac::from_octets([2, 0, 0, 0, 0, 9])),
    }
}

#[test]
fn a_balanced_packet_is_told_to_its_member() {
    for (source, frontend, member) in [
        ("198.51.100.7", "203.0.113.10", "10.0.1.1"),
        ("2001:db8:9::7", "2001:db8:1::10", "fd00:1::1"),
    ] {
        let question = question(6, source, frontend, 80);
        let (_, asked) = explain(&question, None);
        let asked = asked.expect("the path asks for the way to the member");
        assert_eq!(
            asked,
            Asked {
                source: source.parse().unwrap(),
                destination: member.parse().unwrap()
            }
        );
        let (told, _) = explain(&question, Some(&out(member)));
        assert_eq!(
            (told.verdict.as_str(), told.reason.as_str()),
            ("forward", "forwarded")
        );
        let translated = told.translated.unwrap();
        assert_eq!(
            (translated.source.as_str(), translated.source_port),
            (source, 40_000)
        );
        assert_eq!(
            (translated.destination.as_str(), translated.destination_port),
            (member, 8080)
        );
        assert_eq!(told.instance.as_deref(), Some("one"));
        assert_eq!(
            told.next_hop.as_deref(),
            Some(format!("{member} dev i0").as_str())
        );
        let answers: Vec<&str> = told.steps.iter().map(|step| step.answer.as_str()).collect();
        assert!(
            answers.contains(&"frontend web") && answers.contains(&"rule http"),
            "{answers:?}"
        );
    }
}

#[test]
fn an_unlisted_port_is_told_as_a_drop() {
    let (told, _) = explain(&question(6, "198.51.100.7", "203.0.113.10", 81), None);
    assert_eq!(
        (told.verdict.as_str(), told.reason.as_str()),
        ("drop", "no-rule")
    );
    assert_eq!(told.translated, None);
}

#[test]
fn the_hosts_own_traffic_is_told_as_a_pass() {
    let (told, _) = explain(&question(6, "198.51.100.7", "203.0.113.99", 22), None);
    assert_eq!(
        (told.verdict.as_str(), told.reason.as_str()),
        ("pass", "not-ours")
    );
}

#[test]
fn mixed_families_are_refused() {
    let mixed = question(6, "198.51.100.7", "2001:db8:1::10", 80);
    assert!(
        frame::build(&mixed, [0; 2])
            .unwrap_err()
            .to_string()
            .contains("different families")
    );
}

#[test]
fn a_packet_from_a_vlan_device_has_its_tags_and_comes_in_on_the_nic() {
    let nic = HostInterface {
        name: "i0".to_owned(),
        ifindex: 5,
        networks: vec!["10.0.1.0/24".parse().unwrap()],
        ..HostInterface::default()
    };
    let tags = [[0x88, 0xa8, 0, 2], [0x81, 0x00, 0, 7]].map(u32::from_ne_bytes);
    let vlan = HostInterface {
        name: "i0.2.7".to_owned(),
        ifindex: 9,
        networks: vec!["10.0.7.0/24".parse().unwrap()],
        vlan: Some(VlanDevice { nic: 5, tags }),
        ..HostInterface::default()
    };
    let host = [nic, vlan];
    let question = question(6, "10.0.7.9", "203.0.113.10", 80);
    let ingress = inbound(&question, &host).unwrap();
    assert_eq!((ingress.name.as_str(), ingress.nic()), ("i0.2.7", 5));
    let bytes = frame::build(&question, ingress.tags()).unwrap();
    assert_eq!(
        bytes[12..22],
        [0x88, 0xa8, 0, 2, 0x81, 0x00, 0, 7, 0x08, 0x00]
    );
    let endpoints = frame::endpoints(&bytes).unwrap();
    assert_eq!(
        (endpoints.source.as_str(), endpoints.destination_port),
        ("10.0.7.9", 80)
    );
}
