//! Rules for every port, ranges and single ports of one frontend: the most specific wins.

use forebay_tests::netlab::client::{curl, spread, udp_ask, udp_socket};
use forebay_tests::netlab::{Arms, Config};
use serde_json::json;
use std::net::SocketAddr;

use crate::scene::{Scene, client_towards, frontend};

/// One rule for every port, one for a range that keeps the offset, one for a port in that range.
const RULES: &str = r#"
[[pool]]
name = "second"
members = ["web-2"]
[[pool]]
name = "third"
members = ["web-3"]
[[rule]]
name = "every"
frontend = "web"
protocol = "all"
port = 0
pool = "web"
[[rule]]
name = "range"
frontend = "web"
protocol = "tcp"
port = "9000-9099"
pool = "second"
backend_port = 8070
[[rule]]
name = "specific"
frontend = "web"
protocol = "tcp"
port = 9010
pool = "third"
backend_port = 8080
"#;

fn with_rules(config: &mut Config, rules: &str) {
    config.rules.clear();
    config.more = rules.to_owned();
}

/// Who answered, and on which port.
fn answered(scene: &Scene, to: SocketAddr) -> Vec<(String, u16)> {
    let answers = curl(&scene.lab.client, to, 20).unwrap();
    let mut found: Vec<_> = (answers.iter())
        .map(|answer| (answer.instance.clone(), answer.server_port))
        .collect();
    found.sort();
    found.dedup();
    found
}

/// B9-15 (acceptance test 30): HA ports and a specific rule on one frontend, IPv4 and IPv6, TCP and UDP.
#[test]
fn ha_ports_serve_every_port_that_no_more_specific_rule_takes() {
    let Some(scene) = Scene::run(Arms::Two, |config| with_rules(config, RULES)) else {
        return;
    };
    for port in [8080, 8081] {
        for to in frontend(port) {
            let answers = curl(&scene.lab.client, to, 90).unwrap();
            assert!(answers.iter().all(|answer| answer.server_port == port));
            assert_eq!(spread(&answers).len(), 3, "{to}: every member takes flows");
        }
    }
    for to in frontend(5000) {
        let source = SocketAddr::new(client_towards(to), 0);
        let socket = udp_socket(&scene.lab.client, source).unwrap();
        let answer = udp_ask(&socket, to, "HA ports").unwrap();
        assert_eq!((answer.from, answer.payload.as_str()), (to, "HA ports"));
    }
    let one = |name: &str, port| vec![(name.to_owned(), port)];
    for to in frontend(9010) {
        assert_eq!(
            answered(&scene, to),
            one("web-3", 8080),
            "{to}: the single port"
        );
    }
    for to in frontend(9011) {
        assert_eq!(
            answered(&scene, to),
            one("web-2", 8081),
            "{to}: the offset is kept"
        );
    }
    let rules = scene.forebay.list(&["show", "rules"]).unwrap();
    let shown: Vec<_> = (rules.iter())
        .map(|rule| (rule["protocol"].clone(), rule["port"].clone()))
        .collect();
    let expected = [
        ("all", json!(0)),
        ("tcp", json!("9000-9099")),
        ("tcp", json!(9010)),
    ];
    assert_eq!(
        shown,
        expected.map(|(protocol, port)| (json!(protocol), port))
    );
    // 90 on each of two ports and a datagram, in two families; 20 in two families.
    let counted: Vec<_> = rules
        .iter()
        .map(|rule| rule["new_flows_total"].clone())
        .collect();
    assert_eq!(counted, [json!(362), json!(40), json!(40)]);
}

/// B9-15 (acceptance test 30): when the specific rule goes, its port is for what is beneath, and back.
#[test]
fn a_port_falls_to_the_next_rule_when_a_more_specific_one_goes() {
    let Some(mut scene) = Scene::run(Arms::Two, |config| with_rules(config, RULES)) else {
        return;
    };
    let without = RULES
        .split("[[rule]]\nname = \"specific\"")
        .next()
        .unwrap()
        .to_owned();
    for (rules, expected) in [
        (without.as_str(), ("web-2".to_owned(), 8080)),
        (RULES, ("web-3".to_owned(), 8080)),
    ] {
        with_rules(&mut scene.config, rules);
        scene
            .forebay
            .write_config(&scene.config.to_string())
            .unwrap();
        scene.forebay.text(&["reload"]).unwrap();
        for to in frontend(9010) {
            assert_eq!(
                answered(&scene, to),
                std::slice::from_ref(&expected),
                "{to}"
            );
        }
    }
    let told = scene
        .forebay
        .text(&["explain", "tcp", "203.0.113.2:4000", "203.0.113.10:9050"])
        .unwrap();
    assert!(told.contains("rule range (ports 9000-9099)"), "{told}");
    let told = scene
        .forebay
        .text(&["explain", "udp", "203.0.113.2:4000", "203.0.113.10:9050"])
        .unwrap();
    assert!(told.contains("rule every (every port)"), "{told}");
}
