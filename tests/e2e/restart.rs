//! The data plane outlives the daemon, and the next daemon takes over what it finds.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use forebay_tests::netlab::client::{Conversation, curl, udp_ask, udp_socket};
use forebay_tests::netlab::{Arms, Forebay, Lab};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::scene::{Scene, client_towards, flow_from, frontend};

#[test]
fn traffic_continues_after_sigterm_and_the_next_daemon_adopts_it() {
    traffic_continues_and_the_next_daemon_adopts_it(Signal::SIGTERM);
}

#[test]
fn traffic_continues_after_sigkill_and_the_next_daemon_adopts_it() {
    traffic_continues_and_the_next_daemon_adopts_it(Signal::SIGKILL);
}

fn traffic_continues_and_the_next_daemon_adopts_it(signal: Signal) {
    let Some(mut scene) = Scene::run(Arms::Two, |_| {}) else {
        return;
    };
    let Scene { lab, forebay, .. } = &mut scene;
    let mut long: Vec<Long> = frontend(80).map(|to| Long::open(lab, forebay, to)).into();

    let status = forebay.stop(signal).unwrap();
    if signal == Signal::SIGTERM {
        assert_eq!(status.code(), Some(0), "{}", forebay.log());
    }
    for to in frontend(80) {
        // One that is opened and closed without any daemon, and twenty more.
        curl(&lab.client, to, 21).unwrap();
    }
    for long in &mut long {
        long.ask();
    }

    forebay.start().unwrap();
    for long in &mut long {
        let flow = flow_from(forebay, long.source).expect("the flow is still listed");
        assert_eq!(flow["instance"], long.instance, "{flow}");
        let before = long.packets;
        let packets = flow["packets"].as_u64().unwrap();
        assert!(
            packets > before,
            "{before} packets before, {packets} after: {flow}"
        );
        long.ask();
    }
    for to in frontend(80) {
        assert_eq!(curl(&lab.client, to, 20).unwrap().len(), 20);
    }
    let status = forebay.json(&["status"]).unwrap();
    for interface in status["interfaces"].as_array().unwrap() {
        assert_eq!(
            (&interface["xdp_mode"], &interface["attached"]),
            (&"native".into(), &true.into())
        );
    }
}

/// A connection that lives through all of it.
struct Long {
    conversation: Conversation,
    source: SocketAddr,
    instance: String,
    packets: u64,
}

impl Long {
    fn open(lab: &Lab, forebay: &Forebay, to: SocketAddr) -> Self {
        let (conversation, answer) = Conversation::open(&lab.client, None, to).unwrap();
        let source = conversation.source().unwrap();
        // Longer than a delayed acknowledgement, so that the count stands still.
        std::thread::sleep(Duration::from_millis(100));
        let flow = flow_from(forebay, source).unwrap();
        let packets = flow["packets"].as_u64().unwrap();
        assert!(packets >= 5, "handshake, request, answer: {flow}");
        Self {
            conversation,
            source,
            instance: answer.instance,
            packets,
        }
    }

    fn ask(&mut self) {
        let answer = self.conversation.ask().unwrap();
        assert_eq!(answer.instance, self.instance);
    }
}

#[test]
fn requests_do_not_fail_while_the_daemon_is_replaced() {
    let Some(mut scene) = Scene::run(Arms::Two, |_| {}) else {
        return;
    };
    let Scene { lab, forebay, .. } = &mut scene;
    let [to, _] = frontend(80);
    let stop = AtomicBool::new(false);
    let made = std::thread::scope(|scope| {
        let requests = scope.spawn(|| {
            let mut made = 0;
            while !stop.load(Ordering::Relaxed) {
                made += curl(&lab.client, to, 20)?.len();
            }
            anyhow::Ok(made)
        });
        for signal in [Signal::SIGKILL, Signal::SIGTERM] {
            forebay.stop(signal).unwrap();
            forebay.start().unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        requests.join().unwrap()
    });
    assert!(made.unwrap() >= 20);
    let totals: Vec<Value> = forebay.list(&["show", "rules"]).unwrap();
    let new_flows = totals[0]["new_flows_total"].as_u64().unwrap();
    assert!(new_flows >= 20, "counters do not survive: {totals:?}");
}

/// One datagram and its answer prove nothing yet: such a flow is untrusted, and outlives the daemon too.
#[test]
fn untrusted_flows_outlive_the_daemon() {
    let Some(mut scene) = Scene::run(Arms::Two, |_| {}) else {
        return;
    };
    let Scene { lab, forebay, .. } = &mut scene;
    let asked = frontend(5000).map(|to| {
        let source = SocketAddr::new(client_towards(to), 0);
        let socket = udp_socket(&lab.client, source).unwrap();
        let instance = udp_ask(&socket, to, "once").unwrap().instance;
        (socket, to, instance)
    });
    let untrusted = |forebay: &Forebay, family: &str| {
        let status = forebay.json(&["status"]).unwrap();
        let table = &status["flows"][family];
        [&table["used"], &table["untrusted"]].map(|count| count.as_u64().unwrap())
    };
    for family in ["ipv4", "ipv6"] {
        assert_eq!(untrusted(forebay, family), [0, 1], "{family}");
    }

    forebay.stop(Signal::SIGKILL).unwrap();
    forebay.start().unwrap();
    for (socket, to, instance) in &asked {
        let flow = flow_from(forebay, socket.local_addr().unwrap()).expect("it is still listed");
        assert_eq!(flow["instance"], instance.as_str(), "{flow}");
        assert_eq!(flow["packets"], 2, "{flow}");
        for _ in 0..3 {
            assert_eq!(&udp_ask(socket, *to, "again").unwrap().instance, instance);
        }
    }
    // Four each way: by now they are trusted.
    for family in ["ipv4", "ipv6"] {
        assert_eq!(untrusted(forebay, family), [1, 0], "{family}");
    }
}
