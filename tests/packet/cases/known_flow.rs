//! Packets of a flow are translated by what the flow says, in both directions.

use forebay_tests::case::Case;
use forebay_tests::frame::{ACK, Frame, PSH};
use forebay_tests::network::IpVersion;
use forebay_tests::network::plan::{CLIENT_2, FRONTEND};
use forebay_tests::world::{NOW, Pair, World};

use super::{answered, reaches_client, reaches_instance, requested};

/// A change of the tables.
type Change = fn(&mut World);

/// The cases.
pub(super) fn cases() -> Vec<Case> {
    IpVersion::BOTH.into_iter().flat_map(of).collect()
}

fn of(version: IpVersion) -> Vec<Case> {
    let mut cases = Vec::new();
    for (kind, pair) in [("TCP", Pair::tcp(version)), ("UDP", Pair::udp(version))] {
        let name = |text: &str| format!("{kind}, {text}");
        for (text, request) in [
            ("a request reaches the instance", pair.request()),
            ("an empty request does", pair.request().with_payload(0)),
            (
                "an odd-sized request does",
                pair.request().with_payload(333),
            ),
        ] {
            let after = requested(&pair, &request, NOW);
            cases.push(
                Case::new(version, &name(text))
                    .with_flows([&pair])
                    .step(&request, reaches_instance(&request, after)),
            );
        }
        for (text, answer) in [
            ("an answer reaches the client", pair.answer()),
            ("an empty answer does", pair.answer().with_payload(0)),
            (
                "an odd-sized answer does",
                pair.answer().with_payload(1_111),
            ),
        ] {
            let after = answered(&pair, &answer, NOW);
            cases.push(
                Case::new(version, &name(text))
                    .with_flows([&pair])
                    .step(&answer, reaches_client(&answer, after)),
            );
        }
        cases.push(both_ways(
            version,
            &name("requests and answers count for their side"),
            &pair,
        ));
        cases.extend(unaffected(version, &name("flows outlive"), &pair));
    }
    cases.extend([acknowledgements(version), neighbours(version)]);
    cases
}

fn both_ways(version: IpVersion, name: &str, pair: &Pair) -> Case {
    let (request, answer) = (pair.request(), pair.answer());
    let first = requested(pair, &request, NOW + 5);
    let second = answered(&first, &answer, NOW + 12);
    let third = requested(&second, &request, NOW + 12);
    Case::new(version, name)
        .with_flows([pair])
        .later(5, &request, reaches_instance(&request, first))
        .later(7, &answer, reaches_client(&answer, second))
        .step(&request, reaches_instance(&request, third))
}

/// Whatever the configuration becomes, a flow goes on.
fn unaffected(version: IpVersion, name: &str, pair: &Pair) -> Vec<Case> {
    let changes: [(&str, Change); 4] = [
        ("their rule", |world| world.rules.clear()),
        ("their backend", |world| {
            world.v4.backends.clear();
            world.v6.backends.clear();
        }),
        ("their ring", |world| world.only_backend(2)),
        ("their frontend", |world| {
            world.v4.addresses.remove(&FRONTEND.raw());
            world.v6.addresses.remove(&FRONTEND.raw());
        }),
    ];
    let (request, answer) = (pair.request(), pair.answer());
    let first = requested(pair, &request, NOW);
    let second = answered(&first, &answer, NOW);
    changes
        .into_iter()
        .map(|(what, change)| {
            Case::new(version, &format!("{name} {what}"))
                .with_flows([pair])
                .given(change)
                .step(&request, reaches_instance(&request, first.clone()))
                .step(&answer, reaches_client(&answer, second.clone()))
        })
        .collect()
}

fn acknowledgements(version: IpVersion) -> Case {
    let pair = Pair::tcp(version);
    let data = Frame {
        acknowledgement: 70_000,
        ..pair.request().flagged(ACK | PSH)
    };
    let without = Frame {
        acknowledgement: 80_000,
        flags: PSH,
        ..pair.request()
    };
    let mut first = requested(&pair, &data, NOW);
    first.to.last_ack = 70_000;
    let second = requested(&first, &without, NOW);
    Case::new(version, "an acknowledgement is kept only when it counts")
        .with_flows([&pair])
        .step(
            &Frame {
                acknowledgement: 70_000,
                ..data.clone()
            },
            reaches_instance(&data, first),
        )
        .step(&without, reaches_instance(&without, second))
}

/// One other field of the tuple makes another flow.
fn neighbours(version: IpVersion) -> Case {
    let pair = Pair::tcp(version);
    let others = [
        Pair {
            client: (CLIENT_2, pair.client.1),
            ..pair.clone()
        },
        Pair {
            client: (pair.client.0, pair.client.1 + 1),
            ..pair.clone()
        },
    ];
    let request = pair.request();
    let after = requested(&pair, &request, NOW);
    let all = [after.clone(), others[0].clone(), others[1].clone()];
    Case::new(version, "a packet touches no other flow")
        .with_flows([&pair, &others[0], &others[1]])
        .step(&request, reaches_instance(&request, after).flows(all))
}
