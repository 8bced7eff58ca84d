//! Packets that cannot be told from their first header: fragments, extension headers, other protocols.

use forebay_common::reason::Reason;
use forebay_tests::case::{Case, Expect};
use forebay_tests::frame::{Fragment, Frame};
use forebay_tests::network::IpVersion;
use forebay_tests::network::plan::{CLIENT, CLIENT_2, INSTANCES, SOUTH};
use forebay_tests::world::Pair;

/// The cases.
pub(super) fn cases() -> Vec<Case> {
    IpVersion::BOTH.into_iter().flat_map(of).collect()
}

fn of(version: IpVersion) -> Vec<Case> {
    let base = || Frame::of(version).with_payload(64);
    let fragment = |offset: u16, more: bool| Frame {
        fragment: Some(Fragment { offset, more }),
        ..base()
    };
    let protocol = |protocol: u8| Frame { protocol, ..base() };
    let mut rows = vec![
        ("a first fragment", fragment(0, true), Reason::Fragment),
        ("a middle fragment", fragment(100, true), Reason::Fragment),
        ("a last fragment", fragment(8_191, false), Reason::Fragment),
        ("an ICMP message", protocol(1), Reason::Protocol),
        ("an ICMPv6 message", protocol(58), Reason::Protocol),
        ("GRE", protocol(47), Reason::Protocol),
        ("ESP", protocol(50), Reason::Protocol),
        ("SCTP", protocol(132), Reason::Protocol),
        ("protocol 255", protocol(255), Reason::Protocol),
    ];
    if version == IpVersion::V6 {
        let with = |extensions: &[u8]| Frame {
            extensions: extensions.to_vec(),
            ..base()
        };
        rows.extend([
            ("a hop-by-hop header", with(&[0]), Reason::ExtensionHeader),
            ("a routing header", with(&[43]), Reason::ExtensionHeader),
            (
                "an authentication header",
                with(&[51]),
                Reason::ExtensionHeader,
            ),
            ("destination options", with(&[60]), Reason::ExtensionHeader),
            (
                "several headers",
                with(&[0, 60, 43]),
                Reason::ExtensionHeader,
            ),
            ("no next header", protocol(59), Reason::Protocol),
            // One fragment is a whole packet, and still not told from the first header.
            ("an atomic fragment", fragment(0, false), Reason::Fragment),
        ]);
    } else {
        rows.push(("an authentication header", protocol(51), Reason::Protocol));
    }
    rows.into_iter()
        .flat_map(|(what, frame, reason)| whose(version, what, &frame, reason))
        .chain([of_known_flow(version)])
        .collect()
}

fn whose(version: IpVersion, what: &str, frame: &Frame, reason: Reason) -> [Case; 4] {
    let instance = INSTANCES[0].host;
    let outward = frame.clone().from_link(&SOUTH).coming_from(instance, 8_080);
    let case = |text: &str| Case::new(version, &format!("{what} {text}"));
    [
        case("to a frontend").step(frame, Expect::end(reason)),
        case("between others").step(
            &frame.clone().towards(CLIENT_2, 80),
            Expect::end(Reason::NotOurs),
        ),
        case("from an instance to the outside").step(
            &outward.clone().towards(CLIENT, 80),
            Expect::end(Reason::NoOutbound),
        ),
        case("from an instance to an instance").step(
            &outward.towards(INSTANCES[1].host, 80),
            Expect::end(Reason::InstanceLocal),
        ),
    ]
}

fn of_known_flow(version: IpVersion) -> Case {
    let pair = Pair::udp(version);
    let first = Frame {
        fragment: Some(Fragment {
            offset: 0,
            more: true,
        }),
        ..pair.request()
    };
    Case::new(
        version,
        "a fragment with the ports of a flow does not count for it",
    )
    .with_flows([&pair])
    .step(&first, Expect::end(Reason::Fragment))
}
