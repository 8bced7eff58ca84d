//! Programs that look for the way to a frontend see the node, and then the end of the way.
//!
//! With `echo` and `path_mtu` this is the acceptance test "ICMP echo + errors + PMTU" (33): B9-24, B9-26 as
//! far as it is about packets of flows, B9-28.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::Duration;

use forebay_tests::netlab::client::udp_socket;
use forebay_tests::netlab::config::Rule;
use forebay_tests::netlab::{Arms, Config, Instance, Namespace, address};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, setsockopt, socket, sockopt,
};

use crate::scene::{Scene, client_towards, frontend, has_programs};

/// Where tracepath begins; it takes the next port for each packet.
const FIRST_PORT: u16 = 44_444;
const PORTS: u16 = 12;
/// A port that traceroute and mtr stay with; nobody listens there.
const CLOSED: u16 = 33_000;
const WEB: u16 = 80;
/// The node, on the instances' side.
const NODE_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 1);
/// The same.
const NODE_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 1);

fn rules_for_traces(config: &mut Config) {
    // The end of the way is one machine.
    config.pools[0].members.truncate(1);
    let of = |name, port| Rule::new(name, "udp", port, port);
    config.rules.push(of("closed", CLOSED));
    for port in FIRST_PORT..FIRST_PORT + PORTS {
        config.rules.push(of(format!("trace-{port}").leak(), port));
    }
}

#[test]
fn icmp_echo_errors_and_path_mtu_traces_from_afar_end_at_the_frontend() {
    if !has_programs(&["tracepath", "traceroute", "mtr"]) {
        return;
    }
    let Some(scene) = Scene::run(Arms::Two, rules_for_traces) else {
        return;
    };
    // Two routers, then the node.
    let far = scene.lab.client_beyond(1500).unwrap();
    let from = &far.host.namespace;
    let routers = [
        ["198.18.2.1", "192.0.2.1"],
        ["2001:db8:9::1", "2001:db8:8::1"],
    ];
    let (udp, web) = (CLOSED.to_string(), WEB.to_string());
    for (to, [first, second]) in frontend(WEB).into_iter().zip(routers) {
        let to = to.ip().to_string();
        let to = to.as_str();
        let behind_the_node = [first, second, to, to];
        let up_to_the_node = [first, second, to];
        let first_port = FIRST_PORT.to_string();
        let said = run(from, "tracepath", &["-n", "-m", "8", "-p", &first_port, to]);
        assert_eq!(hops(&said), behind_the_node, "{said}");
        assert!(
            said.contains("reached") && said.contains("pmtu 1500"),
            "{said}"
        );
        for (mode, expected) in [
            (&["-U", "-p", &udp][..], &behind_the_node[..]),
            (&["-T", "-p", &web], &behind_the_node),
            (&["-I"], &up_to_the_node),
        ] {
            let mut arguments = vec!["-n", "-q", "1", "-w", "2", "-m", "8"];
            arguments.extend(mode);
            arguments.push(to);
            let said = run(from, "traceroute", &arguments);
            assert_eq!(hops(&said), expected, "{mode:?}: {said}");
        }
        for mode in [
            &[][..],
            &["--udp", "--port", &udp],
            &["--tcp", "--port", &web],
        ] {
            let mut arguments = vec!["-n", "--report", "--report-cycles", "2", "--gracetime", "1"];
            arguments.extend(mode);
            arguments.push(to);
            let said = run(from, "mtr", &arguments);
            // It takes the first answer from where it wants to go for the end.
            assert_eq!(hops(&said), up_to_the_node, "{mode:?}: {said}");
        }
    }
}

#[test]
fn icmp_echo_errors_and_path_mtu_answers_that_expire_are_reported_to_the_instance_by_the_node() {
    for arms in [Arms::Two, Arms::One] {
        let Some(scene) = Scene::run(arms, |config| {
            config.pools[0].members.truncate(1);
            config.rules.push(Rule::new("own", "udp", 5001, 5001));
        }) else {
            return;
        };
        let Scene { lab, .. } = &scene;
        let instance = &lab.instances[0];
        for to in frontend(5001) {
            let server = UdpService::at(instance, to);
            let client = udp_socket(&lab.client, SocketAddr::new(client_towards(to), 0)).unwrap();
            client.send_to(b"question", to).unwrap();
            let (_, from) = server.socket.recv_from(&mut [0; 64]).unwrap();
            server.limit_hops(1);
            server.socket.send_to(b"answer", from).unwrap();
            // With one NIC, any of its addresses.
            let node: [IpAddr; 2] = match (to, arms) {
                (SocketAddr::V4(_), Arms::Two) => [NODE_V4; 2].map(IpAddr::V4),
                (SocketAddr::V4(_), Arms::One) => [NODE_V4, address::NODE_V4].map(IpAddr::V4),
                (SocketAddr::V6(_), Arms::Two) => [NODE_V6; 2].map(IpAddr::V6),
                (SocketAddr::V6(_), Arms::One) => [NODE_V6, address::NODE_V6].map(IpAddr::V6),
            };
            let reporter = server.expired();
            assert!(node.contains(&reporter), "{arms:?} {to}: {reporter}");
        }
    }
}

#[test]
fn icmp_echo_errors_and_path_mtu_traces_to_beyond_the_node_show_the_frontend_alone() {
    if !has_programs(&["traceroute"]) {
        return;
    }
    let Some(mut scene) = Scene::install(Arms::Two, rules_for_traces) else {
        return;
    };
    let far = scene.lab.instance_beyond(1500).unwrap();
    scene.config.instances[0].ipv4 = far.host.ipv4;
    scene.config.instances[0].ipv6 = far.host.ipv6;
    let text = scene.config.to_string();
    scene.forebay.write_config(&text).unwrap();
    scene.forebay.start().unwrap();
    let udp = CLOSED.to_string();
    for to in frontend(CLOSED) {
        let to = to.ip().to_string();
        let arguments = ["-n", "-q", "1", "-w", "2", "-m", "8", "-U", "-p", &udp, &to];
        let said = run(&scene.lab.client, "traceroute", &arguments);
        // The node, the two routers behind it, the instance.
        assert_eq!(hops(&said), [to.as_str(); 4], "{said}");
    }
}

#[test]
fn icmp_echo_errors_and_path_mtu_answers_that_expire_beyond_the_node_are_reported_by_who_saw_it() {
    let Some(scene) = Scene::run(Arms::Two, |config| {
        config.pools[0].members.truncate(1);
        config.rules.push(Rule::new("own", "udp", 5001, 5001));
    }) else {
        return;
    };
    let Scene { lab, .. } = &scene;
    let far = lab.client_beyond(1500).unwrap();
    for to in frontend(5001) {
        let (source, router): (IpAddr, IpAddr) = match to {
            SocketAddr::V4(_) => (far.host.ipv4.into(), address::CLIENT_V4.into()),
            SocketAddr::V6(_) => (far.host.ipv6.into(), address::CLIENT_V6.into()),
        };
        let server = UdpService::at(&lab.instances[0], to);
        let client = udp_socket(&far.host.namespace, SocketAddr::new(source, 0)).unwrap();
        client.send_to(b"question", to).unwrap();
        let (_, from) = server.socket.recv_from(&mut [0; 64]).unwrap();
        server.limit_hops(2);
        server.socket.send_to(b"answer", from).unwrap();
        assert_eq!(server.expired(), router, "{to}");
    }
}

/// A UDP service on an instance that also hears the ICMP messages of its host.
struct UdpService {
    socket: UdpSocket,
    icmp: UdpSocket,
    is_ipv4: bool,
}

impl UdpService {
    /// Listens where a rule for `to` leads.
    fn at(instance: &Instance, to: SocketAddr) -> Self {
        let is_ipv4 = to.is_ipv4();
        let (own, family, protocol) = match to {
            SocketAddr::V4(_) => (
                SocketAddr::from((instance.ipv4, to.port())),
                AddressFamily::Inet,
                SockProtocol::Icmp,
            ),
            SocketAddr::V6(_) => (
                SocketAddr::from((instance.ipv6, to.port())),
                AddressFamily::Inet6,
                SockProtocol::IcmpV6,
            ),
        };
        let open = || -> std::io::Result<(UdpSocket, OwnedFd)> {
            let icmp = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
            Ok((UdpSocket::bind(own)?, icmp))
        };
        let (socket, icmp) = instance.namespace.enter(open).unwrap();
        // Its calls do the same on any socket of messages.
        let icmp = UdpSocket::from(icmp);
        for socket in [&socket, &icmp] {
            socket
                .set_read_timeout(Some(Duration::from_secs(2)))
                .unwrap();
        }
        Self {
            socket,
            icmp,
            is_ipv4,
        }
    }

    /// Who reports next that time was exceeded.
    fn expired(&self) -> IpAddr {
        let mut buffer = [0; 2048];
        loop {
            let (length, from) = self.icmp.recv_from(&mut buffer).unwrap();
            let message = &buffer[..length];
            // Raw IPv4 sockets show the IP header.
            let is_it = if self.is_ipv4 {
                message[20] == 11
            } else {
                message[0] == 3
            };
            if is_it {
                return from.ip();
            }
        }
    }

    /// Lets later datagrams live for so many hops.
    fn limit_hops(&self, hops: i32) {
        if self.is_ipv4 {
            setsockopt(&self.socket, sockopt::Ipv4Ttl, &hops).unwrap();
        } else {
            setsockopt(&self.socket, sockopt::Ipv6Ttl, &hops).unwrap();
        }
    }
}

fn run(from: &Namespace, program: &str, arguments: &[&str]) -> String {
    from.run(program, arguments).unwrap()
}

/// Who answered for each hop, in order: the first address of each line that begins with a number.
fn hops(report: &str) -> Vec<&str> {
    let mut hops: Vec<(&str, &str)> = Vec::new();
    for line in report.lines() {
        let mut words = line.split_whitespace();
        let number = words
            .next()
            .unwrap_or_default()
            .trim_end_matches([':', '|', '-', '.', '?']);
        let is_hop = number.parse::<u8>().is_ok();
        let address =
            words.find(|word| word.parse::<IpAddr>().is_ok() || *word == "*" || *word == "???");
        if let Some(address) = address.filter(|_| is_hop) {
            // tracepath may have several lines for a hop.
            hops.retain(|(known, _)| *known != number);
            hops.push((number, address));
        }
    }
    hops.into_iter().map(|(_, address)| address).collect()
}

#[test]
fn reports_of_all_three_programs_are_understood() {
    let mtr = "Start: 2026-01-01T00:00:00+0000\nHOST: here      Loss%   Snt\n  1.|-- 192.0.2.1   0.0%  2\n  2.|-- ???  100.0  2\n";
    assert_eq!(hops(mtr), ["192.0.2.1", "???"]);
    let tracepath = " 1?: [LOCALHOST]   pmtu 1500\n 1:  192.0.2.1   0.05ms \n 1:  192.0.2.1  0.04ms \n 2:  203.0.113.10   0.05ms reached\n     Resume: pmtu 1500 hops 2 back 2 \n";
    assert_eq!(hops(tracepath), ["192.0.2.1", "203.0.113.10"]);
    let traceroute = "traceroute to 203.0.113.10 (203.0.113.10), 8 hops max, 60 byte packets\n 1  192.0.2.1  0.041 ms\n 2  *\n";
    assert_eq!(hops(traceroute), ["192.0.2.1", "*"]);
}
