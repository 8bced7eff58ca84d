//! Datagrams reach an instance and its answers return.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use forebay_tests::netlab::Arms;
use forebay_tests::netlab::client::{udp_ask, udp_socket};

use crate::scene::{Scene, client_towards, frontend};

#[test]
fn datagrams_of_one_socket_reach_one_instance_and_answers_come_from_the_frontend() {
    for arms in [Arms::Two, Arms::One] {
        let Some(scene) = Scene::run(arms, |_| {}) else {
            return;
        };
        let Scene { lab, forebay, .. } = &scene;
        for to in frontend(5000) {
            let mut used = BTreeSet::new();
            // Kept, so that no two have one port.
            let mut sockets = Vec::new();
            for number in 0..40 {
                let source = SocketAddr::new(client_towards(to), 0);
                let socket = udp_socket(&lab.client, source).unwrap();
                let payload = format!("datagram {number}");
                let first = udp_ask(&socket, to, &payload).unwrap();
                assert_eq!(
                    first.client,
                    socket.local_addr().unwrap(),
                    "source is not kept"
                );
                assert_eq!((first.from, first.payload.as_str()), (to, payload.as_str()));
                for _ in 0..3 {
                    assert_eq!(udp_ask(&socket, to, &payload).unwrap(), first);
                }
                used.insert(first.instance);
                sockets.push(socket);
            }
            assert_eq!(
                used.len(),
                3,
                "{arms:?} {to}: only {used:?}\n{}",
                forebay.log()
            );
        }
        let flows = forebay.list(&["show", "flows"]).unwrap();
        let udp: Vec<_> = flows
            .iter()
            .filter(|flow| flow["protocol"] == "udp")
            .collect();
        assert_eq!(udp.len(), 80, "two families, forty sockets each");
        assert!(
            udp.iter()
                .all(|flow| flow["rule"] == "echo" && flow["packets"] == 8),
            "{udp:#?}"
        );
    }
}
