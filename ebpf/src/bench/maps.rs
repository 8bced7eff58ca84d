//! The bench's own maps.

use aya_ebpf::btf_maps::{Array, DevMap, HashMap, PerCpuArray, ProgramArray};
use aya_ebpf::macros::btf_map;
use forebay_common::family::{V4, V6};
use forebay_common::flow::FlowKey;

use crate::shared::{Arrivals, Expectation, Plan, Service, TABLE_ENTRIES, Translation};

/// Table of the minimal translator.
pub(crate) type Translations<A> = HashMap<FlowKey<A>, Translation<A>, { TABLE_ENTRIES as usize }>;

/// How packets are written.
#[btf_map]
pub(crate) static PLAN: Array<Plan, 1> = Array::new();
/// Slot 0: the program that is measured.
#[btf_map]
pub(crate) static TARGET: ProgramArray<1> = ProgramArray::new();

/// Flows of the minimal translator, and of the programs that only look up.
#[btf_map]
pub(crate) static TRANSLATIONS4: Translations<V4> = Translations::new();
/// Flows of the minimal translator, and of the programs that only look up.
#[btf_map]
pub(crate) static TRANSLATIONS6: Translations<V6> = Translations::new();
/// Rule of the minimal translator.
#[btf_map]
pub(crate) static MINIMAL4: Array<Service<V4>, 1> = Array::new();
/// Rule of the minimal translator.
#[btf_map]
pub(crate) static MINIMAL6: Array<Service<V6>, 1> = Array::new();
/// Packets of the minimal translator.
#[btf_map]
pub(crate) static PACKETS: PerCpuArray<u64, 1> = PerCpuArray::new();

/// Devices by slot.
#[btf_map]
pub(crate) static TX_PORTS: DevMap<8> = DevMap::new();

/// What the drop program counted.
#[btf_map]
pub(crate) static ARRIVALS: PerCpuArray<Arrivals, 1> = PerCpuArray::new();
/// What the drop program expects.
#[btf_map]
pub(crate) static EXPECTATION: Array<Expectation, 1> = Array::new();
