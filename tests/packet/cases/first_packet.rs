//! A packet to a rule without a flow opens one and is translated.

use forebay_common::abi::Rule;
use forebay_common::flow::Direction;
use forebay_tests::case::{Case, Expect};
use forebay_tests::frame::{ACK, FIN, Faults, Frame, PSH, SYN};
use forebay_tests::network::IpVersion;
use forebay_tests::network::plan::{FRONTEND_2, INSTANCES};
use forebay_tests::world::{NOW, RULE_NAMES, RULE_WEB, set_idle};

use super::{opened_pair, opens};

/// The cases.
pub(super) fn cases() -> Vec<Case> {
    IpVersion::BOTH.into_iter().flat_map(of).collect()
}

fn of(version: IpVersion) -> Vec<Case> {
    let tcp = || Frame::of(version);
    let padded = Frame {
        faults: Faults {
            padding: 6,
            ..Faults::default()
        },
        ..tcp()
    };
    let mut cases = Vec::new();
    for (name, frame) in [
        ("a SYN opens a flow", tcp()),
        ("a SYN with data opens a flow", tcp().with_payload(101)),
        ("an ACK in mid-connection opens a flow", tcp().flagged(ACK)),
        (
            "data in mid-connection opens a flow",
            tcp().flagged(ACK | PSH).with_payload(1_000),
        ),
        (
            "a SYN with an acknowledgement opens a flow",
            tcp().flagged(SYN | ACK),
        ),
        ("a FIN opens a flow", tcp().flagged(FIN | ACK)),
        ("a TCP packet without flags opens a flow", tcp().flagged(0)),
        ("bytes after the packet are kept", padded),
        (
            "another frontend has the same rule",
            tcp().towards(FRONTEND_2, 80),
        ),
    ] {
        cases.push(Case::new(version, name).step(&frame, opens(&frame, RULE_WEB, 8_080, NOW)));
    }
    let frame = Frame::datagram(version);
    cases.push(
        Case::new(version, "a datagram opens a flow")
            .step(&frame, opens(&frame, RULE_NAMES, 5_353, NOW)),
    );
    let frame = Frame::datagram(version).with_payload(0);
    cases.push(
        Case::new(version, "an empty datagram opens a flow")
            .step(&frame, opens(&frame, RULE_NAMES, 5_353, NOW)),
    );
    cases.extend([backend_port_wraps(version), rule_is_kept(version)]);
    cases
}

fn backend_port_wraps(version: IpVersion) -> Case {
    let frame = Frame::of(version);
    Case::new(version, "the port offset wraps around")
        .given(|world| world.each_rule(|rule| rule.port_offset = 0_u16.wrapping_sub(70)))
        .step(&frame, opens(&frame, RULE_WEB, 10, NOW))
}

fn rule_is_kept(version: IpVersion) -> Case {
    let frame = Frame::of(version);
    let instance = &INSTANCES[0];
    let mut pair = opened_pair(&frame, RULE_WEB, 8_080, NOW);
    pair.tcp_reset = false;
    pair.idle_timeout = 77;
    Case::new(
        version,
        "the flow takes idle timeout and reset from its rule",
    )
    .given(|world| {
        world.each_rule(|rule| {
            set_idle(rule, 77);
            rule.flags = Rule::ACTIVE;
        });
    })
    .step(
        &frame,
        Expect::forward(frame.clone().towards(instance.host, 8_080), instance.way())
            .flows([pair])
            .opens(RULE_WEB)
            .counts(RULE_WEB, Direction::ToInstance, frame.ip_length()),
    )
}
