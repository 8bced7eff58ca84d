//! What public IPs were lately translated on this CPU, by the two addresses of the packet: a cache in front of
//! the lookups that say what a packet becomes, by whose leave, and where it goes next. Public IPs need no memory;
//! wiping this one costs a lookup.

use super::untrusted;
use crate::abi::Settings;
use crate::family::Family;
use crate::flow::{Direction, FlowKey, FlowKind, FlowRef};
use crate::tables::{RECENT_PAIRS, Tables};

/// All that a direction of a flow can see: nothing that a packet brings is news.
const EVERYTHING: u8 = 0xff;

/// Where a pair of addresses is kept.
#[inline(always)]
fn place<A: Family>(key: &FlowKey<A>) -> u32 {
    let (source, more) = key.source.words();
    let (destination, still_more) = key.destination.words();
    let word = source
        ^ destination.rotate_left(32)
        ^ more.unwrap_or(0).rotate_left(16)
        ^ still_more.unwrap_or(0).rotate_left(48);
    // The high bits: every octet of both addresses has its part in them.
    (word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52) as u32 & (RECENT_PAIRS - 1)
}

/// What a packet between these addresses that came in by this device becomes, if this CPU knows.
///
/// It was found while the tables were as they are now (`generation`), and not longer ago than a next hop is believed.
#[inline(always)]
pub(super) fn recent<'t, A: Family, T: Tables<A>>(
    tables: &'t T,
    key: &FlowKey<A>,
    settings: &Settings,
    now: u64,
    device: u32,
) -> Option<FlowRef<'t, A>> {
    // SAFETY: the only reference to a pair in the handling of a packet that finds one.
    let pair = unsafe { tables.recent_pair(place(key)) }?;
    if pair.source != key.source
        || pair.destination != key.destination
        || pair.device != device
        || pair.generation != settings.generation()
    {
        return None;
    }
    let flow = FlowRef::over(&mut pair.flow);
    let age = (now as u32).wrapping_sub(flow.hop_stamp());
    let since_change = (now as u32).wrapping_sub(settings.hops_valid_from);
    if age > settings.hop_lifetime || since_change <= age {
        return None;
    }
    flow.set_ports(key.ports);
    Some(flow)
}

/// The same for a packet that may be of an untrusted flow as well.
#[inline(always)]
pub(super) fn recent_without_flow<'t, A: Family, T: Tables<A>>(
    tables: &'t T,
    key: &FlowKey<A>,
    settings: &Settings,
    now: u64,
    device: u32,
) -> Option<FlowRef<'t, A>> {
    let flow = recent(tables, key, settings, now, device)?;
    if tables.former(key).is_some() {
        return None;
    }
    if FlowKind::direction(flow.kind()) == Direction::FromInstance {
        // SAFETY: released at once; the stages take it again.
        let scratch = unsafe { tables.scratch() }?;
        if untrusted::find(tables, key, &mut scratch.own) {
            return None;
        }
    }
    Some(flow)
}

/// Keeps what a packet became that came in by this device, while the tables were of this generation.
#[inline(always)]
pub(super) fn keep<A: Family, T: Tables<A>>(
    tables: &T,
    key: &FlowKey<A>,
    flow: FlowRef<'_, A>,
    generation: u32,
    device: u32,
) {
    // SAFETY: a packet that keeps a pair has found none.
    let Some(pair) = (unsafe { tables.recent_pair(place(key)) }) else {
        return;
    };
    key.source.write(&mut pair.source);
    key.destination.write(&mut pair.destination);
    pair.device = device;
    pair.generation = generation;
    flow.source().write(&mut pair.flow.source);
    flow.destination().write(&mut pair.flow.destination);
    pair.flow.kind = flow.kind();
    let kept = FlowRef::over(&mut pair.flow);
    kept.set_fixed(0, 0);
    kept.set_seen_to_instance(EVERYTHING);
    kept.set_seen_from_instance(EVERYTHING);
    kept.set_hop_bits(flow.hop_bits(), flow.hop_stamp());
}
