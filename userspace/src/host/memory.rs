//! How much memory the tables may take, and take.

use forebay_common::flow::{Flow, FlowKey, UntrustedSet, WAYS};

/// Share of memory for flow tables when the file does not say, and bounds of the result (flows a family).
const SHARE_PERCENT: u64 = 5;
const FEWEST: u64 = 65_536;
const MOST: u64 = 4_194_304;

/// Fewest slots for untrusted flows; each flow takes two.
const FEWEST_UNTRUSTED: u32 = 65_536;

/// What the kernel adds to key and value of an element of a preallocated hash (`struct htab_elem`).
const ELEMENT_OVERHEAD: u64 = 48;
/// Bytes of a hash bucket.
const BUCKET: u64 = 16;

/// Flows a family when `[limits].flows` is absent: a fixed share of memory, within bounds, down to a
/// power of two, which wastes no hash buckets.
pub fn default_flows(total_memory: u64) -> u32 {
    let each = flow_table_bytes::<forebay_common::family::V4>(1 << 16)
        + flow_table_bytes::<forebay_common::family::V6>(1 << 16);
    let flows = (total_memory / 100 * SHARE_PERCENT) / (each >> 16);
    let flows = flows.clamp(FEWEST, MOST);
    1 << flows.ilog2()
}

/// Sets of the table of untrusted flows that stands beside a flow table for so many flows: a slot for every
/// eighth of them, and never fewer than a flood fills in some time.
pub fn untrusted_sets(flows: u32) -> u32 {
    let slots = (flows / 8).max(FEWEST_UNTRUSTED);
    slots.div_ceil(WAYS as u32).next_power_of_two()
}

/// Kernel memory of a table of untrusted flows, bytes.
pub fn untrusted_bytes<A>(flows: u32) -> u64 {
    u64::from(untrusted_sets(flows)) * size_of::<UntrustedSet<A>>() as u64
}

/// Kernel memory of a flow table for so many flows, bytes.
pub fn flow_table_bytes<A>(flows: u64) -> u64 {
    let element = ELEMENT_OVERHEAD + (size_of::<FlowKey<A>>() + size_of::<Flow<A>>()) as u64;
    let entries = flows * 2;
    entries * element + entries.next_power_of_two() * BUCKET
}

/// Memory of this machine, bytes.
pub fn total_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes = line.and_then(|rest| {
        rest.trim()
            .trim_end_matches("kB")
            .trim()
            .parse::<u64>()
            .ok()
    });
    kibibytes.unwrap_or(1 << 20) * 1024
}

#[cfg(test)]
mod tests {
    use forebay_common::family::{V4, V6};

    use super::*;

    #[test]
    fn a_flow_stays_within_its_memory_budget() {
        let v4 = flow_table_bytes::<V4>(1 << 20) + untrusted_bytes::<V4>(1 << 20);
        let v6 = flow_table_bytes::<V6>(1 << 20) + untrusted_bytes::<V6>(1 << 20);
        assert!(v4 >> 20 <= 320);
        assert!(v6 >> 20 <= 416);
    }

    #[test]
    fn the_default_follows_memory_within_bounds() {
        assert_eq!(default_flows(1 << 30), 65_536);
        assert_eq!(default_flows(1 << 34), 1 << 20);
        assert_eq!(default_flows(1 << 40), 4_194_304);
    }
}
