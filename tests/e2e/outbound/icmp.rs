//! Pings and ICMP errors of flows that instances open.

use forebay_tests::netlab::Arms;
use forebay_tests::netlab::client::{answers_ping, udp_socket};

use super::{Outside, from_any, mirror, outbound_rule, private};

#[test]
fn instances_ping_the_outside_with_short_and_long_packets() {
    for arms in [Arms::Two, Arms::One] {
        let Some(outside) = Outside::run(arms, &outbound_rule("")) else {
            return;
        };
        for instance in &outside.lab().instances {
            for to in mirror(2, 0) {
                assert!(answers_ping(&instance.namespace, to.ip()), "{to}");
                let address = to.ip().to_string();
                for size in ["1000", "4000"] {
                    let arguments = ["-c", "2", "-i", "0.2", "-W", "2", "-s", size, &address];
                    let said = instance.namespace.run("ping", &arguments).unwrap();
                    assert!(said.contains(" 0% packet loss"), "{said}");
                }
            }
        }
        let flows = outside.scene.forebay.list(&["show", "flows"]).unwrap();
        assert!(
            flows.iter().any(|flow| flow["protocol"] == "icmp"),
            "{flows:?}"
        );
    }
}

#[test]
fn errors_about_translated_packets_reach_the_instance() {
    let Some(outside) = Outside::run(Arms::Two, &outbound_rule("")) else {
        return;
    };
    let instance = &outside.lab().instances[0];
    for to in mirror(2, 9) {
        // Nobody is at that port: the outside says so, about a packet that it saw from elsewhere.
        let socket = udp_socket(&instance.namespace, from_any(instance, to)).unwrap();
        socket.connect(to).unwrap();
        socket.send(b"anybody?").unwrap();
        let error = socket.recv(&mut [0; 16]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{to}");
        let path = instance
            .namespace
            .run("tracepath", &["-n", "-m", "4", &to.ip().to_string()])
            .unwrap();
        assert!(path.contains("reached"), "{path}");
        let _ = private(instance, to);
    }
}
