//! What is hashed to choose a member: three modes, over both families.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use forebay_tests::netlab::client::{Conversation, udp_ask, udp_socket};
use forebay_tests::netlab::{Arms, address};

use crate::scene::{Scene, frontend};

/// Whom connections and datagrams from one address of the client reach.
struct Reached {
    tcp: BTreeSet<String>,
    udp: BTreeSet<String>,
}

/// For each of the client's addresses in one family, whom it reaches by both protocols.
fn reached(scene: &Scene, [tcp, udp]: [SocketAddr; 2]) -> Vec<Reached> {
    (2..=9)
        .map(|host| {
            let source = match tcp {
                SocketAddr::V4(_) => SocketAddr::from((address::client_v4(host), 0)),
                SocketAddr::V6(_) => SocketAddr::from((address::client_v6(host), 0)),
            };
            let connections = (0..8).map(|_| {
                let opened = Conversation::open(&scene.lab.client, Some(source), tcp);
                opened.unwrap().1.instance
            });
            let tcp = connections.collect();
            // Kept, so that no two have one port.
            let sockets: Vec<_> = (0..8)
                .map(|_| udp_socket(&scene.lab.client, source).unwrap())
                .collect();
            let datagrams = sockets
                .iter()
                .map(|socket| udp_ask(socket, udp, "who").unwrap());
            let udp = datagrams.map(|answer| answer.instance).collect();
            Reached { tcp, udp }
        })
        .collect()
}

/// Runs with one mode for a TCP and a UDP rule, and looks at both families.
fn with_distribution(mode: &'static str, look: impl Fn(&str, Vec<Reached>)) {
    let Some(scene) = Scene::run(Arms::Two, |config| {
        config.hash_seed = Some(7);
        for rule in &mut config.rules {
            rule.distribution = mode;
        }
    }) else {
        return;
    };
    let [tcp4, tcp6] = frontend(80);
    let [udp4, udp6] = frontend(5000);
    for (family, to) in [("IPv4", [tcp4, udp4]), ("IPv6", [tcp6, udp6])] {
        look(family, reached(&scene, to));
    }
}

/// All members together reached by some protocol of some client: no mode sends everybody to one.
fn is_spread(all: &[Reached]) -> bool {
    let members: BTreeSet<_> = all
        .iter()
        .flat_map(|one| one.tcp.iter().chain(&one.udp))
        .collect();
    members.len() > 1
}

/// B9-03 (acceptance test 27).
#[test]
fn by_5_tuple_one_client_reaches_several_members() {
    with_distribution("5-tuple", |family, all| {
        // Eight of each client all with one of three members: once in two thousand; of all eight clients: never.
        let several = all
            .iter()
            .filter(|one| one.tcp.len() > 1 && one.udp.len() > 1);
        assert!(several.count() >= 4, "{family}");
    });
}

/// B9-04 (acceptance test 27).
#[test]
fn by_source_ip_tcp_and_udp_of_one_client_reach_one_member() {
    with_distribution("source-ip", |family, all| {
        for one in &all {
            assert_eq!((one.tcp.len(), one.udp.len()), (1, 1), "{family}");
            assert_eq!(one.tcp, one.udp, "{family}");
        }
        assert!(is_spread(&all), "{family}");
    });
}

/// B9-05 (acceptance test 27).
#[test]
fn by_source_ip_and_protocol_tcp_and_udp_of_one_client_may_reach_different_members() {
    with_distribution("source-ip-protocol", |family, all| {
        for one in &all {
            assert_eq!((one.tcp.len(), one.udp.len()), (1, 1), "{family}");
        }
        // With the seed of this test; two modes that hash the same would never differ.
        assert!(all.iter().any(|one| one.tcp != one.udp), "{family}");
        assert!(is_spread(&all), "{family}");
    });
}
