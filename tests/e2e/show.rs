//! What the reading commands say agrees with the traffic.

use forebay_tests::netlab::Arms;
use forebay_tests::netlab::client::Conversation;
use serde_json::Value;

use crate::scene::{Scene, flow_from, frontend};

const CONNECTIONS: usize = 12;

#[test]
fn flows_rules_and_pools_show_the_connections_that_are_open() {
    let Some(scene) = Scene::run(Arms::Two, |_| {}) else {
        return;
    };
    let Scene { lab, forebay, .. } = &scene;
    let mut open = Vec::new();
    for to in frontend(80) {
        for _ in 0..CONNECTIONS {
            let (conversation, answer) = Conversation::open(&lab.client, None, to).unwrap();
            let source = conversation.source().unwrap();
            let flow = flow_from(forebay, source).unwrap();
            assert_eq!(
                endpoints(&flow["original"]),
                [source.to_string(), to.to_string()]
            );
            let server = std::net::SocketAddr::new(answer.server, answer.server_port);
            assert_eq!(
                endpoints(&flow["translated"]),
                [source.to_string(), server.to_string()]
            );
            for (key, value) in [
                ("protocol", "tcp"),
                ("kind", "rule"),
                ("state", "established"),
                ("instance", &answer.instance),
                ("frontend", "web"),
                ("rule", "http"),
            ] {
                assert_eq!(flow[key], value, "{key} of {flow}");
            }
            open.push(conversation);
        }
    }
    let rules = forebay.list(&["show", "rules"]).unwrap();
    let rule = rules.iter().find(|rule| rule["name"] == "http").unwrap();
    assert_eq!(rule["new_flows_total"], 2 * CONNECTIONS, "{rule}");
    assert_eq!(rule["addresses"].as_array().unwrap().len(), 2, "{rule}");

    let pools = forebay.list(&["show", "pools"]).unwrap();
    let members = pools[0]["members"].as_array().unwrap();
    let active: u64 = members
        .iter()
        .map(|member| member["active_flows"].as_u64().unwrap())
        .sum();
    assert_eq!(active, 2 * CONNECTIONS as u64, "{pools:?}");

    let limited = forebay.list(&["show", "flows", "--limit", "5"]).unwrap();
    assert_eq!(limited.len(), 5);
    let of_one = forebay
        .list(&["show", "flows", "--instance", "web-1"])
        .unwrap();
    assert!(
        of_one.iter().all(|flow| flow["instance"] == "web-1"),
        "{of_one:?}"
    );
    let status = forebay.json(&["status"]).unwrap();
    assert_eq!(status["flows"]["ipv4"]["used"], CONNECTIONS, "{status}");
    assert_eq!(status["flows"]["ipv6"]["used"], CONNECTIONS, "{status}");
}

fn endpoints(side: &Value) -> [String; 2] {
    ["source", "destination"].map(|end| {
        let address: std::net::IpAddr = side[end].as_str().unwrap().parse().unwrap();
        let port = side[format!("{end}_port")].as_u64().unwrap();
        std::net::SocketAddr::new(address, u16::try_from(port).unwrap()).to_string()
    })
}

#[test]
fn status_names_the_node_its_interfaces_and_its_configuration() {
    let Some(scene) = Scene::run(Arms::Two, |_| {}) else {
        return;
    };
    let Scene { lab, forebay, .. } = &scene;
    let status = forebay.json(&["status"]).unwrap();
    assert_eq!(
        (&status["name"], &status["ready"]),
        (&"lab".into(), &true.into()),
        "{status}"
    );
    let interfaces = status["interfaces"].as_array().unwrap();
    let names: Vec<&str> = interfaces
        .iter()
        .map(|interface| interface["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, lab.interfaces);
    for interface in interfaces {
        assert_eq!(interface["xdp_mode"], "native", "{status}");
        assert_eq!(interface["attached"], true, "{status}");
    }
    assert_eq!(
        status["config"]["path"],
        forebay.config_path().to_str().unwrap()
    );
    assert_eq!(status["config"]["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(status["flows"]["ipv4"]["capacity"], 65536);

    for what in [
        "frontends",
        "rules",
        "inbound-nat-rules",
        "pools",
        "instances",
        "flows",
        "drops",
    ] {
        let table = forebay.text(&["show", what]).unwrap();
        assert!(!table.trim().is_empty(), "show {what} prints nothing");
        forebay.json(&["show", what]).unwrap();
    }
    let frontends = forebay.list(&["show", "frontends"]).unwrap();
    assert_eq!(frontends[0]["name"], "web");
    let instances = forebay.list(&["show", "instances"]).unwrap();
    assert_eq!(instances.len(), 3);
}
