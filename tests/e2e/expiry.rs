//! Flows end when their time has come: never before, at most a second later.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use forebay_tests::netlab::client::{Conversation, connect_within, udp_ask, udp_socket};
use forebay_tests::netlab::{Arms, Config, Forebay};
use nix::sys::socket::{setsockopt, sockopt};
use serde_json::Value;

use crate::scene::{Scene, client_towards, flow_from, frontend};

/// How late a flow may go, for time-outs under ten seconds.
const LATE: Duration = Duration::from_secs(1);

fn short_timeouts(config: &mut Config) {
    config.timeouts = vec![
        ("tcp_idle", "3s"),
        ("tcp_half_open", "2s"),
        ("tcp_fin", "2s"),
        ("tcp_rst", "1s"),
        ("udp_idle", "3s"),
        ("udp_unreplied", "1s"),
    ];
}

#[test]
fn idle_tcp_flows_end_on_time() {
    let Some(scene) = Scene::run(Arms::Two, short_timeouts) else {
        return;
    };
    let Scene { lab, forebay, .. } = &scene;
    for to in frontend(80) {
        let (mut conversation, _) = Conversation::open(&lab.client, None, to).unwrap();
        let source = conversation.source().unwrap();
        std::thread::sleep(Duration::from_secs(2));
        conversation.ask().unwrap();
        let last_packet = Instant::now();
        let flow = flow_from(forebay, source).unwrap();
        assert_eq!(flow["state"], "established", "{flow}");
        assert!(
            flow["expires_in_seconds"].as_f64().unwrap() <= 3.0,
            "{flow}"
        );
        assert_ends(forebay, source, last_packet, Duration::from_secs(3));
    }
}

#[test]
fn closed_tcp_flows_end_on_time() {
    let Some(scene) = Scene::run(Arms::Two, short_timeouts) else {
        return;
    };
    let Scene { lab, forebay, .. } = &scene;
    for to in frontend(80) {
        let (mut conversation, _) = Conversation::open(&lab.client, None, to).unwrap();
        let source = conversation.source().unwrap();
        close_in_order(&mut conversation);
        let last_packet = Instant::now();
        let flow = flow_from(forebay, source).unwrap();
        let state = flow["state"].as_str().unwrap();
        assert!(["closing", "closed"].contains(&state), "{flow}");
        assert_ends(forebay, source, last_packet, Duration::from_secs(2));
    }
}

/// FIN from the client, then FIN from the server, which an end of the stream shows.
fn close_in_order(conversation: &mut Conversation) {
    use std::io::Read;
    let stream = conversation.stream();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(
        stream.read(&mut [0; 16]).unwrap(),
        0,
        "data after the answer"
    );
}

#[test]
fn idle_udp_flows_end_on_time() {
    let Some(scene) = Scene::run(Arms::Two, short_timeouts) else {
        return;
    };
    let Scene { lab, forebay, .. } = &scene;
    for to in frontend(5000) {
        let socket = udp_socket(&lab.client, SocketAddr::new(client_towards(to), 0)).unwrap();
        udp_ask(&socket, to, "hello").unwrap();
        std::thread::sleep(Duration::from_secs(2));
        udp_ask(&socket, to, "again").unwrap();
        let last_packet = Instant::now();
        let source = socket.local_addr().unwrap();
        assert_ends(forebay, source, last_packet, Duration::from_secs(3));
    }
}

#[test]
fn the_idle_timeout_of_a_rule_wins() {
    let scene = Scene::run(Arms::Two, |config| {
        for rule in &mut config.rules {
            rule.idle_timeout = Some("2s");
        }
    });
    let Some(scene) = scene else { return };
    let Scene { lab, forebay, .. } = &scene;
    let [to, _] = frontend(80);
    let (conversation, _) = Conversation::open(&lab.client, None, to).unwrap();
    let source = conversation.source().unwrap();
    assert_ends(forebay, source, Instant::now(), Duration::from_secs(2));
    let [_, to] = frontend(5000);
    let socket = udp_socket(&lab.client, SocketAddr::new(client_towards(to), 0)).unwrap();
    udp_ask(&socket, to, "hello").unwrap();
    let source = socket.local_addr().unwrap();
    assert_ends(forebay, source, Instant::now(), Duration::from_secs(2));
}

#[test]
fn reset_tcp_flows_end_on_time() {
    let Some(scene) = Scene::run(Arms::Two, short_timeouts) else {
        return;
    };
    let Scene { lab, forebay, .. } = &scene;
    for to in frontend(80) {
        let (mut conversation, _) = Conversation::open(&lab.client, None, to).unwrap();
        let source = conversation.source().unwrap();
        let at_once = libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        setsockopt(conversation.stream(), sockopt::Linger, &at_once).unwrap();
        drop(conversation);
        let last_packet = Instant::now();
        let flow = flow_from(forebay, source).unwrap();
        assert_eq!(flow["state"], "closed", "{flow}");
        assert_ends(forebay, source, last_packet, Duration::from_secs(1));
    }
}

#[test]
fn flows_that_nobody_answers_end_on_time() {
    let Some(scene) = Scene::run(Arms::Two, short_timeouts) else {
        return;
    };
    let Scene { lab, forebay, .. } = &scene;
    for instance in &lab.instances {
        instance
            .namespace
            .ip("route add blackhole 203.0.113.2/32")
            .unwrap();
        instance
            .namespace
            .ip("route add blackhole 2001:db8:1::2/128")
            .unwrap();
    }
    for (number, to) in (42001..).zip(frontend(80)) {
        let source = SocketAddr::new(client_towards(to), number);
        let last_packet = Instant::now();
        let patience = Duration::from_millis(300);
        connect_within(&lab.client, Some(source), to, patience).unwrap_err();
        let flow = flow_from(forebay, source).unwrap();
        assert_eq!(flow["state"], "opening", "{flow}");
        assert_ends(forebay, source, last_packet, Duration::from_secs(2));
    }
    for to in frontend(5000) {
        let socket = udp_socket(&lab.client, SocketAddr::new(client_towards(to), 0)).unwrap();
        socket.send_to(b"anybody?", to).unwrap();
        let last_packet = Instant::now();
        let source = socket.local_addr().unwrap();
        assert_ends(forebay, source, last_packet, Duration::from_secs(1));
    }
}

/// Watches a flow until it is gone and judges the moment.
fn assert_ends(forebay: &Forebay, source: SocketAddr, last_packet: Instant, timeout: Duration) {
    let mut seen: Option<Value> = None;
    loop {
        let asked = last_packet.elapsed();
        let flow = flow_from(forebay, source);
        let answered = last_packet.elapsed();
        let Some(flow) = flow else {
            assert!(
                answered >= timeout,
                "gone {answered:?} after its last packet: {seen:#?}"
            );
            return;
        };
        // The last acknowledgement of a TCP client may follow 40 ms after its data.
        let limit = timeout + LATE + Duration::from_millis(100);
        assert!(
            asked <= limit,
            "still there {asked:?} after its last packet: {flow:#}"
        );
        seen = Some(flow);
        std::thread::sleep(Duration::from_millis(50));
    }
}
