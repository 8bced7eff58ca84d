//! Echo requests to frontends: the node answers for its instances.

use forebay_common::abi::Owner;
use forebay_common::reason::Reason;
use forebay_tests::case::{Case, Expect};
use forebay_tests::frame::{IcmpMessage, SERVICE_TAG, TAG};
use forebay_tests::network::plan::{
    CLIENT, FRONTEND, FRONTEND_2, INSTANCES, LOCAL_CLIENT, NORTH, SOUTH,
};
use forebay_tests::network::{Host, IpVersion};
use forebay_tests::world::World;

/// The cases.
pub(super) fn cases() -> Vec<Case> {
    IpVersion::BOTH.into_iter().flat_map(of).collect()
}

/// The frontend answers.
pub(super) fn answering(world: &mut World) {
    world.each_owner(FRONTEND, |owner| owner.roles |= Owner::ECHO);
}

fn payload(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n * 7) as u8).collect()
}

fn answered(request: &IcmpMessage) -> Expect {
    Expect {
        frame: Some(request.echoed().build()),
        ..Expect::end(Reason::EchoAnswered)
    }
}

fn of(version: IpVersion) -> Vec<Case> {
    let mut cases = replies(version);
    cases.extend(silence(version));
    cases.extend(sources(version));
    cases.extend(unreachable(version));
    cases
}

fn replies(version: IpVersion) -> Vec<Case> {
    let base = || IcmpMessage::echo(version, &payload(56));
    let tagged = |tags: &[(u16, u16)]| IcmpMessage {
        tags: tags.to_vec(),
        ..base()
    };
    let mut rows: Vec<(String, IcmpMessage)> = [0, 1, 2, 3, 55, 56, 1_471, 1_472, 2_000]
        .map(|length| {
            let request = IcmpMessage::echo(version, &payload(length));
            (format!("with {length} octets"), request)
        })
        .into();
    rows.extend([
        (
            "with one hop left".into(),
            IcmpMessage { hops: 1, ..base() },
        ),
        (
            "with all hops left".into(),
            IcmpMessage {
                hops: 255,
                ..base()
            },
        ),
        (
            "with a class".into(),
            IcmpMessage {
                class: 0xb8,
                ..base()
            },
        ),
        ("of number zero".into(), IcmpMessage { rest: 0, ..base() }),
        (
            "whose sum is at the corner".into(),
            IcmpMessage {
                rest: 0xf7ff_0000,
                ..IcmpMessage::echo(version, &[])
            },
        ),
        ("with a tag".into(), tagged(&[(TAG, 0x602a)])),
        (
            "with two tags".into(),
            tagged(&[(SERVICE_TAG, 7), (TAG, 42)]),
        ),
        (
            "of a neighbour".into(),
            base().from_link(LOCAL_CLIENT.mac, &NORTH),
        ),
        (
            "of an instance".into(),
            IcmpMessage {
                addresses: [INSTANCES[0].host, FRONTEND],
                ..base().from_link(INSTANCES[0].mac, &SOUTH)
            },
        ),
    ]);
    match version {
        IpVersion::V4 => rows.extend([
            (
                "with an option".into(),
                IcmpMessage {
                    option_words: 1,
                    ..base()
                },
            ),
            (
                "full of options".into(),
                IcmpMessage {
                    option_words: 10,
                    ..base()
                },
            ),
            (
                "that must not be cut".into(),
                IcmpMessage {
                    fragment: (9, 0x4000),
                    ..base()
                },
            ),
        ]),
        IpVersion::V6 => rows.extend([
            (
                "with a header".into(),
                IcmpMessage {
                    extensions: vec![60],
                    ..base()
                },
            ),
            (
                "with several headers".into(),
                IcmpMessage {
                    extensions: vec![0, 60],
                    ..base()
                },
            ),
        ]),
    }
    rows.into_iter()
        .map(|(what, request)| {
            let south = request.addresses[0] == INSTANCES[0].host;
            let ingress = if south { &SOUTH } else { &NORTH };
            Case::new(version, &format!("an echo request {what} is answered"))
                .given(answering)
                .bytes(request.build(), ingress, answered(&request))
        })
        .collect()
}

fn silence(version: IpVersion) -> Vec<Case> {
    let request = IcmpMessage::echo(version, &payload(8));
    let between = |source: Host, destination: Host| IcmpMessage {
        addresses: [source, destination],
        ..request.clone()
    };
    let mut many = request.clone();
    many.macs[1] = [0xff; 6];
    let mut group = request.clone();
    group.macs[1] = [0x33, 0x33, 0, 0, 0, 1];
    let case = |text: &str| Case::new(version, &format!("an echo request {text}"));
    let mut short = request.build();
    short.truncate(short.len() - 9);
    let mut cases = vec![
        case("to a frontend that answers none")
            .raw(request.build(), Expect::end(Reason::EchoUnanswered)),
        case("to the other frontend").given(answering).raw(
            between(CLIENT, FRONTEND_2).build(),
            Expect::end(Reason::EchoUnanswered),
        ),
        case("to a stranger").given(answering).raw(
            between(CLIENT, LOCAL_CLIENT.host).build(),
            Expect::end(Reason::NotOurs),
        ),
        case("to the node").given(answering).raw(
            between(CLIENT, NORTH.address).build(),
            Expect::end(Reason::NotOurs),
        ),
        case("to an instance").given(answering).raw(
            between(CLIENT, INSTANCES[0].host).build(),
            Expect::end(Reason::DirectToInstance),
        ),
        case("of an instance to the outside")
            .given(answering)
            .bytes(
                between(INSTANCES[0].host, CLIENT).build(),
                &SOUTH,
                Expect::end(Reason::NoOutbound),
            ),
        case("to the host's own address, which is shared")
            .given(|world| {
                world.each_owner(FRONTEND, |owner| owner.roles |= Owner::ECHO | Owner::SHARED);
            })
            .raw(request.build(), Expect::end(Reason::SharedToHost)),
        case("to everybody's MAC address")
            .given(answering)
            .raw(many.build(), Expect::end(Reason::EchoUnanswered)),
        case("to a group's MAC address")
            .given(answering)
            .raw(group.build(), Expect::end(Reason::EchoUnanswered)),
        case("that is cut in its header")
            .given(answering)
            .raw(short, Expect::end(Reason::Truncated)),
    ];
    let with_code = IcmpMessage {
        kind: (request.kind.0, 3),
        ..request.clone()
    };
    let no_echo = IcmpMessage {
        kind: (request.echoed().kind.0, 0),
        ..request
    };
    cases.push(
        case("with a code")
            .given(answering)
            .raw(with_code.build(), Expect::end(Reason::Protocol)),
    );
    cases.push(
        Case::new(version, "an echo reply is not answered")
            .given(answering)
            .raw(no_echo.build(), Expect::end(Reason::Protocol)),
    );
    cases
}

fn sources(version: IpVersion) -> Vec<Case> {
    [
        ("a frontend", FRONTEND_2),
        ("an instance that is elsewhere", INSTANCES[0].host),
        (
            "a group",
            Host::new([224, 0, 0, 5], [0xff02, 0, 0, 0, 0, 0, 0, 5]),
        ),
        (
            "everybody",
            Host::new([255; 4], [0xff0e, 0, 0, 0, 0, 0, 0, 1]),
        ),
        ("nobody", Host::new([0; 4], [0; 8])),
        (
            "loopback",
            Host::new([127, 0, 0, 1], [0, 0, 0, 0, 0, 0, 0, 1]),
        ),
        (
            "a link-local address",
            Host::new([169, 254, 1, 1], [0xfe80, 0, 0, 0, 0, 0, 0, 1]),
        ),
    ]
    .into_iter()
    .map(|(what, source)| {
        let request = IcmpMessage {
            addresses: [source, FRONTEND],
            ..IcmpMessage::echo(version, &payload(8))
        };
        Case::new(
            version,
            &format!("an echo request of {what} is not answered"),
        )
        .given(answering)
        .raw(request.build(), Expect::end(Reason::BadSource))
    })
    .collect()
}

/// Nobody is behind the frontend: who asks is told that the host is unreachable.
fn unreachable(version: IpVersion) -> Vec<Case> {
    let kind = match version {
        IpVersion::V4 => (3, 1),
        IpVersion::V6 => (1, 3),
    };
    let nobody = |world: &mut World| {
        world.each_owner(FRONTEND, |owner| owner.roles |= Owner::ECHO_UNREACHABLE);
    };
    let mut cases = Vec::new();
    for (what, tags, length) in [
        ("short", vec![], 8),
        ("long", vec![], 1_400),
        ("tagged", vec![(TAG, 0x602a)], 8),
        ("empty", vec![(SERVICE_TAG, 7), (TAG, 42)], 0),
    ] {
        let request = IcmpMessage {
            tags: tags.clone(),
            ..IcmpMessage::echo(version, &payload(length))
        };
        let error = IcmpMessage::about(&request.build(), version, kind, 0);
        let error = IcmpMessage {
            tags,
            ..error.between(FRONTEND, CLIENT)
        };
        let told = Expect {
            frame: Some(error.build()),
            ..Expect::end(Reason::UnreachableSent)
        };
        cases.push(
            Case::new(version, &format!("a {what} echo request to nobody"))
                .given(nobody)
                .raw(request.build(), told),
        );
    }
    let mut many = IcmpMessage::echo(version, &payload(8));
    many.macs[1] = [0xff; 6];
    cases.push(
        Case::new(
            version,
            "an echo request to nobody by everybody's MAC address",
        )
        .given(nobody)
        .raw(many.build(), Expect::end(Reason::EchoUnanswered)),
    );
    cases
}
