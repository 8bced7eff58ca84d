//! `detach` gives the host back as it was.

use std::time::Duration;

use forebay_tests::netlab::Arms;
use forebay_tests::netlab::client::{connect_within, curl};
use nix::sys::signal::Signal;

use crate::scene::{Scene, frontend};

const SYSCTLS: [&str; 11] = [
    "net/ipv4/ip_forward",
    "net/ipv4/conf/all/accept_redirects",
    "net/ipv4/conf/default/forwarding",
    "net/ipv4/conf/manage0/forwarding",
    "net/ipv6/conf/manage0/forwarding",
    "net/ipv4/neigh/inst0/base_reachable_time_ms",
    "net/ipv6/neigh/client0/mcast_resolicit",
    "net/ipv4/conf/client0/forwarding",
    "net/ipv4/conf/inst0/forwarding",
    "net/ipv6/conf/all/forwarding",
    "net/ipv4/conf/inst0/send_redirects",
];

#[test]
fn detach_removes_programs_and_pins_and_restores_the_host() {
    let Some(mut scene) = Scene::install(Arms::Two, |_| {}) else {
        return;
    };
    let node = &scene.lab.node;
    // A NIC that is none of the node's, and values that switching forwarding on and off resets.
    node.ip("link add manage0 type veth peer manage1").unwrap();
    for key in [
        "net/ipv4/conf/manage0/forwarding",
        "net/ipv6/conf/manage0/forwarding",
        "net/ipv4/conf/all/accept_redirects",
    ] {
        node.sysctl(key, "1").unwrap();
    }
    let before = SYSCTLS.map(|key| scene.lab.node.read_sysctl(key).unwrap());
    scene.forebay.start().unwrap();
    assert_balancing(&scene);
    scene.forebay.stop(Signal::SIGTERM).unwrap();
    assert_balancing(&scene);

    scene.forebay.text(&["detach"]).unwrap();
    assert_gone(&scene);
    assert_eq!(
        SYSCTLS.map(|key| scene.lab.node.read_sysctl(key).unwrap()),
        before
    );

    scene.forebay.start().unwrap();
    assert_balancing(&scene);
}

#[test]
fn detach_on_exit_removes_everything_when_the_daemon_stops() {
    let Some(mut scene) = Scene::install(Arms::Two, |_| {}) else {
        return;
    };
    scene.forebay.start_with(&["--detach-on-exit"]).unwrap();
    assert_balancing(&scene);
    let status = scene.forebay.stop(Signal::SIGTERM).unwrap();
    assert_eq!(status.code(), Some(0), "{}", scene.forebay.log());
    assert_gone(&scene);
}

fn assert_balancing(scene: &Scene) {
    for interface in &scene.lab.interfaces {
        let link = scene.lab.node.link(interface).unwrap();
        assert_eq!(link["xdp"]["mode"], 1, "no native program: {link}");
    }
    for to in frontend(80) {
        curl(&scene.lab.client, to, 5).unwrap();
    }
}

fn assert_gone(scene: &Scene) {
    for interface in &scene.lab.interfaces {
        let link = scene.lab.node.link(interface).unwrap();
        assert!(link.get("xdp").is_none(), "a program is left: {link}");
    }
    let pins = &scene.config.bpf_fs;
    let left: Vec<_> = std::fs::read_dir(pins)
        .into_iter()
        .flatten()
        .flatten()
        .collect();
    assert!(left.is_empty(), "pins are left: {left:?}");
    for to in frontend(80) {
        let attempt = connect_within(&scene.lab.client, None, to, Duration::from_millis(500));
        assert!(attempt.is_err(), "{to} is still balanced");
    }
}
