//! Counters, summed over CPUs.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow};
use aya::Ebpf;
use aya::maps::{MapData, PerCpuArray, PerCpuValues};
use forebay_common::abi::{RuleCounters, names};
use forebay_common::reason::Reason;

use super::object;
use super::sys::Pod;

/// Handles of the counters.
pub(super) struct Counters {
    reasons: PerCpuArray<MapData, u64>,
    rules: PerCpuArray<MapData, Pod<RuleCounters>>,
}

impl Counters {
    pub(super) fn take(object: &mut Ebpf) -> Result<Self> {
        Ok(Self {
            reasons: PerCpuArray::try_from(object::map(object, names::REASONS)?)
                .context("open map REASONS")?,
            rules: PerCpuArray::try_from(object::map(object, names::RULE_COUNTERS)?)
                .context("open map RULE_COUNTERS")?,
        })
    }

    /// Packets by reason; reasons without packets too.
    pub(super) fn reasons(&self) -> Result<BTreeMap<Reason, u64>> {
        let read = |reason: &Reason| Ok((*reason, self.reason(*reason)?));
        Reason::ALL.iter().map(read).collect()
    }

    /// Packets by one reason.
    pub(super) fn reason(&self, reason: Reason) -> Result<u64> {
        let values = self.reasons.get(&(reason as u32), 0);
        Ok(values.context("read the counters")?.iter().sum())
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

    /// Counters of a rule.
    pub(super) fn rule(&self, id: u32) -> Result<RuleCounters> {
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
