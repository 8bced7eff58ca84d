//! A trusted flow keeps its backend and its translation through reloads, health changes and sweeps, until it is
//! over.

use std::collections::BTreeMap;

use forebay_common::flow::{Flow, FlowKey, marks};
use forebay_common::model::UNTRUSTED_SETS;
use forebay_tests::network::Side;
use forebay_tests::world::{Flows, World};

use super::{on_both, random_frames};

/// What of a flow must not change. A mapping idles as long as the flow over it that may do so longest.
fn translation<A: Side>(key: &FlowKey<A>, flow: &Flow<A>) -> (A, A, u32, u8, u32) {
    let is_mapping = [key.source, key.destination].contains(&A::default());
    (
        flow.source,
        flow.destination,
        flow.ports,
        flow.kind,
        flow.idle_timeout * u32::from(!is_mapping),
    )
}

/// Checks that the trusted flows of before that are still there and were alive have not changed. One that had
/// ended may have begun anew, with the same translation. One that was marked to go may have gone, and another one
/// have come.
pub(super) fn assert_same<A: Side>(
    before: &BTreeMap<FlowKey<A>, Flow<A>>,
    untrusted: &BTreeMap<FlowKey<A>, [u32; 2]>,
    after: &BTreeMap<FlowKey<A>, Flow<A>>,
) -> usize {
    let trusted = before
        .iter()
        .filter(|(key, flow)| !untrusted.contains_key(key) && flow.marks & marks::RETIRING == 0);
    let mut compared = 0;
    for (key, flow) in trusted {
        if let Some(now) = after.get(key) {
            assert_eq!(translation(key, flow), translation(key, now), "{key:?}");
            compared += 1;
        }
    }
    compared
}

#[test]
fn stable_a_trusted_flow_keeps_its_translation_through_reloads() {
    on_both(120, |engine, sequences| {
        let room = |world: &mut World| {
            if let Some(settings) = &mut world.settings {
                settings.untrusted_mask = UNTRUSTED_SETS - 1;
            }
        };
        let last = std::cell::RefCell::new(Flows::default());
        let compared = std::cell::Cell::new(0);
        random_frames(engine, sequences, room, |event| {
            let alive = last.take().alive(event.world);
            let v4 = assert_same(&alive.v4, &alive.untrusted.v4, &event.flows.v4);
            let v6 = assert_same(&alive.v6, &alive.untrusted.v6, &event.flows.v6);
            compared.set(compared.get() + v4 + v6);
            // The first frame of the next sequence begins with other tables.
            let is_last = event.is_last;
            last.replace(if is_last {
                Flows::default()
            } else {
                event.flows.clone()
            });
        });
        assert!(compared.get() > 1_000, "{} comparisons", compared.get());
    });
}
