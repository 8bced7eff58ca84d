//! What is none of our business reaches the kernel as it came.

use forebay_common::balance::filter;
use forebay_common::reason::Reason;
use forebay_tests::case::{Case, Expect};
use forebay_tests::frame::{Frame, TAG};
use forebay_tests::network::plan::{CLIENT, CLIENT_2, FRONTEND, LINKS, NORTH};
use forebay_tests::network::{Host, IpVersion};

/// The cases.
pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = IpVersion::BOTH.into_iter().flat_map(of).collect();
    cases.extend(other_types());
    cases
}

fn of(version: IpVersion) -> Vec<Case> {
    let frame = |destination: Host| Frame::of(version).towards(destination, 80);
    let group = Host::new([224, 0, 0, 5], [0xff02, 0, 0, 0, 0, 0, 0, 5]);
    let everybody = Host::new([255; 4], [0xff02, 0, 0, 0, 0, 0, 0, 1]);
    let mut rows = vec![
        ("routed TCP", frame(CLIENT_2)),
        (
            "a routed datagram",
            Frame::datagram(version).towards(CLIENT_2, 53),
        ),
        ("a multicast packet", frame(group)),
        ("a broadcast", frame(everybody)),
        ("a packet to the host itself", frame(NORTH.address)),
        (
            "a packet with one hop left",
            Frame {
                hops: 1,
                ..frame(CLIENT_2)
            },
        ),
        (
            "a packet with no hop left",
            Frame {
                hops: 0,
                ..frame(CLIENT_2)
            },
        ),
        ("a big packet", frame(CLIENT_2).with_payload(1_900)),
        (
            "a tagged packet",
            Frame {
                tags: vec![(TAG, 42)],
                ..frame(CLIENT_2)
            },
        ),
        (
            "a packet from an unspecified address",
            Frame {
                source: Host::new([0; 4], [0; 8]),
                ..frame(group)
            },
        ),
        (
            "a packet that only shares filter bits with a frontend",
            frame(lookalike()),
        ),
        (
            "a packet from a frontend's address",
            frame(CLIENT_2).coming_from(FRONTEND, 80),
        ),
    ];
    for link in LINKS {
        rows.push((link.name, frame(CLIENT_2).from_link(link)));
    }
    rows.into_iter()
        .map(|(what, frame)| {
            Case::new(version, &format!("not ours: {what}"))
                .step(&frame, Expect::end(Reason::NotOurs))
        })
        .collect()
}

/// A host whose addresses have the filter bits of a frontend.
fn lookalike() -> Host {
    let v4 = (1..=u32::MAX)
        .map(|number| std::net::Ipv4Addr::from(0x0800_0000 + number))
        .find(|address| {
            filter::bit(forebay_common::family::V4::from(*address))
                == filter::bit::<forebay_common::family::V4>(FRONTEND.raw())
        })
        .expect("one in 65,536 has them");
    let v6 = (1..=u128::MAX)
        .map(|number| std::net::Ipv6Addr::from(0x2a00 << 112 | number << 64))
        .find(|address| {
            filter::bit(forebay_common::family::V6::from(*address))
                == filter::bit::<forebay_common::family::V6>(FRONTEND.raw())
        })
        .expect("one in 65,536 has them");
    Host { v4, v6 }
}

/// Frames that carry no IP.
fn other_types() -> Vec<Case> {
    let typed = |ethertype: u16| {
        let mut bytes = Frame::default().build();
        bytes[12..14].copy_from_slice(&ethertype.to_be_bytes());
        bytes
    };
    [
        ("LLDP", typed(0x88cc)),
        ("IEEE 802.3 with a length", typed(0x0040)),
        ("MPLS", typed(0x8847)),
        ("PPPoE", typed(0x8864)),
        ("type 0xffff", typed(0xffff)),
        ("Ethernet without anything", typed(0x88cc)[..14].to_vec()),
    ]
    .into_iter()
    .map(|(what, bytes)| {
        Case::new(IpVersion::V4, &format!("not IP: {what}")).raw(bytes, Expect::end(Reason::NotIp))
    })
    .chain([Case::new(
        IpVersion::V4,
        "routed traffic between clients is not counted twice",
    )
    .step(
        &Frame::default().towards(CLIENT_2, 1),
        Expect::end(Reason::NotOurs),
    )
    .step(
        &Frame::default()
            .towards(CLIENT_2, 1)
            .turned()
            .coming_from(CLIENT_2, 1)
            .towards(CLIENT, 2),
        Expect::end(Reason::NotOurs),
    )])
    .collect()
}
