//! The node knows whom to send to: instances and gateways are kept resolved, and changes are noticed.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use forebay_tests::netlab::client::{PATIENCE, curl, udp_ask, udp_socket};
use forebay_tests::netlab::{Arms, Lab, Namespace, address};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::scene::{Scene, both, client_towards, eventually, frontend};

/// Neighbours of the node that the kernel is asked to keep resolved.
fn kept(node: &Namespace) -> Vec<String> {
    let text = node.run("ip", &["-json", "neighbour", "show"]).unwrap();
    let entries: Vec<Value> = serde_json::from_str(&text).unwrap();
    let managed = entries
        .iter()
        .filter(|entry| entry.get("managed").is_some());
    let mut kept: Vec<String> = managed
        .map(|entry| entry["dst"].as_str().unwrap().to_owned())
        .collect();
    kept.sort();
    kept
}

fn sorted<const N: usize>(addresses: [&str; N]) -> Vec<String> {
    let mut sorted = addresses.map(str::to_owned).to_vec();
    sorted.sort();
    sorted
}

#[test]
fn instances_and_gateways_are_kept_resolved_until_nobody_wants_them() {
    let Some(mut scene) = Scene::install(Arms::Two, |_| {}) else {
        return;
    };
    let node = &scene.lab.node;
    node.ip("route add default via 203.0.113.2\nneighbour add 10.0.1.99 dev inst0 managed")
        .unwrap();
    scene.forebay.start().unwrap();
    let all = sorted([
        "10.0.1.11",
        "10.0.1.12",
        "10.0.1.13",
        "10.0.1.99",
        "203.0.113.2",
        "fd00:1::11",
        "fd00:1::12",
        "fd00:1::13",
    ]);
    let soon = Duration::from_secs(5);
    eventually("all are kept", soon, || kept(node) == all);

    // Away with everything that is known of them, as when the link was down.
    node.ip("neighbour del 10.0.1.12 dev inst0\nneighbour del fd00:1::13 dev inst0")
        .unwrap();
    eventually("what was forgotten is kept again", soon, || {
        kept(node) == all
    });

    node.ip("route replace default via 203.0.113.3").unwrap();
    let others = all
        .iter()
        .map(|one| one.replace("203.0.113.2", "203.0.113.3"));
    let others: Vec<String> = others.collect();
    eventually("the new gateway is kept", soon, || kept(node) == others);

    scene.config.instances.pop();
    scene.config.pools[0].members.pop();
    scene
        .forebay
        .write_config(&scene.config.to_string())
        .unwrap();
    scene.forebay.text(&["reload"]).unwrap();
    let mut fewer = others.clone();
    fewer.retain(|one| !one.ends_with("13"));
    eventually("a removed instance is not kept", soon, || {
        kept(node) == fewer
    });

    scene.forebay.stop(Signal::SIGTERM).unwrap();
    assert_eq!(
        kept(node),
        fewer,
        "the data plane goes on, and with it this"
    );
    scene.forebay.text(&["detach"]).unwrap();
    assert_eq!(kept(node), ["10.0.1.99"], "only somebody else's is left");
}

#[test]
fn the_first_packet_to_an_unresolved_instance_is_not_lost() {
    let Some(mut scene) = Scene::run(Arms::Two, |_| {}) else {
        return;
    };
    let Scene { lab, forebay, .. } = &mut scene;
    // A daemon would have the neighbours resolved before the datagram is there.
    forebay.stop(Signal::SIGKILL).unwrap();
    for to in frontend(5000) {
        for instance in &lab.instances {
            for known in [instance.ipv4.to_string(), instance.ipv6.to_string()] {
                // It may be gone already.
                let _ = lab.node.ip(&format!("neighbour del {known} dev inst0"));
            }
        }
        let source = SocketAddr::new(client_towards(to), 0);
        let socket = udp_socket(&lab.client, source).unwrap();
        udp_ask(&socket, to, "only once").unwrap();
    }
    assert!(forebay.log().contains("ready"));
}

/// Sends until there is an answer; says how long that took.
fn time_to_answer(socket: &UdpSocket, to: SocketAddr) -> Duration {
    let mut buffer = [0; 2048];
    socket
        .set_read_timeout(Some(Duration::from_millis(20)))
        .unwrap();
    while socket.recv(&mut buffer).is_ok() {}
    let start = Instant::now();
    loop {
        socket.send_to(b"hello", to).unwrap();
        if socket.recv(&mut buffer).is_ok() || start.elapsed() > Duration::from_secs(20) {
            return start.elapsed();
        }
    }
}

fn change_mac(lab: &Lab, instance: &str, number: u8) {
    let namespace = &lab.instance(instance).unwrap().namespace;
    namespace
        .ip(&format!(
            "link set eth0 address 02:00:00:00:aa:{number:02x}"
        ))
        .unwrap();
}

/// Changes the MAC address of the instance of a flow again and again, and returns the longest time in
/// which the flow was without answers.
fn longest_outage(lab: &Lab, to: SocketAddr, numbers: std::ops::Range<u8>) -> Duration {
    let source = SocketAddr::new(client_towards(to), 0);
    let socket = udp_socket(&lab.client, source).unwrap();
    // It may be the one whose address was changed for the flow before.
    time_to_answer(&socket, to);
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let instance = udp_ask(&socket, to, "who").unwrap().instance;
    let outage = |number| {
        // Somewhere in the time for which the neighbour is believed.
        std::thread::sleep(Duration::from_millis(900 + u64::from(number) * 70));
        time_to_answer(&socket, to);
        change_mac(lab, &instance, number);
        time_to_answer(&socket, to)
    };
    numbers.map(outage).max().unwrap()
}

#[test]
fn another_mac_address_of_an_instance_is_noticed_within_two_seconds() {
    let Some(scene) = Scene::run(Arms::Two, |_| {}) else {
        return;
    };
    for (to, numbers) in frontend(5000).into_iter().zip([1..4, 4..7]) {
        let outage = longest_outage(&scene.lab, to, numbers);
        assert!(outage < Duration::from_secs(2), "{to}: {outage:?}");
    }
}

/// What the machine's kernel adds, without a daemon, to the time until it notices: its own rounds are
/// set for the whole machine, which a test leaves as it is.
fn kernel_rounds() -> Duration {
    let key = "/proc/sys/net/ipv4/neigh/default/interval_probe_time_ms";
    let text = std::fs::read_to_string(key).unwrap();
    let interval = Duration::from_millis(text.trim().parse().unwrap());
    interval.saturating_sub(Duration::from_millis(200))
}

#[test]
fn another_mac_address_of_an_instance_is_noticed_without_the_daemon() {
    let Some(mut scene) = Scene::run(Arms::Two, |_| {}) else {
        return;
    };
    scene.forebay.stop(Signal::SIGKILL).unwrap();
    let at_most = Duration::from_secs(2) + kernel_rounds();
    for (to, numbers) in frontend(5000).into_iter().zip([1..3, 3..5]) {
        let outage = longest_outage(&scene.lab, to, numbers);
        assert!(outage < at_most, "{to}: {outage:?}, expected {at_most:?}");
    }
}

/// Received bytes of one of the client's links.
fn received(lab: &Lab, device: &str) -> u64 {
    let arguments = ["-json", "-statistics", "link", "show", "dev", device];
    let text = lab.client.run("ip", &arguments).unwrap();
    let links: Value = serde_json::from_str(&text).unwrap();
    links[0]["stats64"]["rx"]["bytes"].as_u64().unwrap()
}

#[test]
fn answers_leave_by_the_uplink_that_the_rule_for_their_source_says() {
    let Some(mut scene) = Scene::install(Arms::Two, |config| {
        config.frontends[0].ipv4 = address::ROUTED_FRONTEND_V4;
        config.frontends[0].ipv6 = address::ROUTED_FRONTEND_V6;
        config.interfaces.push("client1".to_owned());
    }) else {
        return;
    };
    let Scene { lab, forebay, .. } = &mut scene;
    lab.add_uplink().unwrap();
    // Clients far away, behind two gateways; the frontends' answers take the second.
    lab.client
        .ip("address add 192.0.2.7/32 dev lo\n\
             address add 2001:db8:7::7/128 dev lo nodad\n\
             route add 198.51.100.10 via 203.0.113.1 src 192.0.2.7\n\
             route add 2001:db8:2::10 via 2001:db8:1::1 src 2001:db8:7::7")
        .unwrap();
    lab.node
        .ip("route add default via 203.0.113.2\n\
             route add default via 2001:db8:1::2\n\
             route add default via 192.168.77.2 table 77\n\
             route add default via fd77::2 table 77\n\
             rule add from 198.51.100.10 table 77")
        .unwrap();
    let rule = ["-6", "rule", "add", "from", "2001:db8:2::10", "table", "77"];
    lab.node.run("ip", &rule).unwrap();
    forebay.start().unwrap();
    let kept_gateways = || {
        let kept = kept(&lab.node);
        ["203.0.113.2", "192.168.77.2", "fd77::2"]
            .iter()
            .all(|gateway| kept.iter().any(|one| one == gateway))
    };
    eventually(
        "both gateways are kept",
        Duration::from_secs(5),
        kept_gateways,
    );
    for to in both(address::ROUTED_FRONTEND_V4, address::ROUTED_FRONTEND_V6, 80) {
        let before = ["eth0", "eth1"].map(|device| received(lab, device));
        curl(&lab.client, to, 20).unwrap();
        let after = ["eth0", "eth1"].map(|device| received(lab, device));
        let grown = [after[0] - before[0], after[1] - before[1]];
        // Each answer has a status line and headers; the first link carries neighbours' talk alone.
        assert!(grown[1] > 4_000 && grown[0] < 2_000, "{to}: {grown:?}");
    }
    assert_eq!(forebay.drops("no-route").unwrap(), 0);
}
