//! Floods of packets from forged sources beside connections that are in use: nobody notices.
//!
//! The acceptance test "SYN flood and noisy neighbour" (40): B14-04, B14-08. The rate that is reached and how
//! long each flood lasts are a compromise with how long a test may take; both are printed.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use forebay_tests::chance::Chance;
use forebay_tests::frame::{ACK, Fragment, Frame, SYN, UDP};
use forebay_tests::netlab::{Arms, Config, Forebay, Lab, Namespace, Process, Wire, address};
use forebay_tests::network::{Host, IpVersion};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::iperf::rules_for_iperf;
use crate::scene::{Scene, has_programs};
use crate::under_load::under_load;

/// Slots of the table of untrusted flows of a family, for the `limits.flows` of the sample.
const SLOTS: u64 = 65_536;
/// Packets that the node must have met, of all floods together.
const ENOUGH: u64 = 10 * SLOTS;
/// Packets of each flood, at least.
const PACKETS: u64 = 150_000;
/// How long each flood lasts, at least.
const LASTS: Duration = Duration::from_secs(3);
/// How long one may last, on a machine that is busy otherwise.
const PATIENCE: Duration = Duration::from_secs(30);
/// Who send at the same time.
const SOURCES: u64 = 2;
/// Packets a second of each of them, at most: what shares the processors with the connections would otherwise
/// leave them no time, which says nothing about the node.
const RATE: f64 = 52_000.0;
/// Frames that are sent by one system call.
const BATCH: usize = 64;
/// What iperf3 sends, bits a second: enough to see a gap, and little enough to leave the machine to the flood.
const BITRATE: &str = "50M";

/// Where floods come from: the node's routes to there lead to the client, where they end.
const ROUTES: &str = "route add 198.18.0.0/15 via 203.0.113.2\n\
                      route add 2001:db8:f::/48 via 2001:db8:1::2";
const ENDS: &str = "route add blackhole 198.18.0.0/15\nroute add blackhole 2001:db8:f::/48";

#[derive(Debug, Clone, Copy)]
enum Kind {
    Syn,
    SynAndForgedAck,
    Udp,
    Ack,
    Fragments,
}

const FLOODS: [(Kind, IpVersion); 6] = [
    (Kind::Syn, IpVersion::V4),
    (Kind::SynAndForgedAck, IpVersion::V4),
    (Kind::Udp, IpVersion::V4),
    (Kind::Ack, IpVersion::V4),
    (Kind::Fragments, IpVersion::V4),
    (Kind::Syn, IpVersion::V6),
];

/// Sends floods by the client's link.
struct Source {
    wire: Wire,
    macs: [[u8; 6]; 2],
    chance: Chance,
}

impl Source {
    fn open(lab: &Lab, number: u64) -> Self {
        Self {
            wire: Wire::open(&lab.client, "eth0").unwrap(),
            macs: [mac(&lab.client, "eth0"), mac(&lab.node, lab.interfaces[0])],
            chance: Chance::new(40 + number),
        }
    }

    /// Floods until enough was sent; returns how many packets.
    fn flood(&mut self, kind: Kind, version: IpVersion) -> u64 {
        let (start, mut sent) = (Instant::now(), 0);
        while sent < PACKETS / SOURCES || start.elapsed() < LASTS {
            assert!(start.elapsed() < PATIENCE, "{kind:?}: {sent} packets sent");
            let frames: Vec<Vec<u8>> = (0..BATCH / 2)
                .flat_map(|_| self.two(kind, version))
                .map(|frame| frame.build())
                .collect();
            sent += self.wire.send_many(&frames).unwrap() as u64;
            let due = Duration::from_secs_f64(sent as f64 / RATE);
            std::thread::sleep(due.saturating_sub(start.elapsed()));
        }
        sent
    }

    fn two(&mut self, kind: Kind, version: IpVersion) -> [Frame; 2] {
        let one = self.syn(version);
        let other = self.syn(version);
        let datagram = |frame: Frame| Frame {
            protocol: UDP,
            destination_port: 5000,
            flags: 0,
            payload: b"flood of datagrams".to_vec(),
            ..frame
        };
        match kind {
            Kind::Syn => [one, other],
            Kind::SynAndForgedAck => {
                let ack = Frame {
                    flags: ACK,
                    sequence: one.sequence.wrapping_add(1),
                    acknowledgement: self.chance.bits() as u32,
                    ..one.clone()
                };
                [one, ack]
            }
            Kind::Udp => [datagram(one), datagram(other)],
            Kind::Ack => [one.flagged(ACK), other.flagged(ACK)],
            Kind::Fragments => {
                let first = Fragment {
                    offset: 0,
                    more: true,
                };
                let later = Fragment {
                    offset: 100,
                    more: false,
                };
                let piece = |frame: Frame, fragment| Frame {
                    fragment: Some(fragment),
                    ..datagram(frame).with_payload(24)
                };
                [piece(one, first), piece(other, later)]
            }
        }
    }

    /// The first packet of a connection from anybody.
    fn syn(&mut self, version: IpVersion) -> Frame {
        let (some, more) = (self.chance.bits(), self.chance.bits());
        let v4 = 0xc612_0000 | (some as u32 & 0x1_ffff);
        let v6 = 0x2001_0db8_000f_u128 << 80 | u128::from(some);
        Frame {
            macs: self.macs,
            source: Host {
                v4: Ipv4Addr::from_bits(v4),
                v6: Ipv6Addr::from_bits(v6),
            },
            destination: Host {
                v4: address::FRONTEND_V4,
                v6: address::FRONTEND_V6,
            },
            source_port: 1_024 + (more % 60_000) as u16,
            sequence: (more >> 32) as u32,
            identification: (more >> 16) as u16,
            flags: SYN,
            ..Frame::of(version)
        }
    }
}

fn mac(namespace: &Namespace, device: &str) -> [u8; 6] {
    let link = namespace.link(device).unwrap();
    let bytes: Vec<u8> = link["address"]
        .as_str()
        .unwrap()
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect();
    bytes.try_into().unwrap()
}

/// A transfer that goes on until it is stopped.
struct Transfer {
    client: Process,
    seen: usize,
}

impl Transfer {
    fn start(lab: &Lab) -> Self {
        let mut command = lab.client.command("iperf3");
        let to = address::FRONTEND_V4.to_string();
        command.args(["--client", &to, "--time", "600", "--interval", "1"]);
        command.args(["--bitrate", BITRATE, "--format", "k", "--forceflush"]);
        let client = Process::spawn(command, &lab.path().join("iperf3-client.log")).unwrap();
        Self { client, seen: 0 }
    }

    /// Mean rate of the seconds since the last call, kbit/s. At least two have passed.
    fn rate(&mut self) -> f64 {
        let start = Instant::now();
        loop {
            let status = self.client.status().unwrap();
            let output = self.client.output();
            assert!(status.is_none(), "iperf3 ended: {output}");
            let rates: Vec<f64> = output.lines().filter_map(rate_of_line).collect();
            if rates.len() >= self.seen + 2 {
                let new = &rates[self.seen..];
                let mean = new.iter().sum::<f64>() / new.len() as f64;
                self.seen = rates.len();
                return mean;
            }
            assert!(start.elapsed() < PATIENCE, "iperf3 hangs: {output}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// The rate in a line such as `[  5]   0.00-1.00   sec  5.96 MBytes  50000 Kbits/sec    0    300 KBytes`.
fn rate_of_line(line: &str) -> Option<f64> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let unit = words.iter().position(|word| *word == "Kbits/sec")?;
    words.get(unit.checked_sub(1)?)?.parse().ok()
}

/// New flows of all rules and fragments without their first: packets of floods that the node has met, but for
/// the second ones of a flow.
fn met(forebay: &Forebay) -> u64 {
    let rules: Vec<Value> = forebay.list(&["show", "rules"]).unwrap();
    let flows: u64 = rules
        .iter()
        .map(|rule| rule["new_flows_total"].as_u64().unwrap())
        .sum();
    flows + forebay.drops("fragment-without-first").unwrap()
}

/// How full the tables are, for people.
fn tables(forebay: &Forebay) -> String {
    forebay.json(&["status"]).unwrap()["flows"].to_string()
}

/// A scene with a transfer, and who floods it.
struct Field<'s> {
    forebay: &'s Forebay,
    config: &'s mut Config,
    sources: Vec<Source>,
    transfer: Transfer,
}

impl Field<'_> {
    /// The flood of this number, with another pool in the middle of some.
    fn flood(&mut self, number: usize) {
        let Self {
            forebay,
            config,
            sources,
            transfer,
        } = self;
        let (kind, version) = FLOODS[number % FLOODS.len()];
        let (start, known) = (Instant::now(), met(forebay));
        let sent: u64 = std::thread::scope(|scope| {
            let floods: Vec<_> = sources
                .iter_mut()
                .map(|source| scope.spawn(move || source.flood(kind, version)))
                .collect();
            if number == 1 || number == 3 {
                std::thread::sleep(LASTS / 3);
                change_pool(forebay, config);
            }
            floods.into_iter().map(|flood| flood.join().unwrap()).sum()
        });
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "{version} {kind:?}: {sent} packets in {seconds:.1} s, {:.0} a second; {} met as new; \
             transfer {:.0} kbit/s; {}",
            sent as f64 / seconds,
            met(forebay) - known,
            transfer.rate(),
            tables(forebay)
        );
    }
}

/// Takes a member away, or gives it back with another weight.
fn change_pool(forebay: &Forebay, config: &mut Config) {
    let members = &mut config.pools[0].members;
    match members.len() {
        3 => members.truncate(2),
        _ => members.push(("web-3".to_owned(), 2)),
    }
    forebay.write_config(&config.to_string()).unwrap();
    forebay.text(&["reload"]).unwrap();
}

/// Floods beside the transfer until the node has met enough; prints how that went.
fn flood_all(field: &mut Field<'_>) {
    println!(
        "each flood: {PACKETS} packets and {LASTS:?} at least, {SOURCES} senders of up to {RATE} a second"
    );
    let (before, begin) = (field.transfer.rate(), met(field.forebay));
    println!("before: {before:.0} kbit/s, {}", tables(field.forebay));
    let mut number = 0;
    while number < FLOODS.len() || met(field.forebay) - begin < ENOUGH {
        field.flood(number);
        number += 1;
    }
    // Without the second in which the last flood ended.
    std::thread::sleep(Duration::from_secs(1));
    field.transfer.seen += 1;
    let (after, total) = (field.transfer.rate(), met(field.forebay) - begin);
    println!("after: {after:.0} kbit/s; {total} packets met as new by tables of {SLOTS} slots");
    assert!(
        after * 2.0 > before,
        "{before} kbit/s before, {after} after"
    );
}

#[test]
fn floods_from_forged_sources_cost_no_request_and_no_connection() {
    if !has_programs(&["iperf3"]) {
        return;
    }
    let Some(mut scene) = Scene::run(Arms::Two, rules_for_iperf) else {
        return;
    };
    let Scene {
        lab,
        forebay,
        config,
        ..
    } = &mut scene;
    lab.node.ip(ROUTES).unwrap();
    lab.client.ip(ENDS).unwrap();
    for instance in &lab.instances {
        // Nor do instances spend their time on answers to nobody.
        instance.namespace.ip(ENDS).unwrap();
    }
    let _servers: Vec<_> = lab
        .instances
        .iter()
        .map(|instance| lab.start_iperf(instance).unwrap())
        .collect();
    let mut field = Field {
        forebay,
        config,
        sources: (0..SOURCES)
            .map(|number| Source::open(lab, number))
            .collect(),
        transfer: Transfer::start(lab),
    };
    under_load(lab, || flood_all(&mut field));
    field.transfer.client.signal(Signal::SIGINT).unwrap();
    let _ = field.transfer.client.wait(Duration::from_secs(10)).unwrap();
    // Were the floods' flows trusted, the tables would be full: nothing would be promoted any more.
    let flows = &field.forebay.json(&["status"]).unwrap()["flows"];
    println!("in the end: {flows}");
    for family in ["ipv4", "ipv6"] {
        let number = |what: &str| flows[family][what].as_u64().unwrap();
        assert!(number("used") < number("capacity") / 2, "{flows}");
    }
    assert_eq!(field.forebay.drops("flow-table-full").unwrap(), 0);
}
