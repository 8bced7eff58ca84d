//! What an instance that runs out of ports means for itself, datagram by datagram, and for others.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use forebay_tests::netlab::Arms;
use forebay_tests::netlab::client::{answers_ping, connect, udp_socket};
use forebay_tests::netlab::mirror::{Reflection, reflect_by};

use super::{Outside, from_any, mirror, outbound_rule};

const RULE: &str = "ports_per_instance = 8\nburst = false";

#[test]
fn an_instance_without_ports_does_not_disturb_others() {
    let Some(outside) = Outside::run(Arms::Two, &outbound_rule(RULE)) else {
        return;
    };
    let [noisy, others @ ..] = &outside.lab().instances[..] else {
        panic!("too few instances")
    };
    for to in mirror(2, 7000) {
        let open = |_| Reflection::open(&noisy.namespace, None, to).unwrap();
        let mut held: Vec<_> = (0..8).map(open).collect();
        std::thread::scope(|scope| {
            let end = Instant::now() + Duration::from_secs(3);
            let storm = scope.spawn(move || {
                let mut refused = 0;
                while Instant::now() < end {
                    refused += usize::from(connect(&noisy.namespace, None, to).is_err());
                }
                refused
            });
            for other in others {
                let open = |_| Reflection::open(&other.namespace, None, to).unwrap();
                let mut flows: Vec<_> = (0..8).map(open).collect();
                while Instant::now() + Duration::from_secs(1) < end {
                    for flow in &mut flows {
                        assert_eq!(flow.ask().unwrap(), flow.seen);
                    }
                }
                assert!(answers_ping(&other.namespace, to.ip()));
                let socket = udp_socket(&other.namespace, from_any(other, to)).unwrap();
                reflect_by(&socket, to).unwrap();
            }
            assert!(storm.join().unwrap() > 100);
        });
        for flow in &mut held {
            assert_eq!(flow.ask().unwrap(), flow.seen, "its own flows go on");
        }
    }
    for row in outside.scene.forebay.list(&["show", "snat"]).unwrap() {
        let is_noisy = row["instance"] == noisy.name.as_str() && row["protocol"] == "tcp";
        assert_eq!(row["failed_total"].as_u64().unwrap() > 0, is_noisy, "{row}");
    }
}

#[test]
fn a_socket_for_which_no_port_is_left_is_told_that_it_may_not() {
    let Some(outside) = Outside::run(Arms::Two, &outbound_rule(RULE)) else {
        return;
    };
    let instance = &outside.lab().instances[0];
    for (to, expected) in mirror(2, 7000)
        .into_iter()
        .zip([ErrorKind::HostUnreachable, ErrorKind::PermissionDenied])
    {
        let socket = || {
            let socket = udp_socket(&instance.namespace, from_any(instance, to)).unwrap();
            socket.connect(to).unwrap();
            socket
        };
        let held: Vec<_> = (0..8).map(|_| socket()).collect();
        for socket in &held {
            reflect_by_connected(socket);
        }
        let one_more = socket();
        one_more.send(b"?").unwrap();
        let told = one_more.recv(&mut [0; 64]).unwrap_err();
        assert_eq!(told.kind(), expected, "{to}: {told}");
        for socket in &held {
            reflect_by_connected(socket);
        }
    }
    assert_eq!(outside.scene.forebay.drops("snat-exhausted").unwrap(), 0);
    for row in outside.scene.forebay.list(&["show", "snat"]).unwrap() {
        let is_it = row["instance"] == instance.name.as_str() && row["protocol"] == "udp";
        assert_eq!(row["failed_total"], u64::from(is_it), "{row}");
    }
}

fn reflect_by_connected(socket: &std::net::UdpSocket) {
    socket.send(b"?").unwrap();
    assert!(socket.recv(&mut [0; 64]).unwrap() > 0);
}
