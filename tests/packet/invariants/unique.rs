//! No two live flows share a reply key.

use std::collections::BTreeMap;

use forebay_common::flow::{Direction, Flow, FlowKey, FlowKind};
use forebay_common::model::UNTRUSTED_SETS;
use forebay_tests::network::Side;

use super::{on_both, random_frames};

/// Checks that no two flows share a reply key, and that every trusted entry has exactly one other, which leads
/// back to it. The other direction of an untrusted flow may have lost its slot.
pub(crate) fn assert_paired<A: Side>(
    flows: &BTreeMap<FlowKey<A>, Flow<A>>,
    untrusted: &BTreeMap<FlowKey<A>, [u32; 2]>,
) {
    let mut answered = BTreeMap::new();
    for (key, flow) in flows {
        let reply = flow.reply_key(key.protocol);
        let other = flows.get(&reply);
        // What is left of an untrusted flow whose first direction was lost, and perhaps opened again.
        let leads_back = other.is_some_and(|other| other.reply_key(key.protocol) == *key);
        let is_first = FlowKind::direction(flow.kind) == Direction::ToInstance;
        if untrusted.contains_key(key) && !is_first && !leads_back {
            continue;
        }
        if let Some(before) = answered.insert(reply, key) {
            let shown = [before, key].map(|key| (key, untrusted.contains_key(key), &flows[key]));
            panic!("two flows are answered by {reply:?}: (key, untrusted, flow) {shown:#?}");
        }
        if other.is_none() && untrusted.contains_key(key) {
            continue;
        }
        let other = other.unwrap_or_else(|| panic!("{key:?} has no other direction: {flow:?}"));
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
            // Where all find room, that is.
            if let Some(settings) = &mut world.settings {
                settings.untrusted_mask = UNTRUSTED_SETS - 1;
            }
        };
        let most = std::cell::Cell::new(0);
        random_frames(engine, sequences, without_flows, |event| {
            // What is over is nobody's, whether or not its slot has been written over.
            let live = event.flows.clone().alive(event.world);
            assert_paired(&live.v4, &live.untrusted.v4);
            assert_paired(&live.v6, &live.untrusted.v6);
            most.set(most.get().max(event.flows.v4.len() + event.flows.v6.len()));
        });
        assert!(most.get() > 20, "never more than {} entries", most.get());
    });
}
