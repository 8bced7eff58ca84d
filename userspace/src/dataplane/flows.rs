//! The flow tables: reading them in batches, and ending flows.

use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use forebay_common::abi::{RETIRE_BATCH, RetireBatch, Settings};
use forebay_common::family::{Family, V4, V6};
use forebay_common::flow::{Flow, FlowKey, Place, UntrustedSet};

pub use super::sys::Cursor;
use super::sys::{self, Plain};
use crate::control_plane::{
    Census, End, Judgement, Reset, Sizes, is_told, judge, may_wait, resets,
};

/// Entries that one system call reads.
const PAGE: usize = 4096;

/// Sets of untrusted flows that one system call reads.
const SETS: usize = 256;

/// What the kernel needs to know of a family's flows.
pub trait FlowFamily: Family + Ord + Into<IpAddr> + Plain {}
impl FlowFamily for V4 {}
impl FlowFamily for V6 {}

/// The flow table of one family.
pub struct FlowTable<A> {
    pub(super) map: OwnedFd,
    /// The table that flows still move from.
    pub(super) former: Option<OwnedFd>,
    pub(super) retire_map: OwnedFd,
    pub(super) retire_program: OwnedFd,
    /// Held by whoever runs the retire program: its batch is in a map.
    pub(super) retiring: Mutex<()>,
    /// Entries that fit: two for each flow.
    pub entries: u32,
    pub(super) untrusted: OwnedFd,
    /// Sets of untrusted flows.
    pub untrusted_sets: u32,
    pub(super) family: std::marker::PhantomData<A>,
}

/// Both flow tables.
pub struct Flows {
    /// IPv4.
    pub v4: FlowTable<V4>,
    /// IPv6.
    pub v6: FlowTable<V6>,
}

impl Flows {
    /// Counts all flows; `settings` and `now` (jiffies) tell which untrusted ones are over.
    ///
    /// # Errors
    /// The tables cannot be read.
    pub fn census(&self, settings: &Settings, now: u64) -> Result<Census> {
        let mut census = self.census_of_untrusted(settings, now)?;
        self.v4.visit(|key, flow| {
            census.add(key, flow);
            true
        })?;
        self.v6.visit(|key, flow| {
            census.add(key, flow);
            true
        })?;
        Ok(census)
    }

    /// Entries of both flow tables, IPv4 and IPv6.
    ///
    /// # Errors
    /// The tables cannot be read.
    pub fn entries(&self) -> Result<[u64; 2]> {
        let mut entries = [0; 2];
        self.v4.visit(|_, _| {
            entries[0] += 1;
            true
        })?;
        self.v6.visit(|_, _| {
            entries[1] += 1;
            true
        })?;
        Ok(entries)
    }

    /// Sizes of the tables.
    pub fn sizes(&self) -> Sizes {
        Sizes {
            entries: self.v4.entries,
            untrusted_sets: self.v4.untrusted_sets,
        }
    }

    /// Counts untrusted flows whose time is not over.
    ///
    /// # Errors
    /// The tables cannot be read.
    pub fn census_of_untrusted(&self, settings: &Settings, now: u64) -> Result<Census> {
        let mut census = Census::default();
        self.v4.count_untrusted(settings, now, &mut census)?;
        self.v6.count_untrusted(settings, now, &mut census)?;
        Ok(census)
    }

    /// Bytes of the tables of untrusted flows.
    pub fn untrusted_bytes(&self) -> usize {
        let v4 = self.v4.untrusted_sets as usize * size_of::<UntrustedSet<V4>>();
        v4 + self.v6.untrusted_sets as usize * size_of::<UntrustedSet<V6>>()
    }
}

/// Flows of a family that may be told of their end by a RST in one pass: with two passes a second, 40,000
/// packets a second.
const TOLD_A_PASS: usize = 10_000;

impl Flows {
    /// Whether flows of any family still move from a former table.
    pub fn is_moving(&self) -> bool {
        self.v4.is_moving() || self.v6.is_moving()
    }
}

/// Where a sweep stands.
#[derive(Debug, Default)]
pub struct Sweep<A> {
    cursor: Cursor,
    /// Marked in this pass; removed at its end.
    marked: Vec<FlowKey<A>>,
    /// Flows of this pass that were told of their end.
    told: usize,
    /// Flows of this pass that ought to have been told, and were too many.
    untold: usize,
}

/// What a slice of a sweep brought.
#[derive(Debug)]
pub struct Slice {
    /// Whether it was the last one of the pass.
    pub is_last: bool,
    /// RSTs to be sent now: the flows are marked.
    pub resets: Vec<Reset>,
}

impl<A> Sweep<A> {
    /// Whether the pass has marked flows that are still to be removed.
    pub fn has_marked(&self) -> bool {
        !self.marked.is_empty()
    }

    /// Flows of this pass whose ends were not told of, because too many ended at once.
    pub fn untold(&self) -> usize {
        self.untold
    }
}

impl<A: FlowFamily> FlowTable<A>
where
    FlowKey<A>: Plain,
    Flow<A>: Plain,
    RetireBatch<A>: Plain,
    UntrustedSet<A>: Plain,
{
    /// Shows every entry to `see` until it returns false. While flows move, one that moves at that moment may
    /// be shown twice.
    pub fn visit(&self, mut see: impl FnMut(&FlowKey<A>, &Flow<A>) -> bool) -> Result<()> {
        let (mut keys, mut values) = pages();
        for map in self.former.iter().chain([&self.map]) {
            let mut cursor = Cursor::default();
            while !cursor.finished {
                let count = sys::lookup_batch(map.as_fd(), &mut cursor, &mut keys, &mut values)
                    .context("read flows")?;
                for (key, flow) in keys.iter().zip(&values).take(count) {
                    if !see(key, flow) {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// Shows every untrusted entry to `see` until it returns false. Those of the node's own trials are nobody's.
    pub fn visit_untrusted(
        &self,
        mut see: impl FnMut(&FlowKey<A>, &Flow<A>) -> bool,
    ) -> Result<()> {
        let mut cursor = Cursor::default();
        let mut numbers = vec![0_u32; SETS];
        let mut sets = vec![UntrustedSet::<A>::default(); SETS];
        while !cursor.finished {
            let map = self.untrusted.as_fd();
            let count = sys::lookup_batch(map, &mut cursor, &mut numbers, &mut sets)
                .context("read untrusted flows")?;
            let entries = sets.iter().take(count).flat_map(UntrustedSet::entries);
            for entry in entries.filter(|entry| !is_of_trial(&entry.key)) {
                if !see(&entry.key, &entry.flow) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn count_untrusted(&self, settings: &Settings, now: u64, census: &mut Census) -> Result<()> {
        self.visit_untrusted(|key, flow| {
            if judge(settings, key, flow, now) == Judgement::Keep {
                census.add_untrusted(key, flow);
            }
            true
        })
    }

    /// The untrusted entry under a key.
    pub fn get_untrusted(&self, hash_key: [u64; 2], key: &FlowKey<A>) -> Result<Option<Flow<A>>> {
        let number = Place::of(hash_key, key).set(self.untrusted_sets - 1);
        let set: Option<UntrustedSet<A>> =
            sys::lookup(self.untrusted.as_fd(), &number).context("read an untrusted flow")?;
        let found = set
            .as_ref()
            .and_then(|set| set.entries().find(|entry| entry.key == *key));
        Ok(found.map(|entry| entry.flow))
    }

    /// The entry under a key.
    pub fn get(&self, key: &FlowKey<A>) -> Result<Option<Flow<A>>> {
        for map in self.former.iter().chain([&self.map]) {
            if let Some(flow) = sys::lookup(map.as_fd(), key).context("read a flow")? {
                return Ok(Some(flow));
            }
        }
        Ok(None)
    }

    /// Whether flows still move from a former table.
    pub fn is_moving(&self) -> bool {
        self.former.is_some()
    }

    /// Clears what entries hold of the ids of another layout.
    pub fn disown(&self) -> Result<()> {
        let mut keys = Vec::new();
        self.visit(|key, _| {
            keys.push(*key);
            true
        })?;
        self.retire(RetireBatch::<A>::DISOWN, &keys).map(drop)
    }

    /// Moves a page of flows from the former table; says how many of its entries it met.
    pub fn carry_page(&self, cursor: &mut Cursor) -> Result<usize> {
        let Some(former) = &self.former else {
            cursor.finished = true;
            return Ok(0);
        };
        let (mut keys, mut values) = pages::<A>();
        let met = sys::lookup_batch(former.as_fd(), cursor, &mut keys, &mut values)
            .context("read flows that move")?;
        keys.truncate(met);
        self.retire(RetireBatch::<A>::CARRY, &keys)?;
        Ok(met)
    }

    /// One slice of a sweep: judges the next page, and has the kernel mark or remove what is over.
    pub fn sweep_slice(
        &self,
        sweep: &mut Sweep<A>,
        settings: &Settings,
        now: u64,
        census: &mut Census,
    ) -> Result<Slice> {
        let (mut keys, mut values) = pages();
        let count = sys::lookup_batch(self.map.as_fd(), &mut sweep.cursor, &mut keys, &mut values)
            .context("read flows")?;
        let (mut mark, mut remove) = (Vec::new(), Vec::new());
        for (key, flow) in keys.iter().zip(&values).take(count) {
            census.add(key, flow);
            match judge(settings, key, flow, now) {
                Judgement::Keep => {}
                Judgement::Mark
                    if sweep.told >= TOLD_A_PASS
                        && is_told(key, flow, End::Idle)
                        && may_wait(settings, key, flow, now) => {}
                Judgement::Mark => mark.push(*key),
                Judgement::Remove => remove.push(*key),
            }
        }
        self.retire(RetireBatch::<A>::REMOVE, &remove)?;
        let marked = self.retire(RetireBatch::<A>::MARK, &mark)?;
        let resets = self.resets_of_idle(sweep, &marked)?;
        sweep.marked.extend(marked);
        Ok(Slice {
            is_last: sweep.cursor.finished,
            resets,
        })
    }

    /// The RSTs for flows that idled out and were marked, as many as the pass may have.
    fn resets_of_idle(&self, sweep: &mut Sweep<A>, marked: &[FlowKey<A>]) -> Result<Vec<Reset>> {
        let mut found = Vec::new();
        for key in marked {
            let told = self.resets(key, End::Idle)?;
            if told.is_empty() {
                continue;
            }
            if sweep.told < TOLD_A_PASS {
                sweep.told += 1;
                found.extend(told);
            } else {
                sweep.untold += 1;
            }
        }
        Ok(found)
    }

    /// Marks flows whether or not they are over; a sweep removes them later. Returns those that it marked.
    pub fn flush(&self, keys: &[FlowKey<A>]) -> Result<Vec<FlowKey<A>>> {
        self.retire(RetireBatch::<A>::FLUSH, keys)
    }

    /// Forgets untrusted flows; returns those that were there.
    pub fn forget(&self, keys: &[FlowKey<A>]) -> Result<Vec<FlowKey<A>>> {
        self.retire(RetireBatch::<A>::FORGET, keys)
    }

    /// The RSTs for a flow that was marked.
    pub fn resets(&self, key: &FlowKey<A>, end: End) -> Result<Vec<Reset>> {
        let Some(flow) = self.get(key)?.filter(|flow| is_told(key, flow, end)) else {
            return Ok(Vec::new());
        };
        let other = self.get(&flow.reply_key(key.protocol))?;
        Ok(other.map_or_else(Vec::new, |other| resets(key, &flow, &other, end)))
    }

    /// Removes what the pass marked; to be called some jiffies after its last slice. Returns how many
    /// flows have ended.
    pub fn finish_sweep(&self, sweep: Sweep<A>) -> Result<usize> {
        Ok(self.retire(RetireBatch::<A>::REMOVE, &sweep.marked)?.len())
    }

    /// Takes a step for flows; returns those for which it was taken.
    fn retire(&self, step: u32, keys: &[FlowKey<A>]) -> Result<Vec<FlowKey<A>>> {
        let mut taken = Vec::new();
        let _only_one = self.retiring.lock().unwrap_or_else(PoisonError::into_inner);
        for chunk in keys.chunks(RETIRE_BATCH) {
            let mut batch = RetireBatch {
                step,
                count: chunk.len() as u32,
                keys: [FlowKey::default(); RETIRE_BATCH],
                done: [0; RETIRE_BATCH],
            };
            batch.keys[..chunk.len()].copy_from_slice(chunk);
            sys::update(self.retire_map.as_fd(), &0_u32, &batch)
                .context("name flows to be ended")?;
            sys::run_program(self.retire_program.as_fd()).context("end flows")?;
            let answer: RetireBatch<A> = sys::lookup(self.retire_map.as_fd(), &0_u32)
                .context("read which flows ended")?
                .unwrap_or(batch);
            taken.extend(
                chunk
                    .iter()
                    .zip(answer.done)
                    .filter(|(_, done)| *done != 0)
                    .map(|(key, _)| *key),
            );
        }
        Ok(taken)
    }
}

fn is_of_trial<A: FlowFamily>(key: &FlowKey<A>) -> bool {
    key.source == A::TRIALS || key.destination == A::TRIALS
}

fn pages<A: FlowFamily>() -> (Vec<FlowKey<A>>, Vec<Flow<A>>) {
    (vec![FlowKey::default(); PAGE], vec![Flow::default(); PAGE])
}
