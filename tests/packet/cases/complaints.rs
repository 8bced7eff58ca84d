//! ICMP errors of the node's own: who says them, with which tags, how much they quote, and about what
//! nobody is told.

use forebay_common::abi::Interface;
use forebay_common::family::{V4, V6};
use forebay_common::flow::Direction;
use forebay_common::reason::Reason;
use forebay_tests::case::{Case, Expect};
use forebay_tests::frame::{Fragment, Frame, SERVICE_TAG, TAG};
use forebay_tests::network::IpVersion;
use forebay_tests::network::plan::{
    CLIENT, FRONTEND, INSTANCES, NARROW_INSTANCE, SOUTH, SOUTH_VLAN, VLAN_INSTANCE,
};
use forebay_tests::world::{NOW, Pair, RULE_WEB, World};

use super::{inward, requested};

/// The cases.
pub(super) fn cases() -> Vec<Case> {
    IpVersion::BOTH.into_iter().flat_map(of).collect()
}

fn spent(frame: Frame) -> Frame {
    Frame { hops: 1, ..frame }
}

fn of(version: IpVersion) -> Vec<Case> {
    let mut cases = lengths(version);
    cases.extend(speakers(version));
    cases.extend(tags(version));
    cases.extend(untold(version));
    if version == IpVersion::V4 {
        cases.extend(to_be_cut());
    }
    cases
}

/// As much of the packet as fits, in whole words.
fn lengths(version: IpVersion) -> Vec<Case> {
    let mut cases = Vec::new();
    for pair in [Pair::tcp(version), Pair::udp(version)] {
        for (name, frame, speaker) in [
            ("a request", pair.request(), FRONTEND),
            ("an answer", pair.answer(), SOUTH.address),
        ] {
            for length in [
                0, 1, 2, 3, 4, 500, 508, 509, 512, 520, 1_172, 1_184, 1_193, 1_400,
            ] {
                let frame = spent(frame.clone().with_payload(length));
                let text = format!("{name} of protocol {} with {length} octets", pair.protocol);
                cases.push(
                    Case::new(version, &format!("{text} has expired"))
                        .with_flows([&pair])
                        .step(&frame, Expect::time_exceeded(&frame, speaker)),
                );
            }
            let long = frame.clone().with_payload(1_600);
            cases.push(
                Case::new(
                    version,
                    &format!("{name} of protocol {} is too big", pair.protocol),
                )
                .with_flows([&pair])
                .step(&long, Expect::too_big(&long, speaker, 1_500)),
            );
        }
    }
    cases
}

fn without_address(world: &mut World) {
    for interface in world.interfaces.values_mut() {
        *interface = Interface {
            address4: V4::default(),
            address6: V6::default(),
            ..*interface
        };
    }
}

fn speakers(version: IpVersion) -> Vec<Case> {
    let pair = Pair::tcp(version);
    let answer = spent(pair.answer());
    let request = spent(pair.request());
    let behind = Pair {
        backend: (VLAN_INSTANCE.host, 8_080),
        ..Pair::tcp(version)
    };
    let tagged = spent(Frame {
        macs: [VLAN_INSTANCE.mac, SOUTH.mac],
        ..behind.answer().tagged(SOUTH_VLAN.tags).from_link(&SOUTH)
    });
    let unknown = answer.clone().tagged(&[(TAG, 42)]);
    let case = |text: &str| Case::new(version, &format!("who tells: {text}"));
    vec![
        case("the frontend, when it was written to")
            .with_flows([&pair])
            .given(without_address)
            .step(&request, Expect::time_exceeded(&request, FRONTEND)),
        case("whoever was written to, when the node has no address there")
            .with_flows([&pair])
            .given(without_address)
            .step(&answer, Expect::time_exceeded(&answer, CLIENT)),
        case("the VLAN device's address")
            .with_flows([&behind])
            .step(&tagged, Expect::time_exceeded(&tagged, SOUTH_VLAN.address)),
        case("whoever was written to, on a VLAN that the host does not have")
            .with_flows([&pair])
            .step(&unknown, Expect::time_exceeded(&unknown, CLIENT)),
    ]
}

fn tags(version: IpVersion) -> Vec<Case> {
    let pair = Pair::tcp(version);
    [
        ("one tag", vec![(TAG, 42)]),
        ("a priority", vec![(TAG, 0xe000)]),
        ("a tag with a priority", vec![(SERVICE_TAG, 0x702a)]),
        ("two tags", vec![(SERVICE_TAG, 7), (TAG, 0xa02a)]),
    ]
    .into_iter()
    .flat_map(|(what, tags)| {
        let request = spent(pair.request()).tagged(&tags);
        let long = pair.request().with_payload(1_600).tagged(&tags);
        [
            Case::new(version, &format!("an expired packet with {what}"))
                .with_flows([&pair])
                .step(&request, Expect::time_exceeded(&request, FRONTEND)),
            Case::new(version, &format!("a packet with {what} that is too big"))
                .with_flows([&pair])
                .step(&long, Expect::too_big(&long, FRONTEND, 1_500)),
        ]
    })
    .collect()
}

/// About whom nobody is told.
fn untold(version: IpVersion) -> Vec<Case> {
    let pair = Pair::udp(version);
    let to_many = |mac: [u8; 6]| Frame {
        macs: [pair.request().macs[0], mac],
        ..spent(pair.request())
    };
    let first = Frame {
        fragment: Some(Fragment {
            offset: 0,
            more: true,
        }),
        ..pair.request().with_payload(56)
    };
    let later = Frame {
        fragment: Some(Fragment {
            offset: 8,
            more: false,
        }),
        ..spent(pair.request().with_payload(56))
    };
    let expired = spent(first.clone());
    let case = |text: &str| Case::new(version, text).with_flows([&pair]);
    let after = requested(&pair, &first, NOW);
    let counted = Expect::forward(inward(&pair, &first), INSTANCES[0].way())
        .flows([after])
        .counts(pair.rule, Direction::ToInstance, first.ip_length());
    vec![
        case("an expired packet to everybody's MAC address")
            .step(&to_many([0xff; 6]), Expect::end(Reason::HopsExceeded)),
        case("an expired packet to a group's MAC address").step(
            &to_many([0x01, 0, 0x5e, 0, 0, 1]),
            Expect::end(Reason::HopsExceeded),
        ),
        case("an expired first fragment").step(&expired, Expect::time_exceeded(&expired, FRONTEND)),
        case("an expired later fragment")
            .step(&first, counted)
            .step(&later, Expect::end(Reason::HopsExceeded)),
    ]
}

/// Who allows it has its packets cut by the kernel: whoever does not say "do not fragment".
fn to_be_cut() -> Vec<Case> {
    let version = IpVersion::V4;
    let pair = Pair::tcp(version);
    let cuttable = |frame: Frame| Frame {
        fragment: Some(Fragment {
            offset: 0,
            more: false,
        }),
        ..frame
    };
    let long = cuttable(pair.request().with_payload(1_600));
    let first = cuttable(Frame::of(version).with_payload(1_400));
    let mut fresh = Pair::opened(&first, RULE_WEB, (NARROW_INSTANCE.host, 8_080), NOW);
    fresh.to = fresh.to.with_packet(&first, NOW);
    vec![
        Case::new(version, "a packet that may be cut goes through the kernel")
            .with_flows([&pair])
            .step(
                &long,
                Expect::forward_by_kernel(&inward(&pair, &long))
                    .flows([requested(&pair, &long, NOW)])
                    .counts(RULE_WEB, Direction::ToInstance, long.ip_length()),
            ),
        Case::new(
            version,
            "a first packet that may be cut goes through the kernel",
        )
        .given(|world| world.only_backend(12))
        .step(
            &first,
            Expect::forward_by_kernel(&inward(&fresh, &first))
                .flows([fresh.clone()])
                .opens(RULE_WEB)
                .counts(RULE_WEB, Direction::ToInstance, first.ip_length()),
        ),
    ]
}
