//! Every packet is counted under exactly one reason, and counters never change a verdict.

use forebay_common::abi::MAX_RULES;
use forebay_common::reason::{Fate, Reason};
use forebay_tests::engine::Action;
use forebay_tests::frame::{Frame, decode};
use forebay_tests::network::IpVersion;
use forebay_tests::world::World;

use super::{on_both, random_frames};

#[test]
fn counted_every_frame_is_counted_under_one_reason_that_tells_its_fate() {
    on_both(120, |engine, sequences| {
        random_frames(
            engine,
            sequences,
            |_| {},
            |event| {
                let reason = event.outcome.reason();
                let action = event.outcome.action;
                let fits = match reason.fate() {
                    Fate::Forward => matches!(action, Action::Transmit | Action::Redirect),
                    Fate::Pass => action == Action::Pass,
                    Fate::Drop => action == Action::Drop,
                    // No daemon tries anything here.
                    Fate::Own => false,
                    Fate::Answer => action == Action::Transmit,
                };
                assert!(fits, "{reason:?} by {action:?}: {}", decode(event.frame));
            },
        );
    });
}

#[test]
fn counted_only_forwarded_and_answered_frames_are_changed() {
    on_both(60, |engine, sequences| {
        random_frames(
            engine,
            sequences,
            |_| {},
            |event| {
                let changed = event.outcome.frame != event.frame;
                let reason = event.outcome.reason();
                let may_change = matches!(reason.fate(), Fate::Forward | Fate::Answer)
                    || reason == Reason::ForwardedByKernel;
                assert!(may_change || !changed, "{}", decode(event.frame));
            },
        );
    });
}

#[test]
fn counted_a_rule_without_counters_forwards_all_the_same() {
    on_both(4, |engine, _| {
        for id in [MAX_RULES - 1, MAX_RULES, u32::MAX] {
            let mut world = World::default();
            world.each_rule(|rule| rule.id = id);
            engine.load(&world);
            for version in IpVersion::BOTH {
                let frame = Frame::of(version);
                let outcome = engine.run(&frame.build(), frame.ingress);
                assert_eq!(outcome.reason(), Reason::Forwarded, "rule {id}");
            }
        }
    });
}
