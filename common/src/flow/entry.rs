//! The flow table's key and value.

use core::marker::PhantomData;
use core::ptr::NonNull;

use super::state::{FlowState, Seen, state_of};
use crate::family::Family;
use crate::wire::Mac;

/// The 5-tuple of a packet. Two keys find one flow: the one its opener's packets have and the one
/// their answers have.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct FlowKey<A> {
    /// Source address, raw.
    pub source: A,
    /// Destination address, raw.
    pub destination: A,
    /// Source and destination port as the word that stands in the header.
    pub ports: u32,
    /// Protocol number.
    pub protocol: u32,
}

/// Source and destination port exchanged.
#[inline(always)]
fn swapped(ports: u32) -> u32 {
    ports.rotate_left(16)
}

impl<A: Family> FlowKey<A> {
    /// The key of an answer to a packet with this key.
    #[inline(always)]
    pub fn reversed(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            ports: swapped(self.ports),
            protocol: self.protocol,
        }
    }

    /// Source port, host byte order.
    #[inline(always)]
    pub fn source_port(&self) -> u16 {
        let bytes = self.ports.to_ne_bytes();
        u16::from_be_bytes([bytes[0], bytes[1]])
    }

    /// Destination port, host byte order.
    #[inline(always)]
    pub fn destination_port(&self) -> u16 {
        let bytes = self.ports.to_ne_bytes();
        u16::from_be_bytes([bytes[2], bytes[3]])
    }

    /// The ports word for two ports in host byte order.
    #[inline(always)]
    pub fn ports_word(source: u16, destination: u16) -> u32 {
        let (s, d) = (source.to_be_bytes(), destination.to_be_bytes());
        u32::from_ne_bytes([s[0], s[1], d[0], d[1]])
    }
}

/// Where a translated packet goes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hop {
    /// MAC address of the next hop.
    pub mac: Mac,
    /// Slot of the interface it is reached by; 0: unknown.
    pub slot: u16,
    /// Whether the route there has a smaller MTU than the interface.
    pub is_narrow: bool,
}

impl Hop {
    /// In [`Flow::hop_slot`]: the route has a smaller MTU than the interface.
    pub const NARROW: u16 = 0x8000;
}

/// What one direction of a flow becomes. Each flow has two, one under each key; every packet writes
/// only the one it met, and what both must know (`seen`, `marks`) is written to both when it changes.
///
/// Tables hold it in place, so fields that change are reached through [`FlowRef`] there.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flow<A> {
    /// Source address after translation.
    pub source: A,
    /// Destination address after translation.
    pub destination: A,
    /// Ports after translation, as in the header.
    pub ports: u32,
    /// Idle timeout of the established flow, jiffies.
    pub idle_timeout: u32,
    /// When this direction was last used, or when the flow ended; jiffies.
    pub last_seen: u64,
    /// Packets of this direction.
    pub packets: u64,
    /// Bytes of this direction, IP header and payload.
    pub bytes: u64,
    /// First four octets of the next hop's MAC address.
    pub hop_head: u32,
    /// Last two octets of the next hop's MAC address.
    pub hop_tail: u16,
    /// Slot of the interface the next hop is reached by, and whether the route there is narrow; 0: unknown.
    pub hop_slot: u16,
    /// When the next hop was looked up, low word of jiffies.
    pub hop_stamp: u32,
    /// Last TCP acknowledgement number of this direction, raw.
    pub last_ack: u32,
    /// Id of the rule that made the flow.
    pub rule: u32,
    /// What was seen of packets towards the instance.
    pub seen_to_instance: u8,
    /// What was seen of packets from the instance.
    pub seen_from_instance: u8,
    /// [`super::FlowKind`] and [`super::Direction`] of this entry.
    pub kind: u8,
    /// [`super::marks`].
    pub marks: u8,
}

const _: () = assert!(size_of::<FlowKey<crate::family::V4>>() == 16);
const _: () = assert!(size_of::<FlowKey<crate::family::V6>>() == 40);
const _: () = assert!(size_of::<Flow<crate::family::V4>>() == 64);
const _: () = assert!(core::mem::offset_of!(Flow<crate::family::V4>, hop_head) == 40);
const _: () = assert!(core::mem::offset_of!(Flow<crate::family::V6>, hop_head) == 64);
const _: () = assert!(size_of::<Flow<crate::family::V6>>() == 88);

impl<A: Family> Flow<A> {
    /// The key under which the other direction of this flow is found.
    #[inline(always)]
    pub fn reply_key(&self, protocol: u32) -> FlowKey<A> {
        FlowKey {
            source: self.destination,
            destination: self.source,
            ports: swapped(self.ports),
            protocol,
        }
    }

    /// State of the flow.
    #[inline(always)]
    pub fn state(&self, protocol: u32) -> FlowState {
        state_of(
            protocol,
            Seen(self.seen_to_instance),
            Seen(self.seen_from_instance),
        )
    }
}

/// A flow entry in its table, which other CPUs read and write at the same time.
///
/// Every access is one word, volatile, so that no value is read twice or invented by the compiler.
pub struct FlowRef<'t, A> {
    entry: NonNull<Flow<A>>,
    table: PhantomData<&'t Flow<A>>,
}

impl<A> Clone for FlowRef<'_, A> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<A> Copy for FlowRef<'_, A> {}

macro_rules! word {
    ($get:ident, $set:ident, $field:ident, $type:ty) => {
        #[doc = concat!("Reads `", stringify!($field), "`.")]
        #[inline(always)]
        pub fn $get(self) -> $type {
            // SAFETY: `new` promises a valid entry; the field is aligned because the struct is.
            unsafe { (&raw const (*self.entry.as_ptr()).$field).read_volatile() }
        }

        #[doc = concat!("Writes `", stringify!($field), "`.")]
        #[inline(always)]
        pub fn $set(self, value: $type) {
            // SAFETY: as for reading.
            unsafe { (&raw mut (*self.entry.as_ptr()).$field).write_volatile(value) }
        }
    };
}

impl<A: Family> FlowRef<'_, A> {
    /// Takes hold of an entry.
    ///
    /// # Safety
    /// `entry` is valid for reads and writes for the lifetime, and until then it is reached through
    /// `FlowRef`s only. Writes of other CPUs may interleave word by word.
    #[inline(always)]
    pub unsafe fn new(entry: NonNull<Flow<A>>) -> Self {
        Self {
            entry,
            table: PhantomData,
        }
    }

    /// The entry.
    #[inline(always)]
    pub fn entry(self) -> NonNull<Flow<A>> {
        self.entry
    }

    /// Takes hold of an entry that is in no table yet.
    ///
    /// Writing through it, field by field, is what keeps the compiler from calling a function that zeroes
    /// byte by byte.
    #[inline(always)]
    pub fn over(flow: &mut Flow<A>) -> Self {
        Self {
            entry: NonNull::from(flow),
            table: PhantomData,
        }
    }

    /// Sets the ports of an entry that is in no table.
    #[inline(always)]
    pub fn set_ports(self, ports: u32) {
        // SAFETY: `new` and `over` promise a valid entry.
        unsafe { (&raw mut (*self.entry.as_ptr()).ports).write_volatile(ports) };
    }

    /// Sets timeout and rule of an entry that is in no table yet.
    #[inline(always)]
    pub fn set_fixed(self, idle_timeout: u32, rule: u32) {
        let entry = self.entry.as_ptr();
        // SAFETY: `new` and `over` promise a valid entry.
        unsafe {
            (&raw mut (*entry).idle_timeout).write_volatile(idle_timeout);
            (&raw mut (*entry).rule).write_volatile(rule);
        }
    }

    /// The entry's fixed part: translation, timeout, rule and kind do not change while it is in the table.
    #[inline(always)]
    fn fixed<T: Copy>(self, field: impl FnOnce(&Flow<A>) -> *const T) -> T {
        // SAFETY: `new` promises a valid entry; the pointer is to one of its fields.
        unsafe { *field(self.entry.as_ref()) }
    }

    /// Source address after translation.
    #[inline(always)]
    pub fn source(self) -> A {
        self.fixed(|flow| &raw const flow.source)
    }

    /// Destination address after translation.
    #[inline(always)]
    pub fn destination(self) -> A {
        self.fixed(|flow| &raw const flow.destination)
    }

    /// Ports after translation.
    #[inline(always)]
    pub fn ports(self) -> u32 {
        self.fixed(|flow| &raw const flow.ports)
    }

    /// Idle timeout, jiffies.
    #[inline(always)]
    pub fn idle_timeout(self) -> u32 {
        self.fixed(|flow| &raw const flow.idle_timeout)
    }

    /// Id of the rule.
    #[inline(always)]
    pub fn rule(self) -> u32 {
        self.fixed(|flow| &raw const flow.rule)
    }

    /// Kind and direction.
    #[inline(always)]
    pub fn kind(self) -> u8 {
        self.fixed(|flow| &raw const flow.kind)
    }

    /// The key under which the other direction is found.
    #[inline(always)]
    pub fn reply_key(self, protocol: u32) -> FlowKey<A> {
        FlowKey {
            source: self.destination(),
            destination: self.source(),
            ports: swapped(self.ports()),
            protocol,
        }
    }

    /// State of the flow.
    #[inline(always)]
    pub fn state(self, protocol: u32) -> FlowState {
        state_of(
            protocol,
            Seen(self.seen_to_instance()),
            Seen(self.seen_from_instance()),
        )
    }

    /// Counts a packet of `bytes` bytes.
    #[inline(always)]
    pub fn count(self, bytes: u32) {
        self.set_packets(self.packets().wrapping_add(1));
        self.set_bytes(self.bytes().wrapping_add(u64::from(bytes)));
    }

    /// The next hop as last looked up. One load: MAC address and slot are always of one lookup.
    #[inline(always)]
    pub fn hop(self) -> Hop {
        // SAFETY: `new` promises a valid entry; the three fields are eight aligned bytes, asserted below.
        let word = unsafe { self.hop_word().read_volatile() }.to_ne_bytes();
        let [a, b, c, d, e, f, g, h] = word;
        let slot = u16::from_ne_bytes([g, h]);
        Hop {
            mac: Mac {
                head: u32::from_ne_bytes([a, b, c, d]),
                tail: u16::from_ne_bytes([e, f]),
            },
            slot: slot & !Hop::NARROW,
            is_narrow: slot & Hop::NARROW != 0,
        }
    }

    /// Keeps a next hop that was looked up at `stamp`.
    #[inline(always)]
    pub fn set_hop(self, hop: Hop, stamp: u32) {
        let narrow = if hop.is_narrow { Hop::NARROW } else { 0 };
        let [a, b, c, d] = hop.mac.head.to_ne_bytes();
        let [e, f] = hop.mac.tail.to_ne_bytes();
        let [g, h] = (hop.slot | narrow).to_ne_bytes();
        let word = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
        // SAFETY: as for reading.
        unsafe { self.hop_word().write_volatile(word) };
        self.set_hop_stamp(stamp);
    }

    /// The next hop as one word.
    #[inline(always)]
    pub fn hop_bits(self) -> u64 {
        // SAFETY: as for `hop`.
        unsafe { self.hop_word().read_volatile() }
    }

    /// Keeps a next hop that was read as one word.
    #[inline(always)]
    pub fn set_hop_bits(self, bits: u64, stamp: u32) {
        // SAFETY: as for `hop`.
        unsafe { self.hop_word().write_volatile(bits) };
        self.set_hop_stamp(stamp);
    }

    #[inline(always)]
    fn hop_word(self) -> *mut u64 {
        // SAFETY: `new` promises a valid entry.
        unsafe { (&raw mut (*self.entry.as_ptr()).hop_head).cast() }
    }

    word!(last_seen, set_last_seen, last_seen, u64);
    word!(packets, set_packets, packets, u64);
    word!(bytes, set_bytes, bytes, u64);
    word!(hop_head, set_hop_head, hop_head, u32);
    word!(hop_tail, set_hop_tail, hop_tail, u16);
    word!(hop_slot, set_hop_slot, hop_slot, u16);
    word!(hop_stamp, set_hop_stamp, hop_stamp, u32);
    word!(last_ack, set_last_ack, last_ack, u32);
    word!(seen_to_instance, set_seen_to_instance, seen_to_instance, u8);
    word!(
        seen_from_instance,
        set_seen_from_instance,
        seen_from_instance,
        u8
    );
    word!(marks, set_marks, marks, u8);
}
