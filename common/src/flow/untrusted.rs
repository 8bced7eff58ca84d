//! Flows that have not proven themselves: a table of fixed size in which the newest always find room.
//!
//! Anybody can make first packets, so what they leave behind must not crowd out anything. A key has its
//! place in one set of [`WAYS`] slots, of which the one used longest ago is overwritten. Nobody locks: an
//! entry is copied out and back in whole, with a tag over all of it. One of which the tag is wrong is being
//! written by another CPU, or was by two at once, and then is not there.

use core::marker::PhantomData;
use core::ptr::NonNull;

use super::entry::{Flow, FlowKey};
use crate::family::{Family, V4, V6};

/// Slots of a set.
pub const WAYS: usize = 8;

/// The last slot; also the bits of a slot's number.
const LAST: u32 = WAYS as u32 - 1;

/// How long after its write began an entry with a wrong tag may still be in another CPU's hands, jiffies.
const WRITING: u32 = 64;

/// What is found at a key's place, as a word that fits a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Entry {
    /// Nothing, or what two CPUs left that wrote at once.
    Absent = 0,
    /// Another CPU is writing it.
    Busy = 1,
    /// The key's entry.
    There = 2,
}

/// One direction of an untrusted flow.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Untrusted<A> {
    /// Sum over all that follows; anything else: nothing is here.
    pub tag: u64,
    /// The key.
    pub key: FlowKey<A>,
    /// What its packets become.
    pub flow: Flow<A>,
    /// The least TCP acknowledgement that proves that the client hears the instance; host byte order.
    pub sent_from: u32,
    /// The greatest one, where the instance's last segment ended; host byte order.
    pub sent_to: u32,
}

/// The slots that a key may be in.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct UntrustedSet<A> {
    /// Part of the hash of each slot's key; 0: free.
    pub signatures: [u32; WAYS],
    /// When each slot was last written, low word of jiffies.
    pub stamps: [u32; WAYS],
    /// The entries.
    pub slots: [Untrusted<A>; WAYS],
}

const _: () = assert!(size_of::<Untrusted<V4>>() == 96);
const _: () = assert!(size_of::<Untrusted<V6>>() == 144);
const _: () = assert!(size_of::<UntrustedSet<V4>>() == 832);
const _: () = assert!(size_of::<UntrustedSet<V6>>() == 1216);

const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Where a key belongs, and what its slot is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    hash: u64,
}

impl Place {
    /// The place of a key, under the key of the flow hash: whoever does not know that cannot aim at a set.
    #[inline(always)]
    pub fn of<A: Family>(hash_key: [u64; 2], key: &FlowKey<A>) -> Self {
        let mut hash = hash_key[0];
        for address in [key.source, key.destination] {
            let (low, high) = address.words();
            hash = mix(hash, low);
            if let Some(high) = high {
                hash = mix(hash, high);
            }
        }
        hash = mix(hash, u64::from(key.ports) << 32 | u64::from(key.protocol));
        Self {
            hash: mix(hash, hash_key[1]),
        }
    }

    /// The place of something that one word names.
    #[inline(always)]
    pub fn of_word(hash_key: [u64; 2], word: u64) -> Self {
        Self {
            hash: mix(mix(hash_key[0], word), hash_key[1]),
        }
    }

    /// Number of its set, in a table of `mask + 1` sets.
    #[inline(always)]
    pub fn set(self, mask: u32) -> u32 {
        self.hash as u32 & mask
    }

    /// What it is known by; not 0.
    #[inline(always)]
    pub fn signature(self) -> u32 {
        (self.hash >> 32) as u32 | 1
    }
}

/// Sum over the words of an entry, which tells whether they belong together: two halves, so that one multiplication
/// need not wait for the other.
#[derive(Clone, Copy)]
struct Sum {
    even: u64,
    odd: u64,
}

impl Sum {
    const NONE: Self = Self { even: 1, odd: 2 };

    #[inline(always)]
    fn with(self, word: usize, value: u64) -> Self {
        if word & 1 == 0 {
            Self {
                even: (self.even ^ value).wrapping_mul(ODD),
                ..self
            }
        } else {
            Self {
                odd: (self.odd ^ value).wrapping_mul(ODD),
                ..self
            }
        }
    }

    #[inline(always)]
    fn tag(self) -> u64 {
        self.even.wrapping_add(self.odd.rotate_left(32))
    }
}

/// A slot's number, by way of a word of memory.
///
/// VERIFIER: it knows the number that a search ended with, and would follow all that comes after once for each.
/// What it reads from a map it does not know.
#[inline(always)]
fn anyone(slot: u32, word: &mut u64) -> u32 {
    let word = &raw mut *word;
    // SAFETY: a word that is borrowed for this.
    unsafe {
        word.write_volatile(u64::from(slot));
        word.read_volatile() as u32
    }
}

#[inline(always)]
fn mix(hash: u64, word: u64) -> u64 {
    let hash = (hash ^ word).wrapping_mul(ODD);
    hash ^ hash >> 32
}

/// A set in its table, which other CPUs read and write at the same time. Every access is one word,
/// volatile.
pub struct SetRef<'t, A> {
    set: NonNull<UntrustedSet<A>>,
    table: PhantomData<&'t UntrustedSet<A>>,
}

impl<A> Clone for SetRef<'_, A> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<A> Copy for SetRef<'_, A> {}

impl<A: Family> SetRef<'_, A> {
    /// Words of an entry, the tag included.
    const WORDS: usize = size_of::<Untrusted<A>>() / size_of::<u64>();

    /// Takes hold of a set.
    ///
    /// # Safety
    /// `set` is valid for reads and writes for the lifetime, and until then it is reached through
    /// `SetRef`s only. Writes of other CPUs may interleave word by word.
    #[inline(always)]
    pub unsafe fn new(set: NonNull<UntrustedSet<A>>) -> Self {
        Self {
            set,
            table: PhantomData,
        }
    }

    /// The slot that holds a key, or one that looks like it.
    #[inline(always)]
    fn find(self, place: Place) -> Option<u32> {
        let set = self.set.as_ptr();
        let mut slot = 0;
        while slot < WAYS {
            // SAFETY: `new` promises a valid set; the slot is one of it.
            let signature = unsafe { (&raw const (*set).signatures[slot]).read_volatile() };
            if signature == place.signature() {
                return Some(slot as u32);
            }
            slot += 1;
        }
        None
    }

    /// The slot of a key, or else the one to be overwritten.
    #[inline(always)]
    fn locate(self, place: Place, now: u32) -> u32 {
        if let Some(slot) = self.find(place) {
            return slot;
        }
        let set = self.set.as_ptr();
        let (mut slot, mut oldest) = (0, 0);
        while slot < WAYS {
            // SAFETY: `new` promises a valid set; the slot is one of it.
            let signature = unsafe { (&raw const (*set).signatures[slot]).read_volatile() };
            let age = if signature == 0 {
                u32::MAX
            } else {
                now.wrapping_sub(self.stamp(slot as u32))
            };
            let candidate = u64::from(age) << 3 | slot as u64;
            if candidate > oldest {
                oldest = candidate;
            }
            slot += 1;
        }
        oldest as u32 & LAST
    }

    #[inline(always)]
    fn words(self, slot: u32) -> *mut u64 {
        let slot = (slot & LAST) as usize;
        // SAFETY: `new` promises a valid set; the mask keeps within its slots.
        unsafe {
            (&raw mut (*self.set.as_ptr()).slots)
                .cast::<Untrusted<A>>()
                .add(slot)
        }
        .cast()
    }

    /// Copies the entry of a key; `into` holds nothing of use if it is not there. `now` is the low word of
    /// jiffies.
    #[inline(always)]
    pub fn load(self, place: Place, key: &FlowKey<A>, into: &mut Untrusted<A>, now: u32) -> Entry {
        let Some(slot) = self.find(place) else {
            return Entry::Absent;
        };
        let slot = anyone(slot, &mut into.tag);
        let (from, to) = (self.words(slot), (&raw mut *into).cast::<u64>());
        let (mut word, mut sum) = (1, Sum::NONE);
        // SAFETY: both are entries of so many aligned words, without padding.
        let tag = unsafe { from.read_volatile() };
        while word < Self::WORDS {
            // SAFETY: as above.
            let value = unsafe {
                let value = from.add(word).read_volatile();
                to.add(word).write_volatile(value);
                value
            };
            sum = sum.with(word, value);
            word += 1;
        }
        if tag != sum.tag() {
            return if now.wrapping_sub(self.stamp(slot)) <= WRITING {
                Entry::Busy
            } else {
                Entry::Absent
            };
        }
        if into.key == *key {
            Entry::There
        } else {
            Entry::Absent
        }
    }

    /// When a slot was last written.
    #[inline(always)]
    fn stamp(self, slot: u32) -> u32 {
        let set = self.set.as_ptr();
        // SAFETY: `new` promises a valid set; the mask keeps within its stamps.
        unsafe {
            (&raw const (*set).stamps)
                .cast::<u32>()
                .add((slot & LAST) as usize)
                .read_volatile()
        }
    }

    /// Writes an entry to the slot of its key, or else over the one that was written longest ago. `now` is
    /// the low word of jiffies; it is written first, for whoever finds the entry half written. The entry's own tag
    /// is not looked at, and of no use afterwards.
    #[inline(always)]
    pub fn store(self, place: Place, entry: &mut Untrusted<A>, now: u32) {
        let slot = anyone(self.locate(place, now), &mut entry.tag);
        let index = (slot & LAST) as usize;
        let set = self.set.as_ptr();
        // SAFETY: the index is within the set by the mask.
        unsafe {
            (&raw mut (*set).stamps)
                .cast::<u32>()
                .add(index)
                .write_volatile(now);
        }
        let (from, to) = ((&raw const *entry).cast::<u64>(), self.words(slot));
        let (mut word, mut sum) = (1, Sum::NONE);
        while word < Self::WORDS {
            // SAFETY: both are entries of so many aligned words, without padding.
            let value = unsafe {
                let value = from.add(word).read_volatile();
                to.add(word).write_volatile(value);
                value
            };
            sum = sum.with(word, value);
            word += 1;
        }
        // SAFETY: the words are of the slot; index and slot are within the set by the mask.
        unsafe {
            to.write_volatile(sum.tag());
            let signatures = (&raw mut (*set).signatures).cast::<u32>();
            signatures.add(index).write_volatile(place.signature());
        }
    }

    /// Frees the slot of a key, if it has one.
    #[inline(always)]
    pub fn clear(self, place: Place) {
        let Some(slot) = self.find(place) else {
            return;
        };
        let index = (slot & LAST) as usize;
        // SAFETY: index is within the set by the mask.
        unsafe {
            let signatures = (&raw mut (*self.set.as_ptr()).signatures).cast::<u32>();
            signatures.add(index).write_volatile(0);
        }
    }
}

impl<A: Family> UntrustedSet<A> {
    /// The entries of a set that was copied out of its table.
    #[cfg(feature = "user")]
    pub fn entries(&self) -> impl Iterator<Item = &Untrusted<A>> {
        let used = self.signatures.iter().zip(&self.slots);
        used.filter(|(signature, entry)| **signature != 0 && entry.tag == entry.sum())
            .map(|(_, entry)| entry)
    }
}

impl<A: Family> Untrusted<A> {
    /// What the tag must be.
    #[cfg(feature = "user")]
    fn sum(&self) -> u64 {
        let words = (&raw const *self).cast::<u64>();
        let mut sum = Sum::NONE;
        for word in 1..SetRef::<A>::WORDS {
            // SAFETY: an entry is so many aligned words, without padding.
            let value = unsafe { words.add(word).read() };
            sum = sum.with(word, value);
        }
        sum.tag()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::UnsafeCell;

    use super::*;

    const HASH_KEY: [u64; 2] = [1, 2];

    struct Table(UnsafeCell<UntrustedSet<V4>>);

    impl Table {
        fn new() -> Self {
            Self(UnsafeCell::default())
        }

        fn set(&self) -> SetRef<'_, V4> {
            // SAFETY: one thread, and the set is reached through `SetRef`s and copies only.
            unsafe { SetRef::new(NonNull::new(self.0.get()).unwrap()) }
        }

        fn copy(&self) -> UntrustedSet<V4> {
            // SAFETY: as above.
            unsafe { *self.0.get() }
        }

        fn put(&self, number: u32, now: u32) {
            let mut entry = entry(number);
            self.set().store(place(&entry.key), &mut entry, now);
        }

        fn has(&self, number: u32) -> bool {
            let wanted = entry(number);
            let mut found = Untrusted::default();
            let entry = self.load(number, &mut found, u32::MAX / 2);
            assert!(entry != Entry::There || found.flow == wanted.flow);
            entry == Entry::There
        }

        fn load(&self, number: u32, into: &mut Untrusted<V4>, now: u32) -> Entry {
            let key = entry(number).key;
            self.set().load(place(&key), &key, into, now)
        }
    }

    fn place(key: &FlowKey<V4>) -> Place {
        Place::of(HASH_KEY, key)
    }

    fn entry(number: u32) -> Untrusted<V4> {
        let key = FlowKey {
            source: V4(number),
            destination: V4(7),
            ports: 9,
            protocol: 6,
        };
        let flow = Flow {
            source: V4(number),
            packets: u64::from(number),
            ..Flow::default()
        };
        Untrusted {
            key,
            flow,
            ..Untrusted::default()
        }
    }

    #[test]
    fn what_was_stored_is_found_until_it_is_cleared() {
        let table = Table::new();
        assert!(!table.has(1));
        table.put(1, 5);
        assert!(table.has(1));
        assert!(!table.has(2));
        table.set().clear(place(&entry(1).key));
        assert!(!table.has(1));
    }

    #[test]
    fn an_entry_is_stored_in_one_slot_however_often() {
        let table = Table::new();
        for now in 0..20 {
            table.put(1, now);
        }
        assert_eq!(table.copy().entries().count(), 1);
    }

    #[test]
    fn the_entry_written_longest_ago_gives_way() {
        // The clock's low word wraps meanwhile.
        let begin = u32::MAX - 3;
        let table = Table::new();
        for number in 0..WAYS as u32 {
            table.put(number, begin.wrapping_add(number));
        }
        table.put(0, begin.wrapping_add(8));
        table.put(100, begin.wrapping_add(9));
        assert!(table.has(0) && table.has(100));
        assert!(!table.has(1), "it was the oldest");
        assert!((2..WAYS as u32).all(|number| table.has(number)));
    }

    #[test]
    fn a_torn_entry_is_busy_while_it_may_be_written_and_then_not_there() {
        let table = Table::new();
        table.put(1, 5);
        let words = size_of::<Untrusted<V4>>() / 8;
        let slot = table
            .copy()
            .signatures
            .iter()
            .position(|s| *s != 0)
            .unwrap();
        for word in 0..words {
            let at = table.set().words(slot as u32);
            // SAFETY: a word of the slot.
            unsafe {
                let value = at.add(word).read();
                at.add(word).write(value ^ 1 << (word % 64));
                let mut into = Untrusted::default();
                assert_eq!(table.load(1, &mut into, 5), Entry::Busy, "word {word}");
                assert_eq!(table.load(1, &mut into, 5 + WRITING), Entry::Busy);
                assert_eq!(table.load(1, &mut into, 6 + WRITING), Entry::Absent);
                at.add(word).write(value);
            }
            assert!(table.has(1));
        }
    }
}
