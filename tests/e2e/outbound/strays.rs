//! Segments and datagrams of flows that the node does not know any more.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use forebay_tests::netlab::client::{connect, udp_socket};
use forebay_tests::netlab::{Arms, Config, Instance, Wire};

use super::{Outside, from_any, mirror, outbound_rule};
use crate::scene::eventually;

const PORT: u16 = 7200;
/// How long a port that nobody uses may be kept.
const LATE: Duration = Duration::from_secs(8);

/// One whose instances get the lowest port that is free, all from the same ports, and whose silent flows go.
fn outside(tcp_reset: bool) -> Option<Outside> {
    let more = format!(
        "ports_per_instance = 8\nport_selection = \"lowest\"\nidle_timeout = \"1s\"\n\
         tcp_reset = {tcp_reset}"
    );
    Outside::run_with(Arms::Two, &outbound_rule(&more), |config: &mut Config| {
        config.timeouts = ["udp_unreplied", "tcp_fin", "tcp_rst"]
            .map(|key| (key, "1s"))
            .into();
    })
}

/// Waits until nothing is in use.
fn until_quiet(outside: &Outside) {
    eventually("all ports are free", Duration::from_secs(20), || {
        let rows = outside.scene.forebay.list(&["show", "snat"]).unwrap();
        rows.iter().all(|row| row["used"] == 0)
    });
}

#[test]
fn a_segment_of_a_connection_that_nobody_knows_is_answered_by_a_reset() {
    let Some(outside) = outside(false) else {
        return;
    };
    let instance = &outside.lab().instances[0].namespace;
    for to in mirror(2, PORT) {
        let listener = outside
            .lab()
            .client
            .enter(|| TcpListener::bind(to))
            .unwrap();
        let mut near = connect(instance, None, to).unwrap();
        let (far, _) = listener.accept().unwrap();
        until_quiet(&outside);
        // Neither side has heard that the flow is gone.
        far.set_nonblocking(true).unwrap();
        let silent = (&far).read(&mut [0; 16]).unwrap_err();
        assert_eq!(silent.kind(), ErrorKind::WouldBlock);
        near.write_all(b"still there?").unwrap();
        let told = near.read(&mut [0; 16]).unwrap_err();
        assert_eq!(told.kind(), ErrorKind::ConnectionReset, "{to}");
        let silent = (&far).read(&mut [0; 16]).unwrap_err();
        assert_eq!(silent.kind(), ErrorKind::WouldBlock, "nothing got through");
    }
}

#[test]
fn what_a_late_peer_says_does_not_reach_who_has_the_port_now() {
    let Some(outside) = outside(false) else {
        return;
    };
    let [first, second, ..] = &outside.lab().instances[..] else {
        panic!("too few instances")
    };
    for to in mirror(2, PORT) {
        let version = usize::from(to.is_ipv6());
        let elsewhere = mirror(3, PORT)[version];
        let listen = |at| {
            outside
                .lab()
                .client
                .enter(|| TcpListener::bind(at))
                .unwrap()
        };
        let listeners = [listen(to), listen(elsewhere)];
        // The ninth of each goes by the lowest port that nobody reserved.
        let mut late: Vec<_> = (0..9)
            .map(|_| {
                let near = connect(&first.namespace, None, to).unwrap();
                (near, listeners[0].accept().unwrap())
            })
            .collect();
        until_quiet(&outside);
        let (_, (mut late_far, late_seen)) = late.pop().unwrap();
        let mut now = Vec::new();
        eventually("the second has the port of the first", LATE, || {
            let near = connect(&second.namespace, None, elsewhere).unwrap();
            let (far, seen) = listeners[1].accept().unwrap();
            now.push((near, far));
            seen == late_seen
        });
        let (mut near, mut far) = now.pop().unwrap();
        let wire = Wire::open(&second.namespace, "eth0").unwrap();
        late_far.write_all(b"a late answer").unwrap();
        let reached = wire.receive(Duration::from_millis(500), |frame| is_from(frame, to));
        assert_eq!(reached, None, "{to}");
        near.write_all(b"?").unwrap();
        far.read_exact(&mut [0; 1]).unwrap();
        far.write_all(b"the answer").unwrap();
        let mut answer = [0; 64];
        let length = near.read(&mut answer).unwrap();
        assert_eq!(&answer[..length], b"the answer");
    }
}

#[test]
fn a_late_datagram_does_not_reach_who_has_the_port_now() {
    let Some(outside) = outside(true) else { return };
    let [first, second, ..] = &outside.lab().instances[..] else {
        panic!("too few instances")
    };
    for to in mirror(2, PORT) {
        let version = usize::from(to.is_ipv6());
        let servers = [to, mirror(3, PORT)[version]].map(|at| {
            let server = udp_socket(&outside.lab().client, at).unwrap();
            (at, server)
        });
        let open = |instance: &Instance, (at, server): &(SocketAddr, UdpSocket)| {
            let socket = udp_socket(&instance.namespace, from_any(instance, to)).unwrap();
            socket.send_to(b"?", at).unwrap();
            let (_, seen) = server.recv_from(&mut [0; 8]).unwrap();
            (socket, seen)
        };
        let mut late: Vec<_> = (0..9).map(|_| open(first, &servers[0])).collect();
        let (_, seen) = late.pop().unwrap();
        until_quiet(&outside);
        let mut now = Vec::new();
        eventually("the second has the port of the first", LATE, || {
            now.push(open(second, &servers[1]));
            now.last().is_some_and(|(_, port)| *port == seen)
        });
        let (socket, _) = now.pop().unwrap();
        servers[0].1.send_to(b"a late answer", seen).unwrap();
        servers[1].1.send_to(b"the answer", seen).unwrap();
        let mut answer = [0; 64];
        let (length, from) = socket.recv_from(&mut answer).unwrap();
        assert_eq!(&answer[..length], b"the answer");
        assert_eq!(from, servers[1].0);
    }
}

/// Whether a frame is an IP packet from an address.
fn is_from(frame: &[u8], source: SocketAddr) -> bool {
    match source {
        SocketAddr::V4(source) => frame.get(26..30) == Some(&source.ip().octets()),
        SocketAddr::V6(source) => frame.get(22..38) == Some(&source.ip().octets()),
    }
}
