//! The product's program with tables filled by hand: no daemon runs.

pub(crate) mod outbound;

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use aya::maps::{MapData, ProgramArray};
use aya::programs::Xdp;
use aya::{Ebpf, EbpfLoader};
use forebay_common::abi::{
    Backend, Bound, Interface, LAYOUT_VERSION, Owner, PortKey, RING_SIZE, Rule, RuleCounters,
    Settings, names,
};
use forebay_common::balance::{RingMember, build_ring, filter};
use forebay_common::family::{V4, V6};
use forebay_common::flow::{Flow, FlowKey, FlowKind, Seen, Timeouts, UntrustedSet};
use forebay_common::reason::{REASON_SLOTS, Reason};
use forebay_common::wire::{Mac, TCP, UDP};
use forebay_tests::engine::connect_stages;

use crate::bpf;
use crate::scene::{BACKEND_PORT, Course, Net, PORT, backends};
use crate::shared::{BACKENDS, TABLE_ENTRIES};

const HASH_KEY: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];
const RULE: u32 = 1;
const OUTBOUND_RULE: u32 = 2;
const BINDING: u32 = 1;
/// Sets of untrusted flows, as the daemon makes them for so many flows.
const UNTRUSTED_SETS: u32 = (TABLE_ENTRIES / 2 / 8 / 8).next_power_of_two();
const RING: u32 = 1;
/// Longer than any measurement, jiffies.
const LONG: u32 = 1 << 28;

/// An attached interface.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Port {
    pub(crate) slot: u32,
    pub(crate) ifindex: u32,
    pub(crate) mac: Mac,
}

/// Next hop of flows that are put into the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hop {
    pub(crate) mac: Mac,
    pub(crate) slot: u32,
}

/// How long next hops are good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HopLifetime {
    /// A second, as the daemon sets it.
    Second,
    /// They stay.
    Endless,
}

/// The object in the kernel.
pub(crate) struct Product {
    ebpf: Ebpf,
    ring: Vec<u32>,
    // Held by the map of rings too.
    _ring_map: OwnedFd,
    _stages: ProgramArray<MapData>,
}

/// Where the object is: named by the environment, else published by the build.
pub(crate) fn object_path() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("FOREBAY_BPF_OBJECT") {
        return Ok(path.into());
    }
    Ok(crate::target_dir()?.join("bpf/forebay-xdp"))
}

impl Product {
    /// Loads the object with tables of [`TABLE_ENTRIES`]. The calling thread is in the network
    /// namespace of the ports.
    pub(crate) fn load(path: &Path, ports: &[Port], hop_lifetime: HopLifetime) -> Result<Self> {
        let mut loader = EbpfLoader::new();
        loader
            .map_max_entries(names::FLOWS4, TABLE_ENTRIES)
            .map_max_entries(names::FLOWS6, TABLE_ENTRIES)
            .map_max_entries(names::UNTRUSTED4, UNTRUSTED_SETS)
            .map_max_entries(names::UNTRUSTED6, UNTRUSTED_SETS);
        let loaded = loader.load_file(path);
        let mut ebpf = loaded.with_context(|| format!("load {}", path.display()))?;
        bpf::program(&mut ebpf, names::CLOCKS_PROGRAM)?.load()?;
        let stages = connect_stages(&mut ebpf)?;
        let members: Vec<RingMember> = (1..=BACKENDS as u32)
            .map(|backend| RingMember {
                identity: backend.to_string().into_bytes(),
                weight: 1,
                backend,
            })
            .collect();
        let mut product = Self {
            ebpf,
            ring: build_ring(&members),
            _ring_map: bpf::create_array(RING_SIZE)?,
            _stages: stages,
        };
        product.configure(ports, hop_lifetime)?;
        Ok(product)
    }

    fn map(&self, name: &str) -> Result<BorrowedFd<'_>> {
        bpf::map_fd(&self.ebpf, name)
    }

    fn configure(&mut self, ports: &[Port], hop_lifetime: HopLifetime) -> Result<()> {
        use std::os::fd::AsFd;
        let slots: Vec<u32> = (0..RING_SIZE).collect();
        bpf::put_all(self._ring_map.as_fd(), &slots, &self.ring)?;
        let ring = self._ring_map.as_raw_fd();
        bpf::put(self.map(names::RINGS)?, &RING, &ring)?;
        self.configure_family::<V4>()?;
        self.configure_family::<V6>()?;
        let rule = Rule {
            id: RULE,
            targets: [RING; 2],
            tcp_idle: LONG,
            udp_idle: LONG,
            udp_dns: LONG,
            port_offset: BACKEND_PORT - PORT,
            flags: Rule::ACTIVE,
            ..Rule::default()
        };
        bpf::put(self.map(names::BINDINGS)?, &BINDING, &rule)?;
        let bound = Bound {
            first: BINDING,
            second: 0,
        };
        for protocol in [TCP, UDP] {
            let key = PortKey::new(1, protocol, PORT);
            bpf::put(self.map(names::PORTS)?, &key, &bound)?;
        }
        for port in ports {
            self.add_port(port)?;
        }
        let second = self.jiffies_a_second()?;
        let hop_lifetime = match hop_lifetime {
            HopLifetime::Second => second,
            HopLifetime::Endless => u32::MAX,
        };
        // Last: before it, packets pass.
        let jiffies = self.jiffies()?;
        let settings = Settings {
            layout: LAYOUT_VERSION,
            hash_key: HASH_KEY,
            timeouts: Timeouts {
                tcp_half_open: LONG,
                tcp_fin: LONG,
                tcp_rst: LONG,
                udp_unreplied: LONG,
                icmp_idle: LONG,
            },
            hops_valid_from: (jiffies as u32).wrapping_sub(1),
            hop_lifetime,
            second,
            untrusted_mask: UNTRUSTED_SETS - 1,
            promote_below: TABLE_ENTRIES / 100 * 80,
            grace: 10,
            ..Settings::default()
        };
        bpf::put(self.map(names::SETTINGS)?, &0_u32, &settings)
    }

    fn configure_family<A: Net>(&self) -> Result<()> {
        self.add_owner_of(
            A::FRONTEND,
            Owner {
                roles: Owner::FRONTEND,
                id: 1,
                on_link: u64::MAX,
            },
        )?;
        for (index, address) in backends::<A>().into_iter().enumerate() {
            self.add_owner(address, Owner::INSTANCE)?;
            let id = index as u32 + 1;
            bpf::put(self.map(A::MAPS.backends)?, &id, &Backend { address })?;
        }
        self.configure_outbound::<A>()
    }

    fn add_owner<A: Net>(&self, address: A, roles: u32) -> Result<()> {
        let owner = Owner {
            roles,
            ..Owner::default()
        };
        self.add_owner_of(address, owner)
    }

    fn add_owner_of<A: Net>(&self, address: A, owner: Owner) -> Result<()> {
        bpf::put(self.map(A::MAPS.addresses)?, &address, &owner)?;
        let filter_map = self.map(names::ADDRESS_FILTER)?;
        let (word, mask) = filter::bit(address);
        let bits: u64 = bpf::get(filter_map, word)?;
        bpf::put(filter_map, &word, &(bits | mask))
    }

    fn add_port(&self, port: &Port) -> Result<()> {
        let interface = Interface {
            ifindex: port.ifindex,
            mtu: 1500,
            mac_head: port.mac.head,
            mac_tail: port.mac.tail,
            nic: port.ifindex,
            ..Interface::default()
        };
        bpf::put(self.map(names::INTERFACES)?, &port.slot, &interface)?;
        bpf::put(self.map(names::INTERFACE_SLOTS)?, &port.ifindex, &port.slot)?;
        // Interface, and no program of its own.
        let target = [port.ifindex, 0];
        bpf::put(self.map(names::TX_PORTS)?, &port.slot, &target)
            .with_context(|| format!("make interface {} a target of redirects", port.ifindex))
    }

    /// The program.
    pub(crate) fn program(&mut self) -> Result<&mut Xdp> {
        bpf::program(&mut self.ebpf, names::PROGRAM)
    }

    /// The object, to look into.
    pub(crate) fn ebpf(&self) -> &Ebpf {
        &self.ebpf
    }

    /// Jiffies, and nanoseconds since boot.
    fn clocks(&mut self) -> Result<[u64; 2]> {
        bpf::run_bare(bpf::program(&mut self.ebpf, names::CLOCKS_PROGRAM)?)?;
        bpf::get(self.map(names::CLOCKS)?, 0)
    }

    fn jiffies(&mut self) -> Result<u64> {
        Ok(self.clocks()?[0])
    }

    fn jiffies_a_second(&mut self) -> Result<u32> {
        let [jiffies, nanoseconds] = self.clocks()?;
        std::thread::sleep(std::time::Duration::from_millis(100));
        let [later, then] = self.clocks()?;
        let seconds = (then - nanoseconds) as f64 / 1e9;
        Ok(((later - jiffies) as f64 / seconds).round() as u32)
    }

    /// Puts both directions of flows into the table, in their order, as established ones. `kind`: that of the
    /// first direction's entries.
    pub(crate) fn fill<A: Net>(
        &mut self,
        [there, back]: [Course<A>; 2],
        kind: u8,
        hop: Hop,
    ) -> Result<()> {
        let now = self.jiffies()?;
        let (mut keys, mut flows) = (Vec::new(), Vec::new());
        for flow in 0..there.flows {
            let (there, back) = (there.key(flow), back.key(flow));
            keys.extend([there, back]);
            flows.push(established(&back.reversed(), kind, hop, now));
            let kind = FlowKind::other_way(kind);
            flows.push(established(&there.reversed(), kind, hop, now));
        }
        bpf::put_all(self.map(A::MAPS.flows)?, &keys, &flows).context("fill the flow table")
    }

    /// Forgets all new flows.
    pub(crate) fn forget<A: Net>(&self) -> Result<()> {
        let numbers: Vec<u32> = (0..UNTRUSTED_SETS).collect();
        let nothing = vec![UntrustedSet::<A>::default(); numbers.len()];
        bpf::put_all(self.map(A::MAPS.untrusted)?, &numbers, &nothing).context("forget new flows")
    }

    /// Empties a flow table; says how many entries there were.
    pub(crate) fn clear<A: Net>(&self) -> Result<usize> {
        let entries = bpf::clear::<FlowKey<A>, Flow<A>>(self.map(A::MAPS.flows)?)?;
        self.forget_occupied()?;
        Ok(entries)
    }

    /// The program counts what it inserts, and does not see what is removed here.
    fn forget_occupied(&self) -> Result<()> {
        bpf::put_all(self.map(names::OCCUPIED)?, &[0_u32, 1], &[0_u64; 2])
    }

    /// Packets by reason, all CPUs.
    pub(crate) fn reasons(&self) -> Result<Vec<u64>> {
        let map = self.map(names::REASONS)?;
        (0..REASON_SLOTS)
            .map(|reason| Ok(bpf::get_per_cpu::<u64>(map, reason)?.iter().sum()))
            .collect()
    }

    /// Flows opened, all CPUs.
    pub(crate) fn new_flows(&self) -> Result<u64> {
        let map = self.map(names::RULE_COUNTERS)?;
        let opened = |rule| -> Result<u64> {
            let counters: Vec<RuleCounters> = bpf::get_per_cpu(map, rule)?;
            Ok(counters.iter().map(|counters| counters.new_flows).sum())
        };
        Ok(opened(RULE)? + opened(OUTBOUND_RULE)?)
    }
}

/// The entry of packets that become this, of an established flow.
fn established<A: Net>(becomes: &FlowKey<A>, kind: u8, hop: Hop, now: u64) -> Flow<A> {
    let seen = if becomes.protocol == u32::from(TCP) {
        Seen::SYN.with(Seen::ACK)
    } else {
        Seen::PACKET
    };
    let is_outbound = FlowKind::from_byte(kind) == Some(FlowKind::OutboundRule);
    Flow {
        source: becomes.source,
        destination: becomes.destination,
        ports: becomes.ports,
        idle_timeout: LONG,
        last_seen: now,
        packets: 0,
        bytes: 0,
        hop_head: hop.mac.head,
        hop_tail: hop.mac.tail,
        hop_slot: hop.slot as u16,
        hop_stamp: now as u32,
        last_ack: 0,
        rule: if is_outbound { OUTBOUND_RULE } else { RULE },
        seen_to_instance: seen.0,
        seen_from_instance: seen.0,
        kind,
        marks: 0,
    }
}

/// Fails unless exactly `packets` were counted, all under these reasons.
pub(crate) fn expect_reasons(
    before: &[u64],
    after: &[u64],
    reasons: &[Reason],
    packets: u64,
) -> Result<()> {
    let mut surprises = Vec::new();
    let mut expected = 0;
    for known in Reason::ALL {
        let slot = *known as usize;
        let counted = after[slot] - before[slot];
        if reasons.contains(known) {
            expected += counted;
        } else if counted != 0 {
            surprises.push(format!("{}: {counted}", known.label()));
        }
    }
    if surprises.is_empty() && expected == packets {
        return Ok(());
    }
    bail!(
        "{expected} of {packets} packets went the expected way; others: {}",
        surprises.join(", ")
    );
}
