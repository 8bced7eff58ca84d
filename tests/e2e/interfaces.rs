//! The program is on every interface of the node, in the mode that was asked for, and stays.

use std::time::Duration;

use forebay_tests::netlab::client::{Conversation, curl};
use forebay_tests::netlab::{Arms, Forebay};

use crate::scene::{Scene, eventually, frontend};

#[test]
fn generic_mode_balances_too() {
    for arms in [Arms::Two, Arms::One] {
        let Some(scene) = Scene::run(arms, |config| config.xdp_mode = Some("generic")) else {
            return;
        };
        for to in frontend(80) {
            curl(&scene.lab.client, to, 20).unwrap();
        }
        assert!(modes(&scene.forebay).iter().all(|mode| mode == "generic"));
    }
}

fn modes(forebay: &Forebay) -> Vec<String> {
    let status = forebay.json(&["status"]).unwrap();
    let interfaces = status["interfaces"].as_array().unwrap();
    interfaces
        .iter()
        .map(|interface| interface["xdp_mode"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn an_interface_that_was_down_forwards_again_when_it_is_up() {
    let Some(scene) = Scene::run(Arms::Two, |_| {}) else {
        return;
    };
    let Scene { lab, forebay, .. } = &scene;
    let mut long: Vec<_> = frontend(80)
        .map(|to| Conversation::open(&lab.client, None, to).unwrap().0)
        .into();
    lab.node.ip("link set inst0 down").unwrap();
    std::thread::sleep(Duration::from_millis(200));
    // The kernel forgets IPv6 addresses of a link that goes down.
    lab.node
        .ip("link set inst0 up\naddress replace fd00:1::1/64 dev inst0 nodad")
        .unwrap();
    for to in frontend(80) {
        eventually(
            "requests are answered again",
            Duration::from_secs(10),
            || curl(&lab.client, to, 5).is_ok(),
        );
    }
    for conversation in &mut long {
        conversation.ask().unwrap();
    }
    assert_eq!(modes(forebay), ["native", "native"]);
}

#[test]
fn an_interface_that_was_removed_is_attached_again_when_it_is_back() {
    let Some(mut scene) = Scene::run(Arms::Two, |_| {}) else {
        return;
    };
    let Scene { lab, forebay, .. } = &mut scene;
    lab.unplug_instances().unwrap();
    eventually("the loss is noticed", Duration::from_secs(5), || {
        modes(forebay)[1] == "none"
    });
    lab.plug_in_instances().unwrap();
    eventually("the program is back", Duration::from_secs(5), || {
        modes(forebay)[1] == "native"
    });
    for to in frontend(80) {
        eventually(
            "requests are answered again",
            Duration::from_secs(10),
            || curl(&lab.client, to, 5).is_ok(),
        );
    }
}
