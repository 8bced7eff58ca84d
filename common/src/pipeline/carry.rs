//! Moving flows from a former flow table into the one that took its place, for the daemon.
//!
//! While flows move, packets use them where they are: the first program asks the flow table, the stage "former"
//! the former one. Nothing is inserted there any more, so an element that is removed is nobody else's, and who
//! still holds it harms nobody.

use crate::family::Family;
use crate::flow::{FlowKey, FlowRef, marks};
use crate::tables::{InsertError, Tables};

/// Moves both directions of a flow. Says whether it has left the former table.
///
/// Both are in the flow table before one leaves the former, so that a packet finds them in one of the
/// two. What a packet writes to the former entry in between is lost: a count, a time that is a moment older.
#[inline(always)]
pub fn carry_over<A: Family, T: Tables<A>>(tables: &T, key: &FlowKey<A>) -> bool {
    let Some(flow) = tables.former(key) else {
        return false;
    };
    let other = flow.reply_key(key.protocol);
    let stays = flow.marks() & marks::RETIRING == 0 && is_direction_of(tables, &other, key);
    if stays && carry_both(tables, key, &other) == Err(InsertError::Full) {
        return false;
    }
    tables.remove_former(&other);
    tables.remove_former(key);
    true
}

/// Clears the rule and the next hop of an entry, which are numbers of another daemon's tables. Says whether
/// there is such an entry.
#[inline(always)]
pub fn disown<A: Family, T: Tables<A>>(tables: &T, key: &FlowKey<A>) -> bool {
    let Some(flow) = tables.flow(key).or_else(|| tables.former(key)) else {
        return false;
    };
    flow.set_fixed(flow.idle_timeout(), 0);
    flow.set_hop_slot(0);
    true
}

/// Whether the former table has, under `key`, the other direction of the flow under `other`: half a flow, which
/// a claim left behind, moves nowhere.
#[inline(always)]
fn is_direction_of<A: Family, T: Tables<A>>(
    tables: &T,
    key: &FlowKey<A>,
    other: &FlowKey<A>,
) -> bool {
    let found = tables.former(key);
    found.is_some_and(|found: FlowRef<'_, A>| found.reply_key(key.protocol) == *other)
}

/// Copies both directions, or none.
#[inline(always)]
fn carry_both<A: Family, T: Tables<A>>(
    tables: &T,
    key: &FlowKey<A>,
    other: &FlowKey<A>,
) -> Result<(), InsertError> {
    tables.carry(other)?;
    tables.carry(key).inspect_err(|_| tables.remove(other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::V4;
    use crate::flow::Flow;
    use crate::model::{FamilyModel, ModelTables};

    const TCP: u32 = 6;

    fn key(source: u32, destination: u32) -> FlowKey<V4> {
        FlowKey {
            source: V4(source),
            destination: V4(destination),
            ports: FlowKey::<V4>::ports_word(1, 2),
            protocol: TCP,
        }
    }

    /// Client 1, frontend 2, instance 3.
    fn pair() -> [(FlowKey<V4>, Flow<V4>); 2] {
        let to = |key: FlowKey<V4>, packets| Flow {
            source: key.source,
            destination: key.destination,
            ports: key.ports,
            packets,
            ..Flow::default()
        };
        let (original, translated) = (key(1, 2), key(1, 3));
        [
            (original, to(translated, 10)),
            (translated.reversed(), to(original.reversed(), 20)),
        ]
    }

    fn tables() -> ModelTables {
        let tables = ModelTables::default();
        for (key, flow) in pair() {
            tables.v4.put_former(key, flow);
        }
        tables
    }

    fn contents(model: &FamilyModel<V4>) -> [Vec<(FlowKey<V4>, Flow<V4>)>; 2] {
        [model.flows(), model.former_flows()].map(|flows| flows.into_iter().collect())
    }

    fn sorted() -> Vec<(FlowKey<V4>, Flow<V4>)> {
        let mut pair = pair().to_vec();
        pair.sort_by_key(|(key, _)| *key);
        pair
    }

    #[test]
    fn both_directions_move_as_they_are_whichever_is_named() {
        for named in 0..2 {
            let tables = tables();
            assert!(carry_over(&tables, &pair()[named].0));
            assert_eq!(contents(&tables.v4), [sorted(), vec![]]);
            assert!(!carry_over(&tables, &pair()[1 - named].0), "it is gone");
        }
    }

    #[test]
    fn a_flow_that_does_not_fit_stays_where_it_is() {
        for capacity in 0..2 {
            let mut tables = tables();
            tables.v4.capacity = capacity;
            assert!(!carry_over(&tables, &pair()[0].0));
            assert_eq!(contents(&tables.v4), [vec![], sorted()]);
        }
    }

    #[test]
    fn what_is_retiring_or_half_is_left_behind_for_good() {
        let tables = tables();
        let retiring = pair().map(|(key, flow)| {
            let marks = marks::RETIRING;
            (key, Flow { marks, ..flow })
        });
        for (key, flow) in retiring {
            tables.v4.put_former(key, flow);
        }
        assert!(carry_over(&tables, &pair()[0].0));
        assert_eq!(contents(&tables.v4), [vec![], vec![]]);

        let (key, flow) = pair()[1];
        tables.v4.put_former(key, flow);
        assert!(carry_over(&tables, &key));
        assert_eq!(contents(&tables.v4), [vec![], vec![]]);
    }

    #[test]
    fn a_key_that_another_flow_has_by_now_is_left_to_it() {
        let tables = tables();
        let (key, flow) = pair()[0];
        let newer = Flow {
            packets: 99,
            ..flow
        };
        tables.v4.put_flow(key, newer);
        assert!(carry_over(&tables, &key));
        assert_eq!(contents(&tables.v4), [vec![(key, newer)], vec![]]);
    }

    #[test]
    fn a_disowned_entry_keeps_all_but_its_numbers() {
        let tables = ModelTables::default();
        let (key, flow) = pair()[0];
        let numbered = Flow {
            rule: 7,
            hop_slot: 3,
            idle_timeout: 100,
            ..flow
        };
        tables.v4.put_flow(key, numbered);
        assert!(disown(&tables, &key));
        let kept = Flow {
            idle_timeout: 100,
            ..flow
        };
        assert_eq!(contents(&tables.v4), [vec![(key, kept)], vec![]]);
        assert!(!disown(&tables, &pair()[1].0));
    }

    #[test]
    fn no_key_of_a_former_flow_is_taken() {
        let tables = tables();
        for (key, flow) in pair() {
            assert_eq!(tables.insert(&key, &flow), Err(InsertError::Taken));
        }
    }
}
