//! How many flows a source may open in a second.
//!
//! Each source has a word: a part of its hash and, in parts of a jiffy, when it will have paid for the flows it
//! has opened (the generic cell rate algorithm, ITU-T I.371 annex A). It may be up to a second ahead, so
//! a second's worth may come at once. With more active sources than places, some are not limited.

use crate::abi::{SOURCES, Settings};
use crate::family::Family;
use crate::flow::Place;
use crate::tables::Shared;

/// Whether `source` may open another flow, and if so counts it. Sources are IPv4 addresses and IPv6 /64s.
///
/// `#[inline(never)]`: off for most, and its registers are not to be spilled by everybody.
#[inline(never)]
pub(super) fn admits<A: Family, T: Shared>(tables: &T, settings: &Settings, source: A) -> bool {
    if settings.new_flow_cost == 0 {
        return true;
    }
    let place = Place::of_word(settings.hash_key, source.words().0);
    let now = (tables.now() as u32).wrapping_mul(Settings::COSTS);
    let most = settings.second.wrapping_mul(Settings::COSTS);
    let number = place.set(SOURCES - 1);
    let mut free = None;
    for number in [number, number ^ 1] {
        let Some(word) = tables.source(number) else {
            return true;
        };
        let debt = (word as u32).wrapping_sub(now);
        let is_paid = debt > most;
        if (word >> 32) as u32 == place.signature() {
            let debt = if is_paid { 0 } else { debt };
            let after = debt.wrapping_add(settings.new_flow_cost);
            if after > most {
                return false;
            }
            tables.set_source(number, word_of(place, now.wrapping_add(after)));
            return true;
        }
        if is_paid || word == 0 {
            free = Some(number);
        }
    }
    if let Some(number) = free {
        let paid = now.wrapping_add(settings.new_flow_cost);
        tables.set_source(number, word_of(place, paid));
    }
    true
}

#[inline(always)]
fn word_of(place: Place, paid: u32) -> u64 {
    u64::from(place.signature()) << 32 | u64::from(paid)
}
