//! Which numbers lists of ranges have: those they had, else some that nobody had for a while.

use std::collections::{BTreeMap, BTreeSet};

use forebay_common::abi::{MAX_SNAT_RANGES, SnatRange};

use crate::control_plane::ids::NoIdLeft;
use crate::control_plane::state::FamilyState;

/// First number and how many.
pub(super) type Numbered = (u32, u32);

pub(super) struct Numbers<A> {
    /// Lists that ways have now.
    known: BTreeMap<Vec<SnatRange<A>>, u32>,
    taken: BTreeSet<u32>,
    next: u32,
    written: BTreeMap<u32, SnatRange<A>>,
}

impl<A: Copy + Ord> Numbers<A> {
    pub(super) fn of(applied: &FamilyState<A>, cooling: &BTreeSet<u32>) -> Self {
        let mut known = BTreeMap::new();
        for way in applied.ways.values() {
            for (first, ranges) in [(way.first, way.ranges), (way.burst_first, way.burst_ranges)] {
                if let Some(list) = list(applied, first, ranges) {
                    known.entry(list).or_insert(first);
                }
            }
        }
        let mut taken: BTreeSet<u32> = applied.snat_ranges.keys().copied().collect();
        taken.extend(cooling);
        Self {
            known,
            taken,
            next: 1,
            written: BTreeMap::new(),
        }
    }

    /// The numbers of a list.
    pub(super) fn place(&mut self, list: &[SnatRange<A>]) -> Result<Numbered, NoIdLeft> {
        let count = list.len() as u32;
        if count == 0 {
            return Ok((0, 0));
        }
        let first = match self.known.get(list) {
            Some(first) => *first,
            None => {
                let first = self.unused(count)?;
                self.known.insert(list.to_vec(), first);
                first
            }
        };
        self.written.extend((first..).zip(list.iter().copied()));
        Ok((first, count))
    }

    /// What is to be written.
    pub(super) fn into_ranges(self) -> BTreeMap<u32, SnatRange<A>> {
        self.written
    }

    /// Numbers are given in ascending order, so each is looked at once, and a hole too small for one list is not
    /// tried again.
    fn unused(&mut self, count: u32) -> Result<u32, NoIdLeft> {
        let mut first = self.next;
        loop {
            if count > MAX_SNAT_RANGES.saturating_sub(first) {
                return Err(NoIdLeft {
                    kind: "stretches of SNAT ports",
                    limit: MAX_SNAT_RANGES - 1,
                });
            }
            match self.taken.range(first..first + count).next_back() {
                Some(taken) => first = taken + 1,
                None => {
                    self.next = first + count;
                    return Ok(first);
                }
            }
        }
    }
}

/// Consecutive ranges of a table, if they are all there.
pub(super) fn list<A: Copy + Ord>(
    tables: &FamilyState<A>,
    first: u32,
    count: u32,
) -> Option<Vec<SnatRange<A>>> {
    if count == 0 || count > MAX_SNAT_RANGES {
        return None;
    }
    (first..first.checked_add(count)?)
        .map(|number| tables.snat_ranges.get(&number).copied())
        .collect()
}
