//! Pings to frontends, and what hosts at the ends of a flow say about its packets.
//!
//! With `path_mtu` and `hops` this is the acceptance test "ICMP echo + errors + PMTU" (33): B9-24, B9-26 as
//! far as it is about packets of flows, B9-28.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use forebay_tests::netlab::config::Rule;
use forebay_tests::netlab::{Arms, Config, Lab};

use crate::scene::{Scene, client_towards, frontend};

/// Longer than any frame of the lab.
const LARGE: &str = "4000";
/// Nobody listens there.
const CLOSED: u16 = 9;
const OWN: u16 = 5001;

#[test]
fn icmp_echo_errors_and_path_mtu_frontends_answer_pings_of_any_size_while_a_member_is_up() {
    for arms in [Arms::Two, Arms::One] {
        let Some(mut scene) = Scene::run(arms, |_| {}) else {
            return;
        };
        for size in ["0", "56", "1472", LARGE] {
            for to in frontend(0) {
                let said = ping(&scene.lab, to, size);
                assert!(
                    said.contains(" 3 received"),
                    "{arms:?} {to}, {size} bytes: {said}"
                );
            }
        }
        reload(&mut scene, &without_members);
        for to in frontend(0) {
            let said = ping(&scene.lab, to, "56");
            let told = if to.is_ipv4() {
                "Destination Host Unreachable"
            } else {
                "Destination unreachable: Address unreachable"
            };
            let told = format!("From {} icmp_seq=1 {told}", to.ip());
            assert!(said.contains(&told), "{arms:?} {to}: {said}");
            assert!(said.contains(" 0 received"), "{arms:?} {to}: {said}");
        }
        reload(&mut scene, &|config| config.to_string());
        for to in frontend(0) {
            let said = ping(&scene.lab, to, LARGE);
            assert!(said.contains(" 3 received"), "{arms:?} {to}: {said}");
        }
    }
}

#[test]
fn icmp_echo_errors_and_path_mtu_frontends_are_silent_without_a_rule_or_when_told_to() {
    let Some(mut scene) = Scene::run(Arms::Two, |_| {}) else {
        return;
    };
    let without_ping = |config: &Config| {
        let text = config.to_string();
        text.replace("[[frontend]]\n", "[[frontend]]\nping = false\n")
    };
    let without_rules = |config: &Config| {
        let mut config = config.clone();
        config.rules.clear();
        config.to_string()
    };
    for change in [&without_ping as &dyn Fn(&Config) -> String, &without_rules] {
        reload(&mut scene, change);
        let Scene { lab, forebay, .. } = &scene;
        for to in frontend(0) {
            let before = forebay.drops("echo-unanswered").unwrap();
            let said = ping(lab, to, "56");
            assert!(
                said.contains(" 0 received") && !said.contains("From "),
                "{to}: {said}"
            );
            assert_eq!(
                forebay.drops("echo-unanswered").unwrap(),
                before + 3,
                "{to}"
            );
        }
    }
}

#[test]
fn icmp_echo_errors_and_path_mtu_closed_ports_refuse_on_either_side() {
    for arms in [Arms::Two, Arms::One] {
        let Some(scene) = Scene::run(arms, |config| {
            config.pools[0].members.truncate(1);
            config
                .rules
                .push(Rule::new("closed", "udp", CLOSED, CLOSED));
            config.rules.push(Rule::new("own", "udp", OWN, OWN));
        }) else {
            return;
        };
        let Scene { lab, .. } = &scene;
        for to in frontend(CLOSED) {
            let socket = connected(lab, to);
            assert_refused(&socket, &format!("{arms:?} {to}: the instance"));
        }
        for to in frontend(OWN) {
            let web_1 = &lab.instances[0];
            let own = match to {
                SocketAddr::V4(_) => SocketAddr::from((web_1.ipv4, OWN)),
                SocketAddr::V6(_) => SocketAddr::from((web_1.ipv6, OWN)),
            };
            let server = web_1.namespace.enter(|| UdpSocket::bind(own)).unwrap();
            server
                .set_read_timeout(Some(Duration::from_secs(2)))
                .unwrap();
            let client = connected(lab, to);
            client.send(b"hello").unwrap();
            let (_, from) = server.recv_from(&mut [0; 16]).unwrap();
            assert_eq!(from, client.local_addr().unwrap());
            server.connect(from).unwrap();
            drop(client);
            assert_refused(&server, &format!("{arms:?} {to}: the client"));
        }
    }
}

/// A socket of the client that hears about errors.
fn connected(lab: &Lab, to: SocketAddr) -> UdpSocket {
    let socket = lab
        .client
        .enter(|| UdpSocket::bind((client_towards(to), 0)))
        .unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    socket.connect(to).unwrap();
    socket
}

/// Asks three times, as whoever uses datagrams has to: an ICMP error is sent once, and busy hosts lose some.
fn assert_refused(socket: &UdpSocket, whose: &str) {
    let is_refused = |error: std::io::Error| error.kind() == ErrorKind::ConnectionRefused;
    let refused = (0..3).any(|_| {
        let sent = socket.send(b"anybody there?");
        let heard = sent.and_then(|_| socket.recv(&mut [0; 16]));
        heard.is_err_and(is_refused)
    });
    assert!(refused, "{whose} port is closed, and nobody says so");
}

/// Nobody is left to take flows.
fn without_members(config: &Config) -> String {
    let mut config = config.clone();
    config.pools[0].members.clear();
    config.to_string()
}

fn reload(scene: &mut Scene, change: &dyn Fn(&Config) -> String) {
    scene.forebay.write_config(&change(&scene.config)).unwrap();
    scene.forebay.text(&["reload"]).unwrap();
}

/// What ping says about three requests.
fn ping(lab: &Lab, to: SocketAddr, size: &str) -> String {
    let mut command = lab.client.command("ping");
    command.args(["-n", "-c", "3", "-i", "0.2", "-W", "1", "-s", size]);
    let output = command.arg(to.ip().to_string()).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}
