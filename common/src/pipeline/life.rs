//! Whether a flow that was found still counts.

use crate::abi::Settings;
use crate::family::Family;
use crate::flow::{FlowRef, is_over, lifetime, marks};
use crate::tables::Tables;

/// Whether this direction alone gives no proof of life: it is retiring, or has not been used for the
/// lifetime of its state. Most packets stop here.
#[inline(always)]
pub(super) fn is_quiet<A: Family>(
    flow: FlowRef<'_, A>,
    protocol: u32,
    settings: &Settings,
    now: u64,
) -> bool {
    let lifetime = lifetime(
        &settings.timeouts,
        protocol,
        flow.state(protocol),
        flow.idle_timeout(),
    );
    flow.marks() & marks::RETIRING != 0 || is_over(now, flow.last_seen(), lifetime)
}

/// Whether a flow is over in both directions for more than `grace` jiffies; `other` is the entry of the
/// other direction.
///
/// With a grace of a few jiffies nobody who found the flow alive can still be holding its entry, so it
/// may be removed. Without, it is merely a miss.
#[inline(always)]
pub fn is_over_for<A: Family>(
    settings: &Settings,
    flow: FlowRef<'_, A>,
    other: Option<FlowRef<'_, A>>,
    protocol: u32,
    now: u64,
    grace: u32,
) -> bool {
    let lifetime = lifetime(
        &settings.timeouts,
        protocol,
        flow.state(protocol),
        flow.idle_timeout(),
    );
    let lifetime = lifetime.wrapping_add(grace);
    is_over(now, flow.last_seen(), lifetime)
        && other.is_none_or(|other| is_over(now, other.last_seen(), lifetime))
}

/// Whether a flow that looks quiet in this direction is over: the other direction may prove it alive.
///
/// `#[inline(never)]`: few packets ask, and the key of the other direction is a second key on the stack.
#[inline(never)]
pub(super) fn is_over_in_both<A: Family, T: Tables<A>>(
    tables: &T,
    settings: &Settings,
    flow: FlowRef<'_, A>,
    protocol: u32,
    now: u64,
) -> bool {
    let other = tables.flow(&flow.reply_key(protocol));
    flow.marks() & marks::RETIRING != 0 || is_over_for(settings, flow, other, protocol, now, 0)
}
