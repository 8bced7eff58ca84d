//! Requests are spread over the instances, and the instances see who asked.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use forebay_tests::netlab::client::{Answer, Conversation, curl, spread};
use forebay_tests::netlab::config::{Frontend, Rule};
use forebay_tests::netlab::{Arms, Config, Lab, address};

use crate::scene::{Scene, both, client_towards, frontend};

#[test]
fn two_armed_requests_spread_and_keep_the_client_address() {
    requests_spread_and_keep_the_client_address(Arms::Two);
}

#[test]
fn one_armed_requests_spread_and_keep_the_client_address() {
    requests_spread_and_keep_the_client_address(Arms::One);
}

fn requests_spread_and_keep_the_client_address(arms: Arms) {
    let with_routed_frontend = |config: &mut Config| {
        config.frontends.push(Frontend {
            name: "routed",
            ipv4: address::ROUTED_FRONTEND_V4,
            ipv6: address::ROUTED_FRONTEND_V6,
        });
        config.rules.push(Rule {
            frontend: "routed",
            ..Rule::new("routed", "tcp", 80, 8081)
        });
    };
    let Some(scene) = Scene::run(arms, with_routed_frontend) else {
        return;
    };
    let Scene { lab, forebay, .. } = &scene;
    let routed = both(address::ROUTED_FRONTEND_V4, address::ROUTED_FRONTEND_V6, 80);
    for (to, backend_port) in frontend(80)
        .map(|to| (to, 8080))
        .into_iter()
        .chain(routed.map(|to| (to, 8081)))
    {
        let answers = curl(&lab.client, to, 120).unwrap();
        for answer in &answers {
            assert_seen_as_sent(lab, answer, to, backend_port);
        }
        let counts = spread(&answers);
        // A share of a third of 120; fewer than 15 happens once in a hundred million runs.
        assert!(
            counts.len() == 3 && counts.values().all(|&count| count >= 15),
            "{arms:?} {to}: {counts:?}\n{}",
            forebay.log()
        );
    }
}

fn assert_seen_as_sent(lab: &Lab, answer: &Answer, to: SocketAddr, backend_port: u16) {
    let instance = lab.instance(&answer.instance).unwrap();
    assert_eq!(
        answer.client,
        client_towards(to),
        "the client's address is not kept"
    );
    let own = if to.is_ipv4() {
        instance.ipv4.into()
    } else {
        instance.ipv6.into()
    };
    assert_eq!((answer.server, answer.server_port), (own, backend_port));
}

#[test]
fn weights_shift_the_spread() {
    let scene = Scene::run(Arms::Two, |config| config.pools[0].members[1].1 = 2);
    let Some(scene) = scene else {
        return;
    };
    let Scene { lab, .. } = &scene;
    for to in frontend(80) {
        let counts = spread(&curl(&lab.client, to, 600).unwrap())
            .into_iter()
            .map(|(name, count)| (name.to_owned(), count))
            .collect::<Vec<_>>();
        // 150, 300, 150 expected; the bounds are five standard deviations away.
        for (name, count) in &counts {
            let expected = if name == "web-2" { 239..=361 } else { 97..=203 };
            assert!(expected.contains(count), "{to}: {counts:?}");
        }
        assert_eq!(counts.len(), 3, "{to}: {counts:?}");
    }
}

#[test]
fn source_ip_distribution_keeps_a_client_on_one_instance() {
    let scene = Scene::run(Arms::Two, |config| {
        config.hash_seed = Some(7);
        config.rules[0].distribution = "source-ip";
    });
    let Some(scene) = scene else {
        return;
    };
    let Scene { lab, .. } = &scene;
    for to in frontend(80) {
        let mut used = BTreeSet::new();
        for host in 2..=9 {
            let source = match to {
                SocketAddr::V4(_) => SocketAddr::from((address::client_v4(host), 0)),
                SocketAddr::V6(_) => SocketAddr::from((address::client_v6(host), 0)),
            };
            let instances: BTreeSet<String> = (0..5)
                .map(|_| {
                    Conversation::open(&lab.client, Some(source), to)
                        .unwrap()
                        .1
                        .instance
                })
                .collect();
            assert_eq!(instances.len(), 1, "{source} reached {instances:?}");
            used.extend(instances);
        }
        assert!(used.len() > 1, "eight clients all reached {used:?}");
    }
}
