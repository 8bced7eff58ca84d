//! What became of the flows that instances wanted to open, and which SNAT ports they hold.

use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result, bail};
use aya::Ebpf;
use aya::maps::Map;
use forebay_common::abi::{RetireBatch, WayCounters, WayKey, names};
use forebay_common::family::{V4, V6};
use forebay_common::flow::{Flow, FlowKey, UntrustedSet};

use super::flows::{FlowFamily, FlowTable, Flows};
use super::sys::{self, Cursor, Plain};
use crate::control_plane::{SnatDestinations, SnatUse};

/// Entries that one system call reads.
const PAGE: usize = 4096;

/// What became of a source's new flows over a protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WayCount {
    /// Private address of the source; unspecified for those that are no instance.
    pub source: IpAddr,
    /// Protocol number.
    pub protocol: u32,
    /// Flows that got a port.
    pub opened: u64,
    /// Packets that were refused for want of one.
    pub refused: u64,
    /// Destination of the last one refused.
    pub destination: IpAddr,
    /// Its destination port.
    pub port: u16,
    /// The public address that it was to leave by.
    pub address: IpAddr,
}

/// Handles of these counters.
pub(super) struct WayCounts {
    v4: OwnedFd,
    v6: OwnedFd,
}

impl WayCounts {
    /// To be called before anybody takes the maps out of the object.
    pub(super) fn find(object: &Ebpf) -> Result<Self> {
        let find = |name| match object.map(name) {
            Some(Map::HashMap(data)) => super::raw(data),
            _ => bail!("{name} is not a hash"),
        };
        Ok(Self {
            v4: find(names::WAY_COUNTERS4)?,
            v6: find(names::WAY_COUNTERS6)?,
        })
    }

    /// All of them.
    pub(super) fn read(&self) -> Result<Vec<WayCount>> {
        let mut counts = Vec::new();
        read::<V4>(&self.v4, &mut counts)?;
        read::<V6>(&self.v6, &mut counts)?;
        Ok(counts)
    }
}

fn read<A: FlowFamily>(map: &OwnedFd, counts: &mut Vec<WayCount>) -> Result<()>
where
    WayKey<A>: Plain,
    WayCounters<A>: Plain,
{
    let mut cursor = Cursor::default();
    let mut keys = vec![WayKey::<A>::default(); PAGE];
    let mut values = vec![WayCounters::<A>::default(); PAGE];
    while !cursor.finished {
        let met = sys::lookup_batch(map.as_fd(), &mut cursor, &mut keys, &mut values)
            .context("read what became of new flows")?;
        let found = keys.iter().zip(&values).take(met);
        counts.extend(found.map(|(key, counters)| WayCount {
            source: key.source.into(),
            protocol: key.protocol,
            opened: counters.opened,
            refused: counters.refused,
            destination: counters.destination.into(),
            port: counters.port as u16,
            address: counters.address.into(),
        }));
    }
    Ok(())
}

impl Flows {
    /// Counts the SNAT ports in use, and towards which destinations those of some sources are.
    ///
    /// # Errors
    /// The tables cannot be read.
    pub fn snat_use(
        &self,
        is_wanted: impl Fn(IpAddr) -> bool,
    ) -> Result<(SnatUse, SnatDestinations)> {
        let mut found = Default::default();
        add(&self.v4, &is_wanted, &mut found)?;
        add(&self.v6, &is_wanted, &mut found)?;
        Ok(found)
    }
}

fn add<A: FlowFamily>(
    table: &FlowTable<A>,
    is_wanted: &impl Fn(IpAddr) -> bool,
    (used, destinations): &mut (SnatUse, SnatDestinations),
) -> Result<()>
where
    FlowKey<A>: Plain,
    Flow<A>: Plain,
    RetireBatch<A>: Plain,
    UntrustedSet<A>: Plain,
{
    let mut see = |key: &FlowKey<A>, flow: &Flow<A>| {
        used.add(key, flow);
        destinations.add(key, flow, is_wanted);
        true
    };
    // What holds a SNAT port is in the flow table from its first packet on.
    table.visit(&mut see)
}
