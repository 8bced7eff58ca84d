//! The flow tables: reading them in batches, and ending flows.

use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};
use forebay_common::abi::{RETIRE_BATCH, RetireBatch, Settings};
use forebay_common::family::{Family, V4, V6};
use forebay_common::flow::{Flow, FlowKey};

use super::sys::{self, Cursor, Plain};
use crate::control_plane::{Census, Judgement, judge};

/// Entries that one system call reads.
const PAGE: usize = 4096;

/// What the kernel needs to know of a family's flows.
pub trait FlowFamily: Family + Ord + Into<IpAddr> + Plain {}
impl FlowFamily for V4 {}
impl FlowFamily for V6 {}

/// The flow table of one family.
pub struct FlowTable<A> {
    pub(super) map: OwnedFd,
    pub(super) retire_map: OwnedFd,
    pub(super) retire_program: OwnedFd,
    /// Entries that fit: two for each flow.
    pub entries: u32,
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
    /// Counts all flows.
    ///
    /// # Errors
    /// The tables cannot be read.
    pub fn census(&self) -> Result<Census> {
        let mut census = Census::default();
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
}

/// Where a sweep stands.
#[derive(Debug, Default)]
pub struct Sweep<A> {
    cursor: Cursor,
    /// Marked in this pass; removed at its end.
    marked: Vec<FlowKey<A>>,
}

impl<A> Sweep<A> {
    /// Whether the pass has marked flows that are still to be removed.
    pub fn has_marked(&self) -> bool {
        !self.marked.is_empty()
    }
}

impl<A: FlowFamily> FlowTable<A>
where
    FlowKey<A>: Plain,
    Flow<A>: Plain,
    RetireBatch<A>: Plain,
{
    /// Shows every entry to `see` until it returns false.
    pub fn visit(&self, mut see: impl FnMut(&FlowKey<A>, &Flow<A>) -> bool) -> Result<()> {
        let mut cursor = Cursor::default();
        let (mut keys, mut values) = pages();
        while !cursor.finished {
            let count = sys::lookup_batch(self.map.as_fd(), &mut cursor, &mut keys, &mut values)
                .context("read flows")?;
            for (key, flow) in keys.iter().zip(&values).take(count) {
                if !see(key, flow) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The entry under a key.
    pub fn get(&self, key: &FlowKey<A>) -> Result<Option<Flow<A>>> {
        sys::lookup(self.map.as_fd(), key).context("read a flow")
    }

    /// One slice of a sweep: judges the next page, and has the kernel mark or remove what is over.
    /// Returns whether the pass is complete.
    pub fn sweep_slice(
        &self,
        sweep: &mut Sweep<A>,
        settings: &Settings,
        now: u64,
        census: &mut Census,
    ) -> Result<bool> {
        let (mut keys, mut values) = pages();
        let count = sys::lookup_batch(self.map.as_fd(), &mut sweep.cursor, &mut keys, &mut values)
            .context("read flows")?;
        let (mut mark, mut remove) = (Vec::new(), Vec::new());
        for (key, flow) in keys.iter().zip(&values).take(count) {
            census.add(key, flow);
            match judge(settings, key, flow, now) {
                Judgement::Keep => {}
                Judgement::Mark => mark.push(*key),
                Judgement::Remove => remove.push(*key),
            }
        }
        self.retire(RetireBatch::<A>::REMOVE, &remove)?;
        sweep
            .marked
            .extend(self.retire(RetireBatch::<A>::MARK, &mark)?);
        Ok(sweep.cursor.finished)
    }

    /// Removes what the pass marked; to be called some jiffies after its last slice. Returns how many
    /// flows have ended.
    pub fn finish_sweep(&self, sweep: Sweep<A>) -> Result<usize> {
        Ok(self.retire(RetireBatch::<A>::REMOVE, &sweep.marked)?.len())
    }

    /// Takes a step for flows; returns those for which it was taken.
    fn retire(&self, step: u32, keys: &[FlowKey<A>]) -> Result<Vec<FlowKey<A>>> {
        let mut taken = Vec::new();
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

fn pages<A: FlowFamily>() -> (Vec<FlowKey<A>>, Vec<Flow<A>>) {
    (vec![FlowKey::default(); PAGE], vec![Flow::default(); PAGE])
}
