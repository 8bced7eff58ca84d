//! What packets become, as data. One file per behaviour; each gives its cases for both families.

mod arms;
mod bad_source;
mod by_kernel;
mod checksums;
mod complaints;
mod direct;
mod echo;
mod expiry;
mod fence;
mod first_packet;
mod forms;
mod fragments;
mod fragments_both_ways;
mod hop_limit;
mod icmp_errors;
mod icmp_fate;
mod known_flow;
mod malformed;
mod neighbors;
mod next_hop;
mod not_configured;
mod not_ours;
mod refusals;
mod reopening;
mod reply_tuple;
mod resets;
mod shared;
mod sizes;
mod source_limit;
mod table_full;
mod tcp_state;
mod untrusted;
mod vlans;

use forebay_common::flow::Direction;
use forebay_tests::case::{Case, Expect};
use forebay_tests::frame::Frame;
use forebay_tests::network::plan::INSTANCES;
use forebay_tests::world::Pair;

/// A behaviour and its cases.
pub(crate) type Table = (&'static str, fn() -> Vec<Case>);

/// Every behaviour.
pub(crate) const TABLES: [Table; 32] = [
    ("arms", arms::cases),
    ("bad source", bad_source::cases),
    ("by kernel", by_kernel::cases),
    ("checksums", checksums::cases),
    ("complaints", complaints::cases),
    ("direct", direct::cases),
    ("expiry", expiry::cases),
    ("fence", fence::cases),
    ("first packet", first_packet::cases),
    ("forms of rules", forms::cases),
    ("fragments", fragments::cases),
    ("fragments both ways", fragments_both_ways::cases),
    ("hop limit", hop_limit::cases),
    ("ICMP", icmp),
    ("ICMP fate", icmp_fate::cases),
    ("known flow", known_flow::cases),
    ("malformed", malformed::cases),
    ("neighbors", neighbors::cases),
    ("next hop", next_hop::cases),
    ("not configured", not_configured::cases),
    ("not ours", not_ours::cases),
    ("refusals", refusals::cases),
    ("reopening", reopening::cases),
    ("reply tuple", reply_tuple::cases),
    ("resets", resets::cases),
    ("shared", shared::cases),
    ("sizes", sizes::cases),
    ("source limit", source_limit::cases),
    ("table full", table_full::cases),
    ("TCP state", tcp_state::cases),
    ("untrusted", untrusted::cases),
    ("VLANs", vlans::cases),
];

/// Echo, errors about packets of flows, and what a path is too narrow for.
fn icmp() -> Vec<Case> {
    [echo::cases(), icmp_errors::cases()].concat()
}

/// The flow that a first packet has opened at `now` towards the first instance, and used.
fn opened_pair(frame: &Frame, rule: u32, port: u16, now: u64) -> Pair {
    let mut pair = Pair::opened(frame, rule, (INSTANCES[0].host, port), now);
    pair.to = pair
        .to
        .with_hop(INSTANCES[0].way(), now)
        .with_packet(frame, now);
    pair
}

/// A first packet opens a flow to the first instance and is forwarded there.
fn opens(frame: &Frame, rule: u32, port: u16, now: u64) -> Expect {
    let instance = &INSTANCES[0];
    Expect::forward(frame.clone().towards(instance.host, port), instance.way())
        .flows([opened_pair(frame, rule, port, now)])
        .opens(rule)
        .counts(rule, Direction::ToInstance, frame.ip_length())
}

/// A packet of the client as the instance sees it.
fn inward(pair: &Pair, frame: &Frame) -> Frame {
    frame.clone().towards(pair.backend.0, pair.backend.1)
}

/// A packet of the instance as the client sees it.
fn outward(pair: &Pair, frame: &Frame) -> Frame {
    frame.clone().coming_from(pair.frontend.0, pair.frontend.1)
}

/// A packet of the client is forwarded by the next hop that the flow knows; `after` is the flow
/// afterwards.
fn reaches_instance(frame: &Frame, after: Pair) -> Expect {
    let (way, _) = after.to.hop.expect("the flow knows the way");
    Expect::forward(inward(&after, frame), way)
        .counts(after.rule, Direction::ToInstance, frame.ip_length())
        .flows([after])
}

/// A packet of the instance is forwarded by the next hop that the flow knows; `after` is the flow
/// afterwards.
fn reaches_client(frame: &Frame, after: Pair) -> Expect {
    let (way, _) = after.from.hop.expect("the flow knows the way");
    Expect::forward(outward(&after, frame), way)
        .counts(after.rule, Direction::FromInstance, frame.ip_length())
        .flows([after])
}

/// The flow after a packet of the client at `now`.
fn requested(pair: &Pair, frame: &Frame, now: u64) -> Pair {
    Pair {
        to: pair.to.with_packet(frame, now),
        ..pair.clone()
    }
}

/// The flow after a packet of the instance at `now`.
fn answered(pair: &Pair, frame: &Frame, now: u64) -> Pair {
    Pair {
        from: pair.from.with_packet(frame, now),
        ..pair.clone()
    }
}
