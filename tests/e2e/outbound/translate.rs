//! An instance with only private addresses opens flows to the outside, and gets their answers.

use forebay_tests::netlab::client::{connect_within, udp_socket};
use forebay_tests::netlab::mirror::{Reflection, reflect_by};
use forebay_tests::netlab::{Arms, address};
use std::net::SocketAddr;
use std::time::Duration;

use super::{Outside, from_any, mirror, of_family, outbound_rule, private};
use crate::scene::flow_from;

const FRONTEND: (std::net::Ipv4Addr, std::net::Ipv6Addr) =
    (address::FRONTEND_V4, address::FRONTEND_V6);

#[test]
fn flows_leave_as_the_frontend_and_answers_come_back_over_both_families() {
    for arms in [Arms::Two, Arms::One] {
        let Some(outside) = Outside::run(arms, "") else {
            return;
        };
        for instance in &outside.lab().instances {
            for to in mirror(2, 7000) {
                let mut flow = Reflection::open(&instance.namespace, None, to).unwrap();
                assert_eq!(flow.seen.ip(), of_family(FRONTEND, to), "{to}");
                assert_eq!(flow.ask().unwrap(), flow.seen);
                let listed = flow_from(&outside.scene.forebay, flow.stream().local_addr().unwrap());
                let listed = listed.unwrap();
                assert_eq!(listed["kind"], "rule-implied", "{listed}");
                assert_eq!(listed["state"], "established");
                assert_eq!(listed["instance"], instance.name.as_str());
                let socket = udp_socket(&instance.namespace, from_any(instance, to)).unwrap();
                let seen = reflect_by(&socket, to).unwrap();
                assert_eq!(seen.ip(), of_family(FRONTEND, to));
                assert_eq!(reflect_by(&socket, to).unwrap(), seen);
            }
        }
    }
}

#[test]
fn nobody_comes_in_by_a_port_that_a_flow_left_by() {
    let Some(outside) = Outside::run(Arms::Two, &outbound_rule("")) else {
        return;
    };
    let forebay = &outside.scene.forebay;
    let instance = &outside.lab().instances[0];
    for to in mirror(2, 7000) {
        let flow = Reflection::open(&instance.namespace, None, to).unwrap();
        let before = forebay.drops("no-rule").unwrap();
        let stranger = mirror(4, 0)[usize::from(to.is_ipv6())];
        let patience = Duration::from_millis(700);
        let refused = connect_within(&outside.lab().client, Some(stranger), flow.seen, patience);
        refused.unwrap_err();
        assert!(forebay.drops("no-rule").unwrap() > before);
        let socket = udp_socket(&instance.namespace, from_any(instance, to)).unwrap();
        let seen = reflect_by(&socket, to).unwrap();
        let before = forebay.drops("no-rule").unwrap();
        let other = udp_socket(&outside.lab().client, stranger).unwrap();
        other.send_to(b"unasked", seen).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(forebay.drops("no-rule").unwrap(), before + 1);
    }
}

#[test]
fn private_destinations_are_not_translated() {
    let Some(outside) = Outside::run(Arms::Two, &outbound_rule("")) else {
        return;
    };
    let [first, second, ..] = &outside.lab().instances[..] else {
        panic!("too few instances")
    };
    for to in mirror(2, 7000) {
        let to = SocketAddr::new(private(second, to), 8080);
        let answers = forebay_tests::netlab::client::curl(&first.namespace, to, 1).unwrap();
        assert_eq!(answers[0].client, private(first, to));
    }
}
