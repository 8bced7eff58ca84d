//! Ports of rules stay the rules' own, whatever instances open.

use std::net::SocketAddr;

use forebay_tests::netlab::Arms;
use forebay_tests::netlab::client::{connect, curl, udp_ask, udp_socket};
use forebay_tests::netlab::config::Rule;
use forebay_tests::netlab::mirror::{Reflection, reflect_by};

use super::{Outside, mirror, outbound_rule, private};
use crate::scene::{Scene, client_towards, frontend};

/// The instance that attacks is no member of what it attacks.
fn attackable() -> Option<Outside> {
    Outside::run_with(Arms::Two, "", |config| {
        let mut attacker = config.pools[0].clone();
        attacker.name = "attacker";
        attacker.members.retain(|(name, _)| name == "web-1");
        config.pools[0].members.retain(|(name, _)| name != "web-1");
        config.pools.push(attacker);
        // So that both pools go out by the address that is attacked.
        let mut own = Rule::new("own", "tcp", 9000, 9000);
        own.pool = "attacker";
        config
            .rules
            .extend([own, Rule::new("high", "tcp", 8080, 8080)]);
    })
}

#[test]
fn a_flow_from_a_rules_port_does_not_divert_what_comes_to_the_rule() {
    let Some(outside) = attackable() else { return };
    let lab = outside.lab();
    let attacker = &lab.instances[0];
    for to in frontend(5000) {
        // The victim's own address and port, at which it will ask the frontend.
        let victim = SocketAddr::new(client_towards(to), 41_404);
        let source = SocketAddr::new(private(attacker, to), 7777);
        let service = SocketAddr::new(private(attacker, to), to.port());
        for from in [service, source] {
            let socket = match udp_socket(&attacker.namespace, from) {
                // The instance's own responder has it.
                Err(_) => continue,
                Ok(socket) => socket,
            };
            socket.send_to(b"shadow", victim).unwrap();
            let client = udp_socket(&lab.client, victim).unwrap();
            for _ in 0..5 {
                let answer = udp_ask(&client, to, "who are you?").unwrap();
                assert_ne!(answer.instance, attacker.name, "{from}");
            }
            drop(client);
        }
    }
    for to in frontend(8080) {
        let source = SocketAddr::new(private(attacker, to), 9090);
        let target = mirror(2, 7000)[usize::from(to.is_ipv6())];
        let flow = Reflection::open(&attacker.namespace, Some(source), target).unwrap();
        assert_ne!(flow.seen.port(), 8080);
        // From the very port that the attacker has a flow with.
        let answers = curl(&lab.client, to, 10).unwrap();
        assert!(
            answers
                .iter()
                .all(|answer| answer.instance != attacker.name)
        );
        let from = SocketAddr::new(client_towards(to), 7333);
        connect(&lab.client, Some(from), to).unwrap();
    }
}

#[test]
fn no_flow_leaves_by_a_block_that_holds_a_rules_port() {
    let rule = outbound_rule("").replace("\"nat\"]", "\"web\"]");
    let rule = format!("{rule}ports_per_instance = 8\nport_selection = \"lowest\"\n");
    let Some(outside) = Outside::run_with(Arms::Two, &rule, |config| {
        let rules = [1030, 1031, 1050].map(|port| Rule::new("", "tcp", port, 8080));
        for (name, rule) in ["a", "b", "c"].into_iter().zip(rules) {
            config.rules.push(Rule { name, ..rule });
        }
    }) else {
        return;
    };
    let instance = &outside.lab().instances[0];
    for to in mirror(2, 7000) {
        let open = |_| Reflection::open(&instance.namespace, None, to).unwrap();
        let flows: Vec<_> = (0..60).map(open).collect();
        let ports: Vec<u16> = flows.iter().map(|flow| flow.seen.port()).collect();
        for block in [1024..1032, 1048..1056] {
            assert!(!ports.iter().any(|port| block.contains(port)), "{ports:?}");
        }
        assert!(ports.contains(&1032), "{ports:?}");
        let socket = SocketAddr::new(private(instance, to), 0);
        let socket = udp_socket(&instance.namespace, socket).unwrap();
        assert_ne!(reflect_by(&socket, to).unwrap().port(), 5000);
    }
}

#[test]
fn a_block_is_taken_once_however_many_rules_have_ports_in_it() {
    let Some(mut scene) = Scene::install(Arms::Two, |config| {
        config.pools[0].members.truncate(1);
        config.more = outbound_rule("").replace("\"nat\"]", "\"web\"]");
    }) else {
        return;
    };
    let base = scene.config.clone();
    // The frontend has the rules tcp 80, which is no SNAT port, and udp 5000.
    for (ports, left) in [
        (&[][..], 63_992),
        (&[5001, 5007], 63_992),
        (&[5001, 5008], 63_984),
        (&[5001, 6000, 6001], 63_984),
    ] {
        scene.config = base.clone();
        for (name, &port) in ["a", "b", "c"].into_iter().zip(ports) {
            let rule = Rule::new("", "tcp", port, 8080);
            scene.config.rules.push(Rule { name, ..rule });
        }
        let check = |promised: u32| {
            let text = format!("{}ports_per_instance = {promised}\n", scene.config);
            scene.forebay.write_config(&text).unwrap();
            scene.forebay.cli(&["check"]).unwrap()
        };
        let fits = check(left);
        assert_eq!(fits.code, 0, "{ports:?} {left}: {fits:?}");
        let refused = check(left + 8);
        assert_eq!(refused.code, 2, "{ports:?}: {refused:?}");
        assert!(refused.stderr.contains(&left.to_string()), "{refused:?}");
    }
}
