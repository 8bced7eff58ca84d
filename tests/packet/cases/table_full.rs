//! A full flow table refuses new flows and touches no other.

use forebay_common::reason::Reason;
use forebay_tests::case::{Case, Expect};
use forebay_tests::frame::Frame;
use forebay_tests::network::IpVersion;
use forebay_tests::network::plan::CLIENT_2;
use forebay_tests::world::{CAPACITY, GRACE, NOW, Pair, RULE_NAMES, RULE_WEB, World};

use super::{opened_pair, opens, reaches_instance, requested};

/// The cases.
pub(super) fn cases() -> Vec<Case> {
    IpVersion::BOTH.into_iter().flat_map(of).collect()
}

/// That many flows of another client.
fn crowd(version: IpVersion, flows: u32) -> Vec<Pair> {
    (0..flows)
        .map(|number| Pair {
            client: (CLIENT_2, 10_000 + number as u16),
            ..Pair::tcp(version)
        })
        .collect()
}

/// Leaves room for one entry.
fn remove_half_a_flow(world: &mut World) {
    world.v4.flows.pop_first();
    world.v6.flows.pop_first();
}

fn of(version: IpVersion) -> Vec<Case> {
    let all = crowd(version, CAPACITY / 2);
    let but_one = &all[1..];
    let (tcp, udp) = (Frame::of(version), Frame::datagram(version));
    let full = || Expect::end(Reason::FlowTableFull);
    let case = |name: &str, flows: &[Pair]| Case::new(version, name).with_flows(flows);

    let request = all[7].request();
    let mut after = all.clone();
    after[7] = requested(&all[7], &request, NOW);
    let goes_on = reaches_instance(&request, after[7].clone()).flows(after);

    let opened = opened_pair(&tcp, RULE_WEB, 8_080, NOW);
    let with_new = but_one.iter().cloned().chain([opened]);
    let last = opens(&tcp, RULE_WEB, 8_080, NOW).flows(with_new);

    let mut successor = all.clone();
    let when = NOW + u64::from(all[7].idle_timeout + GRACE) + 1;
    successor[7] = opened_pair(&request, RULE_WEB, 8_080, when);
    let replaced = opens(&request, RULE_WEB, 8_080, when).flows(successor);

    let other = match version {
        IpVersion::V4 => IpVersion::V6,
        IpVersion::V6 => IpVersion::V4,
    };
    let elsewhere = Frame::datagram(other);
    let pair = opened_pair(&elsewhere, RULE_NAMES, 5_353, NOW);
    let beside = opens(&elsewhere, RULE_NAMES, 5_353, NOW).flows(all.iter().cloned().chain([pair]));
    vec![
        case("a full table refuses a SYN", &all).step(&tcp, full()),
        case("a full table refuses a datagram", &all).step(&udp, full()),
        case("a full table forwards what it knows", &all).step(&request, goes_on),
        case("a table with room for half a flow refuses it whole", &all)
            .given(remove_half_a_flow)
            .step(&tcp, full())
            .step(&udp, full()),
        case("a table takes its last flow", but_one)
            .step(&tcp, last)
            .step(&udp, full()),
        case(
            "an expired flow makes room for its successor in a full table",
            &all,
        )
        .later(when - NOW, &request, replaced),
        case("a full table leaves the other family alone", &all).step(&elsewhere, beside),
    ]
}
