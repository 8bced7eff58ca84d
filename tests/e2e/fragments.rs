//! Packets in pieces: the first decides, the others follow it.
//!
//! The acceptance test "fragments both ways" (34): B9-27, with B9-22 as far as it is about fragments.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use forebay_tests::frame::Frame;
use forebay_tests::netlab::client::udp_socket;
use forebay_tests::netlab::config::Rule;
use forebay_tests::netlab::{Arms, Config, Instance, Lab, Process};
use forebay_tests::network::IpVersion;

use crate::endpoints::client_wire;
use crate::scene::{Scene, client_towards, frontend, has_programs};

const OWN: u16 = 5001;
const DNS: u16 = 53;
/// Two pieces of this are no whole packet of the tests, three are.
const PIECE: usize = 1024;

fn with_own_service(config: &mut Config) {
    config.pools[0].members.truncate(1);
    config.rules.push(Rule::new("own", "udp", OWN, OWN));
}

#[test]
fn fragments_both_ways_bring_large_answers_of_a_name_server() {
    if !has_programs(&["dnsmasq", "dig"]) {
        return;
    }
    for arms in [Arms::Two, Arms::One] {
        let Some(scene) = Scene::run(arms, |config| {
            config.rules.push(Rule::new("dns", "udp", DNS, DNS));
        }) else {
            return;
        };
        let Scene { lab, forebay, .. } = &scene;
        let _servers: Vec<Process> = lab
            .instances
            .iter()
            .map(|instance| start_dnsmasq(lab, instance))
            .collect();
        for to in frontend(DNS) {
            let server = format!("@{}", to.ip());
            // Twelve questions, so that each instance is asked.
            for _ in 0..12 {
                let question = [
                    &server,
                    "TXT",
                    "large.test",
                    "+bufsize=4096",
                    "+notcp",
                    "+ignore",
                    "+tries=4",
                    "+time=2",
                ];
                let said = lab.client.run("dig", &question).unwrap_or_else(|error| {
                    panic!("{error:#} {}", forebay.json(&["show", "drops"]).unwrap())
                });
                let strings = said.matches(&"x".repeat(TEXT)).count();
                assert_eq!(strings, TEXTS, "{arms:?} {to}: {said}");
                assert!(!said.contains("flags: qr aa rd ra tc"), "{said}");
            }
        }
    }
}

const TEXTS: usize = 16;
const TEXT: usize = 235;

/// A name server with a name that takes almost 4,096 bytes to tell about.
fn start_dnsmasq(lab: &Lab, instance: &Instance) -> Process {
    let mut command = instance.namespace.command("dnsmasq");
    command.args([
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--user=root",
        "--pid-file",
        "--no-resolv",
        "--no-hosts",
        "--edns-packet-max=4096",
        "--log-facility=-",
    ]);
    for number in 0..TEXTS {
        command.arg(format!(
            "--txt-record=large.test,{number:02}{}",
            "x".repeat(TEXT)
        ));
    }
    let log = lab.path().join(format!("dnsmasq-{}.log", instance.name));
    let process = Process::spawn(command, &log).unwrap();
    let own = SocketAddr::from((instance.ipv4, DNS));
    let start = Instant::now();
    let listens = || {
        instance
            .namespace
            .enter(|| std::net::TcpStream::connect(own).is_ok())
    };
    while !listens() {
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "{}",
            process.output()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    process
}

#[test]
fn fragments_both_ways_carry_large_datagrams() {
    for arms in [Arms::Two, Arms::One] {
        let Some(scene) = Scene::run(arms, with_own_service) else {
            return;
        };
        let Scene { lab, forebay, .. } = &scene;
        for to in frontend(OWN) {
            let server = server(&lab.instances[0], to);
            let client = udp_socket(&lab.client, SocketAddr::new(client_towards(to), 0)).unwrap();
            for length in [1_600, 6_000, 30_000] {
                let sent: Vec<u8> = (0..length).map(|at| (at / 7) as u8).collect();
                let mut buffer = vec![0; length + 1];
                client.send_to(&sent, to).unwrap();
                let (received, from) = server.recv_from(&mut buffer).unwrap_or_else(|error| {
                    panic!(
                        "{arms:?} {to} {length}: {error} {}",
                        forebay.json(&["show", "drops"]).unwrap()
                    )
                });
                assert!(
                    buffer[..received] == sent,
                    "{arms:?} {to}: {received} of {length} bytes"
                );
                server.send_to(&sent, from).unwrap();
                let (received, from) = client.recv_from(&mut buffer).unwrap();
                assert_eq!(from, to);
                assert!(
                    buffer[..received] == sent,
                    "{arms:?} {to}: {received} of {length} bytes"
                );
            }
        }
    }
}

#[test]
fn fragments_both_ways_may_come_in_any_order_after_the_first() {
    let Some(scene) = Scene::run(Arms::Two, with_own_service) else {
        return;
    };
    let Scene { lab, forebay, .. } = &scene;
    let (wire, datagram) = client_wire(lab);
    let lost = || forebay.drops("fragment-without-first").unwrap();
    for (version, to) in IpVersion::BOTH.into_iter().zip(frontend(OWN)) {
        let server = server(&lab.instances[0], to);
        server
            .set_read_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        let whole = Frame {
            version,
            destination_port: OWN,
            ..datagram.clone()
        }
        .with_payload(2 * PIECE + 100);
        let send = |identification: u16, order: [usize; 3]| {
            let pieces = cut(&whole.build(), version, identification);
            for piece in order {
                wire.send(&pieces[piece]).unwrap();
            }
        };
        let mut buffer = vec![0; 4096];
        for (identification, order) in [(1, [0, 1, 2]), (2, [0, 2, 1])] {
            let before = lost();
            send(identification, order);
            let (length, _) = server.recv_from(&mut buffer).unwrap_or_else(|error| {
                panic!(
                    "{version:?} {order:?}: {error} {}",
                    forebay.json(&["show", "drops"]).unwrap()
                )
            });
            assert!(buffer[..length] == whole.payload, "{version:?} {order:?}");
            assert_eq!(lost(), before, "{version:?} {order:?}");
        }
        // A node keeps no packets: what comes before the first is lost, and counted.
        for (identification, order, early) in [(3, [1, 0, 2], 1), (4, [2, 1, 0], 2)] {
            let before = lost();
            send(identification, order);
            assert!(
                server.recv_from(&mut buffer).is_err(),
                "{version:?} {order:?}"
            );
            assert_eq!(lost(), before + early, "{version:?} {order:?}");
        }
    }
}

/// A socket of an instance where a rule for `to` leads.
fn server(instance: &Instance, to: SocketAddr) -> UdpSocket {
    let own = match to {
        SocketAddr::V4(_) => SocketAddr::from((instance.ipv4, to.port())),
        SocketAddr::V6(_) => SocketAddr::from((instance.ipv6, to.port())),
    };
    udp_socket(&instance.namespace, own).unwrap()
}

/// A frame with an IP packet as three frames with a fragment each.
fn cut(frame: &[u8], version: IpVersion, identification: u16) -> Vec<Vec<u8>> {
    let header = match version {
        IpVersion::V4 => 20,
        IpVersion::V6 => 40,
    };
    let (headers, content) = frame.split_at(14 + header);
    let pieces = content.chunks(PIECE).enumerate();
    let count = content.len().div_ceil(PIECE);
    pieces
        .map(|(number, piece)| {
            let (offset, more) = ((number * PIECE / 8) as u16, number + 1 < count);
            let mut fragment = headers.to_vec();
            let ip = &mut fragment[14..];
            match version {
                IpVersion::V4 => {
                    ip[2..4].copy_from_slice(&((header + piece.len()) as u16).to_be_bytes());
                    ip[4..6].copy_from_slice(&identification.to_be_bytes());
                    let word = offset | if more { 0x2000 } else { 0 };
                    ip[6..8].copy_from_slice(&word.to_be_bytes());
                    ip[10..12].fill(0);
                    let sum = checksum(ip);
                    ip[10..12].copy_from_slice(&sum.to_be_bytes());
                }
                IpVersion::V6 => {
                    ip[4..6].copy_from_slice(&((8 + piece.len()) as u16).to_be_bytes());
                    let protocol = std::mem::replace(&mut ip[6], 44);
                    fragment.extend([protocol, 0]);
                    fragment.extend((offset << 3 | u16::from(more)).to_be_bytes());
                    fragment.extend(u32::from(identification).to_be_bytes());
                }
            }
            fragment.extend(piece);
            fragment
        })
        .collect()
}

/// RFC 1071.
fn checksum(header: &[u8]) -> u16 {
    let words = header.as_chunks::<2>().0.iter();
    let sum: u32 = words.map(|word| u32::from(u16::from_be_bytes(*word))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}
