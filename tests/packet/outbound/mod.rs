//! Flows that instances open: SNAT ports, mappings, exhaustion, public IPs, hairpins.

mod hairpin;
mod mappings;
mod ports;
mod public_ips;
mod ways;

use std::net::IpAddr;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use forebay_common::reason::Reason;
use forebay_tests::engine::{Action, Engine, Model, Outcome, with_live};
use forebay_tests::frame::{ACK, Frame, SYN, TCP, verify};
use forebay_tests::network::plan::{FRONTEND, FRONTEND_2, GATEWAY, INSTANCES, NORTH};
use forebay_tests::network::{Host, IpVersion};
use forebay_tests::world::{Outward, World};

/// A public address that is no frontend with rules.
const NAT: Host = Host::new([203, 0, 113, 64], [0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x64]);
/// A public IP.
const PUBLIC: Host = Host::new([203, 0, 113, 50], [0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x50]);
/// Another one.
const PUBLIC_2: Host = Host::new([203, 0, 113, 51], [0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x51]);

/// Runs a test on the model and on the live program, for both families.
fn on_both(test: fn(&mut dyn Engine, IpVersion)) {
    for version in IpVersion::BOTH {
        test(&mut Model::default(), version);
    }
    with_live(|live| {
        for version in IpVersion::BOTH {
            test(live, version);
        }
    });
}

/// Addresses and ports of a frame, and its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    source: (IpAddr, u16),
    destination: (IpAddr, u16),
    /// TCP flags, sequence and acknowledgement number.
    tcp: Option<(u8, u32, u32)>,
}

fn seen(frame: &[u8]) -> Seen {
    verify(frame).unwrap();
    let found = SlicedPacket::from_ethernet(frame).unwrap();
    let [source, destination] = match found.net.unwrap() {
        NetSlice::Ipv4(ip) => {
            [ip.header().source_addr(), ip.header().destination_addr()].map(IpAddr::from)
        }
        NetSlice::Ipv6(ip) => {
            [ip.header().source_addr(), ip.header().destination_addr()].map(IpAddr::from)
        }
        other => panic!("{other:?}"),
    };
    let (ports, tcp) = match found.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let flags = tcp.slice()[13];
            let numbers = (flags, tcp.sequence_number(), tcp.acknowledgment_number());
            ([tcp.source_port(), tcp.destination_port()], Some(numbers))
        }
        Some(TransportSlice::Udp(udp)) => ([udp.source_port(), udp.destination_port()], None),
        _ => ([0; 2], None),
    };
    Seen {
        source: (source, ports[0]),
        destination: (destination, ports[1]),
        tcp,
    }
}

fn address(host: Host, version: IpVersion) -> IpAddr {
    match version {
        IpVersion::V4 => host.v4.into(),
        IpVersion::V6 => host.v6.into(),
    }
}

/// A packet of an instance.
fn from_instance(
    version: IpVersion,
    number: usize,
    port: u16,
    to: (Host, u16),
    protocol: u8,
) -> Frame {
    let instance = INSTANCES[number];
    Frame {
        macs: [instance.mac, instance.link.mac],
        ingress: instance.link,
        protocol,
        ..Frame::of(version)
            .coming_from(instance.host, port)
            .towards(to.0, to.1)
            .flagged(if protocol == TCP { SYN } else { 0 })
    }
}

/// The answer of whoever got a frame as `seen`.
fn answer(version: IpVersion, request: &Frame, seen: &Seen) -> Frame {
    let (to, port) = seen.source;
    let host = [NAT, PUBLIC, PUBLIC_2, FRONTEND, FRONTEND_2]
        .into_iter()
        .find(|host| address(*host, version) == to)
        .unwrap();
    Frame {
        macs: [GATEWAY.mac, NORTH.mac],
        ingress: &NORTH,
        protocol: request.protocol,
        acknowledgement: 1_001,
        ..Frame::of(version)
            .coming_from(request.destination, request.destination_port)
            .towards(host, port)
            .flagged(if request.protocol == TCP {
                SYN | ACK
            } else {
                0
            })
    }
}

fn send(engine: &mut dyn Engine, frame: &Frame) -> Outcome {
    engine.run(&frame.build(), frame.ingress)
}

/// Sends a frame that must leave; how it does.
fn leaves(engine: &mut dyn Engine, frame: &Frame) -> Seen {
    let outcome = send(engine, frame);
    let forwarded = matches!(outcome.action, Action::Transmit | Action::Redirect);
    assert!(forwarded, "{}: {outcome:?}", engine.name());
    seen(&outcome.frame)
}

/// Sends a frame that must not leave; what it was counted under.
fn ends(engine: &mut dyn Engine, frame: &Frame) -> Reason {
    let outcome = send(engine, frame);
    assert!(
        matches!(outcome.action, Action::Drop | Action::Transmit),
        "{outcome:?}"
    );
    outcome.reason()
}

fn world(outward: &Outward) -> World {
    let mut world = World::default();
    world.add_way(INSTANCES[0].host, outward);
    world
}
