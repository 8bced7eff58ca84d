//! What is not for a frontend reaches the kernel as if nobody were there.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::Duration;

use forebay_tests::netlab::client::{answers_ping, connect, connect_within};
use forebay_tests::netlab::{Arms, Namespace, address};

use crate::scene::{Scene, both};

#[test]
fn the_node_itself_stays_reachable() {
    for arms in [Arms::Two, Arms::One] {
        let Some(scene) = Scene::run(arms, |_| {}) else {
            return;
        };
        let Scene { lab, .. } = &scene;
        for to in both(address::NODE_V4, address::NODE_V6, 22) {
            assert!(
                answers_ping(&lab.client, to.ip()),
                "{arms:?}: no ping to {}",
                to.ip()
            );
            assert_greets(&lab.node, &lab.client, to);
        }
    }
}

#[test]
fn routed_traffic_passes_in_both_directions() {
    for arms in [Arms::Two, Arms::One] {
        let Some(scene) = Scene::run(arms, |_| {}) else {
            return;
        };
        let Scene { lab, .. } = &scene;
        for to in both(address::OTHER_V4, address::OTHER_V6, 7000) {
            assert!(
                answers_ping(&lab.client, to.ip()),
                "{arms:?}: no ping to {}",
                to.ip()
            );
            assert_greets(&lab.switch, &lab.client, to);
        }
        for to in both(address::CLIENT_V4, address::CLIENT_V6, 7001) {
            assert_greets(&lab.client, &lab.switch, to);
        }
    }
}

#[test]
fn instances_are_not_reachable_directly_from_outside() {
    let Some(scene) = Scene::run(Arms::Two, |_| {}) else {
        return;
    };
    let Scene { lab, forebay, .. } = &scene;
    for address in [
        IpAddr::V4(lab.instances[0].ipv4),
        IpAddr::V6(lab.instances[0].ipv6),
    ] {
        let before = forebay.drops("direct-to-instance").unwrap();
        let to = SocketAddr::new(address, 8080);
        let attempt = connect_within(&lab.client, None, to, Duration::from_millis(500));
        assert!(attempt.is_err(), "{to} can be reached from outside");
        let after = forebay.drops("direct-to-instance").unwrap();
        assert!(
            after > before,
            "{}",
            forebay.json(&["show", "drops"]).unwrap()
        );
    }
}

/// A plain TCP service works between two machines of the lab.
fn assert_greets(server: &Namespace, client: &Namespace, at: SocketAddr) {
    let listener = server.enter(|| TcpListener::bind(at)).unwrap();
    let greeter = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"SSH-2.0-like\r\n").unwrap();
    });
    let mut stream = connect(client, None, at).unwrap_or_else(|error| panic!("{at}: {error}"));
    let mut greeting = String::new();
    stream.read_to_string(&mut greeting).unwrap();
    assert_eq!(greeting, "SSH-2.0-like\r\n");
    greeter.join().unwrap();
}
