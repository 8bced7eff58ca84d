//! No two live flows share a reply key.

use std::collections::{BTreeMap, BTreeSet};

use forebay_common::flow::{Direction, Flow, FlowKey, FlowKind};
use forebay_tests::network::Side;

use super::{on_both, random_frames};

/// Checks that every entry has exactly one other, which leads back to it.
pub(crate) fn assert_paired<A: Side>(flows: &BTreeMap<FlowKey<A>, Flow<A>>) {
    let mut reply_keys = BTreeSet::new();
    for (key, flow) in flows {
        let reply = flow.reply_key(key.protocol);
        assert!(
            reply_keys.insert(reply),
            "two flows are answered by {reply:?}"
        );
        let other = flows.get(&reply);
        let other = other.unwrap_or_else(|| panic!("{key:?} has no other direction"));
        assert_eq!(
            other.reply_key(key.protocol),
            *key,
            "{reply:?} answers another flow"
        );
        assert_eq!(other.rule, flow.rule);
        let directions = [flow.kind, other.kind].map(FlowKind::direction);
        assert!(
            directions.contains(&Direction::ToInstance)
                && directions.contains(&Direction::FromInstance),
            "{key:?} and {reply:?} go the same way"
        );
    }
}

#[test]
fn unique_no_two_flows_share_a_reply_key() {
    on_both(120, |engine, sequences| {
        // The scenes' own flows may lack a direction; those that the path makes never do.
        let without_flows = |world: &mut forebay_tests::world::World| {
            world.v4.flows.clear();
            world.v6.flows.clear();
        };
        let most = std::cell::Cell::new(0);
        random_frames(engine, sequences, without_flows, |event| {
            assert_paired(&event.flows.v4);
            assert_paired(&event.flows.v6);
            most.set(most.get().max(event.flows.v4.len() + event.flows.v6.len()));
        });
        assert!(most.get() > 20, "never more than {} entries", most.get());
    });
}
