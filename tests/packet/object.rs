//! The object is what the daemon takes it for.

use std::fs;
use std::mem::size_of;

use aya_obj::{Map, Object};
use forebay_common::abi::{
    Backend, Bound, FragmentKey, Fragments, Interface, LOCKS, MAX_ADDRESSES, MAX_BACKENDS,
    MAX_BINDINGS, MAX_FRAGMENTED, MAX_INTERFACES, MAX_PORT_RANGES, MAX_PORTS, MAX_PUBLIC_IPS,
    MAX_REVERSE, MAX_RINGS, MAX_RULES, MAX_SNAT_RANGES, MAX_SPREADS, MAX_VIRTUAL_NETWORKS,
    MAX_WAYS, Owner, POSITIONS, PortKey, PortPrefix, Position, PublicIp, RING_SIZE, RetireBatch,
    Reverse, ReverseKey, Rule, RuleCounters, SOURCES, Settings, SnatRange, TRIALS, Trial, VlanKey,
    Way, WayCounters, WayKey, names,
};
use forebay_common::balance::filter;
use forebay_common::family::{V4, V6};
use forebay_common::flow::{Flow, FlowKey, UntrustedSet};
use forebay_common::reason::REASON_SLOTS;
use forebay_common::tables::{PerCpu, Scratch};
use forebay_tests::engine::object_path;

/// Map types, by their numbers in the kernel's interface.
const HASH: u32 = 1;
const ARRAY: u32 = 2;
const PROGRAM_ARRAY: u32 = 3;
const PER_CPU_ARRAY: u32 = 6;
const LRU_HASH: u32 = 9;
const LPM_TRIE: u32 = 11;
const ARRAY_OF_MAPS: u32 = 12;
const DEV_MAP: u32 = 14;

/// The ring that aya-log writes to.
const LOG: &str = "AYA_LOGS";

/// Flag of hash tables whose elements are allocated one by one.
const NO_PREALLOC: u32 = 1;

fn object() -> Object {
    let path = object_path().unwrap();
    Object::parse(&fs::read(path).unwrap()).unwrap()
}

/// What a map is: type, key size, value size, entries.
type Shape = (&'static str, u32, usize, usize, u32);

/// The map of every name in `common::abi`. Entries 0: the daemon decides.
fn shapes() -> Vec<Shape> {
    let word = size_of::<u32>();
    let prefix = |address: usize| word + address;
    vec![
        (names::SETTINGS, ARRAY, word, size_of::<Settings>(), 1),
        (
            names::FLOWS4,
            HASH,
            size_of::<FlowKey<V4>>(),
            size_of::<Flow<V4>>(),
            0,
        ),
        (
            names::FLOWS6,
            HASH,
            size_of::<FlowKey<V6>>(),
            size_of::<Flow<V6>>(),
            0,
        ),
        (
            names::FORMER_FLOWS4,
            HASH,
            size_of::<FlowKey<V4>>(),
            size_of::<Flow<V4>>(),
            0,
        ),
        (
            names::FORMER_FLOWS6,
            HASH,
            size_of::<FlowKey<V6>>(),
            size_of::<Flow<V6>>(),
            0,
        ),
        (names::MOVING, ARRAY, word, word, 1),
        (
            names::UNTRUSTED4,
            ARRAY,
            word,
            size_of::<UntrustedSet<V4>>(),
            0,
        ),
        (
            names::UNTRUSTED6,
            ARRAY,
            word,
            size_of::<UntrustedSet<V6>>(),
            0,
        ),
        (names::OCCUPIED, ARRAY, word, size_of::<u64>(), 2),
        (names::SOURCES, ARRAY, word, size_of::<u64>(), SOURCES),
        (
            names::POSITIONS,
            ARRAY,
            word,
            size_of::<Position>(),
            POSITIONS,
        ),
        (names::LOCKS, ARRAY, word, size_of::<u64>(), LOCKS),
        (names::TRIALS, ARRAY, word, size_of::<Trial>(), TRIALS),
        (
            names::REVERSE4,
            LPM_TRIE,
            prefix(size_of::<ReverseKey<V4>>()),
            size_of::<Reverse<V4>>(),
            MAX_REVERSE,
        ),
        (
            names::REVERSE6,
            LPM_TRIE,
            prefix(size_of::<ReverseKey<V6>>()),
            size_of::<Reverse<V6>>(),
            MAX_REVERSE,
        ),
        (
            names::WAYS6,
            HASH,
            size_of::<WayKey<V6>>(),
            size_of::<Way>(),
            MAX_WAYS,
        ),
        (
            names::WAY_COUNTERS6,
            HASH,
            size_of::<WayKey<V6>>(),
            size_of::<WayCounters<V6>>(),
            MAX_WAYS,
        ),
        (
            names::SNAT_RANGES6,
            ARRAY,
            word,
            size_of::<SnatRange<V6>>(),
            MAX_SNAT_RANGES,
        ),
        (
            names::PUBLIC_IPS6,
            HASH,
            size_of::<V6>(),
            size_of::<PublicIp<V6>>(),
            2 * MAX_PUBLIC_IPS,
        ),
        (
            names::WAYS4,
            HASH,
            size_of::<WayKey<V4>>(),
            size_of::<Way>(),
            MAX_WAYS,
        ),
        (
            names::WAY_COUNTERS4,
            HASH,
            size_of::<WayKey<V4>>(),
            size_of::<WayCounters<V4>>(),
            MAX_WAYS,
        ),
        (
            names::SNAT_RANGES4,
            ARRAY,
            word,
            size_of::<SnatRange<V4>>(),
            MAX_SNAT_RANGES,
        ),
        (
            names::PUBLIC_IPS4,
            HASH,
            size_of::<V4>(),
            size_of::<PublicIp<V4>>(),
            2 * MAX_PUBLIC_IPS,
        ),
        (
            names::ADDRESSES4,
            HASH,
            size_of::<V4>(),
            size_of::<Owner>(),
            MAX_ADDRESSES,
        ),
        (
            names::ADDRESSES6,
            HASH,
            size_of::<V6>(),
            size_of::<Owner>(),
            MAX_ADDRESSES,
        ),
        (
            names::ADDRESS_FILTER,
            ARRAY,
            word,
            size_of::<u64>(),
            filter::WORDS,
        ),
        (
            names::PORTS,
            HASH,
            size_of::<PortKey>(),
            size_of::<Bound>(),
            MAX_PORTS,
        ),
        (
            names::PORT_RANGES,
            LPM_TRIE,
            prefix(size_of::<PortPrefix>()),
            size_of::<Bound>(),
            MAX_PORT_RANGES,
        ),
        (
            names::BINDINGS,
            ARRAY,
            word,
            size_of::<Rule>(),
            MAX_BINDINGS,
        ),
        (names::RINGS, ARRAY_OF_MAPS, word, word, MAX_RINGS),
        (names::SPREADS, ARRAY_OF_MAPS, word, word, MAX_SPREADS),
        (
            names::BACKENDS4,
            ARRAY,
            word,
            size_of::<Backend<V4>>(),
            MAX_BACKENDS,
        ),
        (
            names::BACKENDS6,
            ARRAY,
            word,
            size_of::<Backend<V6>>(),
            MAX_BACKENDS,
        ),
        (
            names::VIRTUAL_NETWORK4,
            LPM_TRIE,
            prefix(4),
            word,
            MAX_VIRTUAL_NETWORKS,
        ),
        (
            names::VIRTUAL_NETWORK6,
            LPM_TRIE,
            prefix(16),
            word,
            MAX_VIRTUAL_NETWORKS,
        ),
        (
            names::INTERFACES,
            ARRAY,
            word,
            size_of::<Interface>(),
            MAX_INTERFACES,
        ),
        (names::INTERFACE_SLOTS, HASH, word, word, MAX_INTERFACES),
        (
            names::VLANS,
            HASH,
            size_of::<VlanKey>(),
            word,
            MAX_INTERFACES,
        ),
        (
            names::STAGES,
            PROGRAM_ARRAY,
            word,
            word,
            names::STAGE_PROGRAMS.len() as u32,
        ),
        (
            names::FRAGMENTS4,
            LRU_HASH,
            size_of::<FragmentKey<V4>>(),
            size_of::<Fragments>(),
            MAX_FRAGMENTED,
        ),
        (
            names::FRAGMENTS6,
            LRU_HASH,
            size_of::<FragmentKey<V6>>(),
            size_of::<Fragments>(),
            MAX_FRAGMENTED,
        ),
        (names::PER_CPU, PER_CPU_ARRAY, word, size_of::<PerCpu>(), 1),
        (
            names::SCRATCH4,
            PER_CPU_ARRAY,
            word,
            size_of::<Scratch<V4>>(),
            1,
        ),
        (
            names::SCRATCH6,
            PER_CPU_ARRAY,
            word,
            size_of::<Scratch<V6>>(),
            1,
        ),
        (names::TX_PORTS, DEV_MAP, word, 8, MAX_INTERFACES),
        (
            names::REASONS,
            PER_CPU_ARRAY,
            word,
            size_of::<u64>(),
            REASON_SLOTS,
        ),
        (
            names::RULE_COUNTERS,
            PER_CPU_ARRAY,
            word,
            size_of::<RuleCounters>(),
            MAX_RULES,
        ),
        (names::RETIRE4, ARRAY, word, size_of::<RetireBatch<V4>>(), 1),
        (names::RETIRE6, ARRAY, word, size_of::<RetireBatch<V6>>(), 1),
        (names::CLOCKS, ARRAY, word, size_of::<[u64; 2]>(), 1),
    ]
}

#[test]
fn maps_have_the_sizes_of_their_types() {
    let object = object();
    for (name, kind, key, value, entries) in shapes() {
        let map = object
            .maps
            .get(name)
            .unwrap_or_else(|| panic!("no map {name}"));
        assert_eq!(map.map_type(), kind, "type of {name}");
        assert_eq!(map.key_size() as usize, key, "key of {name}");
        let found = map.value_size() as usize;
        // Older kernels know devmap entries of a word only; the loader may ask for either.
        let is_right = found == value || (kind == DEV_MAP && found == 4);
        assert!(is_right, "value of {name}: {found} bytes");
        if entries != 0 {
            assert_eq!(map.max_entries(), entries, "entries of {name}");
        }
    }
}

#[test]
fn there_are_no_maps_that_the_daemon_does_not_know() {
    let known: Vec<&str> = shapes().iter().map(|shape| shape.0).collect();
    let own = ["RECENT4", "RECENT6", LOG];
    let object = object();
    let unknown: Vec<&String> = object
        .maps
        .keys()
        .filter(|name| !known.contains(&name.as_str()) && !own.contains(&name.as_str()))
        .filter(|name| !name.starts_with('.'))
        .collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn rings_are_arrays_of_backend_ids() {
    let object = object();
    let ring = object.maps[names::RINGS].inner().unwrap();
    assert_eq!(ring.map_type(), ARRAY);
    assert_eq!((ring.key_size(), ring.value_size()), (4, 4));
    assert_eq!(ring.max_entries(), RING_SIZE);
}

#[test]
fn flow_tables_are_preallocated() {
    // A preallocated element is never freed, so whoever found it may still look at it.
    let object = object();
    for name in [names::FLOWS4, names::FLOWS6] {
        assert_eq!(object.maps[name].map_flags() & NO_PREALLOC, 0, "{name}");
    }
}

#[test]
fn programs_and_globals_are_there() {
    let object = object();
    let retire = names::RETIRE_PROGRAMS;
    for name in [names::PROGRAM, names::CLOCKS_PROGRAM, retire[0], retire[1]] {
        assert!(object.programs.contains_key(name), "no program {name}");
    }
    let path = object_path().unwrap();
    let mut object = Object::parse(&fs::read(path).unwrap()).unwrap();
    let value = 1_u32.to_ne_bytes();
    let globals = [(names::DETERMINISTIC, (&value[..], true))];
    object
        .patch_map_data(globals.into_iter().collect())
        .unwrap();
}

#[test]
fn the_program_takes_frames_in_several_buffers() {
    let object = object();
    let section = &object.programs[names::PROGRAM].section;
    assert!(
        matches!(section, aya_obj::ProgramSection::Xdp { frags: true, .. }),
        "{section:?}"
    );
}

#[test]
fn a_flow_takes_no_more_memory_than_promised() {
    // An element of a preallocated hash table: 48 bytes of the kernel's own before the key, key and
    // value each rounded up to 8. A bucket takes 16 bytes, and there are at most two for an element.
    let element =
        |key: usize, value: usize| 48 + key.next_multiple_of(8) + value.next_multiple_of(8);
    let of_a_flow = |entry: usize| 2 * (entry + 2 * 16);
    let v4 = of_a_flow(element(size_of::<FlowKey<V4>>(), size_of::<Flow<V4>>()));
    let v6 = of_a_flow(element(size_of::<FlowKey<V6>>(), size_of::<Flow<V6>>()));
    assert!(v4 <= 320, "{v4} bytes for an IPv4 flow");
    assert!(v6 <= 416, "{v6} bytes for an IPv6 flow");
}

#[test]
fn every_map_is_described_in_btf() {
    // So bpftool and libbpf load the object too, and dumps have field names.
    for (name, map) in &object().maps {
        let described = matches!(map, Map::Btf(_)) || name.starts_with('.') || name == LOG;
        assert!(described, "{name}");
    }
}
