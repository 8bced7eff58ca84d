//! A full flow table touches no flow: new ones work all the same, untrusted.

use forebay_tests::case::Case;
use forebay_tests::frame::Frame;
use forebay_tests::network::IpVersion;
use forebay_tests::network::plan::CLIENT_2;
use forebay_tests::world::{CAPACITY, GRACE, NOW, Pair, RULE_NAMES, RULE_WEB};

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

fn of(version: IpVersion) -> Vec<Case> {
    let all = crowd(version, CAPACITY / 2);
    let but_one = &all[1..];
    let (tcp, udp) = (Frame::of(version), Frame::datagram(version));
    let case = |name: &str, flows: &[Pair]| Case::new(version, name).with_flows(flows);

    let request = all[7].request();
    let mut after = all.clone();
    after[7] = requested(&all[7], &request, NOW);
    let goes_on = reaches_instance(&request, after[7].clone()).flows(after);

    let new = |frame: &Frame, rule, port, others: &[Pair]| {
        let pair = opened_pair(frame, rule, port, NOW);
        opens(frame, rule, port, NOW).flows(others.iter().cloned().chain([pair]))
    };
    let opened = opened_pair(&tcp, RULE_WEB, 8_080, NOW);
    let both = opened_pair(&udp, RULE_NAMES, 5_353, NOW);
    let second =
        opens(&udp, RULE_NAMES, 5_353, NOW).flows(but_one.iter().cloned().chain([opened, both]));

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
        case("a full table leaves a new connection untrusted", &all)
            .step(&tcp, new(&tcp, RULE_WEB, 8_080, &all)),
        case("a full table leaves new datagrams untrusted", &all)
            .step(&udp, new(&udp, RULE_NAMES, 5_353, &all)),
        case("a full table forwards what it knows", &all).step(&request, goes_on),
        case("new flows take no room in the table", but_one)
            .step(&tcp, new(&tcp, RULE_WEB, 8_080, but_one))
            .step(&udp, second),
        case(
            "an expired flow makes room for its successor in a full table",
            &all,
        )
        .later(when - NOW, &request, replaced),
        case("a full table leaves the other family alone", &all).step(&elsewhere, beside),
    ]
}
