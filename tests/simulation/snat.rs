//! Which SNAT ports the tables give to whom.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use forebay::config::model::Config;
use forebay_common::abi::{Owner, SnatRange, Way, WayKey};
use forebay_common::family::{V4, V6};
use forebay_common::model::{FamilyModel, ModelTables};
use forebay_tests::network::{IpVersion, Side};

use crate::look::{Tuple, look, nobody};
use crate::outgoing::Outgoing;
use crate::ways::WaysOut;

/// More ports than a test looks at one by one.
const MANY: usize = 1_088;
/// Ports go in blocks of so many.
const BLOCK: u16 = 8;

/// Ports of an address.
type Ports = (IpAddr, RangeInclusive<u16>);
/// A block of ports.
type Block = (IpAddr, u16);
/// The source and protocol of a way.
type Source = (IpAddr, u8);

fn ranges<A: Side>(model: &FamilyModel<A>, first: u32, count: u32) -> Vec<Ports> {
    let numbers = first..first + count;
    let found = numbers.filter_map(|number| model.snat_ranges.get(&number));
    let ports = |range: &SnatRange<A>| {
        (
            range.address.into(),
            range.first..=range.first + (range.count - 1),
        )
    };
    found.map(ports).collect()
}

fn own<A: Side>(model: &FamilyModel<A>, way: &Way) -> Vec<Ports> {
    ranges(model, way.first, way.ranges)
}

fn burst<A: Side>(model: &FamilyModel<A>, way: &Way) -> Vec<Ports> {
    ranges(model, way.burst_first, way.burst_ranges)
}

fn way_of<'m, A: Side>(model: &'m FamilyModel<A>, one: &Outgoing) -> Option<&'m Way> {
    let protocol = u32::from(one.protocol);
    let source: A = one.inside.0.raw();
    let owner = model.addresses.get(&source);
    let is_instance = owner.is_some_and(|owner| owner.roles & Owner::INSTANCE != 0);
    let source = if is_instance { source } else { A::default() };
    model.ways.get(&WayKey::new(source, protocol))
}

fn ports_in<A: Side>(model: &FamilyModel<A>, one: &Outgoing) -> Vec<Ports> {
    let way = way_of(model, one);
    way.map_or(Vec::new(), |way| {
        let mut all = own(model, way);
        all.extend(burst(model, way));
        all
    })
}

/// Ports that a new flow of the source of `one` may have.
pub(crate) fn ports_of(model: &ModelTables, one: &Outgoing) -> Vec<Ports> {
    match one.version {
        IpVersion::V4 => ports_in::<V4>(&model.v4, one),
        IpVersion::V6 => ports_in::<V6>(&model.v6, one),
    }
}

/// A port that nobody has towards the destination of `one`, or towards everybody if it must be that; none is
/// looked for among very many.
pub(crate) fn free_port(model: &ModelTables, one: &Outgoing) -> Option<(IpAddr, u16)> {
    let all = ports_of(model, one);
    if all.iter().map(|(_, ports)| ports.len()).sum::<usize>() > MANY {
        return None;
    }
    let way = match one.version {
        IpVersion::V4 => way_of::<V4>(&model.v4, one),
        IpVersion::V6 => way_of::<V6>(&model.v6, one),
    };
    let is_mapped = way.is_some_and(|way| way.flags & Way::ENDPOINT_INDEPENDENT != 0);
    let towards = |public: (IpAddr, u16)| Tuple {
        source: if is_mapped {
            (nobody(public.0), 0)
        } else {
            one.outer()
        },
        destination: public,
        protocol: one.protocol,
    };
    let mut ports = all
        .into_iter()
        .flat_map(|(address, ports)| ports.map(move |port| (address, port)));
    ports.find(|public| {
        let held = look(model, &towards(*public));
        !held.is_some_and(|held| held.is_trusted())
    })
}

fn blocks(ports: &[Ports]) -> impl Iterator<Item = Block> + '_ {
    ports.iter().flat_map(|(address, ports)| {
        let (first, last) = (ports.start() / BLOCK, ports.end() / BLOCK);
        (first..=last).map(move |block| (*address, block))
    })
}

/// Blocks that every source has by itself.
#[derive(Debug, Default)]
pub(crate) struct Reserved(BTreeMap<Source, BTreeSet<Block>>);

impl Reserved {
    pub(crate) fn of(model: &ModelTables) -> Self {
        let mut reserved = Self::default();
        reserved.add(&model.v4);
        reserved.add(&model.v6);
        reserved
    }

    fn add<A: Side>(&mut self, model: &FamilyModel<A>) {
        for (key, way) in &model.ways {
            let held = blocks(&own(model, way)).collect();
            let source = (key.source.into(), key.protocol as u8);
            self.0.insert(source, held);
        }
    }

    fn owners(&self, protocol: u8, block: Block) -> usize {
        let all = self.0.iter();
        all.filter(|((_, of), held)| *of == protocol && held.contains(&block))
            .count()
    }

    /// Whether every source keeps of `before` what it may keep and is still promised.
    pub(crate) fn check(&self, before: &Self, config: &Arc<Config>) -> Result<(), String> {
        let files = [Arc::clone(config)];
        for (source, held) in &self.0 {
            let Some(former) = before.0.get(source) else {
                continue;
            };
            let ways = WaysOut::of(&files, source.0, source.1);
            // A daemon that died may have given a block to two.
            let may_stay = |block: &&Block| {
                ways.has((block.0, block.1 * BLOCK)) && before.owners(source.1, **block) == 1
            };
            let stays = former.iter().filter(may_stay).count();
            let kept = former.intersection(held).count();
            if kept < stays.min(held.len()) {
                return Err(format!(
                    "{source:?} keeps {kept} of {stays} blocks, and has {}",
                    held.len()
                ));
            }
        }
        Ok(())
    }
}

/// Invariants of the ranges that a configuration gives: nobody has another's, and no rule's.
pub(crate) fn check_ranges(model: &ModelTables, config: &Arc<Config>) -> Result<(), String> {
    check_family(&model.v4, config)?;
    check_family(&model.v6, config)
}

/// Whose a range is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Whose {
    Source(IpAddr),
    /// Everybody's, with one port for all destinations or not.
    Shared(bool),
}

fn check_family<A: Side>(model: &FamilyModel<A>, config: &Arc<Config>) -> Result<(), String> {
    let files = [Arc::clone(config)];
    let mut all: BTreeSet<(u32, IpAddr, u16, u16, Whose)> = BTreeSet::new();
    for (key, way) in &model.ways {
        let source: IpAddr = key.source.into();
        let own = own(model, way);
        if own.len() != way.ranges as usize {
            return Err(format!("{source}: there are {own:?} of {way:?}"));
        }
        let ways = WaysOut::of(&files, source, key.protocol as u8);
        for block in blocks(&own) {
            let last = (block.0, block.1 * BLOCK + (BLOCK - 1));
            if !ways.has(last) {
                return Err(format!("{source} may not have {last:?}: {ways:?}"));
            }
        }
        let is_independent = way.flags & Way::ENDPOINT_INDEPENDENT != 0;
        let own = own.into_iter().map(|range| (range, Whose::Source(source)));
        let burst = burst(model, way).into_iter();
        let burst = burst.map(|range| (range, Whose::Shared(is_independent)));
        // All ports of a public IP are those of whoever wants to reach it from inside.
        let shared = burst.filter(|_| !is_public(config, source));
        all.extend(own.chain(shared).map(|((address, ports), whose)| {
            (key.protocol, address, *ports.start(), *ports.end(), whose)
        }));
    }
    let mut all = all.into_iter();
    let Some(mut last) = all.next() else {
        return Ok(());
    };
    for next in all {
        let overlaps = (next.0, next.1) == (last.0, last.1) && next.2 <= last.3;
        if overlaps && !(next.4 == last.4 && matches!(next.4, Whose::Shared(_))) {
            return Err(format!("{last:?} and {next:?} have the same ports"));
        }
        last = if overlaps && last.3 > next.3 {
            last
        } else {
            next
        };
    }
    Ok(())
}

fn is_public(config: &Config, address: IpAddr) -> bool {
    let mut all = config.public_ips.iter();
    all.any(|one| {
        let own = [one.ipv4.map(IpAddr::V4), one.ipv6.map(IpAddr::V6)];
        own.contains(&Some(address))
    })
}
