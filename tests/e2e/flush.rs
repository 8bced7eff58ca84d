//! `flush flows` ends flows that are alive, and both sides of connections find out.

use std::net::SocketAddr;
use std::time::Duration;

use forebay_tests::netlab::bulk::{self, Echo};
use forebay_tests::netlab::client::{Conversation, udp_ask, udp_socket};
use forebay_tests::netlab::config::Rule;
use forebay_tests::netlab::{Arms, Lab, address, tcp_states};

use crate::scene::{Scene, client_towards, eventually, flow_from, frontend};

/// How soon sockets must be closed.
const SOON: Duration = Duration::from_secs(1);

#[test]
fn flushed_connections_are_closed_on_both_sides_whatever_tcp_reset_says() {
    for (arms, tcp_reset) in [(Arms::Two, None), (Arms::One, Some(false))] {
        let scene = Scene::run(arms, |config| config.rules[0].tcp_reset = tcp_reset);
        let Some(scene) = scene else { return };
        let Scene { lab, forebay, .. } = &scene;
        let mut open: Vec<_> = frontend(80)
            .map(|to| Conversation::open(&lab.client, None, to).unwrap())
            .into();
        let sockets = frontend(5000).map(|to| {
            let socket = udp_socket(&lab.client, SocketAddr::new(client_towards(to), 0)).unwrap();
            udp_ask(&socket, to, "hello").unwrap();
            socket
        });
        let printed = forebay.text(&["flush", "flows"]).unwrap();
        let rows: Vec<Vec<&str>> = printed
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert!(rows.contains(&vec!["all", "4"]), "{printed}");
        assert!(rows.contains(&vec!["told", "by", "RST", "2"]), "{printed}");
        for (conversation, answer) in &mut open {
            let source = conversation.source().unwrap();
            eventually("both sockets are closed", SOON, || {
                sockets_of(lab, &answer.instance, source.port()) == [0, 0]
            });
            conversation.ask().unwrap_err();
        }
        assert_eq!(forebay.list(&["show", "flows"]).unwrap().len(), 0);
        eventually("the tables are empty", 3 * SOON, || {
            let flows = &forebay.json(&["status"]).unwrap()["flows"];
            flows["ipv4"]["used"] == 0 && flows["ipv6"]["used"] == 0
        });
        for (to, socket) in frontend(5000).into_iter().zip(&sockets) {
            udp_ask(socket, to, "again").unwrap();
        }
        for to in frontend(80) {
            Conversation::open(&lab.client, None, to).unwrap();
        }
        let nothing = forebay
            .text(&["flush", "flows", "--source", "192.0.2.1"])
            .unwrap();
        assert!(
            nothing.lines().any(|line| line.ends_with(" 0")),
            "{nothing}"
        );
    }
}

/// Open TCP sockets with a client's port, at the client and at the instance.
fn sockets_of(lab: &Lab, instance: &str, port: u16) -> [usize; 2] {
    let instance = &lab.instance(instance).unwrap().namespace;
    [&lab.client, instance].map(|host| tcp_states(host, port).unwrap().len())
}

#[test]
fn a_filter_of_flush_leaves_other_flows_alone() {
    let Some(scene) = Scene::run(Arms::Two, |_| {}) else {
        return;
    };
    let Scene { lab, forebay, .. } = &scene;
    let [to, to6] = frontend(80);
    let other = SocketAddr::from((address::client_v4(3), 0));
    let (mut gone, _) = Conversation::open(&lab.client, Some(other), to).unwrap();
    let (mut kept, answer) = Conversation::open(&lab.client, None, to).unwrap();
    let (mut kept6, _) = Conversation::open(&lab.client, None, to6).unwrap();

    let source = other.ip().to_string();
    forebay
        .text(&["flush", "flows", "--source", &source])
        .unwrap();
    gone.ask().unwrap_err();
    kept.ask().unwrap();
    kept6.ask().unwrap();

    let elsewhere = lab.instances.iter().find(|one| one.name != answer.instance);
    let (name, frontend) = (&elsewhere.unwrap().name, to.ip().to_string());
    let filter = ["flush", "flows", "--destination", &frontend, "--instance"];
    forebay.text(&[&filter[..], &[name]].concat()).unwrap();
    kept.ask().unwrap();
    let flow = flow_from(forebay, kept.source().unwrap()).unwrap();
    assert_eq!(flow["instance"], answer.instance, "{flow}");
    let instance: &str = &answer.instance;
    forebay.text(&[&filter[..], &[instance]].concat()).unwrap();
    kept.ask().unwrap_err();
    kept6.ask().unwrap();

    let refused = forebay
        .cli(&["flush", "flows", "--instance", "nobody"])
        .unwrap();
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("nobody"), "{refused:?}");
    let misused = forebay.cli(&["flush", "flows", "--source", "x"]).unwrap();
    assert_eq!(misused.code, 2, "{misused:?}");
}

#[test]
fn connections_that_are_busy_are_closed_on_both_sides_too() {
    const PORT: u16 = 7000;
    let Some(scene) = Scene::run(Arms::Two, |config| {
        config.rules.push(Rule::new("bulk", "tcp", PORT, PORT));
    }) else {
        return;
    };
    let Scene { lab, forebay, .. } = &scene;
    for instance in &lab.instances {
        for address in [instance.ipv4.into(), instance.ipv6.into()] {
            bulk::serve(SocketAddr::new(address, PORT), &instance.namespace).unwrap();
        }
    }
    let open = || {
        lab.instances
            .iter()
            .map(|instance| &instance.namespace)
            .chain([&lab.client])
            .flat_map(|host| tcp_states(host, PORT).unwrap())
            .filter(|state| state == "ESTAB")
            .count()
    };
    std::thread::scope(|scope| {
        for to in frontend(PORT) {
            for _ in 0..4 {
                let mut transfer = Echo::open(&lab.client, to).unwrap();
                scope.spawn(move || while transfer.exchange(3_000_000).is_ok() {});
            }
        }
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(open(), 16, "eight connections, two ends each");
        forebay.text(&["flush", "flows"]).unwrap();
        eventually("all sockets are closed", 2 * SOON, || open() == 0);
    });
}
