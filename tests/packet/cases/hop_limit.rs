//! TTL and hop limit: one is spent on a packet that leaves, none is left over for less than two.

use forebay_tests::case::{Case, Expect};
use forebay_tests::frame::Frame;
use forebay_tests::network::IpVersion;
use forebay_tests::network::plan::{FRONTEND, SOUTH};
use forebay_tests::world::{NOW, Pair, RULE_WEB};

use super::{answered, opens, reaches_client, reaches_instance, requested};

/// The cases.
pub(super) fn cases() -> Vec<Case> {
    IpVersion::BOTH.into_iter().flat_map(of).collect()
}

/// The client is told by the frontend, the instance by the node.
fn told(frame: &Frame) -> Expect {
    let speaker = if frame.destination == FRONTEND {
        FRONTEND
    } else {
        SOUTH.address
    };
    Expect::time_exceeded(frame, speaker)
}

fn of(version: IpVersion) -> Vec<Case> {
    let mut cases = Vec::new();
    let pair = Pair::tcp(version);
    for hops in [0, 1, 2, 255] {
        let first = Frame {
            hops,
            ..Frame::of(version)
        };
        let request = Frame {
            hops,
            ..pair.request()
        };
        let answer = Frame {
            hops,
            ..pair.answer()
        };
        let expects = if hops > 1 {
            [
                opens(&first, RULE_WEB, 8_080, NOW),
                reaches_instance(&request, requested(&pair, &request, NOW)),
                reaches_client(&answer, answered(&pair, &answer, NOW)),
            ]
        } else {
            [&first, &request, &answer].map(told)
        };
        let [on_first, on_request, on_answer] = expects;
        let name = |who: &str| format!("{who} with {hops} hops left");
        cases.extend([
            Case::new(version, &name("a first packet")).step(&first, on_first),
            Case::new(version, &name("a request"))
                .with_flows([&pair])
                .step(&request, on_request),
            Case::new(version, &name("an answer"))
                .with_flows([&pair])
                .step(&answer, on_answer),
        ]);
    }
    cases
}
