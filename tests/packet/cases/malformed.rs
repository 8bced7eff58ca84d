//! Frames that are not what they say: the fate depends on whose they are.

use forebay_common::reason::Reason;
use forebay_tests::case::{Case, Expect};
use forebay_tests::frame::{Faults, Frame, TAG};
use forebay_tests::network::IpVersion;
use forebay_tests::network::plan::{CLIENT, CLIENT_2, INSTANCES, SOUTH};
use forebay_tests::world::Pair;

/// The cases.
pub(super) fn cases() -> Vec<Case> {
    IpVersion::BOTH.into_iter().flat_map(of).collect()
}

/// What is wrong, and what a frontend's packet is counted under for it.
fn faults(version: IpVersion) -> Vec<(&'static str, Frame, Reason)> {
    let tcp = || Frame::of(version).with_payload(20);
    let udp = || Frame::datagram(version);
    let header = match version {
        IpVersion::V4 => 20,
        IpVersion::V6 => 40,
    };
    // What the length field counts besides the transport header.
    let counted = match version {
        IpVersion::V4 => 20,
        IpVersion::V6 => 0,
    };
    let with = |frame: Frame, faults: Faults| Frame { faults, ..frame };
    let cut = |frame: Frame, length: usize| {
        with(
            frame,
            Faults {
                cut: Some(length),
                ..Faults::default()
            },
        )
    };
    let long = |frame: Frame, length: u16| {
        with(
            frame,
            Faults {
                length: Some(length),
                ..Faults::default()
            },
        )
    };
    let ip_version = |number: u8| {
        with(
            tcp(),
            Faults {
                ip_version: Some(number),
                ..Faults::default()
            },
        )
    };
    let mut rows = vec![
        ("version 0", ip_version(0), Reason::BadIpHeader),
        ("version 5", ip_version(5), Reason::BadIpHeader),
        ("version 15", ip_version(15), Reason::BadIpHeader),
        (
            "a TCP header cut before its end",
            cut(tcp(), 14 + header + 19),
            Reason::Truncated,
        ),
        (
            "a TCP header cut at its ports",
            cut(tcp(), 14 + header + 3),
            Reason::Truncated,
        ),
        ("no TCP header", cut(tcp(), 14 + header), Reason::Truncated),
        (
            "a UDP header cut before its end",
            cut(udp(), 14 + header + 7),
            Reason::Truncated,
        ),
        ("no UDP header", cut(udp(), 14 + header), Reason::Truncated),
        (
            "a length without a TCP header",
            long(tcp(), counted),
            Reason::BadLength,
        ),
        (
            "a length short of the TCP header",
            long(tcp(), counted + 19),
            Reason::BadLength,
        ),
        (
            "a length short of the UDP header",
            long(udp(), counted + 7),
            Reason::BadLength,
        ),
    ];
    if version == IpVersion::V4 {
        let words = |number: u8| {
            with(
                tcp(),
                Faults {
                    header_words: Some(number),
                    ..Faults::default()
                },
            )
        };
        rows.extend([
            ("a header length of 0", words(0), Reason::BadIpHeader),
            ("a header length of 16", words(4), Reason::BadIpHeader),
            (
                "a length short of the IP header",
                long(tcp(), 19),
                Reason::BadLength,
            ),
            ("a length of 0", long(tcp(), 0), Reason::BadLength),
            (
                "a header length beyond the frame",
                words(15),
                Reason::Truncated,
            ),
            (
                "version 6 in an IPv4 frame",
                ip_version(6),
                Reason::BadIpHeader,
            ),
        ]);
    } else {
        rows.push((
            "version 4 in an IPv6 frame",
            ip_version(4),
            Reason::BadIpHeader,
        ));
    }
    rows
}

fn of(version: IpVersion) -> Vec<Case> {
    let mut cases = runts(version);
    for (what, frame, reason) in faults(version) {
        let instance = INSTANCES[0].host;
        let between_strangers = frame.clone().towards(CLIENT_2, 80);
        let to_instance = frame.clone().towards(instance, 80);
        let outward = frame
            .clone()
            .from_link(&SOUTH)
            .coming_from(instance, 8_080)
            .towards(CLIENT, 40_000);
        let case = |text: &str| Case::new(version, &format!("{what}{text}"));
        cases.extend([
            case("").step(&frame, Expect::end(reason)),
            case(", between others").step(&between_strangers, Expect::end(Reason::NotOurs)),
            case(", to an instance").step(&to_instance, Expect::end(Reason::DirectToInstance)),
            case(", from an instance").step(&outward, Expect::end(Reason::NoOutbound)),
        ]);
    }
    cases.push(flow_is_spared(version));
    cases
}

/// Frames that end before there are addresses to judge by.
fn runts(version: IpVersion) -> Vec<Case> {
    let header = match version {
        IpVersion::V4 => 20,
        IpVersion::V6 => 40,
    };
    let cut = |frame: Frame, length: usize| Frame {
        faults: Faults {
            cut: Some(length),
            ..Faults::default()
        },
        ..frame
    };
    let tagged = Frame {
        tags: vec![(TAG, 1), (TAG, 2)],
        ..Frame::of(version)
    };
    [
        ("an Ethernet header alone", cut(Frame::of(version), 14)),
        ("one byte of an IP header", cut(Frame::of(version), 15)),
        (
            "an IP header short of a byte",
            cut(Frame::of(version), 14 + header - 1),
        ),
        ("half of an outer tag", cut(tagged.clone(), 16)),
        ("half of an inner tag", cut(tagged.clone(), 20)),
        ("tags alone", cut(tagged, 22)),
    ]
    .into_iter()
    .map(|(name, frame)| {
        Case::new(version, &format!("{name} is a runt")).step(&frame, Expect::end(Reason::Runt))
    })
    .collect()
}

/// A broken packet with the addresses and ports of a flow is no packet of it.
fn flow_is_spared(version: IpVersion) -> Case {
    let pair = Pair::tcp(version);
    let broken = Frame {
        faults: Faults {
            ip_version: Some(9),
            ..Faults::default()
        },
        ..pair.request()
    };
    Case::new(version, "a broken packet does not count for a flow")
        .with_flows([&pair])
        .step(&broken, Expect::end(Reason::BadIpHeader))
}
