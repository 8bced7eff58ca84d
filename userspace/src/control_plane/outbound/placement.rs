//! Which blocks of which address are whose. Whoever has some keeps them as far as possible.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

use super::runs::{Block, Runs, len};

/// Blocks of the address at a position in the list of stores.
pub(super) type Piece = (usize, Range<Block>);

/// Somebody who is promised blocks.
#[derive(Debug, Clone)]
pub(super) struct Claimant<'c> {
    /// Differs between claimants that shall not begin to use the same store first.
    pub(super) seed: u64,
    /// How many blocks.
    pub(super) blocks: u32,
    /// Positions of the stores that they may be taken from.
    pub(super) stores: &'c [usize],
    /// What it has.
    pub(super) held: Vec<Piece>,
}

impl Claimant<'_> {
    /// The stores, in an order of its own.
    fn order(&self) -> impl Iterator<Item = usize> + '_ {
        let count = self.stores.len().max(1);
        let first = (self.seed % count as u64) as usize;
        let turned = self.stores.iter().cycle().skip(first);
        turned.take(self.stores.len()).copied()
    }

    /// How many blocks each store should give: equal parts, and the rest from the first ones of its order.
    fn parts(&self) -> BTreeMap<usize, u32> {
        let count = self.stores.len().max(1) as u32;
        let (each, rest) = (self.blocks / count, self.blocks % count);
        let parts = self.order().zip(0_u32..);
        parts
            .map(|(store, at)| (store, each + u32::from(at < rest)))
            .collect()
    }
}

/// Gives everybody blocks, as many as were promised if they fit. What remains in `stores` is nobody's.
pub(super) fn place(stores: &mut [Runs], claimants: &[Claimant<'_>]) -> Vec<Vec<Piece>> {
    let mut placement = Placement {
        stores,
        claimants,
        pieces: vec![Vec::new(); claimants.len()],
        open: claimants.iter().map(|claimant| claimant.blocks).collect(),
    };
    for claimant in 0..claimants.len() {
        placement.keep(claimant);
    }
    for claimant in 0..claimants.len() {
        placement.fill(claimant);
    }
    let mut full: BTreeSet<&[usize]> = BTreeSet::new();
    for (at, claimant) in claimants.iter().enumerate() {
        while placement.open[at] > 0 && !full.contains(claimant.stores) {
            if placement.make_room(at) {
                placement.fill(at);
            } else {
                full.insert(claimant.stores);
            }
        }
    }
    let mut pieces = placement.pieces;
    pieces.iter_mut().for_each(join);
    pieces
}

/// In order, as few pieces as possible.
fn join(pieces: &mut Vec<Piece>) {
    pieces.sort_by_key(|(store, run)| (*store, run.start));
    pieces.dedup_by(|next, last| {
        let touches = last.0 == next.0 && last.1.end == next.1.start;
        if touches {
            last.1.end = next.1.end;
        }
        touches
    });
}

struct Placement<'p> {
    stores: &'p mut [Runs],
    claimants: &'p [Claimant<'p>],
    pieces: Vec<Vec<Piece>>,
    /// What each still lacks.
    open: Vec<u32>,
}

impl Placement<'_> {
    fn own(&mut self, claimant: usize, store: usize, run: Range<Block>) {
        self.stores[store].take(&run);
        self.open[claimant] = self.open[claimant].saturating_sub(len(&run));
        self.pieces[claimant].push((store, run));
    }

    /// What it had stays: of each store its part, then more while it lacks some.
    fn keep(&mut self, claimant: usize) {
        let this = &self.claimants[claimant];
        let parts = this.parts();
        for is_limited in [true, false] {
            for (store, run) in &this.held {
                let Some(part) = parts.get(store) else {
                    continue;
                };
                for free in self.stores[*store].within(run) {
                    let limit = if is_limited {
                        part.saturating_sub(self.has(claimant, *store))
                    } else {
                        u32::MAX
                    };
                    let most = len(&free).min(limit).min(self.open[claimant]);
                    if most > 0 {
                        self.own(claimant, *store, free.start..free.start + most as Block);
                    }
                }
            }
        }
    }

    fn has(&self, claimant: usize, store: usize) -> u32 {
        let pieces = self.pieces[claimant].iter();
        let here = pieces.filter(|piece| piece.0 == store);
        here.map(|(_, run)| len(run)).sum()
    }

    /// Takes what it lacks: of each store its part, then wherever something is left.
    fn fill(&mut self, claimant: usize) {
        if self.open[claimant] == 0 {
            return;
        }
        let this = &self.claimants[claimant];
        let parts = this.parts();
        for is_limited in [true, false] {
            for store in this.order() {
                let mut most = self.open[claimant];
                if is_limited {
                    let part = parts.get(&store).copied().unwrap_or(0);
                    most = most.min(part.saturating_sub(self.has(claimant, store)));
                }
                self.take(claimant, store, most);
            }
        }
    }

    fn take(&mut self, claimant: usize, store: usize, mut most: u32) {
        while most > 0 {
            let own = self.pieces[claimant].iter().rev();
            let near = own.filter(|piece| piece.0 == store).map(|(_, run)| run);
            let near = near.max_by_key(|run| run.end).cloned();
            let Some(run) = self.stores[store].take_run(most, near.as_ref()) else {
                return;
            };
            most -= len(&run);
            self.own(claimant, store, run);
        }
    }

    /// Moves others' blocks to stores that this claimant cannot use, so that one it can use has some left; says
    /// whether it did. A shortest chain of such moves is an augmenting path, so what can fit does.
    fn make_room(&mut self, claimant: usize) -> bool {
        let Some(chain) = self.chain(claimant) else {
            return false;
        };
        let Some((_, _, target)) = chain.last() else {
            return false;
        };
        let mut most = self.open[claimant].min(self.stores[*target].len());
        for (mover, from, _) in &chain {
            most = most.min(self.has(*mover, *from));
        }
        for (mover, from, to) in chain.into_iter().rev() {
            self.release(mover, from, most);
            self.open[mover] += most;
            self.take(mover, to, most);
        }
        most > 0
    }

    /// Who moves from which store to which, the last to one that has something left.
    fn chain(&self, claimant: usize) -> Option<Vec<(usize, usize, usize)>> {
        let mut via: BTreeMap<usize, Option<(usize, usize)>> = BTreeMap::new();
        let mut queue: VecDeque<usize> = self.claimants[claimant].stores.iter().copied().collect();
        via.extend(queue.iter().map(|store| (*store, None)));
        while let Some(from) = queue.pop_front() {
            for mover in (0..self.claimants.len()).filter(|mover| *mover != claimant) {
                if !self.pieces[mover].iter().any(|piece| piece.0 == from) {
                    continue;
                }
                for to in self.claimants[mover].stores {
                    if via.contains_key(to) {
                        continue;
                    }
                    via.insert(*to, Some((mover, from)));
                    if self.stores[*to].len() > 0 {
                        return Some(path(&via, *to));
                    }
                    queue.push_back(*to);
                }
            }
        }
        None
    }

    /// Gives up the last blocks of a store, so many.
    fn release(&mut self, claimant: usize, store: usize, mut most: u32) {
        join(&mut self.pieces[claimant]);
        while most > 0 {
            let pieces = &mut self.pieces[claimant];
            let Some(at) = pieces.iter().rposition(|piece| piece.0 == store) else {
                return;
            };
            let run = pieces[at].1.clone();
            let start = run.end - len(&run).min(most) as Block;
            if start == run.start {
                pieces.remove(at);
            } else {
                pieces[at].1.end = start;
            }
            most -= len(&(start..run.end));
            self.stores[store].give(&(start..run.end));
        }
    }
}

fn path(via: &BTreeMap<usize, Option<(usize, usize)>>, end: usize) -> Vec<(usize, usize, usize)> {
    let mut moves = Vec::new();
    let mut to = end;
    while let Some(Some((mover, from))) = via.get(&to) {
        moves.push((*mover, *from, to));
        to = *from;
    }
    moves.reverse();
    moves
}

#[cfg(test)]
mod tests;
