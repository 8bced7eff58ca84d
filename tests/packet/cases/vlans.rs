//! VLAN tags of the host's own devices: put on, changed, taken off and kept.

use forebay_common::reason::Reason;
use forebay_tests::case::{Case, Expect};
use forebay_tests::frame::{ArpMessage, Frame, IcmpMessage, NeighborMessage, SERVICE_TAG, TAG};
use forebay_tests::network::plan::{
    FRONTEND, GATEWAY, INSTANCES, LOCAL_CLIENT, NORTH, Neighbor, SOUTH, VLAN_CLIENT, VLAN_INSTANCE,
    VLANS_INSTANCE,
};
use forebay_tests::network::{Host, IpVersion};
use forebay_tests::world::{NOW, Pair, RULE_WEB};

use super::icmp_errors::{Report, same};
use super::{answered, reaches_client, reaches_instance, requested};

/// The cases.
pub(super) fn cases() -> Vec<Case> {
    IpVersion::BOTH.into_iter().flat_map(of).collect()
}

/// A flow between a client and an instance that each are a neighbour.
pub(super) fn between(version: IpVersion, client: &Neighbor, instance: &Neighbor) -> Pair {
    let host = if client.host == GATEWAY.host {
        Pair::tcp(version).client.0
    } else {
        client.host
    };
    let mut pair = Pair {
        client: (host, 40_000),
        backend: (instance.host, 8_080),
        ..Pair::tcp(version)
    };
    pair.to.hop = Some((instance.way(), NOW));
    pair.from.hop = Some((client.way(), NOW));
    pair
}

fn of(version: IpVersion) -> Vec<Case> {
    let mut cases = ways(version);
    cases.extend(lookups(version));
    cases.extend(priorities(version));
    cases.extend(refused(version));
    cases.extend(sizes(version));
    cases.extend(errors(version));
    cases.extend(instances(version));
    cases.extend(neighbours(version));
    cases
}

/// What somebody is behind, and who.
type Side = (&'static str, Neighbor);

/// Clients and instances, behind NICs and VLAN devices.
fn sides() -> (Vec<Side>, Vec<Side>) {
    (
        vec![("no VLAN", GATEWAY), ("a VLAN", VLAN_CLIENT)],
        vec![
            ("no VLAN", INSTANCES[0]),
            ("another VLAN", VLAN_INSTANCE),
            ("two VLANs", VLANS_INSTANCE),
        ],
    )
}

/// Both packets of a flow, with the tags that they have on the wire.
pub(super) fn packets(pair: &Pair) -> [Frame; 2] {
    let tags = |hop: Option<(forebay_tests::network::plan::Way, u64)>| {
        hop.map_or(&[][..], |(way, _)| way.link.tags)
    };
    let answer = pair.answer().from_link(&SOUTH);
    [
        pair.request().tagged(tags(pair.from.hop)),
        answer.tagged(tags(pair.to.hop)),
    ]
}

fn ways(version: IpVersion) -> Vec<Case> {
    let mut cases = Vec::new();
    let (clients, instances) = sides();
    for (from, client) in &clients {
        for (to, instance) in &instances {
            let pair = between(version, client, instance);
            let [request, answer] = packets(&pair);
            let case = |text: &str| {
                Case::new(version, &format!("{text} between {from} and {to}")).with_flows([&pair])
            };
            cases.push(case("a request").step(
                &request,
                reaches_instance(&request, requested(&pair, &request, NOW)),
            ));
            cases.push(case("an answer").step(
                &answer,
                reaches_client(&answer, answered(&pair, &answer, NOW)),
            ));
        }
    }
    cases
}

/// The VLAN device that a frame came in on is the one that routing is asked with.
fn lookups(version: IpVersion) -> Vec<Case> {
    let mut cases = Vec::new();
    let (clients, instances) = sides();
    for (from, client) in &clients {
        for (to, instance) in &instances {
            let mut pair = between(version, client, instance);
            let [request, answer] = packets(&pair);
            let ways = [pair.to.hop, pair.from.hop];
            pair.to.hop = None;
            pair.from.hop = None;
            let mut there = requested(&pair, &request, NOW);
            there.to.hop = ways[0];
            let mut back = answered(&there, &answer, NOW);
            back.from.hop = ways[1];
            cases.push(
                Case::new(
                    version,
                    &format!("the way from {from} to {to} is looked up"),
                )
                .with_flows([&pair])
                .step(&request, reaches_instance(&request, there))
                .step(&answer, reaches_client(&answer, back)),
            );
        }
    }
    cases
}

/// The priority of the outer tag stays, where there is a tag to have it.
fn priorities(version: IpVersion) -> Vec<Case> {
    let mut cases = Vec::new();
    for (text, pair, tags) in [
        (
            "changed",
            between(version, &VLAN_CLIENT, &VLAN_INSTANCE),
            vec![(TAG, 0xb000 | 60)],
        ),
        (
            "taken off",
            between(version, &VLAN_CLIENT, &INSTANCES[0]),
            vec![(TAG, 0xb000 | 60)],
        ),
        (
            "doubled",
            between(version, &VLAN_CLIENT, &VLANS_INSTANCE),
            vec![(TAG, 0x7000 | 60)],
        ),
        (
            "alone",
            between(version, &GATEWAY, &INSTANCES[0]),
            vec![(TAG, 0xe000)],
        ),
        (
            "alone, then on a tag",
            between(version, &GATEWAY, &VLAN_INSTANCE),
            vec![(TAG, 0x6000)],
        ),
        (
            "alone, on a service tag",
            between(version, &GATEWAY, &INSTANCES[0]),
            vec![(SERVICE_TAG, 0)],
        ),
    ] {
        let request = pair.request().tagged(&tags);
        cases.push(
            Case::new(version, &format!("a tag with a priority, {text}"))
                .with_flows([&pair])
                .step(
                    &request,
                    reaches_instance(&request, requested(&pair, &request, NOW)),
                ),
        );
        let mut untold = pair.clone();
        untold.to.hop = None;
        let after = requested(&pair, &request, NOW);
        cases.push(
            Case::new(
                version,
                &format!("a tag with a priority, {text}, looked up"),
            )
            .with_flows([&untold])
            .step(&request, reaches_instance(&request, after)),
        );
    }
    cases
}

/// Tags that the host has no device for do not go to another NIC, and nothing has changed then.
fn refused(version: IpVersion) -> Vec<Case> {
    let pair = Pair::tcp(version);
    [
        ("an unknown tag", vec![(TAG, 61)]),
        ("the tag of another NIC", vec![(TAG, 70)]),
        ("a tag behind a known one", vec![(TAG, 60), (TAG, 9)]),
        ("two unknown tags", vec![(SERVICE_TAG, 7), (TAG, 42)]),
    ]
    .into_iter()
    .map(|(what, tags)| {
        Case::new(version, &format!("{what} to another NIC"))
            .with_flows([&pair])
            .step(
                &pair.request().tagged(&tags),
                Expect::end(Reason::VlanCrossing),
            )
    })
    .collect()
}

/// The MTU of the VLAN device counts, not that of its NIC.
fn sizes(version: IpVersion) -> Vec<Case> {
    let pair = between(version, &GATEWAY, &VLAN_INSTANCE);
    let headers = pair.request().with_payload(0).ip_length() as usize;
    let fits = pair.request().with_payload(1_400 - headers);
    let above = pair.request().with_payload(1_401 - headers);
    let mut untold = pair.clone();
    untold.to.hop = None;
    let case = |text: &str| Case::new(version, text);
    vec![
        case("a packet of the MTU of a VLAN device")
            .with_flows([&pair])
            .step(&fits, reaches_instance(&fits, requested(&pair, &fits, NOW))),
        case("a packet above the MTU of a VLAN device")
            .with_flows([&pair])
            .step(&above, Expect::too_big(&above, FRONTEND, 1_400)),
        case("a packet above the MTU of a VLAN device, looked up")
            .with_flows([&untold])
            .step(&above, Expect::too_big(&above, FRONTEND, 1_400)),
    ]
}

/// ICMP errors are tagged as packets are.
fn errors(version: IpVersion) -> Vec<Case> {
    let mut cases = Vec::new();
    let (clients, instances) = sides();
    for (from, client) in &clients {
        for (to, instance) in &instances {
            let pair = between(version, client, instance);
            let [answer, request] = Report::both(&pair, (3, 1), same);
            for (report, behind, towards) in
                [(answer, client, instance), (request, instance, client)]
            {
                let mut report = report.with(|message| IcmpMessage {
                    tags: behind.link.tags.to_vec(),
                    ..message
                });
                report.way = towards.way();
                let text = format!(
                    "an error on {} between {from} and {to}",
                    report.ingress.name
                );
                cases.push(report.step(Case::new(version, &text).with_flows([&pair])));
            }
        }
    }
    cases
}

/// An instance behind a VLAN device is where its route says, so it may use a frontend.
fn instances(version: IpVersion) -> Vec<Case> {
    [VLAN_INSTANCE, VLANS_INSTANCE]
        .into_iter()
        .flat_map(|instance| {
            let syn = Frame {
                macs: [instance.mac, SOUTH.mac],
                ..Frame::of(version)
                    .from_link(&SOUTH)
                    .coming_from(instance.host, 33_000)
                    .tagged(instance.link.tags)
            };
            let name = instance.link.name;
            [
                Case::new(version, &format!("an instance on {name} uses a frontend"))
                    .step(&syn, super::opens(&syn, RULE_WEB, 8_080, NOW)),
                Case::new(
                    version,
                    &format!("an instance on {name} comes by another NIC"),
                )
                .step(
                    &syn.clone().tagged(&[]).from_link(&NORTH),
                    Expect::end(Reason::BadSource),
                ),
            ]
        })
        .collect()
}

/// Questions on VLAN devices are answered with their tags, as often as the address is on that link.
fn neighbours(version: IpVersion) -> Vec<Case> {
    let rows = [
        ("a VLAN device", vec![(TAG, 60)], true),
        (
            "a VLAN device, with a priority",
            vec![(TAG, 0xe000 | 60)],
            true,
        ),
        ("a priority alone", vec![(TAG, 0xe000)], true),
        ("an unknown tag", vec![(TAG, 61)], false),
        (
            "an unknown tag behind a known one",
            vec![(TAG, 60), (TAG, 8)],
            false,
        ),
    ];
    rows.into_iter()
        .map(|(what, tags, is_answered)| {
            let case = Case::new(version, &format!("a question with {what}"));
            let (question, answer) = asked(version, &VLAN_CLIENT, tags);
            let untouched = match version {
                IpVersion::V4 => Reason::NeighborNotOurs,
                IpVersion::V6 => Reason::NotOurs,
            };
            let expect = if is_answered {
                Expect::answer(answer)
            } else {
                Expect::end(untouched)
            };
            case.bytes(question, &NORTH, expect)
        })
        .chain([{
            let (question, _) = asked(version, &LOCAL_CLIENT, vec![(TAG, 60)]);
            let untouched = match version {
                IpVersion::V4 => Reason::NeighborNotOurs,
                IpVersion::V6 => Reason::NotOurs,
            };
            Case::new(
                version,
                "a question on a VLAN where the address is not on the link",
            )
            .given(|world| world.each_owner(FRONTEND, |owner| owner.on_link = 1 << NORTH.slot))
            .bytes(question, &NORTH, Expect::end(untouched))
        }])
        .collect()
}

/// A question for the frontend, and its answer.
fn asked(version: IpVersion, asker: &Neighbor, tags: Vec<(u16, u16)>) -> (Vec<u8>, Vec<u8>) {
    let Host { v4, v6 } = asker.host;
    match version {
        IpVersion::V4 => {
            let request = ArpMessage {
                tags,
                ..ArpMessage::request((asker.mac, v4), FRONTEND.v4)
            };
            (request.build(), request.answered_by(NORTH.mac).build())
        }
        IpVersion::V6 => {
            let message = NeighborMessage {
                tags,
                ..NeighborMessage::solicitation((asker.mac, v6), FRONTEND.v6)
            };
            (message.build(), message.answered_by(NORTH.mac).build())
        }
    }
}
