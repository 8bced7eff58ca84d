//! Packets to a frontend that open no flow.

use forebay_common::abi::RING_SIZE;
use forebay_common::reason::Reason;
use forebay_tests::case::{Case, Expect};
use forebay_tests::frame::{ACK, Frame, RST};
use forebay_tests::network::IpVersion;
use forebay_tests::world::{RING_ONE, World};

/// A change of the tables.
type Change = fn(&mut World);

/// The cases.
pub(super) fn cases() -> Vec<Case> {
    IpVersion::BOTH.into_iter().flat_map(of).collect()
}

fn of(version: IpVersion) -> Vec<Case> {
    let tcp = || Frame::of(version);
    let on_port = |frame: Frame, port: u16| Frame {
        destination_port: port,
        ..frame
    };
    let mut cases: Vec<Case> = [
        ("a port without a rule is closed to TCP", on_port(tcp(), 81)),
        (
            "a port without a rule is closed to UDP",
            on_port(Frame::datagram(version), 54),
        ),
        (
            "a TCP rule is closed to UDP",
            on_port(Frame::datagram(version), 80),
        ),
        ("a UDP rule is closed to TCP", on_port(tcp(), 53)),
        ("port 0 has no rule", on_port(tcp(), 0)),
        ("port 65535 has no rule", on_port(tcp(), 65_535)),
        (
            "an ACK to a closed port opens nothing",
            on_port(tcp().flagged(ACK), 81),
        ),
        (
            "a RST to a closed port opens nothing",
            on_port(tcp().flagged(RST), 81),
        ),
    ]
    .into_iter()
    .map(|(name, frame)| Case::new(version, name).step(&frame, Expect::end(Reason::NoRule)))
    .collect();
    cases.extend(without_members(version));
    cases
}

fn without_members(version: IpVersion) -> Vec<Case> {
    let changes: [(&str, Change); 5] = [
        ("no ring", |world| {
            world.each_rule(|rule| rule.targets = [0; 2])
        }),
        ("a ring that is not there", |world| {
            world.each_rule(|rule| rule.targets = [77; 2]);
        }),
        ("a ring beyond the last", |world| {
            world.each_rule(|rule| rule.targets = [u32::MAX; 2]);
        }),
        ("an empty ring", |world| {
            let nobody = vec![0; RING_SIZE as usize];
            world.rings.insert(RING_ONE, nobody.into());
        }),
        ("a ring of members that are not there", |world| {
            world.only_backend(77);
        }),
    ];
    changes
        .into_iter()
        .flat_map(|(what, change)| {
            [
                ("a SYN", Frame::of(version), Reason::NoBackend),
                ("a datagram", Frame::datagram(version), Reason::NoBackend),
                ("a RST", Frame::of(version).flagged(RST), Reason::NoFlow),
            ]
            .map(|(frame_name, frame, reason)| {
                Case::new(version, &format!("a rule with {what} refuses {frame_name}"))
                    .given(change)
                    .step(&frame, Expect::end(reason))
            })
        })
        .collect()
}
