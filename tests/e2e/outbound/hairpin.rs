//! Instances talk to frontends of this node, their own included, and to each other by their public ports.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use forebay_tests::netlab::client::{curl, spread, udp_ask, udp_socket};
use forebay_tests::netlab::mirror::reflect_by;
use forebay_tests::netlab::{Arms, address};

use super::{Outside, from_any, mirror, of_family, outbound_rule};
use crate::scene::frontend;

#[test]
fn an_instance_reaches_its_own_frontend_whoever_is_chosen() {
    for arms in [Arms::Two, Arms::One] {
        let Some(outside) = Outside::run(arms, &outbound_rule("")) else {
            return;
        };
        for instance in &outside.lab().instances {
            for to in frontend(80) {
                let answers = curl(&instance.namespace, to, 30).unwrap();
                assert_eq!(spread(&answers).len(), 3, "itself too");
                let nat = of_family(super::NAT, to);
                assert!(answers.iter().all(|answer| answer.client == nat));
            }
            for to in frontend(5000) {
                for _ in 0..6 {
                    let socket = udp_socket(&instance.namespace, from_any(instance, to)).unwrap();
                    udp_ask(&socket, to, "hello").unwrap();
                }
            }
        }
    }
}

#[test]
fn without_a_way_out_the_frontends_own_address_serves() {
    let Some(outside) = Outside::run_with(Arms::Two, "", |config| {
        for rule in &mut config.rules {
            rule.outbound_snat = Some(false);
        }
    }) else {
        return;
    };
    let instance = &outside.lab().instances[0];
    for to in frontend(80) {
        let answers = curl(&instance.namespace, to, 20).unwrap();
        assert_eq!(spread(&answers).len(), 3);
        let web = of_family((address::FRONTEND_V4, address::FRONTEND_V6), to);
        assert!(answers.iter().all(|answer| answer.client == web));
    }
}

/// A datagram from one of two instances to the public port of the other; as whom it came, if it did.
fn passes(from: &UdpSocket, to: SocketAddr, other: &UdpSocket) -> Option<SocketAddr> {
    let mut buffer = [0; 64];
    other
        .set_read_timeout(Some(Duration::from_millis(20)))
        .unwrap();
    while other.recv(&mut buffer).is_ok() {}
    from.send_to(b"across", to).unwrap();
    other
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    other.recv_from(&mut buffer).ok().map(|(_, peer)| peer)
}

#[test]
fn two_instances_talk_by_their_ports_where_filtering_lets_them() {
    let Some(mut outside) = Outside::run(Arms::Two, &outbound_rule("")) else {
        return;
    };
    for (filtering, at_once, after_contact) in [
        ("address-and-port-dependent", false, false),
        ("address-dependent", false, true),
        ("endpoint-independent", true, true),
    ] {
        let rule = outbound_rule(&format!("filtering = {filtering:?}"));
        outside.reload(&rule, |_| {});
        for outer in mirror(2, 7000) {
            let sides = [0, 1].map(|number| {
                let instance = &outside.lab().instances[number];
                let socket = udp_socket(&instance.namespace, from_any(instance, outer)).unwrap();
                let seen = reflect_by(&socket, outer).unwrap();
                (socket, seen)
            });
            let [(one, one_seen), (two, two_seen)] = &sides;
            let expected = |passes: bool, seen: &SocketAddr| passes.then_some(*seen);
            let first = passes(one, *two_seen, two);
            assert_eq!(first, expected(at_once, one_seen), "{filtering} {outer}");
            let second = passes(two, *one_seen, one);
            assert_eq!(second, expected(after_contact, two_seen), "{filtering}");
            let third = passes(one, *two_seen, two);
            assert_eq!(third, expected(after_contact, one_seen), "{filtering}");
        }
    }
}
