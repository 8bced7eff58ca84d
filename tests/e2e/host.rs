//! What the daemon leaves alone on its host, and what it survives.

use std::time::Duration;

use forebay_tests::netlab::Arms;
use forebay_tests::netlab::client::{connect_within, curl};

use crate::scene::{Scene, frontend};

#[test]
fn a_reload_that_the_host_refuses_leaves_the_former_configuration_in_force() {
    let Some(mut scene) = Scene::run(Arms::Two, |config| config.xdp_mode = Some("native")) else {
        return;
    };
    // A bridge has no native XDP: the file is valid, attaching fails.
    scene
        .lab
        .node
        .ip("link add other0 type bridge\nlink set other0 up")
        .unwrap();
    let before = scene.forebay.json(&["status"]).unwrap();
    let former = scene.config.clone();
    scene.config.interfaces.push("other0".to_owned());
    scene.config.rules.retain(|rule| rule.port != 80);
    scene
        .forebay
        .write_config(&scene.config.to_string())
        .unwrap();
    let refused = scene.forebay.cli(&["reload"]).unwrap();
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("other0"), "{refused:?}");

    let after = scene.forebay.json(&["status"]).unwrap();
    assert_eq!(after["config"]["sha256"], before["config"]["sha256"]);
    let rules = scene.forebay.list(&["show", "rules"]).unwrap();
    assert_eq!(rules.len(), former.rules.len(), "{rules:?}");
    for to in frontend(80) {
        assert_eq!(curl(&scene.lab.client, to, 3).unwrap().len(), 3);
    }
    scene.forebay.write_config(&former.to_string()).unwrap();
    let report = scene.forebay.text(&["reload"]).unwrap();
    assert!(report.contains("nothing"), "{report}");
}

#[test]
fn interfaces_that_listen_to_routers_go_on_listening() {
    let Some(mut scene) = Scene::install(Arms::Two, |_| {}) else {
        return;
    };
    // Not one of the node's: the management NIC of a host that learns its route from advertisements.
    scene
        .lab
        .node
        .ip("link add manage0 type veth peer manage1\nlink set manage0 up")
        .unwrap();
    let key = "net/ipv6/conf/manage0/accept_ra";
    scene.lab.node.sysctl(key, "1").unwrap();
    scene.forebay.start().unwrap();
    assert_eq!(scene.lab.node.read_sysctl(key).unwrap(), "2");
}

#[test]
fn a_frontend_without_a_route_to_its_members_says_so() {
    let Some(scene) = Scene::run(Arms::Two, |_| {}) else {
        return;
    };
    let Scene { lab, forebay, .. } = &scene;
    lab.node
        .run("ip", &["-4", "route", "flush", "dev", "inst0"])
        .unwrap();
    let to = frontend(80)[0];
    assert!(connect_within(&lab.client, None, to, Duration::from_millis(400)).is_err());
    assert!(forebay.drops("no-route").unwrap() > 0);
    assert_eq!(
        forebay
            .cli(&["show", "flows", "--instance", "nobody"])
            .unwrap()
            .code,
        1
    );
}
