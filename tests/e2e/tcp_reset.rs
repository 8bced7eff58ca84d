//! Both sides of an established flow that idles out are told by a RST, and nobody else.
//!
//! The acceptance tests "RST both ways, only ESTABLISHED" (20): B6-03 to B6-06, and "keep-alive refresh" (21):
//! A1-23.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use forebay_tests::netlab::client::{Conversation, connect_within};
use forebay_tests::netlab::{Arms, Config, Instance, Lab, Resets, tcp_states};
use nix::sys::socket::{setsockopt, sockopt};

use crate::scene::{Scene, client_towards, flow_from, frontend};

const TIMEOUT: Duration = Duration::from_secs(2);
/// How late a flow may go, for time-outs under ten seconds.
const LATE: Duration = Duration::from_secs(1);
/// The last acknowledgement of a TCP client may follow so long after its data.
const DELAYED: Duration = Duration::from_millis(100);

fn short_idle_timeout(config: &mut Config) {
    for rule in &mut config.rules {
        rule.idle_timeout = Some("2s");
    }
}

/// A connection, its two ends, and who counts the RSTs there.
struct Watched {
    conversation: Conversation,
    source: SocketAddr,
    instance: String,
    at_client: Resets,
    at_instance: Resets,
}

impl Watched {
    fn open(lab: &Lab, to: SocketAddr) -> Self {
        let (conversation, answer) = Conversation::open(&lab.client, None, to).unwrap();
        let source = conversation.source().unwrap();
        let instance = lab.instance(&answer.instance).unwrap();
        Self {
            conversation,
            source,
            instance: answer.instance,
            at_client: Resets::watch(&lab.client, "eth0").unwrap(),
            at_instance: Resets::watch(&instance.namespace, "eth0").unwrap(),
        }
    }

    /// States of the sockets at the client and at the instance.
    fn states(&self, lab: &Lab) -> [Vec<String>; 2] {
        let instance: &Instance = lab.instance(&self.instance).unwrap();
        [&lab.client, &instance.namespace].map(|host| tcp_states(host, self.source.port()).unwrap())
    }

    fn resets(&self) -> [usize; 2] {
        let port = self.source.port();
        [self.at_client.count(port), self.at_instance.count(port)]
    }
}

fn established() -> [Vec<String>; 2] {
    [(); 2].map(|()| vec!["ESTAB".to_owned()])
}

#[test]
fn an_established_flow_that_idles_out_is_reset_on_both_sides() {
    for arms in [Arms::Two, Arms::One] {
        let Some(scene) = Scene::run(arms, short_idle_timeout) else {
            return;
        };
        for to in frontend(80) {
            idles_out_with_resets(&scene, to);
        }
    }
}

fn idles_out_with_resets(scene: &Scene, to: SocketAddr) {
    let Scene { lab, forebay, .. } = scene;
    let mut watched = Watched::open(lab, to);
    watched.conversation.ask().unwrap();
    let last_packet = Instant::now();
    let closed: [Vec<String>; 2] = Default::default();
    loop {
        let asked = last_packet.elapsed();
        let states = watched.states(lab);
        let answered = last_packet.elapsed();
        if states == closed {
            assert!(answered >= TIMEOUT, "{to}: reset early, after {answered:?}");
            break;
        }
        assert!(
            asked <= TIMEOUT + LATE + DELAYED,
            "{to}: {states:?} {asked:?} after the last packet"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    watched.conversation.ask().unwrap_err();
    assert_eq!(watched.resets(), [1, 1], "{to}");
    // Nothing that follows makes a flow of it again.
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(flow_from(forebay, watched.source), None, "{to}");
}

#[test]
fn a_flow_whose_rule_says_no_tcp_reset_idles_out_in_silence() {
    let Some(scene) = Scene::run(Arms::Two, |config| {
        short_idle_timeout(config);
        config.rules[0].tcp_reset = Some(false);
    }) else {
        return;
    };
    let Scene { lab, forebay, .. } = &scene;
    for to in frontend(80) {
        let watched = Watched::open(lab, to);
        std::thread::sleep(TIMEOUT + LATE + DELAYED);
        assert_eq!(flow_from(forebay, watched.source), None, "{to}");
        assert_eq!(watched.states(lab), established(), "{to}");
        assert_eq!(watched.resets(), [0, 0], "{to}");
    }
}

#[test]
fn half_open_flows_and_flows_that_have_closed_are_not_reset() {
    let Some(scene) = Scene::run(Arms::Two, |config| {
        short_idle_timeout(config);
        config.timeouts = vec![("tcp_half_open", "1s"), ("tcp_fin", "1s")];
    }) else {
        return;
    };
    let Scene { lab, forebay, .. } = &scene;
    for to in frontend(80) {
        let mut watched = Watched::open(lab, to);
        end_in_order(&mut watched.conversation);
        std::thread::sleep(Duration::from_secs(1) + LATE + DELAYED);
        assert_eq!(flow_from(forebay, watched.source), None, "{to}");
        assert_eq!(watched.resets(), [0, 0], "closing: {to}");
    }
    for instance in &lab.instances {
        // Instances hear of clients, and cannot answer.
        let lost = "route add blackhole 203.0.113.2/32\nroute add blackhole 2001:db8:1::2/128";
        instance.namespace.ip(lost).unwrap();
    }
    for (port, to) in (42001..).zip(frontend(80)) {
        let at_instances: Vec<Resets> = lab
            .instances
            .iter()
            .map(|instance| Resets::watch(&instance.namespace, "eth0").unwrap())
            .collect();
        let at_client = Resets::watch(&lab.client, "eth0").unwrap();
        let source = SocketAddr::new(client_towards(to), port);
        let patience = Duration::from_millis(300);
        connect_within(&lab.client, Some(source), to, patience).unwrap_err();
        assert!(flow_from(forebay, source).is_some(), "{to}");
        std::thread::sleep(Duration::from_secs(1) + LATE + DELAYED);
        assert_eq!(flow_from(forebay, source), None, "{to}");
        assert_eq!(at_client.count(port), 0, "half-open: {to}");
        for at_instance in at_instances {
            assert_eq!(at_instance.count(port), 0, "half-open: {to}");
        }
    }
}

/// FIN from the client, then FIN from the server.
fn end_in_order(conversation: &mut Conversation) {
    use std::io::Read;
    let stream = conversation.stream();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0; 16]).unwrap(), 0, "data after the FIN");
}

#[test]
fn keep_alives_of_one_side_keep_a_flow() {
    let Some(scene) = Scene::run(Arms::Two, short_idle_timeout) else {
        return;
    };
    let Scene { lab, forebay, .. } = &scene;
    let mut watched: Vec<Watched> = frontend(80).map(|to| Watched::open(lab, to)).into();
    for one in &mut watched {
        let stream = one.conversation.stream();
        setsockopt(stream, sockopt::KeepAlive, &true).unwrap();
        setsockopt(stream, sockopt::TcpKeepIdle, &1).unwrap();
        setsockopt(stream, sockopt::TcpKeepInterval, &1).unwrap();
    }
    std::thread::sleep(3 * TIMEOUT);
    for one in &mut watched {
        let flow = flow_from(forebay, one.source).expect("the flow is still there");
        assert_eq!(flow["state"], "established", "{flow}");
        assert_eq!(one.states(lab), established());
        assert_eq!(one.conversation.ask().unwrap().instance, one.instance);
        assert_eq!(one.resets(), [0, 0]);
    }
}
