//! Flows end when their time has come: never before, at most a second later.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use forebay_tests::netlab::client::{Conversation, udp_ask, udp_socket};
use forebay_tests::netlab::{Arms, Config, Forebay};
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
