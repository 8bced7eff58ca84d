//! Packets that cannot be told from their first header: fragments, extension headers, other protocols.

use forebay_common::reason::Reason;
use forebay_tests::case::{Case, Expect};
use forebay_tests::frame::{Fragment, Frame};
use forebay_tests::network::IpVersion;
use forebay_tests::network::plan::{CLIENT, CLIENT_2, INSTANCES, SOUTH};
use forebay_tests::world::{NOW, RULE_WEB};

use super::opens;

/// The cases.
pub(super) fn cases() -> Vec<Case> {
    IpVersion::BOTH.into_iter().flat_map(of).collect()
}

fn of(version: IpVersion) -> Vec<Case> {
    let base = || Frame::of(version).with_payload(60);
    let fragment = |offset: u16, more: bool| Frame {
        fragment: Some(Fragment { offset, more }),
        ..base()
    };
    let protocol = |protocol: u8| Frame { protocol, ..base() };
    let mut rows = vec![
        (
            "a middle fragment",
            fragment(100, true),
            Reason::FragmentWithoutFirst,
        ),
        (
            "a last fragment",
            fragment(8_180, false),
            Reason::FragmentWithoutFirst,
        ),
        ("an ICMP message", protocol(1), Reason::Protocol),
        ("an ICMPv6 message", protocol(58), Reason::Protocol),
        ("GRE", protocol(47), Reason::Protocol),
        ("ESP", protocol(50), Reason::Protocol),
        ("SCTP", protocol(132), Reason::Protocol),
        ("protocol 255", protocol(255), Reason::Protocol),
    ];
    let mut carried = vec![("a first fragment", fragment(0, true))];
    if version == IpVersion::V6 {
        let with = |extensions: &[u8]| Frame {
            extensions: extensions.to_vec(),
            ..base()
        };
        rows.extend([
            (
                "a routing header that is not used up",
                with(&[43]),
                Reason::ExtensionHeader,
            ),
            ("nine headers", with(&[60; 9]), Reason::ExtensionHeader),
            ("no next header", protocol(59), Reason::Protocol),
        ]);
        carried.extend([
            ("a hop-by-hop header", with(&[0])),
            ("an authentication header", with(&[51])),
            ("destination options", with(&[60])),
            ("several headers", with(&[0, 60, 51])),
            ("eight headers", with(&[60; 8])),
            // One fragment is a whole packet.
            ("an atomic fragment", fragment(0, false)),
        ]);
    } else {
        rows.push(("an authentication header", protocol(51), Reason::Protocol));
    }
    let opened = carried.into_iter().map(|(what, frame)| {
        Case::new(
            version,
            &format!("{what} opens a flow and is carried through"),
        )
        .step(&frame, opens(&frame, RULE_WEB, 8_080, NOW))
    });
    rows.into_iter()
        .flat_map(|(what, frame, reason)| whose(version, what, &frame, reason))
        .chain(opened)
        .collect()
}

fn whose(version: IpVersion, what: &str, frame: &Frame, reason: Reason) -> [Case; 4] {
    let instance = INSTANCES[0].host;
    let outward = frame.clone().from_link(&SOUTH).coming_from(instance, 8_080);
    let case = |text: &str| Case::new(version, &format!("{what} {text}"));
    // It may belong to a flow of which the node knows nothing any more.
    let outside = if reason == Reason::FragmentWithoutFirst {
        reason
    } else {
        Reason::NoOutbound
    };
    [
        case("to a frontend").step(frame, Expect::end(reason)),
        case("between others").step(
            &frame.clone().towards(CLIENT_2, 80),
            Expect::end(Reason::NotOurs),
        ),
        case("from an instance to the outside")
            .step(&outward.clone().towards(CLIENT, 80), Expect::end(outside)),
        case("from an instance to an instance").step(
            &outward.towards(INSTANCES[1].host, 80),
            Expect::end(Reason::InstanceLocal),
        ),
    ]
}
