//! Out of the same NIC or another one, and what VLAN tags have to do with it.

use forebay_common::flow::Direction;
use forebay_common::reason::Reason;
use forebay_tests::case::{Case, Expect};
use forebay_tests::engine::Action;
use forebay_tests::frame::{Frame, SERVICE_TAG, TAG};
use forebay_tests::network::IpVersion;
use forebay_tests::network::plan::{INSTANCES, ONE_ARM_CLIENT, SOUTH};
use forebay_tests::world::{NOW, Pair, RULE_WEB};

use super::{answered, opens, reaches_client, reaches_instance, requested};

/// The cases.
pub(super) fn cases() -> Vec<Case> {
    IpVersion::BOTH.into_iter().flat_map(of).collect()
}

/// A flow whose client and instance are on one link.
fn one_armed(version: IpVersion) -> Pair {
    let mut pair = Pair {
        client: (ONE_ARM_CLIENT.host, 40_000),
        ..Pair::tcp(version)
    };
    pair.from.hop = Some((ONE_ARM_CLIENT.way(), NOW));
    pair
}

fn tag_sets() -> [(&'static str, Vec<(u16, u16)>); 5] {
    [
        ("no tag", vec![]),
        ("a VLAN tag", vec![(TAG, 42)]),
        ("a VLAN tag with priority", vec![(TAG, 0xb02a)]),
        ("a service tag", vec![(SERVICE_TAG, 7)]),
        ("two tags", vec![(SERVICE_TAG, 7), (TAG, 42)]),
    ]
}

fn of(version: IpVersion) -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, tags) in tag_sets() {
        cases.extend(same_nic(version, name, &tags));
        cases.extend(crossing(version, name, &tags));
    }
    let three = Frame {
        tags: vec![(SERVICE_TAG, 1), (TAG, 2), (TAG, 3)],
        ..Frame::of(version)
    };
    cases.push(
        Case::new(version, "a third tag is for the kernel")
            .step(&three, Expect::end(Reason::NotIp)),
    );
    cases
}

fn transmitted(expect: Expect) -> Expect {
    assert_eq!(expect.action, Action::Transmit);
    expect
}

fn same_nic(version: IpVersion, name: &str, tags: &[(u16, u16)]) -> Vec<Case> {
    let pair = one_armed(version);
    let tagged = |frame: Frame| Frame {
        tags: tags.to_vec(),
        ..frame.from_link(&SOUTH)
    };
    let first = tagged(Frame::of(version).coming_from(ONE_ARM_CLIENT.host, 40_000));
    let (request, answer) = (tagged(pair.request()), tagged(pair.answer()));
    let case = |text: &str| Case::new(version, &format!("{name}, same NIC: {text}"));
    vec![
        case("a first packet goes back out of it")
            .step(&first, transmitted(opens(&first, RULE_WEB, 8_080, NOW))),
        case("a request goes back out of it")
            .with_flows([&pair])
            .step(
                &request,
                transmitted(reaches_instance(&request, requested(&pair, &request, NOW))),
            ),
        case("an answer goes back out of it")
            .with_flows([&pair])
            .step(
                &answer,
                transmitted(reaches_client(&answer, answered(&pair, &answer, NOW))),
            ),
    ]
}

fn crossing(version: IpVersion, name: &str, tags: &[(u16, u16)]) -> Vec<Case> {
    let pair = Pair::tcp(version);
    let tagged = |frame: Frame| Frame {
        tags: tags.to_vec(),
        ..frame
    };
    let first = tagged(Frame::of(version));
    let (request, answer) = (tagged(pair.request()), tagged(pair.answer()));
    let case = |text: &str| Case::new(version, &format!("{name}, another NIC: {text}"));
    if tags.is_empty() {
        let redirected = |expect: Expect| {
            assert_eq!(expect.action, Action::Redirect);
            expect
        };
        return vec![
            case("a first packet goes out of it")
                .step(&first, redirected(opens(&first, RULE_WEB, 8_080, NOW))),
            case("a request goes out of it").with_flows([&pair]).step(
                &request,
                redirected(reaches_instance(&request, requested(&pair, &request, NOW))),
            ),
            case("an answer goes out of it").with_flows([&pair]).step(
                &answer,
                redirected(reaches_client(&answer, answered(&pair, &answer, NOW))),
            ),
        ];
    }
    let refused = || Expect::end(Reason::VlanCrossing);
    vec![
        case("a first packet is refused").step(&first, refused()),
        case("a request is refused")
            .with_flows([&pair])
            .step(&request, refused()),
        case("an answer is refused")
            .with_flows([&pair])
            .step(&answer, refused()),
        by_kernel(version, name, &request, &pair),
    ]
}

/// The kernel owns the way out, so it sees to the tags as well.
fn by_kernel(version: IpVersion, name: &str, request: &Frame, pair: &Pair) -> Case {
    let mut silent = Pair {
        backend: (forebay_tests::network::plan::SILENT, 8_080),
        ..pair.clone()
    };
    silent.to.hop = None;
    let after = requested(&silent, request, NOW);
    let translated = request.clone().towards(silent.backend.0, 8_080);
    assert_ne!(silent.backend.0, INSTANCES[0].host);
    Case::new(
        version,
        &format!("{name}, through the kernel: the packet keeps it"),
    )
    .with_flows([&silent])
    .step(
        request,
        Expect::forward_by_kernel(&translated)
            .flows([after])
            .counts(RULE_WEB, Direction::ToInstance, request.ip_length()),
    )
}
