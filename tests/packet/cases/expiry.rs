//! A flow that is over is dead to whoever meets it, and not a jiffy earlier.

use forebay_common::flow::{Seen, marks};
use forebay_common::reason::Reason;
use forebay_tests::case::{Case, Expect};
use forebay_tests::frame::{RST, SYN, UDP};
use forebay_tests::network::IpVersion;
use forebay_tests::world::{GRACE, IDLE, NOW, Pair, TIMEOUTS};

use super::{answered, opens, reaches_client, reaches_instance, requested};

/// A flow in some state, last used at [`NOW`], and how long it lives.
struct Life {
    name: &'static str,
    pair: Pair,
    lifetime: u32,
    /// Whether its end has come, so that packets do not prolong it.
    ended: bool,
}

fn lives(version: IpVersion) -> Vec<Life> {
    let tcp = |name, to: Seen, from: Seen, lifetime, ended| Life {
        name,
        pair: Pair {
            seen_to: to,
            seen_from: from,
            ..Pair::tcp(version)
        },
        lifetime,
        ended,
    };
    let udp = |name, from: Seen, idle_timeout, lifetime| Life {
        name,
        pair: Pair {
            seen_from: from,
            idle_timeout,
            ..Pair::udp(version)
        },
        lifetime,
        ended: false,
    };
    let none = Seen::default();
    let talked = Seen::SYN.with(Seen::ACK);
    let fin = talked.with(Seen::FIN);
    vec![
        tcp(
            "a half-open flow",
            Seen::SYN,
            none,
            TIMEOUTS.tcp_half_open,
            false,
        ),
        tcp(
            "an unanswered flow from mid-connection",
            Seen::ACK,
            none,
            TIMEOUTS.tcp_half_open,
            false,
        ),
        tcp(
            "an answered half-open flow",
            Seen::SYN,
            Seen::SYN,
            TIMEOUTS.tcp_half_open,
            false,
        ),
        tcp("an established flow", talked, talked, IDLE, false),
        tcp("a half-closed flow", fin, talked, IDLE, false),
        tcp("a closed flow", fin, fin, TIMEOUTS.tcp_fin, true),
        tcp(
            "a reset flow",
            talked,
            talked.with(Seen::RST),
            TIMEOUTS.tcp_rst,
            true,
        ),
        udp(
            "an unanswered conversation",
            none,
            IDLE,
            TIMEOUTS.udp_unreplied,
        ),
        udp(
            "an unanswered conversation with a short timeout",
            none,
            500,
            500,
        ),
        udp("an answered conversation", Seen::PACKET, IDLE, IDLE),
    ]
}

/// The cases.
pub(super) fn cases() -> Vec<Case> {
    IpVersion::BOTH.into_iter().flat_map(of).collect()
}

fn of(version: IpVersion) -> Vec<Case> {
    let mut cases = Vec::new();
    for life in lives(version) {
        cases.extend(at_the_edge(version, &life));
    }
    for life in lives(version).iter().filter(|life| !life.ended) {
        cases.push(other_side_is_alive(version, life));
    }
    cases.extend(retiring(version));
    cases
}

/// The last jiffy of a flow and the first after it, met by a request and by an answer.
fn at_the_edge(version: IpVersion, life: &Life) -> Vec<Case> {
    let lifetime = u64::from(life.lifetime);
    let pair = life.pair.clone().hops_from(NOW + lifetime);
    let case =
        |text: &str| Case::new(version, &format!("{} {text}", life.name)).with_flows([&pair]);
    let used_at = if life.ended { NOW } else { NOW + lifetime };
    let (request, answer) = (pair.request().flagged(0), pair.answer().flagged(0));
    let mut after_answer = answered(&pair, &answer, used_at);
    if pair.protocol == UDP {
        after_answer.seen_from = Seen::PACKET;
    }
    let rule = pair.rule;
    let port = pair.backend.1;
    let over = lifetime + 1;
    let gone = over + u64::from(GRACE);
    vec![
        case("is alive to a request in its last jiffy").later(
            lifetime,
            &request,
            reaches_instance(&request, requested(&pair, &request, used_at)),
        ),
        case("is alive to an answer in its last jiffy").later(
            lifetime,
            &answer,
            reaches_client(&answer, after_answer),
        ),
        case("is dead to an answer after it").later(over, &answer, Expect::end(Reason::NoOutbound)),
        case("is still in the way of its successor for the grace time").later(
            gone - 1,
            &request,
            Expect::end(Reason::FlowEnding),
        ),
        case("makes room for its successor after the grace time").later(
            gone,
            &request,
            opens(&request, rule, port, NOW + gone),
        ),
    ]
}

/// One direction was quiet for longer than the lifetime, the other was not.
fn other_side_is_alive(version: IpVersion, life: &Life) -> Case {
    let long_ago = NOW - u64::from(life.lifetime) - 1_000;
    let mut pair = life.pair.clone();
    pair.from.last_seen = long_ago;
    let answer = pair.answer().flagged(0);
    let mut after = answered(&pair, &answer, NOW);
    if pair.protocol == UDP {
        after.seen_from = Seen::PACKET;
    }
    Case::new(
        version,
        &format!("{} is kept alive by the other direction", life.name),
    )
    .with_flows([&pair])
    .step(&answer, reaches_client(&answer, after))
}

/// Entries that the daemon is about to delete.
fn retiring(version: IpVersion) -> Vec<Case> {
    let pair = Pair {
        marks: marks::RETIRING,
        ..Pair::tcp(version)
    };
    let case = |text: &str| Case::new(version, text).with_flows([&pair]);
    let syn = pair.request().flagged(SYN);
    let (request, answer) = (pair.request(), pair.answer());
    // The RST that ends it must have the number that its receiver waits for.
    let mut heard = pair.clone();
    heard.from.last_ack = answer.acknowledgement;
    vec![
        case("a retiring flow is dead to an answer, but hears what it acknowledges")
            .step(&answer, Expect::end(Reason::NoOutbound).flows([heard])),
        case("a retiring flow is dead to a request")
            .step(&request, Expect::end(Reason::FlowEnding)),
        case("a retiring flow is dead to a SYN").step(&syn, Expect::end(Reason::FlowEnding)),
        case("a retiring flow is dead to a RST")
            .step(&request.clone().flagged(RST), Expect::end(Reason::NoFlow)),
        case("a retiring flow stays until the sweep removes it").later(
            100 * u64::from(GRACE),
            &syn,
            Expect::end(Reason::FlowEnding),
        ),
    ]
}
