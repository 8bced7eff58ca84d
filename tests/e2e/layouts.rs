//! A daemon that finds what a version with another layout of the tables left behind.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use forebay_common::abi::{COMPATIBLE_FLOW_LAYOUTS, LAYOUT_VERSION};
use forebay_tests::netlab::client::Conversation;
use forebay_tests::netlab::{Arms, Config, address};
use nix::sys::signal::Signal;

use crate::scene::{Scene, flow_from, frontend};
use crate::under_load::under_load;

fn folder(config: &Config, layout: u32) -> PathBuf {
    config.bpf_fs.join(format!("v{layout}"))
}

/// Makes the pins those of another layout.
fn rename(config: &Config, layout: u32) {
    std::fs::rename(folder(config, LAYOUT_VERSION), folder(config, layout)).unwrap();
}

#[test]
fn flows_of_an_older_layout_that_is_alike_go_on_under_two_hundred_live_flows() {
    let Some(mut scene) = Scene::run(Arms::Two, |_| {}) else {
        return;
    };
    let Scene {
        lab,
        forebay,
        config,
        ..
    } = &mut scene;
    let [to, _] = frontend(80);
    // Not the address of the load, whose flows are more than are listed.
    let other = Some(SocketAddr::from((address::client_v4(3), 0)));
    let (mut conversation, answer) = Conversation::open(&lab.client, other, to).unwrap();
    let source = conversation.source().unwrap();
    under_load(lab, || {
        // Two are killed before they have taken over.
        for delay in [Some(150), Some(600), None] {
            forebay.stop(Signal::SIGKILL).unwrap();
            rename(config, COMPATIBLE_FLOW_LAYOUTS[0]);
            if let Some(delay) = delay {
                let mut daemon = forebay.command(&["run"]).spawn().unwrap();
                std::thread::sleep(Duration::from_millis(delay));
                daemon.kill().unwrap();
                daemon.wait().unwrap();
            }
            forebay.start().unwrap();
            assert!(!folder(config, COMPATIBLE_FLOW_LAYOUTS[0]).exists());
            let flow = flow_from(forebay, source).unwrap();
            assert_eq!(flow["instance"], answer.instance, "{flow}");
            assert_eq!(flow["rule"], "", "its number was another version's: {flow}");
        }
    });
    conversation.ask().unwrap();
    let new = Conversation::open(&lab.client, other, to).unwrap().0;
    let flow = flow_from(forebay, new.source().unwrap()).unwrap();
    assert_eq!(flow["rule"], "http", "{flow}");
}

#[test]
fn flows_of_a_layout_that_is_different_are_left_to_the_version_that_made_them() {
    let Some(mut scene) = Scene::run(Arms::Two, |_| {}) else {
        return;
    };
    let Scene {
        lab,
        forebay,
        config,
        ..
    } = &mut scene;
    let mut live = frontend(80).map(|to| Conversation::open(&lab.client, None, to).unwrap().0);
    forebay.stop(Signal::SIGTERM).unwrap();
    rename(config, 1);
    let refused = forebay.cli(&["run"]).unwrap();
    assert_eq!(refused.code, 1, "{refused:?}");
    for word in ["v1", "forebay detach", "the version that made them"] {
        assert!(refused.stderr.contains(word), "{word}: {refused:?}");
    }
    for conversation in &mut live {
        conversation.ask().unwrap();
    }
    rename_back(config);
    forebay.start().unwrap();
    for conversation in &mut live {
        conversation.ask().unwrap();
    }
    forebay.stop(Signal::SIGTERM).unwrap();
    rename(config, 1);
    forebay.text(&["detach"]).unwrap();
    assert!(!config.bpf_fs.exists());
    forebay.start().unwrap();
    for to in frontend(80) {
        Conversation::open(&lab.client, None, to).unwrap();
    }
}

fn rename_back(config: &Config) {
    assert!(
        !folder(config, LAYOUT_VERSION).exists(),
        "nothing was begun"
    );
    std::fs::rename(folder(config, 1), folder(config, LAYOUT_VERSION)).unwrap();
}
