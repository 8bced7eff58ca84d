//! Interfaces whose drivers take no redirected frames: the kernel forwards towards them.

use forebay_tests::netlab::Arms;
use forebay_tests::netlab::client::{Conversation, curl};

use crate::scene::{Scene, frontend};

/// Puts a device of the node in the place of its NIC towards the instances, and lets that serve.
fn works_behind(device: &str, commands: &str) {
    let Some(mut scene) = Scene::install(Arms::Two, |config| {
        config.interfaces = vec!["client0".to_owned(), device.to_owned()];
    }) else {
        return;
    };
    let Scene { lab, forebay, .. } = &mut scene;
    lab.node
        .ip(&format!(
            "address flush dev inst0\n{commands}\n\
             link set {device} up\n\
             address add 10.0.1.1/24 dev {device}\n\
             address add fd00:1::1/64 dev {device} nodad"
        ))
        .unwrap();
    forebay.start().unwrap();
    for to in frontend(80) {
        curl(&lab.client, to, 20).unwrap();
        let (mut long, _) = Conversation::open(&lab.client, None, to).unwrap();
        for _ in 0..20 {
            long.ask().unwrap();
        }
    }
    let status = forebay.json(&["status"]).unwrap();
    let told = |field: &str| {
        let interfaces = status["interfaces"].as_array().unwrap();
        let values = interfaces.iter().map(|one| one[field].as_str().unwrap());
        values.collect::<Vec<_>>()
    };
    assert_eq!(told("xdp_mode"), ["native", "generic"]);
    assert_eq!(told("reached_by"), ["redirect", "kernel"]);
    assert!(forebay.drops("no-route").unwrap() == 0);
    let log = forebay.log();
    let warnings = log.matches("takes no frames that are redirected").count();
    assert_eq!(warnings, 1, "{log}");
    // Generic mode would see what was put together where the frames come in.
    let switched = "inst0: switched generic-receive-offload off";
    assert!(log.contains(switched), "{log}");
}

#[test]
fn instances_behind_a_bridge_are_reached_by_the_kernel() {
    works_behind("lan", "link add lan type bridge\nlink set inst0 master lan");
}

#[test]
fn instances_behind_a_macvlan_are_reached_by_the_kernel() {
    works_behind("lan", "link add lan link inst0 type macvlan mode bridge");
}
