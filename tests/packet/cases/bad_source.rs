//! Packets to a frontend whose source can have no flow.

use forebay_common::flow::Direction;
use forebay_common::reason::Reason;
use forebay_tests::case::{Case, Expect};
use forebay_tests::frame::{ACK, Frame, RST};
use forebay_tests::network::plan::{
    APART, APART_INSTANCE, BLACKHOLED, CLIENT, DEAF, FRONTEND, FRONTEND_2, INSTANCES, Link, NARROW,
    NARROW_INSTANCE, NORTH, ROUTED, SILENT, SOUTH, UNREACHABLE, Way,
};
use forebay_tests::network::{Host, IpVersion};
use forebay_tests::world::{HOST_ITSELF, NOW, Pair, RULE_WEB};

/// The cases.
pub(super) fn cases() -> Vec<Case> {
    IpVersion::BOTH.into_iter().flat_map(of).collect()
}

fn of(version: IpVersion) -> Vec<Case> {
    let mut cases = Vec::new();
    for (what, source, link) in refused(version) {
        let frame = Frame::of(version)
            .coming_from(source, 40_000)
            .from_link(link);
        let datagram = Frame::datagram(version)
            .coming_from(source, 40_000)
            .from_link(link);
        for (kind, frame) in [
            ("SYN", frame.clone()),
            ("ACK", frame.clone().flagged(ACK)),
            ("RST", frame.flagged(RST)),
            ("datagram", datagram),
        ] {
            cases.push(
                Case::new(version, &format!("{kind} from {what} to a frontend"))
                    .step(&frame, Expect::end(Reason::BadSource)),
            );
        }
    }
    for (what, source, link) in accepted() {
        let frame = Frame::of(version)
            .coming_from(source, 40_000)
            .from_link(link);
        cases.push(
            Case::new(version, &format!("{what} may be a client"))
                .given(|world| world.only_backend(4))
                .step(&frame, opens_to_fourth(&frame)),
        );
    }
    cases.extend([known_flow(version), too_late(version)]);
    cases
}

/// Who cannot be a client, and where the packet comes in.
fn refused(version: IpVersion) -> Vec<(&'static str, Host, &'static Link)> {
    let instance = INSTANCES[1].host;
    let mut rows: Vec<(&'static str, Host, &'static Link)> = vec![
        ("the frontend itself", FRONTEND, &NORTH),
        ("another frontend", FRONTEND_2, &NORTH),
        ("an instance on another link", instance, &NORTH),
        ("an instance on a narrow link", NARROW_INSTANCE.host, &SOUTH),
        (
            "an instance behind a router on another link",
            ROUTED,
            &NORTH,
        ),
        ("an instance on a blackhole route", BLACKHOLED, &SOUTH),
        ("an instance on an unreachable route", UNREACHABLE, &NORTH),
        ("an instance that is the host itself", HOST_ITSELF, &SOUTH),
    ];
    let host = |v4: [u8; 4], v6: [u16; 8]| Host::new(v4, v6);
    rows.extend(match version {
        IpVersion::V4 => [
            (
                "nobody",
                host([0; 4], CLIENT.v6.segments()),
                &NORTH as &'static Link,
            ),
            (
                "loopback",
                host([127, 0, 0, 1], CLIENT.v6.segments()),
                &NORTH,
            ),
            (
                "a group",
                host([224, 0, 0, 1], CLIENT.v6.segments()),
                &NORTH,
            ),
            ("everybody", host([255; 4], CLIENT.v6.segments()), &NORTH),
            (
                "a link-local address",
                host([169, 254, 3, 4], CLIENT.v6.segments()),
                &NORTH,
            ),
        ],
        IpVersion::V6 => [
            (
                "nobody",
                host(CLIENT.v4.octets(), [0; 8]),
                &NORTH as &'static Link,
            ),
            (
                "loopback",
                host(CLIENT.v4.octets(), [0, 0, 0, 0, 0, 0, 0, 1]),
                &NORTH,
            ),
            (
                "a group",
                host(CLIENT.v4.octets(), [0xff0e, 0, 0, 0, 0, 0, 0, 1]),
                &NORTH,
            ),
            (
                "a group of the link",
                host(CLIENT.v4.octets(), [0xff02, 0, 0, 0, 0, 0, 0, 1]),
                &NORTH,
            ),
            (
                "a link-local address",
                host(CLIENT.v4.octets(), [0xfe80, 0, 0, 0, 0, 0, 0, 9]),
                &NORTH,
            ),
        ],
    });
    rows
}

/// Who may be one.
fn accepted() -> Vec<(&'static str, Host, &'static Link)> {
    vec![
        ("an instance on its link", INSTANCES[1].host, &SOUTH),
        (
            "an instance on its narrow link",
            NARROW_INSTANCE.host,
            &NARROW,
        ),
        ("an instance on the link of its router", ROUTED, &SOUTH),
        ("an instance that nobody has heard of yet", SILENT, &NORTH),
        (
            "an instance by an interface of no concern to us",
            APART_INSTANCE.host,
            &APART,
        ),
    ]
}

/// The packet goes to the fourth instance.
fn opens_to_fourth(frame: &Frame) -> Expect {
    let instance = &INSTANCES[3];
    let way: Way = instance.way();
    let mut pair = Pair::opened(frame, RULE_WEB, (instance.host, 8_080), NOW);
    pair.to = pair.to.with_hop(way, NOW).with_packet(frame, NOW);
    Expect::forward(frame.clone().towards(instance.host, 8_080), way)
        .flows([pair])
        .opens(RULE_WEB)
        .counts(RULE_WEB, Direction::ToInstance, frame.ip_length())
}

/// Where nothing is forwarded, routing cannot tell where an instance is.
fn too_late(version: IpVersion) -> Case {
    let frame = Frame::of(version)
        .coming_from(INSTANCES[1].host, 40_000)
        .from_link(&DEAF);
    let mut pair = Pair::opened(&frame, RULE_WEB, (INSTANCES[0].host, 8_080), NOW);
    pair.to = pair.to.with_packet(&frame, NOW);
    Case::new(
        version,
        "an instance where nothing is forwarded is for the kernel to judge",
    )
    .step(
        &frame,
        Expect::forward_by_kernel(&frame.clone().towards(INSTANCES[0].host, 8_080))
            .flows([pair])
            .opens(RULE_WEB)
            .counts(RULE_WEB, Direction::ToInstance, frame.ip_length()),
    )
}

/// The source was judged when the flow began.
fn known_flow(version: IpVersion) -> Case {
    let pair = Pair {
        client: (INSTANCES[1].host, 40_000),
        ..Pair::tcp(version)
    };
    let request = pair.request();
    let after = super::requested(&pair, &request, NOW);
    Case::new(version, "the source of a known flow is not judged again")
        .with_flows([&pair])
        .step(&request, super::reaches_instance(&request, after))
}
