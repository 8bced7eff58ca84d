//! Ways out that only the kernel may take: NICs that take no redirected frames, and neighbours that are
//! not resolved.

use forebay_common::abi::Interface;
use forebay_common::flow::Direction;
use forebay_common::reason::Reason;
use forebay_tests::case::{Case, Expect};
use forebay_tests::engine::Action;
use forebay_tests::frame::IcmpMessage;
use forebay_tests::network::IpVersion;
use forebay_tests::network::plan::{
    GATEWAY, INSTANCES, ONE_ARM_CLIENT, SILENT, SOUTH, SOUTH_VLAN, SOUTH_VLANS, VLAN_INSTANCE,
};
use forebay_tests::world::{NOW, RULE_WEB, World};

use super::icmp_errors::{Report, same};
use super::vlans::{between, packets};
use super::{answered, inward, reaches_client, reaches_instance, requested};

/// The cases.
pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = IpVersion::BOTH.into_iter().flat_map(no_redirect).collect();
    cases.extend(one_armed());
    cases
}

/// A NIC that takes no redirected frames gets them from the kernel, with their hops.
fn no_redirect(version: IpVersion) -> Vec<Case> {
    let deny = |slots: [u32; 2]| {
        move |world: &mut World| {
            for slot in slots {
                if let Some(interface) = world.interfaces.get_mut(&slot) {
                    interface.flags |= Interface::NO_REDIRECT;
                }
            }
        }
    };
    let mut cases = Vec::new();
    for (what, instance) in [("a NIC", INSTANCES[0]), ("a VLAN device", VLAN_INSTANCE)] {
        let pair = between(version, &GATEWAY, &instance);
        let [request, answer] = packets(&pair);
        let case = |text: &str| {
            Case::new(
                version,
                &format!("{text} {what} that takes no redirected frames"),
            )
            .given(deny([SOUTH.slot, SOUTH_VLAN.slot]))
            .with_flows([&pair])
        };
        cases.push(
            case("a request to").step(
                &request,
                Expect::forward_by_kernel(&inward(&pair, &request))
                    .flows([requested(&pair, &request, NOW)])
                    .counts(RULE_WEB, Direction::ToInstance, request.ip_length()),
            ),
        );
        cases.push(case("an answer from").step(
            &answer,
            reaches_client(&answer, answered(&pair, &answer, NOW)),
        ));
        let report = Report::about_answer(&pair, (3, 1), same);
        let translated = IcmpMessage {
            macs: report.sent.macs,
            ..report.becomes.clone()
        };
        cases.push(case("an error to").bytes(
            report.sent.build(),
            report.ingress,
            Expect {
                frame: Some(translated.build()),
                ..Expect::end(Reason::ForwardedByKernel)
            },
        ));
    }
    // Out of the NIC that a frame came in on, nothing is redirected.
    let client = ONE_ARM_CLIENT;
    let pair = between(version, &client, &INSTANCES[0]);
    let request = pair.request().from_link(&SOUTH);
    let back = reaches_instance(&request, requested(&pair, &request, NOW));
    assert_eq!(back.action, Action::Transmit);
    cases.push(
        Case::new(version, "the same NIC takes its own frames back")
            .given(deny([SOUTH.slot, SOUTH_VLANS.slot]))
            .with_flows([&pair])
            .step(&request, back),
    );
    cases
}

/// The kernel would tell the client to go to an unknown neighbour on its own link by itself.
fn one_armed() -> Vec<Case> {
    let version = IpVersion::V6;
    let client = ONE_ARM_CLIENT;
    let mut pair = between(version, &client, &INSTANCES[0]);
    pair.backend = (SILENT, 8_080);
    pair.to.hop = None;
    let request = pair.request().from_link(&SOUTH);
    let elsewhere = pair.request();
    let after = requested(&pair, &elsewhere, NOW);
    let mut report = Report::about_answer(&pair, (3, 1), same);
    report.ingress = &SOUTH;
    let case = |text: &str| Case::new(version, text).with_flows([&pair]);
    vec![
        case("an unknown neighbour on the link of the sender")
            .step(&request, Expect::end(Reason::NeighborUnknown)),
        case("an unknown neighbour on another link").step(
            &elsewhere,
            Expect::forward_by_kernel(&inward(&pair, &elsewhere))
                .flows([after])
                .counts(RULE_WEB, Direction::ToInstance, elsewhere.ip_length()),
        ),
        case("an error to an unknown neighbour on the link it came from").bytes(
            report.sent.build(),
            &SOUTH,
            Expect::end(Reason::NeighborUnknown),
        ),
    ]
}
