//! Inbound NAT rules: a frontend port is one instance's, or a range is spread over the members of a pool.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use forebay_tests::netlab::client::{Conversation, curl};
use forebay_tests::netlab::{Arms, Config};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::scene::{Scene, flow_from, frontend};

const RULES: &str = r#"
[[inbound_nat_rule]]
name = "one"
frontend = "web"
protocol = "tcp"
port = 2100
instance = "web-2"
backend_port = 8081
[[inbound_nat_rule]]
name = "spread"
frontend = "web"
protocol = "tcp"
port = "2200-2203"
pool = "web"
backend_port = 8080
"#;

fn with_rules(config: &mut Config) {
    config.more = RULES.to_owned();
}

/// Which port of the range each member has, as `show inbound-nat-rules` says for both families.
fn shown(scene: &Scene) -> BTreeMap<String, u64> {
    let rules = scene.forebay.list(&["show", "inbound-nat-rules"]).unwrap();
    let spread = rules.iter().find(|rule| rule["name"] == "spread").unwrap();
    let mut ports = BTreeMap::new();
    for mapping in spread["mappings"].as_array().unwrap() {
        assert_eq!(
            (&mapping["ip_config"], &mapping["backend_port"]),
            (&json!("primary"), &json!(8080))
        );
        let instance = mapping["instance"].as_str().unwrap().to_owned();
        let port = mapping["port"].as_u64().unwrap();
        let other = ports.insert(instance, port);
        assert!(
            other.is_none_or(|other| other == port),
            "one port in both families: {spread}"
        );
    }
    ports
}

/// Asserts that these members are reached on these ports, in both families, and nobody on the others.
fn reached(scene: &Scene, expected: &[(&str, u16)]) {
    let told: BTreeMap<String, u64> = expected
        .iter()
        .map(|(name, port)| ((*name).to_owned(), u64::from(*port)))
        .collect();
    assert_eq!(shown(scene), told);
    for (name, port) in expected {
        for to in frontend(*port) {
            for answer in curl(&scene.lab.client, to, 3).unwrap() {
                assert_eq!(
                    (answer.instance.as_str(), answer.server_port),
                    (*name, 8080),
                    "{to}"
                );
            }
        }
    }
    let drops = scene.forebay.drops("no-backend").unwrap();
    let free = (2_200..=2_203).filter(|port| !expected.iter().any(|(_, taken)| taken == port));
    for port in free {
        let to = frontend(port)[0];
        let refused = forebay_tests::netlab::client::connect_within(
            &scene.lab.client,
            None,
            to,
            std::time::Duration::from_millis(300),
        );
        assert!(refused.is_err(), "{to} is nobody's");
        assert!(scene.forebay.drops("no-backend").unwrap() > drops);
    }
}

fn reload(scene: &mut Scene, members: &[&str]) {
    scene.config.pools[0].members = members.iter().map(|name| ((*name).to_owned(), 1)).collect();
    scene
        .forebay
        .write_config(&scene.config.to_string())
        .unwrap();
    scene.forebay.text(&["reload"]).unwrap();
}

/// B9-18: and the flow says what made it.
#[test]
fn a_port_of_the_frontend_is_one_port_of_one_instance() {
    let Some(scene) = Scene::run(Arms::Two, with_rules) else {
        return;
    };
    for to in frontend(2100) {
        let (conversation, answer) = Conversation::open(&scene.lab.client, None, to).unwrap();
        assert_eq!(
            (answer.instance.as_str(), answer.server_port),
            ("web-2", 8081)
        );
        let flow = flow_from(&scene.forebay, conversation.source().unwrap()).unwrap();
        assert_eq!(
            (&flow["kind"], &flow["rule"], &flow["instance"]),
            (&json!("inbound-nat"), &json!("one"), &json!("web-2"))
        );
    }
    let rules = scene.forebay.list(&["show", "inbound-nat-rules"]).unwrap();
    let one: &Value = &rules[0];
    assert_eq!(one["new_flows_total"], 2, "{one}");
    let mapping = |address: SocketAddr| {
        json!({"address": address.ip().to_string(), "port": 2100, "instance": "web-2",
               "ip_config": "primary", "backend_port": 8081})
    };
    assert_eq!(one["mappings"], json!(frontend(2100).map(mapping)));
    let table = scene.forebay.text(&["show", "inbound-nat-rules"]).unwrap();
    assert!(table.contains("web-2/primary"), "{table}");
    let told = scene
        .forebay
        .text(&["explain", "tcp", "203.0.113.2:4000", "203.0.113.10:2100"]);
    assert!(told.unwrap().contains("inbound NAT rule one"));
}

/// B9-19, B9-20 (acceptance test 31): assignments are stable when members leave and join, across reloads and
/// restarts of the daemon, also one that dies, and one that finds no tables.
#[test]
fn members_keep_their_ports_of_a_nat_range_while_others_leave_and_join() {
    let Some(mut scene) = Scene::run(Arms::Two, |config| {
        with_rules(config);
        config.pools[0].members.truncate(2);
    }) else {
        return;
    };
    reached(&scene, &[("web-1", 2200), ("web-2", 2201)]);
    // First in the file, but the ports of the others are theirs.
    reload(&mut scene, &["web-3", "web-1", "web-2"]);
    reached(&scene, &[("web-1", 2200), ("web-2", 2201), ("web-3", 2202)]);
    let (mut long, first) = Conversation::open(&scene.lab.client, None, frontend(2202)[0]).unwrap();
    assert_eq!(first.instance, "web-3");
    reload(&mut scene, &["web-3", "web-2"]);
    reached(&scene, &[("web-2", 2201), ("web-3", 2202)]);
    assert_eq!(long.ask().unwrap().instance, "web-3");

    scene.forebay.stop(Signal::SIGKILL).unwrap();
    for to in frontend(2202) {
        assert_eq!(curl(&scene.lab.client, to, 1).unwrap()[0].instance, "web-3");
    }
    scene.forebay.start().unwrap();
    reached(&scene, &[("web-2", 2201), ("web-3", 2202)]);
    assert_eq!(long.ask().unwrap().instance, "web-3");

    // Without its tables too, as after a reboot.
    scene.forebay.stop(Signal::SIGTERM).unwrap();
    scene.forebay.text(&["detach"]).unwrap();
    scene.forebay.start().unwrap();
    reached(&scene, &[("web-2", 2201), ("web-3", 2202)]);
    reload(&mut scene, &["web-1", "web-2", "web-3"]);
    reached(&scene, &[("web-1", 2200), ("web-2", 2201), ("web-3", 2202)]);
}
