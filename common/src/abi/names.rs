//! Names of programs, tables and globals in the object.

/// The XDP program.
pub const PROGRAM: &str = "forebay";
/// A program that tells jiffies and the boot clock in one breath.
pub const CLOCKS_PROGRAM: &str = "clocks";
/// Programs that end the flows named in a [`super::RetireBatch`], IPv4 and IPv6.
pub const RETIRE_PROGRAMS: [&str; 2] = ["retire4", "retire6"];
/// [`super::RetireBatch`] of IPv4 flows.
pub const RETIRE4: &str = "RETIRE4";
/// [`super::RetireBatch`] of IPv6 flows.
pub const RETIRE6: &str = "RETIRE6";
/// `[u64; 2]`: jiffies, boot clock in ns.
pub const CLOCKS: &str = "CLOCKS";
/// One [`super::Settings`].
pub const SETTINGS: &str = "SETTINGS";
/// `FlowKey<V4>` to `Flow<V4>`.
pub const FLOWS4: &str = "FLOWS4";
/// `FlowKey<V6>` to `Flow<V6>`.
pub const FLOWS6: &str = "FLOWS6";
/// The table that [`FLOWS4`] takes the place of, while flows move.
pub const FORMER_FLOWS4: &str = "FORMER_FLOWS4";
/// The table that [`FLOWS6`] takes the place of, while flows move.
pub const FORMER_FLOWS6: &str = "FORMER_FLOWS6";
/// One word; not 0: new flows go into the new tables, and those of the former move.
pub const MOVING: &str = "MOVING";
/// Read-only global: which families have a former flow table; bit 0: IPv4, bit 1: IPv6.
pub const FORMER: &str = "FORMER";
/// Number to `UntrustedSet<V4>`.
pub const UNTRUSTED4: &str = "UNTRUSTED4";
/// Number to `UntrustedSet<V6>`.
pub const UNTRUSTED6: &str = "UNTRUSTED6";
/// Entries of both flow tables.
pub const OCCUPIED: &str = "OCCUPIED";
/// When sources may open their next flow.
pub const SOURCES: &str = "SOURCES";
/// Locks of reply keys.
pub const LOCKS: &str = "LOCKS";
/// [`super::ReverseKey`] to [`super::Reverse`], IPv4.
pub const REVERSE4: &str = "REVERSE4";
/// [`super::ReverseKey`] to [`super::Reverse`], IPv6.
pub const REVERSE6: &str = "REVERSE6";
/// [`super::WayKey`] to [`super::Way`], IPv4.
pub const WAYS4: &str = "WAYS4";
/// [`super::WayKey`] to [`super::Way`], IPv6.
pub const WAYS6: &str = "WAYS6";
/// [`super::WayKey`] to [`super::WayCounters`], IPv4.
pub const WAY_COUNTERS4: &str = "WAY_COUNTERS4";
/// [`super::WayKey`] to [`super::WayCounters`], IPv6.
pub const WAY_COUNTERS6: &str = "WAY_COUNTERS6";
/// Number to [`super::SnatRange`], IPv4.
pub const SNAT_RANGES4: &str = "SNAT_RANGES4";
/// Number to [`super::SnatRange`], IPv6.
pub const SNAT_RANGES6: &str = "SNAT_RANGES6";
/// Address to [`super::PublicIp`], IPv4.
pub const PUBLIC_IPS4: &str = "PUBLIC_IPS4";
/// Address to [`super::PublicIp`], IPv6.
pub const PUBLIC_IPS6: &str = "PUBLIC_IPS6";
/// Where searches for free ports stand, as [`super::Position`].
pub const POSITIONS: &str = "POSITIONS";
/// `V4` to [`super::Owner`].
pub const ADDRESSES4: &str = "ADDRESSES4";
/// `V6` to [`super::Owner`].
pub const ADDRESSES6: &str = "ADDRESSES6";
/// [`crate::balance::filter`] over both address tables.
pub const ADDRESS_FILTER: &str = "ADDRESS_FILTER";
/// [`super::PortKey`] to [`super::Bound`].
pub const PORTS: &str = "PORTS";
/// [`super::PortPrefix`] to [`super::Bound`].
pub const PORT_RANGES: &str = "PORT_RANGES";
/// Binding id to [`super::Rule`].
pub const BINDINGS: &str = "BINDINGS";
/// Ring id to an array of backend ids.
pub const RINGS: &str = "RINGS";
/// Spread id to an array of backend ids, one for each port of an inbound NAT rule over a pool.
pub const SPREADS: &str = "SPREADS";
/// Backend id to `Backend<V4>`.
pub const BACKENDS4: &str = "BACKENDS4";
/// Backend id to `Backend<V6>`.
pub const BACKENDS6: &str = "BACKENDS6";
/// Prefixes of the virtual network, IPv4.
pub const VIRTUAL_NETWORK4: &str = "VIRTUAL_NETWORK4";
/// Prefixes of the virtual network, IPv6.
pub const VIRTUAL_NETWORK6: &str = "VIRTUAL_NETWORK6";
/// Slot to [`super::Interface`].
pub const INTERFACES: &str = "INTERFACES";
/// Interface number to slot.
pub const INTERFACE_SLOTS: &str = "INTERFACE_SLOTS";
/// [`super::VlanKey`] to the slot of the VLAN device that takes such frames.
pub const VLANS: &str = "VLANS";
/// Programs that the first one hands rarer packets to, by [`crate::pipeline::Stage`].
pub const STAGES: &str = "STAGES";
/// Programs in [`STAGES`], in its order; the last one is the first program itself.
pub const STAGE_PROGRAMS: [&str; 12] = [
    "unusual", "icmp", "complain", "tag", "former", "first", "outbound", "public", "ping",
    "refuse", "quoted", PROGRAM,
];
/// [`super::FragmentKey`] to [`super::Fragments`], IPv4.
pub const FRAGMENTS4: &str = "FRAGMENTS4";
/// [`super::FragmentKey`] to [`super::Fragments`], IPv6.
pub const FRAGMENTS6: &str = "FRAGMENTS6";
/// One [`crate::tables::PerCpu`] a CPU.
pub const PER_CPU: &str = "PER_CPU";
/// One [`crate::tables::Scratch`] a CPU, IPv4.
pub const SCRATCH4: &str = "SCRATCH4";
/// One [`crate::tables::Scratch`] a CPU, IPv6.
pub const SCRATCH6: &str = "SCRATCH6";
/// Slot to device, for redirects.
pub const TX_PORTS: &str = "TX_PORTS";
/// Place to [`super::Trial`].
pub const TRIALS: &str = "TRIALS";
/// Packets by [`crate::reason::Reason`].
pub const REASONS: &str = "REASONS";
/// Rule id to [`super::RuleCounters`].
pub const RULE_COUNTERS: &str = "RULE_COUNTERS";
/// Read-only global: the clock is `Settings::test_now`, and entropy is fixed.
pub const DETERMINISTIC: &str = "DETERMINISTIC";
