//! `explain` says what then really happens.

use std::net::SocketAddr;

use forebay_tests::netlab::client::Conversation;
use forebay_tests::netlab::{Arms, Forebay, address};
use serde_json::Value;

use crate::scene::{Scene, both, client_towards, frontend};

fn explain(forebay: &Forebay, protocol: &str, from: SocketAddr, to: SocketAddr) -> Value {
    forebay
        .json(&["explain", protocol, &from.to_string(), &to.to_string()])
        .unwrap()
}

#[test]
fn the_instance_that_explain_names_gets_the_connection() {
    let Some(scene) = Scene::run(Arms::Two, |_| {}) else {
        return;
    };
    let Scene { lab, forebay, .. } = &scene;
    for to in frontend(80) {
        for port in 40001..40013 {
            let from = SocketAddr::new(client_towards(to), port);
            let foretold = explain(forebay, "tcp", from, to);
            assert_eq!(foretold["verdict"], "forward", "{foretold}");
            assert!(
                !foretold["steps"].as_array().unwrap().is_empty(),
                "{foretold}"
            );
            let (_conversation, answer) = Conversation::open(&lab.client, Some(from), to).unwrap();
            assert_eq!(
                foretold["instance"], answer.instance,
                "{from} to {to}: {foretold}"
            );
            let translated = &foretold["translated"];
            assert_eq!(translated["destination"], answer.server.to_string());
            assert_eq!(translated["destination_port"], answer.server_port);
            let known = explain(forebay, "tcp", from, to);
            assert_eq!(known["instance"], answer.instance, "with the flow: {known}");
        }
    }
}

#[test]
fn explain_tells_closed_ports_and_packets_not_ours_apart() {
    let Some(scene) = Scene::run(Arms::Two, |_| {}) else {
        return;
    };
    let Scene { forebay, .. } = &scene;
    let flows = forebay.list(&["show", "flows"]).unwrap().len();
    for to in frontend(81) {
        let from = SocketAddr::new(client_towards(to), 40001);
        let closed = explain(forebay, "tcp", from, to);
        assert_eq!(
            (&closed["verdict"], &closed["reason"]),
            (&"drop".into(), &"no-rule".into())
        );
    }
    for to in both(address::NODE_V4, address::NODE_V6, 22) {
        let from = SocketAddr::new(client_towards(to), 40001);
        assert_eq!(explain(forebay, "tcp", from, to)["verdict"], "pass");
    }
    let drops = forebay.json(&["show", "drops"]).unwrap();
    assert_eq!(
        drops["no-rule"].as_u64().unwrap_or(0),
        0,
        "explain counts as a packet"
    );
    assert_eq!(
        forebay.list(&["show", "flows"]).unwrap().len(),
        flows,
        "explain makes flows"
    );
}
