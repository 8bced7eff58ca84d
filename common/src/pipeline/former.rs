//! Flows in the former flow table, beyond using them where they are.

use super::life::is_quiet;
use crate::abi::Settings;
use crate::family::Family;
use crate::flow::{self, Direction, FlowKey, FlowKind, FlowRef, Seen, marks};
use crate::tables::Tables;
use crate::wire::{TCP, tcp_flags};

/// The live flow of a packet in the former table, for stages that have no turn of their own over it. What both
/// directions should know of the packet, only its own will.
#[inline(always)]
pub(super) fn alive<'t, A: Family, T: Tables<A>>(
    tables: &'t T,
    key: &FlowKey<A>,
    settings: &Settings,
    now: u64,
) -> Option<FlowRef<'t, A>> {
    let flow = tables.former(key)?;
    (!is_quiet(flow, key.protocol, settings, now)).then_some(flow)
}

/// Begins a connection anew, with the same member, in the entries of one that is over or has ended: a packet
/// that may open a flow finds its tuple taken in the former table, where nobody makes room. `None` if it may
/// not, as an answer to what an instance has opened.
///
/// `#[inline(never)]`: few packets come here, and the key of the other direction needs stack.
#[inline(never)]
pub(super) fn renew<'t, A: Family, T: Tables<A>>(
    tables: &'t T,
    key: &FlowKey<A>,
    flags: u8,
) -> Option<FlowRef<'t, A>> {
    let flow = tables.flow(key)?;
    let (settings, now) = (tables.settings()?, tables.now());
    let opens = flags & (tcp_flags::SYN | tcp_flags::ACK) == tcp_flags::SYN;
    let leaves = flow.marks() & marks::RETIRING != 0
        && !flow::is_over(now, flow.last_seen(), settings.second);
    if (key.protocol == u32::from(TCP) && !opens)
        || leaves
        || flow.kind() & 0x0f > FlowKind::InboundNat as u8
        || FlowKind::direction(flow.kind()) != Direction::ToInstance
    {
        return None;
    }
    let other = tables.flow(&flow.reply_key(key.protocol))?;
    let events = Seen::of(key.protocol, flags);
    for half in [flow, other] {
        half.set_seen_from_instance(0);
        half.set_seen_to_instance(events.0);
        half.set_last_ack(0);
        half.set_packets(0);
        half.set_bytes(0);
        half.set_last_seen(now);
        half.set_marks(0);
    }
    Some(flow)
}
