//! Public IPs: one address for an instance, both ways, whatever the packet is.

use std::net::SocketAddr;

use forebay_tests::netlab::client::{answers_ping, curl, udp_socket};
use forebay_tests::netlab::mirror::{Reflection, reflect_by};
use forebay_tests::netlab::{Arms, Config};

use super::{Outside, PUBLIC, PUBLIC_2, from_any, mirror, of_family, private};
use crate::scene::frontend;

fn tables() -> String {
    let table = |name, (ipv4, ipv6)| {
        format!("\n[[public_ip]]\nname = \"{name}\"\nipv4 = \"{ipv4}\"\nipv6 = \"{ipv6}\"\n")
    };
    format!("{}{}", table("alice", PUBLIC), table("bob", PUBLIC_2))
}

fn give(config: &mut Config) {
    config.instances[0].public_ip = Some("alice");
}

#[test]
fn an_instance_is_reached_and_goes_out_by_its_public_ip_on_every_port() {
    for arms in [Arms::Two, Arms::One] {
        let Some(outside) = Outside::run_with(arms, &tables(), give) else {
            return;
        };
        let instance = &outside.lab().instances[0];
        for to in mirror(2, 7000) {
            let public = of_family(PUBLIC, to);
            let source = SocketAddr::new(private(instance, to), 33_333);
            let mut flow = Reflection::open(&instance.namespace, Some(source), to).unwrap();
            assert_eq!(flow.seen, SocketAddr::new(public, 33_333));
            flow.ask().unwrap();
            let source = SocketAddr::new(private(instance, to), 44_444);
            let socket = udp_socket(&instance.namespace, source).unwrap();
            let seen = reflect_by(&socket, to).unwrap();
            assert_eq!(seen, SocketAddr::new(public, 44_444));
            for port in [8080, 8081] {
                let answers = curl(&outside.lab().client, SocketAddr::new(public, port), 3);
                let answers = answers.unwrap();
                assert!(
                    answers
                        .iter()
                        .all(|answer| answer.instance == instance.name)
                );
            }
            assert!(answers_ping(&outside.lab().client, public));
            assert!(answers_ping(&instance.namespace, to.ip()));
            // Beside the pool.
            let web = frontend(80)[usize::from(to.is_ipv6())];
            let answers = curl(&outside.lab().client, web, 20).unwrap();
            assert!(
                answers
                    .iter()
                    .any(|answer| answer.instance == instance.name)
            );
            let flows = outside.scene.forebay.list(&["show", "flows"]).unwrap();
            let text = serde_json::to_string(&flows).unwrap();
            assert!(!text.contains("33333"), "nothing is tracked");
        }
        // Wiping the flow tables does not hurt it.
        let to = mirror(2, 7000)[0];
        let mut flow = Reflection::open(&instance.namespace, None, to).unwrap();
        outside.scene.forebay.text(&["flush", "flows"]).unwrap();
        assert_eq!(flow.ask().unwrap(), flow.seen);
    }
}

#[test]
fn it_comes_and_goes_on_a_live_instance() {
    let Some(mut outside) = Outside::run(Arms::Two, "") else {
        return;
    };
    let to = mirror(2, 7000);
    let open =
        |outside: &Outside, to| Reflection::open(&outside.lab().instances[0].namespace, None, to);
    let mut before = to.map(|to| open(&outside, to).unwrap());
    let web = frontend(80);
    for to in web {
        curl(&outside.lab().client, to, 3).unwrap();
    }
    outside.reload(&tables(), give);
    let mut on = to.map(|to| open(&outside, to).unwrap());
    for (flow, to) in on.iter().zip(to) {
        assert_eq!(flow.seen.ip(), of_family(PUBLIC, to));
    }
    for flow in &mut before {
        assert_eq!(flow.ask().unwrap(), flow.seen);
    }
    outside.reload("", |config| config.instances[0].public_ip = None);
    for flow in &mut on {
        flow.ask().unwrap_err();
    }
    for (flow, to) in before.iter_mut().zip(to) {
        assert_eq!(flow.ask().unwrap(), flow.seen);
        let after = open(&outside, to).unwrap();
        assert_eq!(after.seen.ip(), flow.seen.ip());
    }
}

#[test]
fn instances_reach_each_others_public_ips() {
    let both = |config: &mut Config| {
        give(config);
        config.instances[1].public_ip = Some("bob");
    };
    let Some(outside) = Outside::run_with(Arms::Two, &tables(), both) else {
        return;
    };
    let [first, second, third] = &outside.lab().instances[..] else {
        panic!("there are three instances")
    };
    for to in mirror(2, 7000) {
        let at = |pair| SocketAddr::new(of_family(pair, to), 8080);
        let answers = curl(&first.namespace, at(PUBLIC_2), 2).unwrap();
        assert_eq!(answers[0].instance, second.name);
        assert_eq!(answers[0].client, of_family(PUBLIC, to));
        let answers = curl(&first.namespace, at(PUBLIC), 2).unwrap();
        assert_eq!(answers[0].instance, first.name);
        let answers = curl(&third.namespace, at(PUBLIC), 2).unwrap();
        assert_eq!(answers[0].instance, first.name);
        assert!(answers_ping(&third.namespace, of_family(PUBLIC, to)));
        assert!(answers_ping(&first.namespace, of_family(PUBLIC_2, to)));
        let _ = from_any(first, to);
    }
}
