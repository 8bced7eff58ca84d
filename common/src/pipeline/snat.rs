//! Which public address and port an instance's new flow gets: the search for one that is free towards the
//! flow's destination. Taking the reply key *is* the allocation, so nothing else knows of ports.
//!
//! A lap goes over all ports of the way: its own ranges, then those that it shares, in each case over one range
//! first, so that a source keeps its address towards a destination as long as it can. It begins where the last
//! one for this source and destination left off, and a packet tries so many ports at most; the sender's next attempt
//! goes on from there. A whole lap in vain is remembered for a moment, so that a storm of packets that get no
//! port costs little.

use super::claim::{Claim, Claimed};
use super::life::is_quiet;
use super::open::lock_of;
use super::untrusted::{self, Owner, begin};
use crate::abi::{POSITIONS, Position, Settings, Way};
use crate::family::Family;
use crate::flow::{Direction, FlowKey, FlowKind, FlowRef, Place, Seen};
use crate::tables::{Scratch, Search, Tables};
use crate::wire::TCP;

/// Ports that a packet tries: as many as an IP configuration is promised at most by `auto`, and some of those that are
/// shared, so that the packet that finds its own ports used up is not lost.
const MOST: u32 = 1024 + 64;
/// Seconds for which a lap that was not finished goes on where it was.
const LAP: u32 = 5;
/// Parts of a second for which a lap in vain is remembered, for as many ports as a packet tries: a longer lap has cost
/// more.
const REFUSAL: u32 = 200;
/// No range.
const NOWHERE: u32 = u32::MAX;
/// Turns of a search by halves through as many ranges as there can be.
const HALVES: u32 = 18;

/// How a search ended, as a word that fits a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Found {
    /// Not yet: the sender's next attempt goes on.
    Nothing = 0,
    /// A port; the keys are taken.
    Port = 1,
    /// Another CPU was faster with the same flow.
    Known = 2,
    /// None is free.
    Exhausted = 3,
    /// The flow table is full.
    Full = 4,
}

/// Of `count` things the one that a random word names.
#[inline(always)]
fn scale(word: u32, count: u32) -> u32 {
    ((u64::from(word) * u64::from(count)) >> 32) as u32
}

/// Number of the last place where searches are remembered: no more of them than the node's size asks for.
#[inline(always)]
fn places(settings: &Settings) -> u32 {
    settings.untrusted_mask & (POSITIONS - 1)
}

/// A word that is like random, made of another.
#[inline(always)]
fn stir(word: u32) -> u32 {
    let word = (word ^ word >> 15).wrapping_mul(0x2c1b_3c6d);
    (word ^ word >> 12).wrapping_mul(0x297a_2d39)
}

/// Finds a port for the flow that the scratch space describes, and takes its keys.
///
/// `#[inline(never)]`: has its own stack, beside that of the stage.
#[inline(never)]
pub(super) fn search<A: Family, T: Tables<A>>(tables: &T, for_mapping: bool) -> Found {
    let Some(settings) = tables.settings() else {
        return Found::Full;
    };
    let now = tables.now() as u32;
    // SAFETY: ends before the candidates take it.
    let Some(scratch) = (unsafe { tables.scratch() }) else {
        return Found::Full;
    };
    let place = place(settings, scratch, for_mapping);
    let search = &mut scratch.search;
    let total = search.way.ports.wrapping_add(search.way.burst_ports);
    let known = tables.position(place.set(places(settings)));
    let known = known.filter(|known| known.signature == place.signature());
    let (mut start, mut tried) = (NOWHERE, 0);
    if let Some(known) = known {
        let age = now.wrapping_sub(known.stamp);
        if known.tried >= total {
            let laps = (total / MOST).wrapping_add(1);
            if age.wrapping_mul(REFUSAL) <= settings.second.wrapping_mul(laps) {
                search.address = first_address(tables, &search.way);
                return Found::Exhausted;
            }
        } else if age <= settings.second.wrapping_mul(LAP)
            && (known.tried != 0 || search.way.flags & Way::RANDOM == 0)
        {
            (start, tried) = (known.start, known.tried);
        }
    }
    search.spread = stir(place.signature());
    search.for_mapping = u32::from(for_mapping);
    if start == NOWHERE {
        start = start_of(tables, search, false);
    }
    let goes_on = tried > 0;
    begin_lap(tables, search, start, tried);
    tables.search(MOST);
    // SAFETY: the candidates are through.
    let Some(scratch) = (unsafe { tables.scratch() }) else {
        return Found::Full;
    };
    let search = &mut scratch.search;
    if search.found == Found::Exhausted as u32 && goes_on {
        // Its first ports were tried by an earlier packet: they may be free by now.
        let start = start_of(tables, search, false);
        begin_lap(tables, search, start, 0);
        tables.search(MOST);
        // SAFETY: as above.
        let Some(scratch) = (unsafe { tables.scratch() }) else {
            return Found::Full;
        };
        let search = &mut scratch.search;
        if search.found == Found::Nothing as u32 {
            // Neither the lap nor, now, any of so many: it would never end.
            search.found = Found::Exhausted as u32;
            search.tried = total;
        }
    }
    // SAFETY: as above.
    let Some(scratch) = (unsafe { tables.scratch() }) else {
        return Found::Full;
    };
    conclude(tables, settings, &mut scratch.search, place)
}

/// Begins a lap, or goes on with it.
#[inline(always)]
fn begin_lap<A: Family, T: Tables<A>>(tables: &T, search: &mut Search<A>, start: u32, tried: u32) {
    search.start = start;
    search.tried = tried;
    search.in_burst = u32::from(tried > search.way.ports);
    search.found = Found::Nothing as u32;
    settle_at_home(tables, search);
}

/// Looks up the range where the lap begins.
///
/// `#[inline(never)]`: three callers.
#[inline(never)]
fn settle_at_home<A: Family, T: Tables<A>>(tables: &T, search: &mut Search<A>) {
    let way = &search.way;
    let (first, ranges) = if search.in_burst == 0 {
        (way.first, way.ranges)
    } else {
        (way.burst_first, way.burst_ranges)
    };
    search.range = tables.range_of(first, ranges, search.start);
    let home = tables.snat_range(search.range);
    search.home_before = home.map_or(0, |range| range.before);
    search.home_count = home.map_or(0, |range| u32::from(range.count));
}

/// Keeps where the search stands; says how it ended.
#[inline(always)]
fn conclude<A: Family, T: Tables<A>>(
    tables: &T,
    settings: &Settings,
    search: &mut Search<A>,
    place: Place,
) -> Found {
    let way = &search.way;
    let (mut start, mut tried) = (search.start, search.tried);
    let found = if search.found == Found::Port as u32 {
        if way.flags & Way::LOWEST != 0 {
            // Lower ones may be free by now.
            if search.in_burst == 0 {
                tried = 0;
            } else {
                tried = way.ports;
            }
        } else if search.in_burst == 0 && tried <= search.home_count {
            // The next one begins behind this port, and the range is before it once more.
            start = behind(search, tried);
            tried = 0;
        }
        Found::Port
    } else if search.found == Found::Known as u32 {
        Found::Known
    } else if search.found == Found::Exhausted as u32 {
        Found::Exhausted
    } else if search.found == Found::Full as u32 {
        Found::Full
    } else {
        Found::Nothing
    };
    let position = Position {
        signature: place.signature(),
        stamp: tables.now() as u32,
        start,
        tried,
    };
    tables.set_position(place.set(places(settings)), position);
    found
}

/// So many ports behind the one where the lap began, in the range where it did.
#[inline(always)]
fn behind<A>(search: &Search<A>, ports: u32) -> u32 {
    let mut within = search
        .start
        .wrapping_sub(search.home_before)
        .wrapping_add(ports);
    if within >= search.home_count {
        within = within.wrapping_sub(search.home_count);
    }
    search.home_before.wrapping_add(within)
}

/// What a search is remembered by: source and destination, or for a mapping the source alone.
#[inline(always)]
fn place<A: Family>(settings: &Settings, scratch: &mut Scratch<A>, for_mapping: bool) -> Place {
    let Scratch {
        key, third, search, ..
    } = scratch;
    third.source = key.source;
    third.protocol = key.protocol;
    if for_mapping {
        A::default().write(&mut third.destination);
        third.ports = 0;
    } else {
        third.destination = search.destination;
        third.ports = search.destination_port;
    }
    Place::of(settings.hash_key, third)
}

/// The address that a way uses first.
#[inline(always)]
fn first_address<A: Family, T: Tables<A>>(tables: &T, way: &Way) -> A {
    let number = if way.ranges != 0 {
        way.first
    } else {
        way.burst_first
    };
    tables
        .snat_range(number)
        .map_or(A::default(), |range| range.address)
}

/// Where a lap over the own or the shared ranges begins, as the way chooses range and port.
#[inline(always)]
fn start_of<A: Family, T: Tables<A>>(tables: &T, search: &Search<A>, in_burst: bool) -> u32 {
    let way = &search.way;
    let (first, ranges, ports) = if in_burst {
        (way.burst_first, way.burst_ranges, way.burst_ports)
    } else {
        (way.first, way.ranges, way.ports)
    };
    let random = tables.random();
    let ordinal = if way.flags & Way::FILL != 0 {
        0
    } else if way.flags & Way::RANDOM != 0 {
        scale(random, ports)
    } else {
        scale(search.spread, ports)
    };
    let number = tables.range_of(first, ranges, ordinal);
    let Some(range) = tables.snat_range(number) else {
        return 0;
    };
    let within = if way.flags & Way::LOWEST != 0 {
        0
    } else {
        scale(stir(random ^ search.spread), u32::from(range.count))
    };
    range.before.wrapping_add(within)
}

/// Number of the range that has a port, of ranges whose ports are numbered through.
///
/// Reached by way of [`Tables::range_of`].
#[inline(always)]
pub fn range_of<A: Family, T: Tables<A>>(tables: &T, first: u32, ranges: u32, ordinal: u32) -> u32 {
    let (mut low, mut high, mut turn) = (0, ranges, 0);
    while turn < HALVES {
        turn += 1;
        let middle = low + (high.wrapping_sub(low) >> 1);
        if middle == low {
            break;
        }
        let range = tables.snat_range(first.wrapping_add(middle));
        if range.is_some_and(|range| range.before <= ordinal) {
            low = middle;
        } else {
            high = middle;
        }
    }
    first.wrapping_add(low)
}

/// Tries the next port; says whether there is another one to try.
#[inline(always)]
pub fn candidate<A: Family, T: Tables<A>>(tables: &T) -> bool {
    // SAFETY: who began the search has let go of it.
    let Some(scratch) = (unsafe { tables.scratch() }) else {
        return false;
    };
    if !advance(tables, &mut scratch.search) {
        return false;
    }
    let found = attempt(tables, scratch);
    if found == Found::Nothing {
        return true;
    }
    scratch.search.found = found as u32;
    false
}

/// Goes on to the next port; false after the last one.
///
/// `#[inline(never)]`: has its own stack, beside that of the claim.
#[inline(never)]
fn advance<A: Family, T: Tables<A>>(tables: &T, search: &mut Search<A>) -> bool {
    let own = search.way.ports;
    if search.tried >= own.wrapping_add(search.way.burst_ports) {
        search.found = Found::Exhausted as u32;
        return false;
    }
    if search.tried >= own && search.in_burst == 0 {
        search.start = start_of(tables, search, true);
        search.in_burst = 1;
        settle_at_home(tables, search);
    }
    let (first, ranges, ports, step) = if search.in_burst == 0 {
        let way = &search.way;
        (way.first, way.ranges, way.ports, search.tried)
    } else {
        let way = &search.way;
        let step = search.tried.wrapping_sub(own);
        (way.burst_first, way.burst_ranges, way.burst_ports, step)
    };
    let ordinal = if step < search.home_count {
        behind(search, step)
    } else {
        let ordinal = search.home_before.wrapping_add(step);
        if ordinal >= ports {
            ordinal.wrapping_sub(ports)
        } else {
            ordinal
        }
    };
    search.tried += 1;
    let has = |number: u32| {
        tables
            .snat_range(number)
            .filter(|range| ordinal.wrapping_sub(range.before) < u32::from(range.count))
    };
    let range = match has(search.range) {
        Some(range) => range,
        None => {
            search.range = tables.range_of(first, ranges, ordinal);
            match has(search.range) {
                Some(range) => range,
                None => {
                    // The ranges have changed under way: the next packet has the new ones.
                    search.found = Found::Exhausted as u32;
                    return false;
                }
            }
        }
    };
    search.address = range.address;
    search.port = u32::from(range.first).wrapping_add(ordinal.wrapping_sub(range.before));
    true
}

/// Tries the port at hand.
#[inline(always)]
fn attempt<A: Family, T: Tables<A>>(tables: &T, scratch: &mut Scratch<A>) -> Found {
    let Some(settings) = tables.settings() else {
        return Found::Full;
    };
    let now = tables.now();
    name_keys(scratch);
    let reply = &scratch.pair.key;
    if tables.former(reply).is_some() {
        return Found::Nothing;
    }
    if let Some(holder) = tables.flow(reply)
        && !is_quiet(holder, reply.protocol, settings, now)
    {
        return Found::Nothing;
    }
    take_alone(tables, scratch, settings, now)
}

/// Takes the keys of the flow, or of its mapping, which are in the scratch space, unless an outsider's flow that waits to
/// be trusted has one of them, or may have: its rule takes in ports that instances go out by, or it has just come to the
/// port that the instance now goes out from.
#[inline(always)]
pub(super) fn take_alone<A: Family, T: Tables<A>>(
    tables: &T,
    scratch: &mut Scratch<A>,
    settings: &Settings,
    now: u64,
) -> Found {
    let reply = lock_of(settings, &scratch.pair.key);
    let own = lock_of(settings, &scratch.own.key);
    if !tables.lock(reply) {
        return Found::Nothing;
    }
    let mut found = Found::Nothing;
    if own == reply || tables.lock(own) {
        if !is_taken_untrusted(tables, scratch, settings, now) {
            found = take(tables, scratch, settings, now);
        }
        if own != reply {
            tables.unlock(own);
        }
    }
    tables.unlock(reply);
    found
}

/// Whether an untrusted flow has one of the keys, or may have.
///
/// `#[inline(never)]`: two callers.
#[inline(never)]
fn is_taken_untrusted<A: Family, T: Tables<A>>(
    tables: &T,
    scratch: &mut Scratch<A>,
    settings: &Settings,
    now: u64,
) -> bool {
    scratch.other = scratch.pair.key;
    let is_taken = untrusted::other_owner(tables, scratch, settings, now) != Owner::Free
        || (scratch.search.for_mapping == 0
            && untrusted::may_be_alive(tables, scratch, settings, now));
    name_keys(scratch);
    is_taken
}

/// The keys of the flow, or of its mapping, with the port at hand.
#[inline(always)]
pub(super) fn name_keys<A: Family>(scratch: &mut Scratch<A>) {
    let Scratch {
        key,
        own,
        pair,
        search,
        ..
    } = scratch;
    let port = search.port as u16;
    own.key = *key;
    pair.key.source = search.destination;
    pair.key.destination = search.address;
    pair.key.ports = FlowKey::<A>::ports_word(search.destination_port as u16, port);
    pair.key.protocol = key.protocol;
    if search.for_mapping != 0 {
        A::default().write(&mut own.key.destination);
        own.key.ports = FlowKey::<A>::ports_word(key.source_port(), 0);
        A::default().write(&mut pair.key.source);
        pair.key.ports = FlowKey::<A>::ports_word(0, port);
    }
}

/// Takes the keys of the flow, or of its mapping, which are in the scratch space, if they are free.
///
/// `#[inline(never)]`: one copy of it, for all who ask.
#[inline(never)]
pub(super) fn take<A: Family, T: Tables<A>>(
    tables: &T,
    scratch: &mut Scratch<A>,
    settings: &Settings,
    now: u64,
) -> Found {
    fill(scratch, settings, now);
    let Scratch {
        other, own, pair, ..
    } = scratch;
    match (Claim { settings, now }).take(tables, own, pair, other) {
        Claimed::New | Claimed::Reopened => Found::Port,
        Claimed::Known => Found::Known,
        Claimed::ReplyTaken | Claimed::Ending => Found::Nothing,
        Claimed::Full => Found::Full,
    }
}

/// Makes both entries from their keys: what one direction's packets become is what the other direction's answer.
/// `own` is the direction of the packet at hand.
#[inline(always)]
fn fill<A: Family>(scratch: &mut Scratch<A>, settings: &Settings, now: u64) {
    let Scratch {
        key,
        own,
        pair,
        search,
        ..
    } = scratch;
    let kind = search.kind as u8;
    begin(own, &pair.key.reversed(), kind);
    begin(pair, &own.key.reversed(), FlowKind::other_way(kind));
    let idle = idle_timeout(search, settings, key.protocol);
    let events = Seen::of(key.protocol, crate::wire::tcp_flags::SYN).0;
    let is_from = FlowKind::direction(kind) == Direction::FromInstance;
    for entry in [own, pair] {
        let flow = FlowRef::over(&mut entry.flow);
        flow.set_fixed(idle, search.way.rule);
        flow.set_seen_to_instance(if is_from { 0 } else { events });
        flow.set_seen_from_instance(if is_from { events } else { 0 });
        flow.set_last_seen(now);
    }
}

/// Idle timeout of the flow, jiffies; of a mapping, longer than that of the flows that keep it.
#[inline(always)]
pub(super) fn idle_timeout<A: Family>(
    search: &Search<A>,
    settings: &Settings,
    protocol: u32,
) -> u32 {
    const DNS: u32 = 53;
    let is_dns = protocol != u32::from(TCP) && search.destination_port == DNS;
    let idle = if is_dns {
        search.way.idle_dns
    } else {
        search.way.idle
    };
    if search.for_mapping != 0 {
        // Flows tell their mapping that they live when they look up their next hop.
        idle.wrapping_add(settings.hop_lifetime.wrapping_mul(3))
    } else {
        idle
    }
}
