//! Counters, summed over CPUs.
//!
//! Whoever reads them has descriptors of its own, and does not hold up the daemon.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use aya::Ebpf;
use aya::maps::{Map, MapData, PerCpuArray, PerCpuValues};
use forebay_common::abi::{RuleCounters, names};
use forebay_common::reason::Reason;

use super::object;
use super::snat::{WayCount, WayCounts};
use super::sys::Pod;

type Rules = PerCpuArray<MapData, Pod<RuleCounters>>;

/// Handles of the counters.
pub(super) struct Counters {
    rules: Rules,
    pub(super) reader: Arc<CounterReader>,
}

/// Reads counters.
pub struct CounterReader {
    reasons: PerCpuArray<MapData, u64>,
    rules: Rules,
    ways: WayCounts,
}

impl Counters {
    pub(super) fn take(object: &mut Ebpf) -> Result<Self> {
        let ways = WayCounts::find(object)?;
        let reasons = object::map(object, names::REASONS)?;
        let rules = object::map(object, names::RULE_COUNTERS)?;
        let reader = CounterReader {
            reasons: PerCpuArray::try_from(reasons).context("open map REASONS")?,
            rules: rule_counters(again(&rules)?)?,
            ways,
        };
        Ok(Self {
            rules: rule_counters(rules)?,
            reader: Arc::new(reader),
        })
    }

    /// Puts the counters of a rule back to zero.
    pub(super) fn reset_rule(&mut self, id: u32) -> Result<()> {
        let cpus = aya::util::nr_cpus().map_err(|(file, error)| anyhow!("{file}: {error}"))?;
        let zeros = PerCpuValues::try_from(vec![Pod(RuleCounters::default()); cpus]);
        let zeros = zeros.context("reset a rule's counters")?;
        self.rules
            .set(id, zeros, 0)
            .context("reset a rule's counters")
    }
}

fn rule_counters(map: Map) -> Result<Rules> {
    PerCpuArray::try_from(map).context("open map RULE_COUNTERS")
}

/// Another handle of a map.
fn again(map: &Map) -> Result<Map> {
    let Map::PerCpuArray(data) = map else {
        bail!("counters are in an unexpected kind of map")
    };
    let data = MapData::from_fd(super::raw(data)?).context("open the counters again")?;
    Ok(Map::PerCpuArray(data))
}

impl CounterReader {
    /// Packets by reason; reasons without packets too.
    pub fn reasons(&self) -> Result<BTreeMap<Reason, u64>> {
        let read = |reason: &Reason| Ok((*reason, self.reason(*reason)?));
        Reason::ALL.iter().map(read).collect()
    }

    /// Packets by one reason.
    pub fn reason(&self, reason: Reason) -> Result<u64> {
        let values = self.reasons.get(&(reason as u32), 0);
        Ok(values.context("read the counters")?.iter().sum())
    }

    /// What became of the flows that sources wanted to open.
    pub fn way_counts(&self) -> Result<Vec<WayCount>> {
        self.ways.read()
    }

    /// Counters of a rule.
    pub fn rule(&self, id: u32) -> Result<RuleCounters> {
        let values = self.rules.get(&id, 0).context("read a rule's counters")?;
        Ok(values
            .iter()
            .fold(RuleCounters::default(), |sum, Pod(cpu)| RuleCounters {
                new_flows: sum.new_flows + cpu.new_flows,
                packets_to_instance: sum.packets_to_instance + cpu.packets_to_instance,
                bytes_to_instance: sum.bytes_to_instance + cpu.bytes_to_instance,
                packets_from_instance: sum.packets_from_instance + cpu.packets_from_instance,
                bytes_from_instance: sum.bytes_from_instance + cpu.bytes_from_instance,
            }))
    }
}
