use proptest::prelude::*;

use super::super::runs::ALL;
use super::*;

fn claimant(seed: u64, blocks: u32, stores: &[usize]) -> Claimant<'_> {
    Claimant {
        seed,
        blocks,
        stores,
        held: Vec::new(),
    }
}

fn sum(pieces: &[Piece]) -> u32 {
    pieces.iter().map(|(_, run)| len(run)).sum()
}

fn stores(count: usize) -> Vec<Runs> {
    vec![Runs::without([]); count]
}

/// A store with so many blocks.
fn small(blocks: u16) -> Runs {
    Runs::without(ALL.start + blocks..ALL.end)
}

/// The same claimants a while later.
fn later<'c>(claimants: &[Claimant<'c>], placed: &[Vec<Piece>], blocks: u32) -> Vec<Claimant<'c>> {
    let both = claimants.iter().zip(placed);
    both.map(|(claimant, pieces)| Claimant {
        blocks,
        held: pieces.clone(),
        ..claimant.clone()
    })
    .collect()
}

#[test]
fn whoever_is_halved_keeps_its_first_half_and_has_the_rest_back_later() {
    let ten: Vec<_> = (0..10).map(|seed| claimant(seed, 128, &[0])).collect();
    let before = place(&mut stores(1), &ten);
    assert_eq!(before[3], [(0, 512..640)]);
    let mut eleven = later(&ten, &before, 64);
    eleven.push(claimant(10, 64, &[0]));
    let halved = place(&mut stores(1), &eleven);
    for (old, new) in before.iter().zip(&halved) {
        assert_eq!(new[..], [(0, old[0].1.start..old[0].1.start + 64)]);
    }
    assert_eq!(halved[10], [(0, 192..256)]);
    let again = place(&mut stores(1), &later(&ten, &halved, 128));
    assert_eq!(again, before);
}

#[test]
fn several_addresses_give_equal_parts() {
    let both = [0, 1];
    let three: Vec<_> = (0..3).map(|seed| claimant(seed, 128, &both)).collect();
    for pieces in place(&mut stores(2), &three) {
        assert_eq!(
            pieces.iter().map(|p| (p.0, len(&p.1))).collect::<Vec<_>>(),
            [(0, 64), (1, 64)]
        );
    }
    let single = [claimant(1, 1, &both)];
    assert_eq!(place(&mut stores(2), &single)[0], [(1, 128..129)]);
}

#[test]
fn what_fits_by_moving_others_does() {
    // The first may use both, the others one each; taken by halves there is no room for them.
    let mut all = [small(100), small(100), small(100)];
    let claimants = [
        claimant(0, 100, &[0, 1]),
        claimant(0, 100, &[1, 2]),
        claimant(0, 100, &[0]),
    ];
    let placed = place(&mut all, &claimants);
    for pieces in &placed {
        assert_eq!(sum(pieces), 100, "{placed:?}");
    }
    assert_eq!(all.iter().map(Runs::len).sum::<u32>(), 0);
}

#[test]
fn more_than_there_is_is_shared_without_trouble() {
    let mut all = [small(100)];
    let claimants = [claimant(0, 80, &[0]), claimant(1, 80, &[0])];
    let placed = place(&mut all, &claimants);
    assert_eq!(placed.iter().map(|p| sum(p)).collect::<Vec<_>>(), [80, 20]);
}

proptest! {
    /// Random promises that fit, placed, changed and placed again.
    #[test]
    fn nobody_overlaps_everybody_has_what_it_was_promised_and_keeps_what_it_can(
        sizes in proptest::collection::vec(20_u16..200, 1..5),
        wishes in proptest::collection::vec((1_u32..40, 1_u32..40, proptest::collection::vec(any::<bool>(), 5)), 1..12),
        taken in proptest::collection::vec(128_u16..300, 0..4),
    ) {
        let all: Vec<Runs> = sizes.iter().map(|size| small(*size)).collect();
        let lists: Vec<Vec<usize>> = wishes.iter().map(|(.., uses)| {
            let used: Vec<usize> = (0..all.len()).filter(|store| uses[*store]).collect();
            if used.is_empty() { vec![0] } else { used }
        }).collect();
        let of = |pick: fn(&(u32, u32, Vec<bool>)) -> u32| -> Vec<Claimant<'_>> {
            let both = wishes.iter().zip(&lists).zip(0..);
            both.map(|((wish, stores), seed)| claimant(seed, pick(wish), stores)).collect()
        };
        let first = of(|wish| wish.0);
        let mut left = all.clone();
        let placed = place(&mut left, &first);
        check(&all, &left, &first, &placed)?;

        // The same again is the same again.
        let mut same = first.clone();
        for (claimant, pieces) in same.iter_mut().zip(&placed) {
            claimant.held.clone_from(pieces);
        }
        prop_assert_eq!(&place(&mut all.clone(), &same), &placed);

        let mut second = of(|wish| wish.1);
        for (claimant, pieces) in second.iter_mut().zip(&placed) {
            claimant.held.clone_from(pieces);
        }
        let mut all = all;
        for block in taken {
            all.iter_mut().for_each(|store| store.take(&(block..block + 1)));
        }
        let mut left = all.clone();
        let placed = place(&mut left, &second);
        check(&all, &left, &second, &placed)?;
    }
}

fn check(
    all: &[Runs],
    left: &[Runs],
    claimants: &[Claimant<'_>],
    placed: &[Vec<Piece>],
) -> Result<(), TestCaseError> {
    let mut again = left.to_vec();
    for (claimant, pieces) in claimants.iter().zip(placed) {
        for (store, run) in pieces {
            prop_assert!(claimant.stores.contains(store));
            prop_assert!(
                again[*store].within(run).is_empty(),
                "{run:?} is somebody's already"
            );
            again[*store].give(run);
        }
        prop_assert!(sum(pieces) <= claimant.blocks);
        if sum(pieces) < claimant.blocks {
            // Then those who share its addresses have used them up.
            for store in claimant.stores {
                prop_assert_eq!(left[*store].len(), 0);
            }
        }
    }
    prop_assert_eq!(&again[..], all);
    let needed: u32 = claimants.iter().map(|claimant| claimant.blocks).sum();
    if claimants
        .iter()
        .all(|claimant| claimant.stores.len() == all.len())
        && needed <= all.iter().map(Runs::len).sum()
    {
        prop_assert!(
            claimants
                .iter()
                .zip(placed)
                .all(|(c, p)| sum(p) == c.blocks)
        );
    }
    Ok(())
}
