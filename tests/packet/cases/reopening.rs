//! A SYN that meets a flow which has ended begins a new connection.

use forebay_common::flow::{Seen, marks};
use forebay_common::reason::Reason;
use forebay_tests::case::{Case, Expect};
use forebay_tests::frame::{ACK, SYN};
use forebay_tests::network::IpVersion;
use forebay_tests::world::{Half, NOW, Pair, RULE_WEB};

use super::{reaches_client, reaches_instance, requested};

/// The cases.
pub(super) fn cases() -> Vec<Case> {
    IpVersion::BOTH.into_iter().flat_map(of).collect()
}

/// A flow that has ended, by name.
fn ended(version: IpVersion) -> [(&'static str, Pair); 2] {
    let pair = Pair::tcp(version);
    let fin = pair.seen_to.with(Seen::FIN);
    let closed = Pair {
        seen_to: fin,
        seen_from: fin,
        ..pair.clone()
    };
    let reset = Pair {
        seen_from: pair.seen_from.with(Seen::RST),
        ..pair
    };
    [("closed", closed), ("reset", reset)]
}

fn of(version: IpVersion) -> Vec<Case> {
    let mut cases = vec![established(version)];
    for (state, pair) in ended(version) {
        cases.push(same_member(version, state, &pair));
        cases.push(other_member(version, state, &pair));
        cases.push(from_instance(version, state, &pair));
        cases.push(with_acknowledgement(version, state, &pair));
    }
    cases
}

fn same_member(version: IpVersion, state: &str, pair: &Pair) -> Case {
    let syn = pair.request().flagged(SYN);
    let anew = |half: Half| Half {
        last_seen: NOW + 20,
        packets: 0,
        bytes: 0,
        last_ack: 0,
        ..half
    };
    let begun = Pair {
        seen_to: Seen::SYN,
        seen_from: Seen::default(),
        to: anew(pair.to),
        from: anew(pair.from),
        ..pair.clone()
    };
    let first = requested(&begun, &syn, NOW + 20);
    let answer = begun.answer().flagged(SYN | ACK);
    let mut second = super::answered(&first, &answer, NOW + 25);
    second.seen_from = Seen::SYN;
    Case::new(
        version,
        &format!("a SYN begins a {state} flow anew with the same member"),
    )
    .with_flows([pair])
    .later(20, &syn, reaches_instance(&syn, first).opens(RULE_WEB))
    .later(5, &answer, reaches_client(&answer, second))
}

/// The pool has changed: the successor goes to another member, once the sweep has removed the old
/// translation.
fn other_member(version: IpVersion, state: &str, pair: &Pair) -> Case {
    let syn = pair.request().flagged(SYN);
    let retired = Pair {
        marks: marks::RETIRING,
        ..pair.clone().last_used(NOW + 5)
    };
    Case::new(
        version,
        &format!("a {state} flow retires for its successor with another member"),
    )
    .with_flows([pair])
    .given(|world| world.only_backend(2))
    .later(5, &syn, Expect::end(Reason::FlowEnding).flows([retired]))
    .later(1_000, &syn, Expect::end(Reason::FlowEnding))
    .step(&pair.answer(), Expect::end(Reason::NoOutbound))
}

fn from_instance(version: IpVersion, state: &str, pair: &Pair) -> Case {
    let syn = pair.answer().flagged(SYN);
    Case::new(
        version,
        &format!("a SYN of the instance begins no {state} flow anew"),
    )
    .with_flows([pair])
    .step(&syn, Expect::end(Reason::NoOutbound))
}

fn with_acknowledgement(version: IpVersion, state: &str, pair: &Pair) -> Case {
    let syn_ack = pair.request().flagged(SYN | ACK);
    let after = requested(pair, &syn_ack, NOW);
    Case::new(
        version,
        &format!("a SYN with an acknowledgement belongs to the {state} flow"),
    )
    .with_flows([pair])
    .step(&syn_ack, reaches_instance(&syn_ack, after))
}

fn established(version: IpVersion) -> Case {
    let pair = Pair::tcp(version);
    let syn = pair.request().flagged(SYN);
    let after = requested(&pair, &syn, NOW);
    Case::new(version, "a SYN into an established flow belongs to it")
        .with_flows([&pair])
        .step(&syn, reaches_instance(&syn, after))
}
