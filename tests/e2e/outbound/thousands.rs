//! Very many flows to one destination: a public IP has all ports, SNAT has those that it was given.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};

use forebay_tests::netlab::Arms;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{Backlog, listen};

use super::{NAT, Outside, PUBLIC, mirror, of_family, outbound_rule};

const MANY: usize = 30_000;
const ALLOCATED: usize = 2_000;
/// Connections that are opened before the other side takes them.
const ROUND: usize = 500;
const PORT: u16 = 7100;

/// Both ends of connections.
#[derive(Default)]
struct Flows {
    near: Vec<TcpStream>,
    far: Vec<TcpStream>,
    seen: BTreeSet<SocketAddr>,
}

impl Flows {
    /// Opens so many, or until one is refused, whose error it returns.
    fn open(&mut self, outside: &Outside, to: SocketAddr, count: usize) -> Option<std::io::Error> {
        let instance = &outside.lab().instances[0].namespace;
        let listener = outside.lab().client.enter(|| TcpListener::bind(to));
        let listener = listener.unwrap();
        listen(&listener, Backlog::new(4096).unwrap()).unwrap();
        listener.set_nonblocking(true).unwrap();
        let mut refused = None;
        while self.near.len() < count && refused.is_none() {
            let round = ROUND.min(count - self.near.len());
            let opened: Vec<_> =
                instance.enter(|| (0..round).map(|_| TcpStream::connect(to)).collect());
            for result in opened {
                match result {
                    Ok(stream) => self.near.push(stream),
                    Err(error) => refused = Some(error),
                }
            }
            while let Ok((stream, peer)) = listener.accept() {
                self.far.push(stream);
                assert!(self.seen.insert(peer), "{peer} is two flows");
            }
        }
        refused
    }
}

#[test]
fn thirty_thousand_flows_share_a_public_ip_and_without_it_the_allocation_is_the_limit() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let needed = 2 * MANY as u64 + 4_096;
    if most < needed {
        println!("skipped: no more than {most} open files");
        return;
    }
    setrlimit(Resource::RLIMIT_NOFILE, needed, most).unwrap();
    let rule = outbound_rule(&format!("ports_per_instance = {ALLOCATED}\nburst = false"));
    let public = format!(
        "{rule}\n[[public_ip]]\nname = \"alice\"\nipv4 = \"{}\"\nipv6 = \"{}\"\n",
        PUBLIC.0, PUBLIC.1
    );
    let mut outside = Outside::run_with(Arms::Two, &public, |config| {
        config.instances[0].public_ip = Some("alice");
    });
    let Some(outside) = &mut outside else { return };
    let ports = "net/ipv4/ip_local_port_range";
    let instance = &outside.lab().instances[0].namespace;
    instance.sysctl(ports, "1024 65535").unwrap();
    for (version, count) in [MANY, 3 * ALLOCATED].into_iter().enumerate() {
        let to = mirror(2, PORT)[version];
        let mut flows = Flows::default();
        let refused = flows.open(outside, to, count);
        assert!(refused.is_none(), "{refused:?}");
        assert_eq!(flows.seen.len(), count);
        let public = of_family(PUBLIC, to);
        assert!(flows.seen.iter().all(|peer| peer.ip() == public));
    }
    outside.reload(&rule, |config| config.instances[0].public_ip = None);
    for to in mirror(2, PORT) {
        let mut flows = Flows::default();
        let refused = flows.open(outside, to, MANY).unwrap();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        assert_eq!(flows.seen.len(), ALLOCATED);
        assert_eq!(flows.near.len(), ALLOCATED);
        assert!(
            flows
                .seen
                .iter()
                .all(|peer| peer.ip() == of_family(NAT, to))
        );
    }
    assert_eq!(outside.scene.forebay.drops("flow-table-full").unwrap(), 0);
}

#[test]
fn the_flow_that_is_beyond_the_promised_ports_gets_a_shared_one_at_once() {
    let Some(outside) = Outside::run(Arms::Two, &outbound_rule("")) else {
        return;
    };
    for to in mirror(2, PORT) {
        let mut flows = Flows::default();
        assert!(flows.open(&outside, to, 1_200).is_none());
        assert_eq!(flows.seen.len(), 1_200);
    }
    let searching = outside.scene.forebay.drops("snat-searching").unwrap();
    assert_eq!(searching, 0);
}
