//! Where a translated packet goes: routing is asked once, its answer is kept for a while.

use forebay_common::flow::Direction;
use forebay_common::reason::Reason;
use forebay_tests::case::{Case, Expect};
use forebay_tests::frame::Frame;
use forebay_tests::network::plan::{
    APART_INSTANCE, BLACKHOLED, CLIENT, DEAF, GATEWAY, INSTANCES, LOCAL_CLIENT, NORTH, ROUTED,
    ROUTER, SILENT, SILENT_CLIENT, SOUTH, Way,
};
use forebay_tests::network::{Host, IpVersion};
use forebay_tests::world::{HOP_LIFETIME, NOW, Pair, RULE_WEB};

use super::{answered, inward, outward, reaches_client, reaches_instance, requested};

/// The cases.
pub(super) fn cases() -> Vec<Case> {
    IpVersion::BOTH.into_iter().flat_map(of).collect()
}

fn of(version: IpVersion) -> Vec<Case> {
    let mut cases = vec![through_router(version), neighbour(version)];
    cases.extend(nowhere(version));
    cases.extend(by_kernel(version));
    cases.extend(kept(version));
    cases.extend(interfaces(version));
    cases
}

fn through_router(version: IpVersion) -> Case {
    let syn = Frame::of(version);
    let mut pair = Pair::opened(&syn, RULE_WEB, (ROUTED, 8_080), NOW);
    pair.to = pair.to.with_hop(ROUTER.way(), NOW).with_packet(&syn, NOW);
    Case::new(version, "an instance behind a router is reached through it")
        .given(|world| world.only_backend(13))
        .step(
            &syn,
            Expect::forward(syn.clone().towards(ROUTED, 8_080), ROUTER.way())
                .flows([pair])
                .opens(RULE_WEB)
                .counts(RULE_WEB, Direction::ToInstance, syn.ip_length()),
        )
}

fn neighbour(version: IpVersion) -> Case {
    let mut pair = Pair {
        client: (LOCAL_CLIENT.host, 40_000),
        ..Pair::tcp(version)
    };
    pair.from.hop = None;
    let answer = pair.answer();
    let mut after = answered(&pair, &answer, NOW);
    after.from = after.from.with_hop(LOCAL_CLIENT.way(), NOW);
    Case::new(version, "a client on the link is reached directly")
        .with_flows([&pair])
        .step(&answer, reaches_client(&answer, after))
}

/// No flow is kept: a retransmission opens one as soon as there is a way.
fn nowhere(version: IpVersion) -> Vec<Case> {
    [
        ("blackhole", 15),
        ("unreachable", 16),
        ("prohibit", 17),
        ("local", 18),
    ]
    .into_iter()
    .map(|(word, backend)| {
        let syn = Frame::of(version);
        Case::new(version, &format!("a {word} route leads nowhere"))
            .given(|world| world.only_backend(backend))
            .step(&syn, Expect::end(Reason::NoRoute))
    })
    .collect()
}

/// What only the kernel can do: the packet is translated, its hops are for the kernel to count.
fn by_kernel(version: IpVersion) -> Vec<Case> {
    let mut cases: Vec<Case> = [
        ("an unknown neighbour", 11, SILENT),
        ("an interface that is not attached", 14, APART_INSTANCE.host),
    ]
    .into_iter()
    .map(|(what, backend, host)| {
        let syn = Frame::of(version).with_payload(33);
        first_by_kernel(version, what, host, &syn).given(|world| world.only_backend(backend))
    })
    .collect();
    let deaf = Frame::of(version).from_link(&DEAF);
    cases.push(first_by_kernel(
        version,
        "an interface without forwarding",
        INSTANCES[0].host,
        &deaf,
    ));
    let mut pair = Pair {
        client: (SILENT_CLIENT, 40_000),
        ..Pair::tcp(version)
    };
    pair.from.hop = None;
    let answer = pair.answer();
    let after = answered(&pair, &answer, NOW);
    cases.push(
        Case::new(
            version,
            "an answer to an unknown neighbour goes through the kernel",
        )
        .with_flows([&pair])
        .step(
            &answer,
            Expect::forward_by_kernel(&outward(&pair, &answer))
                .flows([after])
                .counts(RULE_WEB, Direction::FromInstance, answer.ip_length()),
        ),
    );
    cases
}

fn first_by_kernel(version: IpVersion, what: &str, host: Host, frame: &Frame) -> Case {
    let mut pair = Pair::opened(frame, RULE_WEB, (host, 8_080), NOW);
    pair.to = pair.to.with_packet(frame, NOW);
    Case::new(
        version,
        &format!("a packet to {what} goes through the kernel"),
    )
    .step(
        frame,
        Expect::forward_by_kernel(&inward(&pair, frame))
            .flows([pair])
            .opens(RULE_WEB)
            .counts(RULE_WEB, Direction::ToInstance, frame.ip_length()),
    )
}

/// A next hop that routing would not give.
fn stale() -> Way {
    Way {
        link: &SOUTH,
        mac: [2, 9, 9, 9, 9, 9],
    }
}

/// Until when a next hop is believed.
fn kept(version: IpVersion) -> Vec<Case> {
    let lifetime = u64::from(HOP_LIFETIME);
    let mut pair = Pair::tcp(version);
    pair.to.hop = Some((stale(), NOW));
    let request = pair.request();
    let same = |when: u64| reaches_instance(&request, requested(&pair, &request, when));
    let renewed = |when: u64| {
        let mut after = requested(&pair, &request, when);
        after.to = after.to.with_hop(INSTANCES[0].way(), when);
        reaches_instance(&request, after)
    };
    let case = |text: &str| Case::new(version, text).with_flows([&pair]);
    let valid_from = |when: u64| {
        move |world: &mut forebay_tests::world::World| {
            world.settings_mut().hops_valid_from = when as u32;
        }
    };
    vec![
        case("a next hop is not looked up again").step(&request, same(NOW)),
        case("a next hop is believed to the end of its life").later(
            lifetime,
            &request,
            same(NOW + lifetime),
        ),
        case("a next hop is looked up again after its life").later(
            lifetime + 1,
            &request,
            renewed(NOW + lifetime + 1),
        ),
        case("a next hop is looked up again after routes have changed")
            .given(valid_from(NOW + 1))
            .later(2, &request, renewed(NOW + 2)),
        case("a next hop from the time of the last change is believed")
            .given(valid_from(NOW))
            .later(2, &request, same(NOW + 2)),
        case("times of next hops may wrap around")
            .given(valid_from(0x1_ffff_ffff))
            .later(0x200, &request, renewed(NOW + 0x200)),
        unchanged_by_failure(version),
    ]
}

/// A route that has gone bad refuses the packet; the flow keeps what it knew.
fn unchanged_by_failure(version: IpVersion) -> Case {
    let mut pair = Pair {
        backend: (BLACKHOLED, 8_080),
        ..Pair::tcp(version)
    };
    pair.to.hop = Some((stale(), NOW - u64::from(HOP_LIFETIME) - 1));
    Case::new(version, "a next hop that is gone forwards nothing more")
        .with_flows([&pair])
        .step(&pair.request(), Expect::end(Reason::NoRoute))
}

fn interfaces(version: IpVersion) -> Vec<Case> {
    let pair = Pair::tcp(version);
    let request = pair.request();
    let detached = |slot: u32| {
        move |world: &mut forebay_tests::world::World| {
            world.interfaces.remove(&slot);
        }
    };
    let mut untold = pair.clone();
    untold.to.hop = None;
    let after = requested(&untold, &request, NOW);
    let answer = Frame {
        destination: CLIENT,
        ..pair.answer()
    };
    vec![
        Case::new(
            version,
            "a next hop on an interface that is gone is of no use",
        )
        .with_flows([&pair])
        .given(detached(SOUTH.slot))
        .step(&request, Expect::end(Reason::NoRoute)),
        Case::new(
            version,
            "a lookup that names an interface that is gone is for the kernel",
        )
        .with_flows([&untold])
        .given(detached(SOUTH.slot))
        .step(
            &request,
            Expect::forward_by_kernel(&inward(&untold, &request))
                .flows([after])
                .counts(RULE_WEB, Direction::ToInstance, request.ip_length()),
        ),
        Case::new(version, "the other interface does not matter")
            .with_flows([&pair])
            .given(detached(NORTH.slot))
            .step(&answer, Expect::end(Reason::NoRoute))
            .step(
                &request,
                reaches_instance(&request, requested(&pair, &request, NOW)),
            ),
        Case::new(version, "the source MAC address is that of the interface")
            .with_flows([&pair])
            .step(&answer, {
                let expect = reaches_client(&answer, answered(&pair, &answer, NOW));
                assert_eq!(pair.from.hop.map(|hop| hop.0), Some(GATEWAY.way()));
                expect
            }),
    ]
}
