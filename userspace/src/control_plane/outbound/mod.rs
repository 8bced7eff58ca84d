//! How instances reach the outside: a way for each source and protocol, and the ports of each.
//!
//! ```text
//! promises of the configuration ─► groups ─► blocks of each source ─► ranges, burst ─► ways
//! ```

mod groups;
mod numbers;
mod placement;
mod runs;
mod ways;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use forebay_common::abi::{MAX_WAYS, SnatRange, Way, WayKey};
use forebay_common::family::{Family as Raw, V4, V6};
use forebay_common::wire::{TCP, UDP};

use self::groups::{Group, groups};
use self::numbers::Numbers;
use self::placement::{Claimant, Piece, place};
use self::runs::{Block, Runs};
use super::desired::Inputs;
use super::ids::NoIdLeft;
use super::state::{FamilyState, TableState};
use crate::config::model::Config;
use crate::config::snat::{self, BLOCK, Family};

pub(super) use self::groups::{former_rules, rule_key, rule_of_key, snat_addresses};

/// Of the ports that nobody reserved, the part of those who only want to reach this address from inside, where
/// the others use theirs endpoint-independently: 1 in so many.
const HAIRPIN_PART: u32 = 8;

/// A family of addresses, as the tables and as the configuration know it.
pub(super) trait Side: Raw + Ord + Into<IpAddr> {
    /// What the configuration calls it.
    const FAMILY: Family;
    /// An address of this family.
    fn of(address: IpAddr) -> Option<Self>;
    /// Its tables.
    fn tables(state: &TableState) -> &FamilyState<Self>;
    /// Its tables.
    fn tables_mut(state: &mut TableState) -> &mut FamilyState<Self>;
}

impl Side for V4 {
    const FAMILY: Family = Family::V4;

    fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(address) => Some(address.into()),
            IpAddr::V6(_) => None,
        }
    }

    fn tables(state: &TableState) -> &FamilyState<Self> {
        &state.v4
    }

    fn tables_mut(state: &mut TableState) -> &mut FamilyState<Self> {
        &mut state.v4
    }
}

impl Side for V6 {
    const FAMILY: Family = Family::V6;

    fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V6(address) => Some(address.into()),
            IpAddr::V4(_) => None,
        }
    }

    fn tables(state: &TableState) -> &FamilyState<Self> {
        &state.v6
    }

    fn tables_mut(state: &mut TableState) -> &mut FamilyState<Self> {
        &mut state.v6
    }
}

/// An address with ports.
struct Store<A> {
    address: A,
    /// Blocks that no rule takes.
    blocks: Runs,
    /// Whoever has no way of its own may reach its rules.
    has_rules: bool,
}

impl Inputs<'_> {
    /// Adds the ways of both families, and their ranges.
    pub(super) fn add_outbound(&self, state: &mut TableState) -> Result<(), NoIdLeft> {
        let plan = snat::plan(self.config);
        self.add_ways::<V4>(&plan, state)?;
        self.add_ways::<V6>(&plan, state)
    }

    fn add_ways<A: Side>(&self, plan: &snat::Plan, state: &mut TableState) -> Result<(), NoIdLeft> {
        let stores = self.stores::<A>();
        let groups = groups::<A>(self.config, plan, &stores);
        let applied = A::tables(self.applied);
        let family = match A::FAMILY {
            Family::V4 => 0,
            Family::V6 => 1,
        };
        let mut table = Table {
            ways: BTreeMap::new(),
            numbers: Numbers::of(applied, &self.cooling.ranges[family]),
        };
        for protocol in [TCP, UDP, A::ICMP] {
            let groups = groups::of_protocol(&groups, protocol);
            self.add_protocol(&stores, &groups, protocol, &mut table)?;
            self.add_public_ips_ways(protocol, &mut table)?;
        }
        if table.ways.len() > MAX_WAYS as usize {
            return Err(NoIdLeft {
                kind: "ways out (one for each IP configuration and protocol)",
                limit: MAX_WAYS,
            });
        }
        let tables = A::tables_mut(state);
        tables.ways = table.ways;
        tables.snat_ranges = table.numbers.into_ranges();
        Ok(())
    }

    /// The addresses of all frontends, in order.
    fn stores<A: Side>(&self) -> Vec<Store<A>> {
        let mut stores = BTreeMap::new();
        let with_rules = with_rules(self.config);
        for frontend in &self.config.frontends {
            let taken = snat::taken_blocks(self.config, &frontend.name);
            let blocks = Runs::without(taken.into_iter().map(|block| block as Block));
            for address in frontend.every_address() {
                if let Some(raw) = A::of(address) {
                    let store = Store {
                        address: raw,
                        blocks: blocks.clone(),
                        has_rules: with_rules.contains(&frontend.name.as_str()),
                    };
                    stores.insert(address, store);
                }
            }
        }
        stores.into_values().collect()
    }

    /// The ways of all sources over one protocol, and those towards rules of addresses for whoever has none.
    fn add_protocol<A: Side>(
        &self,
        stores: &[Store<A>],
        groups: &[Group<'_, A>],
        protocol: u8,
        table: &mut Table<A>,
    ) -> Result<(), NoIdLeft> {
        let applied = A::tables(self.applied);
        let position: BTreeMap<A, usize> = (stores.iter().map(|store| store.address))
            .zip(0..)
            .collect();
        let mut claimants = Vec::new();
        for group in groups {
            for source in &group.sources {
                claimants.push(Claimant {
                    seed: seed(*source),
                    blocks: group.blocks,
                    stores: &group.stores,
                    held: held(applied, WayKey::new(*source, protocol.into()), &position),
                });
            }
        }
        let mut free: Vec<Runs> = stores.iter().map(|store| store.blocks.clone()).collect();
        let mut pieces = place(&mut free, &claimants).into_iter();
        let burst = Burst::of(stores, groups, free, protocol);
        for group in groups {
            let way = self.way(group.method, protocol);
            let shared = if group.has_burst() {
                burst.of_stores(stores, &group.stores, way.flags)
            } else {
                Vec::new()
            };
            for source in &group.sources {
                let own = ranges(stores, &pieces.next().unwrap_or_default());
                let key = WayKey::new(*source, protocol.into());
                table.add(key, way, &own, &shared)?;
            }
            if group.is_default() {
                let key = WayKey::new(A::default(), protocol.into());
                table.add(key, way, &[], &shared)?;
            }
        }
        for (at, store) in stores
            .iter()
            .enumerate()
            .filter(|(_, store)| store.has_rules)
        {
            let way = self.hairpin(protocol);
            let shared = burst.of_stores(stores, &[at], way.flags);
            let key = WayKey::new(store.address, protocol.into());
            table.add(key, way, &[], &shared)?;
        }
        Ok(())
    }

    /// Whoever has no way of its own reaches a public IP with a port of that address itself, all of which are
    /// free for it: the public IP's own packets are to others.
    fn add_public_ips_ways<A: Side>(
        &self,
        protocol: u8,
        table: &mut Table<A>,
    ) -> Result<(), NoIdLeft> {
        for (public, _) in super::public_ips::pairs(self.config) {
            if let Some(address) = A::of(public) {
                let all = SnatRange {
                    address,
                    first: snat::FIRST_PORT,
                    count: snat::LAST_PORT - snat::FIRST_PORT + 1,
                    before: 0,
                };
                let key = WayKey::new(address, protocol.into());
                table.add(key, self.hairpin(protocol), &[], &[all])?;
            }
        }
        Ok(())
    }
}

/// Ways and ranges as they become.
struct Table<A> {
    ways: BTreeMap<WayKey<A>, Way>,
    numbers: Numbers<A>,
}

impl<A: Side> Table<A> {
    fn add(
        &mut self,
        key: WayKey<A>,
        way: Way,
        own: &[SnatRange<A>],
        shared: &[SnatRange<A>],
    ) -> Result<(), NoIdLeft> {
        let (first, ranges) = self.numbers.place(own)?;
        let (burst_first, burst_ranges) = self.numbers.place(shared)?;
        let way = Way {
            first,
            ranges,
            ports: ports(own),
            burst_first,
            burst_ranges,
            burst_ports: ports(shared),
            ..way
        };
        self.ways.insert(key, way);
        Ok(())
    }
}

fn ports<A>(ranges: &[SnatRange<A>]) -> u32 {
    let last = ranges.last();
    last.map_or(0, |last| last.before + u32::from(last.count))
}

/// The ports of pieces, numbered through.
fn ranges<A: Copy>(stores: &[Store<A>], pieces: &[Piece]) -> Vec<SnatRange<A>> {
    let mut before = 0;
    let range = |(store, run): &Piece| {
        let range = SnatRange {
            address: stores[*store].address,
            first: run.start * BLOCK as u16,
            count: (run.end - run.start) * BLOCK as u16,
            before,
        };
        before += u32::from(range.count);
        range
    };
    pieces.iter().map(range).collect()
}

/// What a way has now.
fn held<A: Side>(
    applied: &FamilyState<A>,
    key: WayKey<A>,
    position: &BTreeMap<A, usize>,
) -> Vec<Piece> {
    let Some(way) = applied.ways.get(&key) else {
        return Vec::new();
    };
    let ranges = numbers::list(applied, way.first, way.ranges).unwrap_or_default();
    let pieces = ranges.into_iter().filter_map(|range| {
        let block = BLOCK as u16;
        let first = range.first / block;
        Some((
            *position.get(&range.address)?,
            first..first + range.count / block,
        ))
    });
    pieces.collect()
}

/// What nobody reserved, by store, for each kind of use: a port that is one source's for all destinations cannot
/// be another's towards one.
struct Burst {
    independent: Vec<Runs>,
    per_destination: Vec<Runs>,
}

impl Burst {
    fn of<A>(stores: &[Store<A>], groups: &[Group<'_, A>], free: Vec<Runs>, protocol: u8) -> Self {
        let mut burst = Self {
            independent: vec![Runs::default(); stores.len()],
            per_destination: Vec::new(),
        };
        let uses = |store: usize, independent: bool| {
            groups.iter().any(|group| {
                group.has_burst()
                    && group.stores.contains(&store)
                    && group.method.is_independent(protocol) == independent
            })
        };
        for (at, (store, mut runs)) in stores.iter().zip(free).enumerate() {
            let last = if !uses(at, true) {
                runs.len()
            } else if uses(at, false) {
                runs.len() / 2
            } else if store.has_rules {
                runs.len().div_ceil(HAIRPIN_PART)
            } else {
                0
            };
            burst.per_destination.push(runs.split_off_last(last));
            burst.independent[at] = runs;
        }
        burst
    }

    fn of_stores<A: Copy>(
        &self,
        all: &[Store<A>],
        stores: &[usize],
        flags: u32,
    ) -> Vec<SnatRange<A>> {
        let kind = if flags & Way::ENDPOINT_INDEPENDENT != 0 {
            &self.independent
        } else {
            &self.per_destination
        };
        let pieces = stores
            .iter()
            .flat_map(|at| kind[*at].iter().map(|run| (*at, run)));
        ranges(all, &pieces.collect::<Vec<Piece>>())
    }
}

/// Names of frontends that packets can arrive at.
fn with_rules(config: &Config) -> BTreeSet<&str> {
    let rules = config.rules.iter().map(|rule| &rule.frontend);
    let nat_rules = config.inbound_nat_rules.iter();
    let all = rules.chain(nat_rules.map(|rule| &rule.frontend));
    all.map(String::as_str).collect()
}

/// FNV-1a of an address.
fn seed<A: Side>(address: A) -> u64 {
    let octets = match address.into() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    octets.iter().fold(0xcbf2_9ce4_8422_2325, step)
}
