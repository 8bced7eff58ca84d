//! When the port of a connection that has ended, or that nobody uses, is free again.

use std::io::Read;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use forebay_tests::netlab::client::connect;
use forebay_tests::netlab::mirror::Reflection;
use forebay_tests::netlab::{Arms, Resets};
use nix::sys::socket::{setsockopt, sockopt};

use super::{Outside, mirror, outbound_rule};
use crate::scene::eventually;

const FIN: Duration = Duration::from_secs(2);
const RST: Duration = Duration::from_secs(1);
/// How late a timer may be.
const LATE: Duration = Duration::from_secs(1);
/// Between a packet and the moment when the test takes the time.
const UNSURE: Duration = Duration::from_millis(200);
/// A port of the outside whose server the test itself is.
const PORT: u16 = 7200;

/// One whose instances have eight ports each.
fn outside(more: &str) -> Option<Outside> {
    let rule = outbound_rule(&format!("ports_per_instance = 8\nburst = false\n{more}"));
    Outside::run_with(Arms::Two, &rule, |config| {
        config.timeouts = vec![("tcp_fin", "2s"), ("tcp_rst", "1s")];
    })
}

/// A connection from the first instance, both its ends.
fn pair(outside: &Outside, to: SocketAddr) -> (TcpStream, TcpStream) {
    let listener = outside.lab().client.enter(|| TcpListener::bind(to));
    let listener = listener.unwrap();
    let near = connect(&outside.lab().instances[0].namespace, None, to).unwrap();
    let (far, _) = listener.accept().unwrap();
    far.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    (near, far)
}

/// Nothing more comes on a stream.
fn has_ended(stream: &mut TcpStream) {
    assert_eq!(stream.read(&mut [0; 16]).unwrap(), 0);
}

/// Waits until the instance gets a port towards a destination; says that it was in time.
fn is_released(outside: &Outside, to: SocketAddr, ended: Instant, timer: Duration) {
    let instance = &outside.lab().instances[0].namespace;
    let earliest = timer.saturating_sub(UNSURE);
    let elsewhere = mirror(3, 7000)[usize::from(to.is_ipv6())];
    Reflection::open(instance, None, elsewhere).expect("the port serves other destinations");
    while connect(instance, None, to).is_err() {
        let late = ended.elapsed();
        assert!(late < timer + LATE + UNSURE, "{to}: held for {late:?}");
        std::thread::sleep(Duration::from_millis(30));
    }
    let held = ended.elapsed();
    assert!(held > earliest, "{to}: held for {held:?} only");
}

#[test]
fn a_port_is_free_when_the_timer_after_fin_or_rst_has_passed() {
    let Some(outside) = outside("") else { return };
    let instance = &outside.lab().instances[0].namespace;
    for to in mirror(2, PORT) {
        let mut pairs: Vec<_> = (0..8).map(|_| pair(&outside, to)).collect();
        let _listener = outside
            .lab()
            .client
            .enter(|| TcpListener::bind(to))
            .unwrap();
        connect(instance, None, to).unwrap_err();

        // FIN from one side is no end.
        let (mut near, mut far) = pairs.pop().unwrap();
        near.shutdown(Shutdown::Write).unwrap();
        has_ended(&mut far);
        std::thread::sleep(FIN + LATE + UNSURE);
        connect(instance, None, to).unwrap_err();
        far.shutdown(Shutdown::Write).unwrap();
        let ended = Instant::now();
        has_ended(&mut near);
        connect(instance, None, to).unwrap_err();
        is_released(&outside, to, ended, FIN);

        let (near, mut far) = pairs.pop().unwrap();
        // What was tried has the port: its other end has not closed.
        connect(instance, None, to).unwrap_err();
        let at_once = libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        setsockopt(&near, sockopt::Linger, &at_once).unwrap();
        drop(near);
        let ended = Instant::now();
        far.read(&mut [0; 16]).unwrap_err();
        connect(instance, None, to).unwrap_err();
        is_released(&outside, to, ended, RST);
    }
}

#[test]
fn keep_alives_of_either_side_keep_a_port() {
    let Some(outside) = outside("idle_timeout = \"2s\"") else {
        return;
    };
    for to in mirror(2, PORT) {
        let pairs: Vec<_> = (0..2).map(|_| pair(&outside, to)).collect();
        let before: Vec<_> = pairs
            .iter()
            .map(|(_, far)| far.peer_addr().unwrap())
            .collect();
        for side in [&pairs[0].0, &pairs[1].1] {
            setsockopt(side, sockopt::KeepAlive, &true).unwrap();
            setsockopt(side, sockopt::TcpKeepIdle, &1).unwrap();
            setsockopt(side, sockopt::TcpKeepInterval, &1).unwrap();
        }
        std::thread::sleep(Duration::from_secs(6));
        for (mut near, mut far) in pairs {
            use std::io::Write;
            for _ in 0..2 {
                near.write_all(b"there").unwrap();
                far.read_exact(&mut [0; 5]).unwrap();
                far.write_all(b"back").unwrap();
                near.read_exact(&mut [0; 4]).unwrap();
            }
            assert!(before.contains(&far.peer_addr().unwrap()));
        }
    }
}

#[test]
fn a_flow_that_idles_out_is_reset_on_both_sides_unless_the_rule_says_no() {
    for tcp_reset in [true, false] {
        let more = format!("idle_timeout = \"2s\"\ntcp_reset = {tcp_reset}");
        let Some(outside) = outside(&more) else {
            return;
        };
        for to in mirror(2, PORT) {
            let at_outside = Resets::watch(&outside.lab().client, "eth0").unwrap();
            let instance = &outside.lab().instances[0].namespace;
            let at_instance = Resets::watch(instance, "eth0").unwrap();
            let (mut near, mut far) = pair(&outside, to);
            let opened = Instant::now();
            far.read(&mut [0; 16]).unwrap_err();
            let waited = opened.elapsed();
            if tcp_reset {
                assert!(waited > Duration::from_secs(2) - UNSURE, "{waited:?}");
                near.read(&mut [0; 16]).unwrap_err();
            }
            std::thread::sleep(LATE);
            let expected = if tcp_reset { 1 } else { 0 };
            assert_eq!(at_outside.count(PORT), expected, "{to}");
            assert_eq!(at_instance.count(PORT), expected, "{to}");
        }
        let instances = &outside.lab().instances;
        let source = instances[0].ipv4.to_string();
        eventually("the flows are gone", LATE, || {
            let flows = outside
                .scene
                .forebay
                .list(&["show", "flows", "--source", &source]);
            flows.unwrap().is_empty()
        });
    }
}
