//! Frontends that share the host's own address: only what is surely for a rule is balanced.

use forebay_common::abi::Owner;
use forebay_common::reason::Reason;
use forebay_tests::case::{Case, Expect};
use forebay_tests::frame::{ACK, FIN, Faults, Fragment, Frame, IcmpMessage, RST, SYN};
use forebay_tests::network::IpVersion;
use forebay_tests::network::plan::FRONTEND;
use forebay_tests::world::{NOW, Pair, RULE_NAMES, RULE_WEB, World};

use super::{opens, reaches_instance, requested};

/// The cases.
pub(super) fn cases() -> Vec<Case> {
    IpVersion::BOTH.into_iter().flat_map(of).collect()
}

fn sharing(world: &mut World) {
    world.each_owner(FRONTEND, |owner| {
        owner.roles |= Owner::SHARED | Owner::ECHO;
        owner.on_link = 0;
    });
}

fn of(version: IpVersion) -> Vec<Case> {
    let case = |text: &str| Case::new(version, &format!("shared: {text}")).given(sharing);
    let (syn, datagram) = (Frame::of(version), Frame::datagram(version));
    let pair = Pair::tcp(version);
    let request = pair.request();
    let again = Frame {
        destination_port: 81,
        ..Frame::of(version)
    };
    let mut cases = vec![
        case("a SYN to a rule is balanced").step(&syn, opens(&syn, RULE_WEB, 8_080, NOW)),
        case("a datagram to a rule is balanced")
            .step(&datagram, opens(&datagram, RULE_NAMES, 5_353, NOW)),
        case("a packet of a flow is of the flow")
            .with_flows([&pair])
            .step(
                &request,
                reaches_instance(&request, requested(&pair, &request, NOW)),
            ),
        case("a SYN without hops is for nobody else").step(
            &Frame {
                hops: 1,
                ..syn.clone()
            },
            Expect::time_exceeded(
                &Frame {
                    hops: 1,
                    ..syn.clone()
                },
                FRONTEND,
            ),
        ),
        case("a SYN to another port without hops is the host's").step(
            &Frame { hops: 1, ..again },
            Expect::end(Reason::SharedToHost),
        ),
    ];
    for (what, bytes) in to_the_host(version) {
        cases.push(
            case(&format!("{what} is the host's")).raw(bytes, Expect::end(Reason::SharedToHost)),
        );
    }
    cases
}

/// What the kernel gets as it is.
fn to_the_host(version: IpVersion) -> Vec<(&'static str, Vec<u8>)> {
    let syn = || Frame::of(version);
    let fragment = |offset: u16, more: bool| Frame {
        fragment: Some(Fragment { offset, more }),
        ..Frame::datagram(version).with_payload(64)
    };
    let icmp = |kind: (u8, u8)| IcmpMessage {
        kind,
        ..IcmpMessage::echo(version, &[1, 2, 3, 4])
    };
    let with = |faults: Faults| Frame { faults, ..syn() };
    let cut = if version == IpVersion::V4 {
        14 + 20 + 6
    } else {
        14 + 40 + 6
    };
    let echo = IcmpMessage::echo(version, b"ping");
    let reply = IcmpMessage {
        kind: echo.echoed().kind,
        ..echo.clone()
    };
    // About a connection of the host itself.
    let own = Frame {
        source_port: 33_000,
        destination_port: 443,
        ..Frame::of(version).coming_from(FRONTEND, 33_000)
    };
    let error = IcmpMessage {
        body: own.packet(),
        ..icmp((1, 1))
    };
    let error = IcmpMessage {
        kind: if version == IpVersion::V4 {
            (3, 1)
        } else {
            (1, 3)
        },
        ..error
    };
    vec![
        (
            "a SYN to another port",
            Frame {
                destination_port: 81,
                ..syn()
            }
            .build(),
        ),
        (
            "a datagram to another port",
            Frame {
                destination_port: 54,
                ..Frame::datagram(version)
            }
            .build(),
        ),
        ("a SYN-ACK to a rule", syn().flagged(SYN | ACK).build()),
        ("an ACK to a rule", syn().flagged(ACK).build()),
        ("a FIN to a rule", syn().flagged(FIN | ACK).build()),
        ("a RST to a rule", syn().flagged(RST).build()),
        ("a RST with a SYN", syn().flagged(RST | SYN).build()),
        ("a packet without flags", syn().flagged(0).build()),
        (
            "an answer to the host",
            Frame {
                destination_port: 40_123,
                ..syn().flagged(SYN | ACK)
            }
            .build(),
        ),
        (
            "ESP",
            Frame {
                protocol: 50,
                ..syn()
            }
            .build(),
        ),
        (
            "GRE",
            Frame {
                protocol: 47,
                ..syn()
            }
            .build(),
        ),
        ("an echo request", echo.build()),
        ("an echo reply", reply.build()),
        ("an error about a connection of the host", error.build()),
        ("a later fragment", fragment(8, false).build()),
        ("a middle fragment", fragment(8, true).build()),
        (
            "a first fragment to another port",
            Frame {
                destination_port: 54,
                ..fragment(0, true)
            }
            .build(),
        ),
        (
            "a length that is wrong",
            with(Faults {
                length: Some(9),
                ..Faults::default()
            })
            .build(),
        ),
        (
            "a header that is cut",
            with(Faults {
                cut: Some(cut),
                ..Faults::default()
            })
            .build(),
        ),
        (
            "a version that is wrong",
            with(Faults {
                ip_version: Some(9),
                ..Faults::default()
            })
            .build(),
        ),
    ]
}
