//! Flows that have not proven themselves: looking them up, keeping them, and what makes them trusted.
//!
//! The packet at hand has its own direction of the flow in `scratch.own`, a copy; what it changes there is
//! written back once it is on its way. The other direction, in `scratch.pair`, is looked up only by packets
//! that bring news.

use super::claim::{Claim, Claimed};
use super::forward::{add_events, reset_is_believable};
use super::life::is_quiet;
use super::open::lock_of;
use crate::abi::Settings;
use crate::family::Family;
use crate::flow::{
    Direction, Entry, FlowKey, FlowKind, FlowRef, Place, Seen, Untrusted, is_over, lifetime,
};
use crate::tables::{Scratch, Tables};
use crate::wire::{TCP, Transport, tcp_flags};

/// UDP packets of each direction that make a flow trusted.
const UDP_PROOF: u64 = 3;
/// Farthest back, from where the instance's last segment ended, that an acknowledgement proves anything; bytes.
const WINDOW: u32 = 1 << 16;

/// Copies the entry of a key into `into`; false if there is none, and then `into` holds nothing of use.
///
#[inline(always)]
pub(super) fn find<A: Family, T: Tables<A>>(
    tables: &T,
    key: &FlowKey<A>,
    into: &mut Untrusted<A>,
) -> bool {
    read(tables, key, into) == Entry::There
}

/// Copies the entry of a key into `into`, which holds nothing of use if it is not there.
///
/// `#[inline(never)]`: one copy of it, for all who ask.
#[inline(never)]
fn read<A: Family, T: Tables<A>>(tables: &T, key: &FlowKey<A>, into: &mut Untrusted<A>) -> Entry {
    let Some(settings) = tables.settings() else {
        return Entry::Absent;
    };
    let place = Place::of(settings.hash_key, key);
    match tables.untrusted_set(place.set(settings.untrusted_mask)) {
        Some(set) => set.load(place, key, into, tables.now() as u32),
        None => Entry::Absent,
    }
}

/// Writes an entry back, or makes it.
///
/// `#[inline(never)]`: as above.
#[inline(never)]
pub(super) fn keep<A: Family, T: Tables<A>>(tables: &T, entry: &mut Untrusted<A>) {
    let Some(settings) = tables.settings() else {
        return;
    };
    let place = Place::of(settings.hash_key, &entry.key);
    if let Some(set) = tables.untrusted_set(place.set(settings.untrusted_mask)) {
        set.store(place, entry, tables.now() as u32);
    }
}

/// Forgets the entry of a key.
///
/// `#[inline(never)]`: as above.
#[inline(never)]
pub(super) fn forget<A: Family, T: Tables<A>>(tables: &T, key: &FlowKey<A>) {
    let Some(settings) = tables.settings() else {
        return;
    };
    let place = Place::of(settings.hash_key, key);
    if let Some(set) = tables.untrusted_set(place.set(settings.untrusted_mask)) {
        set.clear(place);
    }
}

/// Whether the packet's flow (`scratch.key`) is among the untrusted; it is in `scratch.own` then. As in the
/// flow table, a flow whose time is over is not there, nor, to a SYN, one that has ended.
#[inline(always)]
pub(super) fn known<A: Family, T: Tables<A>>(
    tables: &T,
    scratch: &mut Scratch<A>,
    flags: u8,
    settings: &Settings,
    now: u64,
) -> bool {
    if !find(tables, &scratch.key, &mut scratch.own) {
        return false;
    }
    let protocol = scratch.key.protocol;
    let flow = FlowRef::over(&mut scratch.own.flow);
    if is_quiet(flow, protocol, settings, now) {
        scratch.other = flow.reply_key(protocol);
        if !is_live(tables, scratch, settings, now) {
            return false;
        }
    }
    let flow = FlowRef::over(&mut scratch.own.flow);
    let opens = flags & (tcp_flags::SYN | tcp_flags::ACK) == tcp_flags::SYN;
    !(opens && flow.state(protocol).has_ended())
}

/// Whether the other direction of the flow at hand, with the key `scratch.other`, was used lately; it comes to
/// `scratch.pair`.
///
/// `#[inline(never)]`: few packets ask.
#[inline(never)]
fn is_live<A: Family, T: Tables<A>>(
    tables: &T,
    scratch: &mut Scratch<A>,
    settings: &Settings,
    now: u64,
) -> bool {
    find(tables, &scratch.other, &mut scratch.pair)
        && FlowRef::over(&mut scratch.pair.flow).reply_key(scratch.other.protocol) == scratch.key
        && !is_over_alone(&mut scratch.pair, settings, now)
}

/// Whether the packet's flow (`scratch.key`) is among the untrusted and open, or may be. One that is over or has ended is
/// forgotten, so that another one can have its keys.
#[inline(always)]
pub(super) fn may_be_alive<A: Family, T: Tables<A>>(
    tables: &T,
    scratch: &mut Scratch<A>,
    settings: &Settings,
    now: u64,
) -> bool {
    match read(tables, &scratch.key, &mut scratch.own) {
        Entry::Absent => false,
        Entry::Busy => true,
        Entry::There => {
            let flow = FlowRef::over(&mut scratch.own.flow);
            let has_ended = flow.state(scratch.key.protocol).has_ended();
            scratch.other = flow.reply_key(scratch.key.protocol);
            let is_alive = !has_ended && !is_over_alone(&mut scratch.own, settings, now);
            if !is_alive {
                forget(tables, &scratch.key);
                forget(tables, &scratch.other);
            }
            is_alive
        }
    }
}

/// Whether this direction alone gives no proof of life.
#[inline(always)]
fn is_over_alone<A: Family>(entry: &mut Untrusted<A>, settings: &Settings, now: u64) -> bool {
    let protocol = entry.key.protocol;
    let flow = FlowRef::over(&mut entry.flow);
    let state = flow.state(protocol);
    let lifetime = lifetime(&settings.timeouts, protocol, state, flow.idle_timeout());
    is_over(now, flow.last_seen(), lifetime)
}

/// Who has a reply key, as a word that fits a register.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Owner {
    /// Nobody else.
    Free,
    /// Another flow, which is alive.
    Other,
    /// Another CPU is writing one of the entries that tell.
    Unclear,
}

/// Who has the reply key `scratch.other`, apart from the flow of `scratch.key`.
#[inline(always)]
pub(super) fn other_owner<A: Family, T: Tables<A>>(
    tables: &T,
    scratch: &mut Scratch<A>,
    settings: &Settings,
    now: u64,
) -> Owner {
    let Scratch {
        key,
        other,
        third,
        own,
        pair,
        ..
    } = scratch;
    match read(tables, other, pair) {
        Entry::Absent => return Owner::Free,
        Entry::Busy => return Owner::Unclear,
        Entry::There => {}
    }
    *third = FlowRef::over(&mut pair.flow).reply_key(key.protocol);
    if third == key {
        return Owner::Free;
    }
    if !is_over_alone(pair, settings, now) {
        return Owner::Other;
    }
    // A flow without answers lives by its requests.
    match read(tables, third, own) {
        Entry::Absent => return Owner::Free,
        Entry::Busy => return Owner::Unclear,
        Entry::There => {}
    }
    if FlowRef::over(&mut own.flow).reply_key(key.protocol) == *other
        && !is_over_alone(own, settings, now)
    {
        Owner::Other
    } else {
        Owner::Free
    }
}

/// What of a packet concerns its untrusted flow.
#[derive(Debug, Clone, Copy)]
pub struct News {
    /// TCP flags; 0 for UDP.
    pub flags: u32,
    /// Sequence number, host byte order.
    pub sequence: u32,
    /// Sequence number behind the packet, host byte order.
    pub end: u32,
    /// Acknowledgement number, host byte order.
    pub acknowledgement: u32,
}

impl News {
    /// The news in a packet whose content above IP has `payload` bytes, header included.
    #[inline(always)]
    pub(super) fn of(transport: &Transport<'_>, payload: u32) -> Self {
        let Transport::Tcp(tcp) = transport else {
            return Self {
                flags: 0,
                sequence: 0,
                end: 0,
                acknowledgement: 0,
            };
        };
        let flags = u32::from(tcp.flags.get());
        let sequence = u32::from_be(tcp.sequence.get());
        let header = u32::from(tcp.offset.get() >> 4) << 2;
        let content = payload.saturating_sub(header);
        let phantom = (flags >> 1 & 1) + (flags & 1);
        Self {
            flags,
            sequence,
            end: sequence.wrapping_add(content).wrapping_add(phantom),
            acknowledgement: u32::from_be(tcp.acknowledgement.get()),
        }
    }
}

/// Takes in what a packet that is on its way tells about its flow (`scratch.own`), and writes that back: as
/// a trusted flow if it has proven to be one, and there is room.
///
/// `pair_is_at_hand`: `scratch.pair` holds the other direction, new.
///
/// Reached by way of [`Tables::settle`].
#[inline(always)]
pub fn settle<A: Family, T: Tables<A>>(tables: &T, news: &News, pair_is_at_hand: bool) {
    // SAFETY: the caller has let go of it.
    let (Some(settings), Some(scratch)) = (tables.settings(), unsafe { tables.scratch() }) else {
        return;
    };
    let protocol = scratch.own.key.protocol;
    let own = FlowRef::over(&mut scratch.own.flow);
    let direction = FlowKind::direction(own.kind());
    let seen = match direction {
        Direction::ToInstance => own.seen_to_instance(),
        Direction::FromInstance => own.seen_from_instance(),
    };
    let events = Seen::of(protocol, news.flags as u8);
    let tells = u32::from(tcp_flags::SYN | tcp_flags::ACK);
    let speaks = direction == Direction::FromInstance && news.flags & tells != 0;
    let proves = is_proof(&scratch.own, direction, news);
    if !(pair_is_at_hand || speaks || proves || events.0 & !seen != 0) {
        keep(tables, &mut scratch.own);
        return;
    }
    if !pair_is_at_hand {
        scratch.other = own.reply_key(protocol);
        match read(tables, &scratch.other, &mut scratch.pair) {
            Entry::There => {}
            Entry::Absent if regain(tables, scratch, settings) => {}
            // Some flow has the reply key, or is about to; the next packet finds out.
            Entry::Absent | Entry::Busy => return,
        }
        let owner = FlowRef::over(&mut scratch.pair.flow).reply_key(protocol);
        if owner != scratch.own.key {
            // Another flow has got the reply key while the slot was somebody else's.
            forget(tables, &scratch.own.key);
            return;
        }
    }
    let now = tables.now();
    take_in(scratch, direction, events, news.sequence, now);
    if speaks {
        note_sent(&mut scratch.pair, news);
    }
    if proves && is_two_way(scratch) && tables.occupied() < u64::from(settings.promote_below) {
        let claim = Claim { settings, now };
        let Scratch {
            own, pair, other, ..
        } = scratch;
        let (forward, reply) = match direction {
            Direction::ToInstance => (own, pair),
            Direction::FromInstance => (pair, own),
        };
        // Whoever finds one of the two entries without the other would take the flow for one that is over.
        let number = lock_of(settings, &reply.key);
        let mut claimed = Claimed::Ending;
        if tables.lock(number) {
            claimed = claim.take(tables, forward, reply, other);
            tables.unlock(number);
        }
        if matches!(claimed, Claimed::New | Claimed::Known | Claimed::Reopened) {
            forget(tables, &scratch.own.key);
            forget(tables, &scratch.pair.key);
            return;
        }
    }
    keep(tables, &mut scratch.own);
    keep(tables, &mut scratch.pair);
}

/// Whether a packet may prove that both sides talk: a client that acknowledges what only the instance can have
/// told it, or a UDP packet that is not among the first.
#[inline(always)]
fn is_proof<A: Family>(own: &Untrusted<A>, direction: Direction, news: &News) -> bool {
    if own.key.protocol != u32::from(TCP) {
        return own.flow.packets >= UDP_PROOF;
    }
    let heard = news.acknowledgement.wrapping_sub(own.sent_from);
    direction == Direction::ToInstance
        && news.flags & u32::from(tcp_flags::ACK) != 0
        && own.flow.seen_from_instance != 0
        && heard <= own.sent_to.wrapping_sub(own.sent_from)
}

/// Whether the other direction has said as much, and the flow has not ended.
#[inline(always)]
fn is_two_way<A: Family>(scratch: &mut Scratch<A>) -> bool {
    let protocol = scratch.own.key.protocol;
    let is_answered = protocol == u32::from(TCP) || scratch.pair.flow.packets >= UDP_PROOF;
    is_answered && !scratch.own.flow.state(protocol).has_ended()
}

/// Adds events to both directions, and the time of the flow's end when they end it.
#[inline(always)]
fn take_in<A: Family>(
    scratch: &mut Scratch<A>,
    direction: Direction,
    events: Seen,
    sequence: u32,
    now: u64,
) {
    let protocol = scratch.own.key.protocol;
    let own = FlowRef::over(&mut scratch.own.flow);
    let pair = FlowRef::over(&mut scratch.pair.flow);
    let mut events = events;
    if events.any(Seen::RST) && !reset_is_believable(pair, sequence) {
        events = Seen(events.0 & !Seen::RST.0);
    }
    let before = own.state(protocol);
    add_events(own, direction, events);
    add_events(pair, direction, events);
    let after = own.state(protocol);
    if after.has_ended() && after != before {
        own.set_last_seen(now);
        pair.set_last_seen(now);
    }
}

/// Keeps in the client's direction what the instance has just sent. A SYN begins anew.
#[inline(always)]
fn note_sent<A: Family>(client: &mut Untrusted<A>, news: &News) {
    let is_begin = news.flags & u32::from(tcp_flags::SYN) != 0
        || (client.sent_from == 0 && client.sent_to == 0);
    if is_begin {
        client.sent_from = if news.flags & u32::from(tcp_flags::SYN) != 0 {
            news.end
        } else {
            news.sequence
        };
        client.sent_to = news.end;
        return;
    }
    if (news.end.wrapping_sub(client.sent_to) as i32) > 0 {
        client.sent_to = news.end;
    }
    if client.sent_to.wrapping_sub(client.sent_from) > WINDOW {
        client.sent_from = client.sent_to.wrapping_sub(WINDOW);
    }
}

/// Takes the reply key `scratch.other` again, whose slot went to somebody else meanwhile. If a trusted flow has it by
/// now, this one, perhaps the same, is forgotten; false then, and when other CPUs are at it.
#[inline(always)]
fn regain<A: Family, T: Tables<A>>(
    tables: &T,
    scratch: &mut Scratch<A>,
    settings: &Settings,
) -> bool {
    let number = lock_of(settings, &scratch.other);
    if !tables.lock(number) {
        return false;
    }
    let is_taken = tables.flow(&scratch.other).is_some() || tables.former(&scratch.other).is_some();
    let is_free = !is_taken && read(tables, &scratch.other, &mut scratch.pair) == Entry::Absent;
    if is_taken {
        forget(tables, &scratch.own.key);
    } else if is_free {
        rebuild(scratch);
        keep(tables, &mut scratch.pair);
    }
    tables.unlock(number);
    is_free
}

/// Makes the other direction from the one at hand.
#[inline(always)]
fn rebuild<A: Family>(scratch: &mut Scratch<A>) {
    scratch.pair.key = scratch.other;
    let own = &scratch.own;
    let (idle_timeout, rule) = (own.flow.idle_timeout, own.flow.rule);
    let (kind, to, from) = (
        own.flow.kind,
        own.flow.seen_to_instance,
        own.flow.seen_from_instance,
    );
    let last_seen = own.flow.last_seen;
    let translated = own.key.reversed();
    begin(&mut scratch.pair, &translated, FlowKind::other_way(kind));
    let pair = FlowRef::over(&mut scratch.pair.flow);
    pair.set_fixed(idle_timeout, rule);
    pair.set_seen_to_instance(to);
    pair.set_seen_from_instance(from);
    pair.set_last_seen(last_seen);
}

/// Clears an entry that has its key but for what packets with that key become.
#[inline(always)]
pub(super) fn begin<A: Family>(entry: &mut Untrusted<A>, translated: &FlowKey<A>, kind: u8) {
    entry.flow.source = translated.source;
    entry.flow.destination = translated.destination;
    entry.flow.ports = translated.ports;
    entry.flow.kind = kind;
    entry.sent_from = 0;
    entry.sent_to = 0;
    let flow = FlowRef::over(&mut entry.flow);
    flow.set_packets(0);
    flow.set_bytes(0);
    flow.set_hop_head(0);
    flow.set_hop_tail(0);
    flow.set_hop_slot(0);
    flow.set_hop_stamp(0);
    flow.set_last_ack(0);
    flow.set_marks(0);
}

/// Ends an untrusted flow, both directions of it, by one of its keys; false if there is none.
#[inline(always)]
pub fn forget_both<A: Family, T: Tables<A>>(tables: &T, key: &FlowKey<A>) -> bool {
    // SAFETY: the only place of this program that takes the scratch space.
    let Some(scratch) = (unsafe { tables.scratch() }) else {
        return false;
    };
    if !find(tables, key, &mut scratch.own) {
        return false;
    }
    scratch.other = FlowRef::over(&mut scratch.own.flow).reply_key(key.protocol);
    forget(tables, &scratch.other);
    forget(tables, key);
    true
}
