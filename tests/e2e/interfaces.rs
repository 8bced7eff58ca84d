//! The program is on every interface of the node, in the mode that was asked for, and stays.

use std::time::Duration;

use forebay_tests::netlab::client::{Conversation, connect_within, curl};
use forebay_tests::netlab::{Arms, Forebay};
use nix::sys::signal::Signal;

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
    let mut long: Vec<_> = frontend(80)
        .map(|to| Conversation::open(&lab.client, None, to).unwrap().0)
        .into();
    lab.unplug_instances().unwrap();
    eventually("the loss is noticed", Duration::from_secs(5), || {
        modes(forebay)[1] == "none"
    });
    assert!(forebay.log().contains("inst0 is gone"));
    for to in frontend(80) {
        let attempt = connect_within(&lab.client, None, to, Duration::from_millis(700));
        assert!(attempt.is_err(), "{to}");
    }
    // By now the slot of the interface is free, and flows still name it.
    std::thread::sleep(Duration::from_secs(2));
    lab.plug_in_instances().unwrap();
    eventually("the program is back", Duration::from_secs(5), || {
        modes(forebay)[1] == "native"
    });
    assert!(forebay.log().contains("inst0 is back"));
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
}

#[test]
fn an_interface_that_was_made_anew_while_no_daemon_ran_is_attached_by_the_next() {
    let Some(mut scene) = Scene::run(Arms::Two, |_| {}) else {
        return;
    };
    let Scene { lab, forebay, .. } = &mut scene;
    forebay.stop(Signal::SIGKILL).unwrap();
    lab.unplug_instances().unwrap();
    lab.plug_in_instances().unwrap();
    forebay.start().unwrap();
    assert_eq!(modes(forebay), ["native", "native"]);
    let log = forebay.log();
    assert!(log.contains("its interface is gone"), "{log}");
    for to in frontend(80) {
        curl(&lab.client, to, 20).unwrap();
    }
}

#[test]
fn interfaces_that_changed_names_while_no_daemon_ran_keep_their_programs() {
    let Some(mut scene) = Scene::run(Arms::Two, |_| {}) else {
        return;
    };
    let Scene {
        lab,
        forebay,
        config,
        ..
    } = &mut scene;
    forebay.stop(Signal::SIGTERM).unwrap();
    // A dot, which a pin may not hold, and the name that it used to be taken for.
    lab.node
        .ip(
            "link set inst0 down\nlink set inst0 name a.b\nlink set a.b up\n\
             address replace fd00:1::1/64 dev a.b nodad\n\
             link set client0 down\nlink set client0 name a_b\nlink set a_b up\n\
             address replace 2001:db8:1::1/64 dev a_b nodad",
        )
        .unwrap();
    config.interfaces = vec!["a_b".to_owned(), "a.b".to_owned()];
    forebay.write_config(&config.to_string()).unwrap();
    forebay.start().unwrap();
    assert_eq!(modes(forebay), ["native", "native"]);
    for name in ["a.b", "a_b"] {
        let told = format!("{name}: took over from the former daemon");
        assert!(forebay.log().contains(&told), "{}", forebay.log());
    }
    for to in frontend(80) {
        eventually("requests are answered", Duration::from_secs(10), || {
            curl(&lab.client, to, 5).is_ok()
        });
    }
}
