//! Free blocks of ports of one address, as runs.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::config::snat::{BLOCK, FIRST_PORT, LAST_PORT};

/// A block of ports, counted from port 0.
pub(super) type Block = u16;

/// Blocks that an address has for SNAT when no rule takes any.
pub(super) const ALL: Range<Block> =
    FIRST_PORT / BLOCK as u16..(LAST_PORT as u32 / BLOCK) as u16 + 1;

/// A set of blocks, as runs that neither touch nor overlap: where each begins, and where it ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Runs(BTreeMap<Block, Block>);

impl Runs {
    /// All blocks but these.
    pub(super) fn without(taken: impl IntoIterator<Item = Block>) -> Self {
        let mut runs = Self(BTreeMap::from([(ALL.start, ALL.end)]));
        for block in taken {
            runs.take(&(block..block + 1));
        }
        runs
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = Range<Block>> + '_ {
        self.0.iter().map(|(start, end)| *start..*end)
    }

    /// How many blocks they have.
    pub(super) fn len(&self) -> u32 {
        self.iter().map(|run| len(&run)).sum()
    }

    /// The parts of a run that are in the set.
    pub(super) fn within(&self, run: &Range<Block>) -> Vec<Range<Block>> {
        let before = self.0.range(..=run.start).next_back();
        let from = before.map_or(run.start, |(start, _)| *start);
        let parts = self.0.range(from..run.end.max(from));
        let parts = parts.map(|(start, end)| (*start).max(run.start)..(*end).min(run.end));
        parts.filter(|part| !part.is_empty()).collect()
    }

    /// Takes what is there of a run.
    pub(super) fn take(&mut self, run: &Range<Block>) {
        for part in self.within(run) {
            let found = self.0.range(..=part.start).next_back();
            let Some((start, end)) = found.map(|(start, end)| (*start, *end)) else {
                continue;
            };
            self.0.remove(&start);
            if start < part.start {
                self.0.insert(start, part.start);
            }
            if part.end < end {
                self.0.insert(part.end, end);
            }
        }
    }

    /// Gives back what was taken.
    pub(super) fn give(&mut self, run: &Range<Block>) {
        let mut merged = run.clone();
        if let Some((start, end)) = self.0.range(..run.start).next_back()
            && *end == run.start
        {
            merged.start = *start;
        }
        if let Some(end) = self.0.remove(&run.end) {
            merged.end = end;
        }
        self.0.insert(merged.start, merged.end);
    }

    /// Takes at most so many blocks that lie together: next to `near` if there are enough, else the first that are
    /// enough, else the most there are.
    pub(super) fn take_run(
        &mut self,
        most: u32,
        near: Option<&Range<Block>>,
    ) -> Option<Range<Block>> {
        let most = most.min(u32::from(ALL.end)) as Block;
        if most == 0 {
            return None;
        }
        let after = near.and_then(|near| {
            let end = *self.0.get(&near.end)?;
            (end - near.end >= most).then(|| near.end..near.end + most)
        });
        let before = || {
            let near = near?;
            let (start, end) = self.0.range(..near.start).next_back()?;
            (*end == near.start && end - start >= most).then(|| end - most..*end)
        };
        let fits = || self.iter().find(|run| run.end - run.start >= most);
        let longest = || self.iter().rev().max_by_key(len);
        let run = after.or_else(before).or_else(fits).or_else(longest)?;
        let run = run.start..run.end.min(run.start + most);
        self.take(&run);
        Some(run)
    }

    /// Cuts off the last blocks, so many.
    pub(super) fn split_off_last(&mut self, blocks: u32) -> Self {
        let mut last = Self::default();
        let mut open = blocks;
        while open > 0 {
            let Some((start, end)) = self.0.last_key_value().map(|(start, end)| (*start, *end))
            else {
                break;
            };
            let run = end - len(&(start..end)).min(open) as Block..end;
            open -= len(&run);
            self.take(&run);
            last.give(&run);
        }
        last
    }
}

/// How many blocks a run has.
pub(super) fn len(run: &Range<Block>) -> u32 {
    u32::from(run.end.saturating_sub(run.start))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn blocks(runs: &Runs) -> BTreeSet<Block> {
        runs.iter().flatten().collect()
    }

    fn are_apart(runs: &Runs) -> bool {
        let runs: Vec<_> = runs.iter().collect();
        runs.windows(2).all(|two| two[0].end < two[1].start) && runs.iter().all(|run| len(run) > 0)
    }

    #[test]
    fn an_address_has_eight_thousand_blocks() {
        assert_eq!(ALL, 128..8128);
        assert_eq!(Runs::without([]).len(), 8000);
        assert_eq!(Runs::without([10, 128, 200, 200, 8127, 8128]).len(), 7997);
    }

    proptest! {
        #[test]
        fn runs_are_a_set_of_blocks(steps in proptest::collection::vec((any::<bool>(), 128_u16..400, 1_u16..40), 1..60)) {
            let mut runs = Runs::without(400..ALL.end);
            let mut model: BTreeSet<Block> = (128..400).collect();
            for (takes, start, length) in steps {
                let run = start..(start + length).min(400);
                if takes {
                    runs.take(&run);
                    model.retain(|block| !run.contains(block));
                } else if run.clone().all(|block| !model.contains(&block)) {
                    runs.give(&run);
                    model.extend(run.clone());
                }
                let parts: BTreeSet<Block> = runs.within(&run).into_iter().flatten().collect();
                prop_assert_eq!(parts, model.iter().copied().filter(|block| run.contains(block)).collect());
                prop_assert_eq!(blocks(&runs), model.clone());
                prop_assert!(are_apart(&runs));
            }
            let (all, cut) = (runs.len(), runs.len() / 3);
            let last = runs.split_off_last(cut);
            prop_assert_eq!((runs.len(), last.len()), (all - cut, cut));
            prop_assert!(blocks(&runs).last() < blocks(&last).first() || cut == 0);
        }
    }

    #[test]
    fn a_run_grows_where_it_lies_if_it_can() {
        let mut runs = Runs::without([200, 210]);
        assert_eq!(runs.take_run(5, Some(&(195..200))), Some(128..133));
        runs.take(&(190..195));
        assert_eq!(runs.take_run(5, Some(&(190..195))), Some(195..200));
        runs.take(&(211..220));
        assert_eq!(runs.take_run(9, Some(&(211..220))), Some(220..229));
        assert_eq!(runs.take_run(10_000, None), Some(229..8128));
        assert_eq!(runs.take_run(0, None), None);
    }
}
