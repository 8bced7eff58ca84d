//! Whether wishes fit into stores when each wish may be split over certain stores only.

use std::collections::VecDeque;

/// So much, from these stores.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    pub(super) amount: u64,
    /// Positions in the list of stores.
    pub(super) stores: Vec<usize>,
}

/// Wishes that need more than all their stores have together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Overcommitted {
    pub(super) wishes: Vec<usize>,
    pub(super) stores: Vec<usize>,
}

/// Finds out by maximum flow; what cannot be reached beyond a saturated cut is the shortage.
pub(super) fn fits(wishes: &[Wish], stores: &[u64]) -> Result<(), Overcommitted> {
    let mut network = Network {
        open: wishes.iter().map(|wish| wish.amount).collect(),
        taken: wishes
            .iter()
            .map(|wish| vec![0; wish.stores.len()])
            .collect(),
        left: stores.to_vec(),
        wishes,
    };
    loop {
        let reached = network.search();
        match reached.end {
            Some(store) => network.augment(&reached, store),
            None if network.open.iter().all(|open| *open == 0) => return Ok(()),
            None => {
                return Err(Overcommitted {
                    wishes: positions(&reached.wishes),
                    stores: positions(&reached.stores),
                });
            }
        }
    }
}

struct Network<'w> {
    wishes: &'w [Wish],
    /// What each wish still lacks.
    open: Vec<u64>,
    /// What each wish took from each of its stores.
    taken: Vec<Vec<u64>>,
    /// What each store still has.
    left: Vec<u64>,
}

/// How a wish was reached: it lacks something, or a store could be given something back by it.
#[derive(Clone, Copy)]
enum Via {
    Itself,
    Store(usize),
}

struct Reached {
    wishes: Vec<Option<Via>>,
    /// The wish that leads to a store.
    stores: Vec<Option<usize>>,
    /// A store with something left.
    end: Option<usize>,
}

impl Network<'_> {
    fn search(&self) -> Reached {
        let mut reached = Reached {
            wishes: self
                .open
                .iter()
                .map(|open| (*open > 0).then_some(Via::Itself))
                .collect(),
            stores: vec![None; self.left.len()],
            end: None,
        };
        let mut queue: VecDeque<_> = positions(&reached.wishes).into();
        while let Some(wish) = queue.pop_front() {
            for &store in &self.wishes[wish].stores {
                if reached.stores[store].is_some() {
                    continue;
                }
                reached.stores[store] = Some(wish);
                if self.left[store] > 0 {
                    reached.end = Some(store);
                    return reached;
                }
                for other in 0..self.wishes.len() {
                    if reached.wishes[other].is_none() && self.taken_from(other, store) > 0 {
                        reached.wishes[other] = Some(Via::Store(store));
                        queue.push_back(other);
                    }
                }
            }
        }
        reached
    }

    fn taken_from(&self, wish: usize, store: usize) -> u64 {
        let position = self.wishes[wish]
            .stores
            .iter()
            .position(|other| *other == store);
        position.map_or(0, |position| self.taken[wish][position])
    }

    /// Moves as much as the path to `end` carries.
    fn augment(&mut self, reached: &Reached, end: usize) {
        let mut steps = Vec::new();
        let mut amount = self.left[end];
        let mut store = end;
        let first = loop {
            let wish = reached.stores[store].expect("the search came this way");
            steps.push((wish, store));
            match reached.wishes[wish].expect("the search came this way") {
                Via::Itself => break wish,
                Via::Store(previous) => {
                    amount = amount.min(self.taken_from(wish, previous));
                    store = previous;
                }
            }
        };
        amount = amount.min(self.open[first]);
        self.left[end] -= amount;
        self.open[first] -= amount;
        for (index, (wish, store)) in steps.iter().enumerate() {
            *self.taken_at(*wish, *store) += amount;
            if let Some((_, previous)) = steps.get(index + 1) {
                *self.taken_at(*wish, *previous) -= amount;
            }
        }
    }

    fn taken_at(&mut self, wish: usize, store: usize) -> &mut u64 {
        let stores = &self.wishes[wish].stores;
        let position = stores.iter().position(|other| *other == store);
        &mut self.taken[wish][position.expect("a store of this wish")]
    }
}

fn positions<T>(marks: &[Option<T>]) -> Vec<usize> {
    let marked = marks.iter().enumerate().filter(|(_, mark)| mark.is_some());
    marked.map(|(position, _)| position).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wish(amount: u64, stores: &[usize]) -> Wish {
        Wish {
            amount,
            stores: stores.to_vec(),
        }
    }

    #[test]
    fn a_wish_may_be_split() {
        assert_eq!(fits(&[wish(15, &[0, 1])], &[10, 5]), Ok(()));
        assert_eq!(fits(&[wish(0, &[])], &[]), Ok(()));
    }

    #[test]
    fn an_earlier_wish_makes_room_for_a_choosier_one() {
        assert_eq!(
            fits(&[wish(10, &[0, 1]), wish(10, &[0])], &[10, 10]),
            Ok(())
        );
        let chain = [
            wish(10, &[0, 1]),
            wish(10, &[1, 2]),
            wish(10, &[0]),
            wish(5, &[1]),
        ];
        assert_eq!(fits(&chain, &[10, 15, 10]), Ok(()));
    }

    #[test]
    fn a_shortage_names_only_those_that_share_it() {
        let wishes = [
            wish(6, &[0]),
            wish(6, &[0]),
            wish(8, &[1, 2]),
            wish(1, &[0, 1]),
        ];
        let shortage = fits(&wishes, &[10, 10, 10]).unwrap_err();
        assert_eq!(
            shortage,
            Overcommitted {
                wishes: vec![0, 1],
                stores: vec![0]
            }
        );
    }

    #[test]
    fn a_wish_without_a_store_lacks_everything() {
        let shortage = fits(&[wish(1, &[])], &[5]).unwrap_err();
        assert_eq!(
            shortage,
            Overcommitted {
                wishes: vec![0],
                stores: vec![]
            }
        );
    }

    proptest! {
        /// Hall: wishes fit exactly when no set of them wants more than its stores have.
        #[test]
        fn agrees_with_trying_every_set_of_wishes(
            wishes in prop::collection::vec(
                (0u64..20, prop::collection::btree_set(0usize..4, 0..4)), 0..6),
            stores in prop::collection::vec(0u64..20, 4),
        ) {
            let wishes: Vec<_> = wishes.into_iter()
                .map(|(amount, stores)| Wish { amount, stores: stores.into_iter().collect() })
                .collect();
            let wanted_and_had = |set: &[usize]| {
                let wanted: u64 = set.iter().map(|at| wishes[*at].amount).sum();
                let reachable = (0..4).filter(|store| set.iter().any(|at| wishes[*at].stores.contains(store)));
                (wanted, reachable.map(|store| stores[store]).sum::<u64>())
            };
            let short = (0..1usize << wishes.len()).any(|bits| {
                let set: Vec<_> = (0..wishes.len()).filter(|at| bits >> at & 1 == 1).collect();
                let (wanted, had) = wanted_and_had(&set);
                wanted > had
            });
            match fits(&wishes, &stores) {
                Ok(()) => prop_assert!(!short),
                Err(shortage) => {
                    let (wanted, had) = wanted_and_had(&shortage.wishes);
                    prop_assert!(wanted > had);
                    prop_assert_eq!(had, shortage.stores.iter().map(|store| stores[*store]).sum::<u64>());
                }
            }
        }
    }
}
