//! Packets straight to the private address of an instance.

use forebay_common::abi::Settings;
use forebay_common::reason::Reason;
use forebay_tests::case::{Case, Expect};
use forebay_tests::frame::Frame;
use forebay_tests::network::plan::{CLIENT, INSTANCES, ONE_ARM_CLIENT, SOUTH};
use forebay_tests::network::{Host, IpVersion};
use forebay_tests::world::World;

/// A change of the tables.
type Change = fn(&mut World);

/// The cases.
pub(super) fn cases() -> Vec<Case> {
    IpVersion::BOTH.into_iter().flat_map(of).collect()
}

fn of(version: IpVersion) -> Vec<Case> {
    let frames = [
        ("TCP", Frame::of(version)),
        ("UDP", Frame::datagram(version)),
        (
            "an echo request",
            Frame {
                protocol: if version == IpVersion::V4 { 1 } else { 58 },
                ..Frame::of(version)
            },
        ),
    ];
    let allow: Change = |world| world.settings_mut().flags = Settings::ALLOW_DIRECT;
    let keep: Change = |_| {};
    let inside = Host::new([10, 77, 0, 1], [0xfd77, 0, 0, 0, 0, 0, 0, 1]);
    let rows = [
        (
            "from outside is dropped",
            CLIENT,
            keep,
            Reason::DirectToInstance,
        ),
        (
            "from outside passes when allowed",
            CLIENT,
            allow,
            Reason::DirectAllowed,
        ),
        (
            "from the virtual network passes",
            inside,
            keep,
            Reason::DirectAllowed,
        ),
        (
            "from a neighbour passes",
            ONE_ARM_CLIENT.host,
            keep,
            Reason::DirectAllowed,
        ),
        (
            "from another instance passes",
            INSTANCES[1].host,
            keep,
            Reason::InstanceLocal,
        ),
        (
            "from the host passes",
            SOUTH.address,
            keep,
            Reason::InstanceLocal,
        ),
    ];
    let mut cases = Vec::new();
    for (kind, frame) in &frames {
        for (what, source, change, reason) in rows {
            let frame = Frame {
                source,
                ..frame.clone().towards(INSTANCES[0].host, 8_080)
            };
            cases.push(
                Case::new(version, &format!("{kind} to an instance {what}"))
                    .given(change)
                    .step(&frame, Expect::end(reason)),
            );
        }
    }
    cases
}
