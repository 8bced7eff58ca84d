//! Places in tables that packets may be using although nothing names them any more.

use std::collections::{BTreeMap, BTreeSet};

use super::state::TableState;

/// Numbers that were given up.
#[derive(Debug, Clone, Default)]
pub(super) struct Cooling {
    /// Of bindings.
    pub(super) bindings: BTreeSet<u32>,
    /// Of ranges of SNAT ports, IPv4 and IPv6.
    pub(super) ranges: [BTreeSet<u32>; 2],
}

impl Cooling {
    /// Adds what one state has and another has not.
    pub(super) fn add(&mut self, before: &TableState, after: &TableState) {
        self.bindings
            .extend(gone(&before.bindings, &after.bindings));
        let [v4, v6] = &mut self.ranges;
        v4.extend(gone(&before.v4.snat_ranges, &after.v4.snat_ranges));
        v6.extend(gone(&before.v6.snat_ranges, &after.v6.snat_ranges));
    }

    /// Both together.
    pub(super) fn and(&self, other: &Self) -> Self {
        let [v4, v6] = &self.ranges;
        Self {
            bindings: &self.bindings | &other.bindings,
            ranges: [v4 | &other.ranges[0], v6 | &other.ranges[1]],
        }
    }
}

fn gone<'s, V>(
    before: &'s BTreeMap<u32, V>,
    after: &'s BTreeMap<u32, V>,
) -> impl Iterator<Item = u32> + 's {
    let numbers = before.keys().copied();
    numbers.filter(|number| !after.contains_key(number))
}
