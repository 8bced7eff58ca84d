//! The program's maps. Names and sizes are those of [`forebay_common::abi`]; the daemon sets the sizes
//! of the flow tables when it loads the object.

use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::btf_maps::{
    Array, ArrayOfMaps, DevMap, HashMap, LpmTrie, LruHashMap, PerCpuArray, ProgramArray,
};
use aya_ebpf::macros::btf_map;
use forebay_common::abi::{
    Backend, Bound, FragmentKey, Fragments, Interface, LOCKS as MAX_LOCKS, MAX_ADDRESSES,
    MAX_BACKENDS, MAX_BINDINGS, MAX_FRAGMENTED, MAX_INTERFACES, MAX_PORT_RANGES, MAX_PORTS,
    MAX_PUBLIC_IPS, MAX_REVERSE, MAX_RINGS, MAX_RULES, MAX_SNAT_RANGES, MAX_SPREADS,
    MAX_VIRTUAL_NETWORKS, MAX_WAYS, Owner, POSITIONS as MAX_POSITIONS, PortKey, PortPrefix,
    Position, PublicIp, RING_SIZE, RetireBatch, Reverse, ReverseKey, Rule, RuleCounters,
    SOURCES as MAX_SOURCES, Settings, SnatRange, TRIALS as MAX_TRIALS, Trial, VlanKey, Way,
    WayCounters, WayKey, names,
};
use forebay_common::balance::filter;
use forebay_common::family::{Family, V4, V6};
use forebay_common::flow::{Flow, FlowKey, UntrustedSet};
use forebay_common::reason::REASON_SLOTS;
use forebay_common::tables::{PerCpu, RECENT_PAIRS, RecentPair, Scratch};

use crate::apart::Apart;

type Addresses<A> = HashMap<A, Owner, { MAX_ADDRESSES as usize }, NO_PREALLOC>;
type Backends<A> = Array<Backend<A>, { MAX_BACKENDS as usize }>;
pub(crate) type Flows<A> = HashMap<FlowKey<A>, Flow<A>, 131_072>;
type Untrusted<A> = Array<UntrustedSet<A>, 8_192>;
type Replies<A> = LpmTrie<ReverseKey<A>, Reverse<A>, { MAX_REVERSE as usize }>;
type Fragmented<A> = LruHashMap<FragmentKey<A>, Fragments, { MAX_FRAGMENTED as usize }>;
type Ways<A> = HashMap<WayKey<A>, Way, { MAX_WAYS as usize }, NO_PREALLOC>;
type WaysCounted<A> = HashMap<WayKey<A>, WayCounters<A>, { MAX_WAYS as usize }, NO_PREALLOC>;
type SnatRanges<A> = Array<SnatRange<A>, { MAX_SNAT_RANGES as usize }>;
type PublicIps<A> = HashMap<A, PublicIp<A>, { 2 * MAX_PUBLIC_IPS as usize }, NO_PREALLOC>;
type RecentPairs<A> = PerCpuArray<RecentPair<A>, { RECENT_PAIRS as usize }>;
type Networks<A> = LpmTrie<A, u32, { MAX_VIRTUAL_NETWORKS as usize }>;

/// The daemon writes these maps, rarely; memory counts for more than the price of an insert.
const NO_PREALLOC: usize = aya_ebpf::bindings::BPF_F_NO_PREALLOC as usize;
/// An array in an array of maps that may be of any length.
const ANY_LENGTH: usize = aya_ebpf::bindings::BPF_F_INNER_MAP as usize;

/// One entry, written by the daemon.
#[btf_map]
pub(crate) static SETTINGS: Array<Settings, 1> = Array::new();

/// Written by the program (claims, hits) and by the daemon's sweep.
#[btf_map]
static FLOWS4: Flows<V4> = Flows::new();
/// Written by the program (claims, hits) and by the daemon's sweep.
#[btf_map]
static FLOWS6: Flows<V6> = Flows::new();

/// The table that flows move from, else one that nobody asks.
#[btf_map]
static FORMER_FLOWS4: Flows<V4> = Flows::new();
/// The table that flows move from, else one that nobody asks.
#[btf_map]
static FORMER_FLOWS6: Flows<V6> = Flows::new();
/// Not 0: new flows go into the new tables; written by the daemon.
#[btf_map]
static MOVING: Array<u32, 1> = Array::new();
/// Flows that have not proven themselves; written by the program alone.
#[btf_map]
static UNTRUSTED4: Untrusted<V4> = Untrusted::new();
/// Flows that have not proven themselves; written by the program alone.
#[btf_map]
static UNTRUSTED6: Untrusted<V6> = Untrusted::new();
/// Entries of both flow tables; written by the program alone.
#[btf_map]
static OCCUPIED: Array<u64, 2> = Array::new();
/// When sources may open their next flow; used by the program alone.
#[btf_map]
pub(crate) static SOURCES: Array<u64, { MAX_SOURCES as usize }> = Array::new();
/// Locks of reply keys that are being taken; used by the program alone.
#[btf_map]
pub(crate) static LOCKS: Array<u64, { MAX_LOCKS as usize }> = Array::new();
/// Replies that are known without a flow; written by the daemon.
#[btf_map]
static REVERSE4: Replies<V4> = Replies::new();
/// Replies that are known without a flow; written by the daemon.
#[btf_map]
static REVERSE6: Replies<V6> = Replies::new();

/// Ways out by source and protocol; written by the daemon.
#[btf_map]
static WAYS4: Ways<V4> = Ways::new();
/// Ways out by source and protocol; written by the daemon.
#[btf_map]
static WAYS6: Ways<V6> = Ways::new();
/// What came of new flows; made by the daemon, counted by the program.
#[btf_map]
static WAY_COUNTERS4: WaysCounted<V4> = WaysCounted::new();
/// What came of new flows; made by the daemon, counted by the program.
#[btf_map]
static WAY_COUNTERS6: WaysCounted<V6> = WaysCounted::new();
/// Ranges of SNAT ports; written by the daemon.
#[btf_map]
static SNAT_RANGES4: SnatRanges<V4> = SnatRanges::new();
/// Ranges of SNAT ports; written by the daemon.
#[btf_map]
static SNAT_RANGES6: SnatRanges<V6> = SnatRanges::new();
/// Public IPs, under both addresses; written by the daemon but for next hops.
#[btf_map]
static PUBLIC_IPS4: PublicIps<V4> = PublicIps::new();
/// Public IPs, under both addresses; written by the daemon but for next hops.
#[btf_map]
static PUBLIC_IPS6: PublicIps<V6> = PublicIps::new();
/// Where searches for free ports stand; used by the program alone.
#[btf_map]
pub(crate) static POSITIONS: Array<Position, { MAX_POSITIONS as usize }> = Array::new();

/// What addresses are to the node; written by the daemon.
#[btf_map]
static ADDRESSES4: Addresses<V4> = Addresses::new();
/// What addresses are to the node; written by the daemon.
#[btf_map]
static ADDRESSES6: Addresses<V6> = Addresses::new();
/// A bit for every address in both tables; written by the daemon.
#[btf_map]
pub(crate) static ADDRESS_FILTER: Array<u64, { filter::WORDS as usize }> = Array::new();

/// What single ports are bound to; written by the daemon.
#[btf_map]
pub(crate) static PORTS: HashMap<PortKey, Bound, { MAX_PORTS as usize }, NO_PREALLOC> =
    HashMap::new();
/// What ranges of ports are bound to; written by the daemon.
#[btf_map]
pub(crate) static PORT_RANGES: LpmTrie<PortPrefix, Bound, { MAX_PORT_RANGES as usize }> =
    LpmTrie::new();
/// Rules by binding; written by the daemon.
#[btf_map]
pub(crate) static BINDINGS: Array<Rule, { MAX_BINDINGS as usize }> = Array::new();
/// Rings by id, replaced whole by the daemon.
#[btf_map]
pub(crate) static RINGS: ArrayOfMaps<Array<u32, { RING_SIZE as usize }>, { MAX_RINGS as usize }> =
    ArrayOfMaps::new();
/// Members by place in a range of ports, replaced whole by the daemon.
#[btf_map]
pub(crate) static SPREADS: ArrayOfMaps<Array<u32, 1, ANY_LENGTH>, { MAX_SPREADS as usize }> =
    ArrayOfMaps::new();
/// Members by id; written by the daemon.
#[btf_map]
static BACKENDS4: Backends<V4> = Backends::new();
/// Members by id; written by the daemon.
#[btf_map]
static BACKENDS6: Backends<V6> = Backends::new();

/// Private space; written by the daemon.
#[btf_map]
static VIRTUAL_NETWORK4: Networks<V4> = Networks::new();
/// Private space; written by the daemon.
#[btf_map]
static VIRTUAL_NETWORK6: Networks<V6> = Networks::new();

/// Attached interfaces by slot; written by the daemon.
#[btf_map]
pub(crate) static INTERFACES: Array<Interface, { MAX_INTERFACES as usize }> = Array::new();
/// Slots of attached interfaces; written by the daemon.
#[btf_map]
pub(crate) static INTERFACE_SLOTS: HashMap<u32, u32, { MAX_INTERFACES as usize }> = HashMap::new();
/// Slots of VLAN devices; written by the daemon.
#[btf_map]
pub(crate) static VLANS: HashMap<VlanKey, u32, { MAX_INTERFACES as usize }> = HashMap::new();
/// Programs of the stages; put there by the loader.
#[btf_map]
pub(crate) static STAGES: ProgramArray<{ names::STAGE_PROGRAMS.len() }> = ProgramArray::new();
/// The daemon's trials; what became of them is written by the program.
#[btf_map]
pub(crate) static TRIALS: Array<Trial, { MAX_TRIALS as usize }> = Array::new();
/// Devices by slot; written by the daemon.
#[btf_map]
pub(crate) static TX_PORTS: DevMap<{ MAX_INTERFACES as usize }> = DevMap::new();

/// Packets by reason; written by the program.
#[btf_map]
pub(crate) static REASONS: PerCpuArray<u64, { REASON_SLOTS as usize }> = PerCpuArray::new();
/// Counters by rule id; written by the program.
#[btf_map]
pub(crate) static RULE_COUNTERS: PerCpuArray<RuleCounters, { MAX_RULES as usize }> =
    PerCpuArray::new();

/// Packets under way in fragments; used by the program alone.
#[btf_map]
static FRAGMENTS4: Fragmented<V4> = Fragmented::new();
/// Packets under way in fragments; used by the program alone.
#[btf_map]
static FRAGMENTS6: Fragmented<V6> = Fragmented::new();
/// What each CPU remembers; used by programs alone.
#[btf_map]
pub(crate) static PER_CPU: PerCpuArray<PerCpu, 1> = PerCpuArray::new();

/// Where first packets build their keys and entry; used by programs alone, and handed from one to the next.
#[btf_map]
static SCRATCH4: PerCpuArray<Scratch<V4>, 1> = PerCpuArray::new();
/// Where first packets build their keys and entry; used by programs alone, and handed from one to the next.
#[btf_map]
static SCRATCH6: PerCpuArray<Scratch<V6>, 1> = PerCpuArray::new();

/// What public IPs were lately translated; used by the program alone.
#[btf_map]
static RECENT4: RecentPairs<V4> = RecentPairs::new();
/// What public IPs were lately translated; used by the program alone.
#[btf_map]
static RECENT6: RecentPairs<V6> = RecentPairs::new();

/// Flows to be ended; written by the daemon, answered by the retire programs.
#[btf_map]
static RETIRE4: Array<RetireBatch<V4>, 1> = Array::new();
/// Flows to be ended; written by the daemon, answered by the retire programs.
#[btf_map]
static RETIRE6: Array<RetireBatch<V6>, 1> = Array::new();

/// Jiffies and boot clock; written by the clock program.
#[btf_map]
static CLOCKS: Array<[u64; 2], 1> = Array::new();

/// Not zero when tests drive the clock. Read-only once loaded, so the branch is pruned.
#[unsafe(no_mangle)]
static DETERMINISTIC: u32 = 0;

/// Families whose flows move from a former table: bit 0 for IPv4, bit 1 for IPv6. Read-only once loaded.
#[unsafe(no_mangle)]
static FORMER: u32 = 0;

/// Whether flows of a family move from a former table.
#[inline(always)]
fn has_former(bit: u32) -> bool {
    // SAFETY: as for the clock.
    unsafe { (&raw const FORMER).read_volatile() & bit != 0 }
}

/// Whether flows of any family move from a former table.
#[inline(always)]
pub(crate) fn flows_move() -> bool {
    has_former(u32::MAX)
}

/// Whether all packets ask the new tables first, so that new flows may go there.
#[inline(always)]
pub(crate) fn is_moving() -> bool {
    MOVING.get(0).is_some_and(|moving| *moving != 0)
}

/// Whether tests drive the clock.
#[inline(always)]
pub(crate) fn is_deterministic() -> bool {
    // SAFETY: a valid static; volatile, because the loader changes it after compilation.
    unsafe { (&raw const DETERMINISTIC).read_volatile() != 0 }
}

/// Publishes the clocks.
#[inline(always)]
pub(crate) fn set_clocks(jiffies: u64, boot_nanoseconds: u64) {
    if let Some(clocks) = CLOCKS.get_ptr_mut(0) {
        // SAFETY: a value of the map's only slot.
        unsafe { *clocks = [jiffies, boot_nanoseconds] };
    }
}

/// The maps of a family.
pub(crate) trait Maps: Family + Apart {
    fn flows() -> &'static Flows<Self>;
    /// The table that flows move from.
    fn former() -> &'static Flows<Self>;
    /// Whether there is one.
    fn has_former() -> bool;
    fn untrusted() -> &'static Untrusted<Self>;
    /// Entries in the flow table.
    fn occupied() -> Option<*mut u64>;
    fn replies() -> &'static Replies<Self>;
    fn ways() -> &'static Ways<Self>;
    fn way_counters(key: &WayKey<Self>) -> Option<*mut WayCounters<Self>>;
    fn snat_ranges() -> &'static SnatRanges<Self>;
    fn public_ips() -> &'static PublicIps<Self>;
    fn addresses() -> &'static Addresses<Self>;
    fn backends() -> &'static Backends<Self>;
    fn scratch() -> &'static PerCpuArray<Scratch<Self>, 1>;
    fn recent_pairs() -> &'static RecentPairs<Self>;
    fn fragments() -> &'static Fragmented<Self>;
    fn retire_batch() -> Option<&'static mut RetireBatch<Self>>;
    fn is_virtual_network(address: Self) -> bool;
}

impl Maps for V4 {
    #[inline(always)]
    fn flows() -> &'static Flows<Self> {
        &FLOWS4
    }

    #[inline(always)]
    fn former() -> &'static Flows<Self> {
        &FORMER_FLOWS4
    }

    #[inline(always)]
    fn has_former() -> bool {
        has_former(1)
    }

    #[inline(always)]
    fn untrusted() -> &'static Untrusted<Self> {
        &UNTRUSTED4
    }

    #[inline(always)]
    fn occupied() -> Option<*mut u64> {
        OCCUPIED.get_ptr_mut(0)
    }

    #[inline(always)]
    fn replies() -> &'static Replies<Self> {
        &REVERSE4
    }

    #[inline(always)]
    fn ways() -> &'static Ways<Self> {
        &WAYS4
    }

    #[inline(always)]
    fn way_counters(key: &WayKey<Self>) -> Option<*mut WayCounters<Self>> {
        WAY_COUNTERS4.get_ptr_mut(key)
    }

    #[inline(always)]
    fn snat_ranges() -> &'static SnatRanges<Self> {
        &SNAT_RANGES4
    }

    #[inline(always)]
    fn public_ips() -> &'static PublicIps<Self> {
        &PUBLIC_IPS4
    }

    #[inline(always)]
    fn addresses() -> &'static Addresses<Self> {
        &ADDRESSES4
    }

    #[inline(always)]
    fn backends() -> &'static Backends<Self> {
        &BACKENDS4
    }

    #[inline(always)]
    fn scratch() -> &'static PerCpuArray<Scratch<Self>, 1> {
        &SCRATCH4
    }

    #[inline(always)]
    fn recent_pairs() -> &'static RecentPairs<Self> {
        &RECENT4
    }

    #[inline(always)]
    fn fragments() -> &'static Fragmented<Self> {
        &FRAGMENTS4
    }

    #[inline(always)]
    fn retire_batch() -> Option<&'static mut RetireBatch<Self>> {
        // SAFETY: one daemon runs one retire program at a time.
        RETIRE4.get_ptr_mut(0).map(|batch| unsafe { &mut *batch })
    }

    #[inline(always)]
    fn is_virtual_network(address: Self) -> bool {
        VIRTUAL_NETWORK4.get(&Key::new(32, address)).is_some()
    }
}

impl Maps for V6 {
    #[inline(always)]
    fn flows() -> &'static Flows<Self> {
        &FLOWS6
    }

    #[inline(always)]
    fn former() -> &'static Flows<Self> {
        &FORMER_FLOWS6
    }

    #[inline(always)]
    fn has_former() -> bool {
        has_former(2)
    }

    #[inline(always)]
    fn untrusted() -> &'static Untrusted<Self> {
        &UNTRUSTED6
    }

    #[inline(always)]
    fn occupied() -> Option<*mut u64> {
        OCCUPIED.get_ptr_mut(1)
    }

    #[inline(always)]
    fn replies() -> &'static Replies<Self> {
        &REVERSE6
    }

    #[inline(always)]
    fn ways() -> &'static Ways<Self> {
        &WAYS6
    }

    #[inline(always)]
    fn way_counters(key: &WayKey<Self>) -> Option<*mut WayCounters<Self>> {
        WAY_COUNTERS6.get_ptr_mut(key)
    }

    #[inline(always)]
    fn snat_ranges() -> &'static SnatRanges<Self> {
        &SNAT_RANGES6
    }

    #[inline(always)]
    fn public_ips() -> &'static PublicIps<Self> {
        &PUBLIC_IPS6
    }

    #[inline(always)]
    fn addresses() -> &'static Addresses<Self> {
        &ADDRESSES6
    }

    #[inline(always)]
    fn backends() -> &'static Backends<Self> {
        &BACKENDS6
    }

    #[inline(always)]
    fn scratch() -> &'static PerCpuArray<Scratch<Self>, 1> {
        &SCRATCH6
    }

    #[inline(always)]
    fn recent_pairs() -> &'static RecentPairs<Self> {
        &RECENT6
    }

    #[inline(always)]
    fn fragments() -> &'static Fragmented<Self> {
        &FRAGMENTS6
    }

    #[inline(always)]
    fn retire_batch() -> Option<&'static mut RetireBatch<Self>> {
        // SAFETY: one daemon runs one retire program at a time.
        RETIRE6.get_ptr_mut(0).map(|batch| unsafe { &mut *batch })
    }

    #[inline(always)]
    fn is_virtual_network(address: Self) -> bool {
        VIRTUAL_NETWORK6.get(&Key::new(128, address)).is_some()
    }
}
