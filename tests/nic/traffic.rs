//! Requests through the driver, in both ways to be connected.

use std::net::{IpAddr, SocketAddr};

use forebay_tests::netlab::client::{curl, spread, udp_ask, udp_socket};
use forebay_tests::netlab::{Lab, address};

use crate::intact;
use crate::scene::{ARMS, Scene, both, frontend};

#[test]
fn requests_datagrams_and_large_transfers_arrive_in_both_directions() {
    for arms in ARMS {
        let Some(scene) = Scene::run_with(arms, intact::add_rule) else {
            return;
        };
        for to in frontend(80) {
            assert_spread(&scene.lab, to);
        }
        let sources = both(address::CLIENT_V4, address::CLIENT_V6, 0);
        for (source, to) in sources.into_iter().zip(frontend(5000)) {
            assert_datagrams_return(&scene.lab, source, to);
        }
        intact::assert_large_transfers(&scene);
    }
}

fn assert_spread(lab: &Lab, to: SocketAddr) {
    let answers = curl(&lab.client, to, 30).unwrap();
    // All thirty at one of three: less than once in 10^13.
    assert!(spread(&answers).len() > 1, "{to}: {answers:?}");
    let client = match to {
        SocketAddr::V4(_) => IpAddr::V4(address::CLIENT_V4),
        SocketAddr::V6(_) => IpAddr::V6(address::CLIENT_V6),
    };
    assert!(answers.iter().all(|answer| answer.client == client));
}

fn assert_datagrams_return(lab: &Lab, source: SocketAddr, to: SocketAddr) {
    let socket = udp_socket(&lab.client, source).unwrap();
    // The answer is longer than the question by the name and the source.
    for length in [1, 2, 21, 333, 1400] {
        let payload = "x".repeat(length);
        let answer = udp_ask(&socket, to, &payload).unwrap();
        assert_eq!((answer.from, answer.payload), (to, payload));
    }
}
