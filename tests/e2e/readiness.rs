//! Whether the node is alive and carries traffic, as load balancers and service managers ask it.

use std::time::Duration;

use forebay_tests::netlab::Arms;
use nix::sys::signal::Signal;

use crate::metrics::{DEFAULT, ask};
use crate::scene::{Scene, eventually};

const SOON: Duration = Duration::from_secs(5);

#[test]
fn a_node_that_lost_its_program_or_an_interface_is_not_ready_and_says_why() {
    let Some(scene) = Scene::run(Arms::Two, |_| {}) else {
        return;
    };
    let Scene { lab, forebay, .. } = &scene;
    let asked = |path: &str| {
        let told = ask(&lab.node, DEFAULT, &format!("GET {path}")).unwrap();
        (told.status, told.body)
    };
    assert_eq!(asked("/readyz"), (200, "ready\n".to_owned()));
    assert_eq!(asked("/healthz"), (200, "alive\n".to_owned()));
    assert_eq!(asked("/").0, 404);
    let posted = ask(&lab.node, DEFAULT, "POST /metrics").unwrap();
    assert_eq!(posted.status, 405);

    // Nothing holds the link but its pin.
    let pins = &scene.config.bpf_fs;
    let layouts = std::fs::read_dir(pins).unwrap();
    let layout = layouts
        .map(|entry| entry.unwrap().path())
        .find(|path| path.is_dir())
        .unwrap();
    std::fs::remove_file(layout.join("links/inst0")).unwrap();
    let bare = "The program is not on inst0.";
    eventually("it is told that the program is gone", SOON, || {
        asked("/readyz") == (503, format!("{bare}\n"))
    });
    let status = forebay.json(&["status"]).unwrap();
    assert_eq!(
        (&status["ready"], &status["not_ready"]),
        (&false.into(), &bare.into())
    );
    assert!(forebay.text(&["status"]).unwrap().contains(bare));

    lab.node.ip("link del inst0").unwrap();
    eventually("it is told that the interface is gone", SOON, || {
        asked("/readyz") == (503, "There is no interface inst0.\n".to_owned())
    });
    assert_eq!(
        asked("/healthz").0,
        200,
        "that is no reason to start it anew"
    );
}

#[test]
fn a_daemon_that_was_told_to_stop_is_not_ready() {
    let Some(scene) = Scene::run(Arms::Two, |_| {}) else {
        return;
    };
    let node = &scene.lab.node;
    assert_eq!(ask(node, DEFAULT, "GET /readyz").unwrap().status, 200);
    scene.forebay.signal(Signal::SIGTERM).unwrap();
    eventually("nobody answers any more", SOON, || {
        ask(node, DEFAULT, "GET /readyz").is_none_or(|told| told.status == 503)
    });
}
