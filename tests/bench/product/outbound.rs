//! How instances go out, in the product's tables: ways, SNAT ports in use, public IPs.

use std::ops::Range;

use anyhow::{Context, Result};
use forebay_common::abi::{
    Owner, POSITIONS, Position, PublicIp, Settings, SnatRange, Way, WayCounters, WayKey, names,
};
use forebay_common::flow::{Direction, Flow, FlowKey, FlowKind};
use forebay_common::tables::PerCpu;
use forebay_common::wire::{TCP, UDP};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::{Hop, LONG, OUTBOUND_RULE, Product};
use crate::bpf;
use crate::scene::{Course, Net, PORT, clients, destination, instance};
use crate::shared::flow_of;

/// Ports of a large instance: all that one address gives.
pub(crate) const ALL_PORTS: u16 = 64_512;
/// Ports of the others: what a small pool's instances get by themselves.
pub(crate) const SOME_PORTS: u16 = 1_024;
/// The first SNAT port.
const FIRST_PORT: u16 = 1_024;

/// How an instance goes out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outgoing {
    /// Number of the instance, of its public address and, from 1, of its range.
    pub(crate) index: u8,
    /// How many ports it has.
    pub(crate) ports: u16,
    /// Flags of its way.
    pub(crate) flags: u32,
}

/// Nobody is told of anything.
pub(crate) const QUIET: Outgoing = outgoing(0, SOME_PORTS, 0);
/// Who gets no port is told.
pub(crate) const TOLD: Outgoing = outgoing(1, SOME_PORTS, Way::REJECT);
/// With all ports of an address.
pub(crate) const LARGE: Outgoing = outgoing(2, ALL_PORTS, 0);
/// With a port towards everybody for each of its own.
pub(crate) const MAPPED: Outgoing = outgoing(3, ALL_PORTS, Way::ENDPOINT_INDEPENDENT);
/// Number of the instance that has a public IP instead.
pub(crate) const PUBLIC: u8 = 4;

const fn outgoing(index: u8, ports: u16, flags: u32) -> Outgoing {
    Outgoing {
        index,
        ports,
        flags,
    }
}

/// Ports in use towards the destination of storms.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taken {
    pub(crate) whose: Outgoing,
    pub(crate) protocol: u8,
    /// How many of a hundred.
    pub(crate) percent: u32,
}

impl Taken {
    /// Which ports, as they are left when flows of any age have ended.
    fn ports(self) -> Vec<u16> {
        let count = self.whose.ports;
        let mut ports: Vec<u16> = (0..count).map(|port| FIRST_PORT + port).collect();
        // Always the same ones, so that runs can be compared.
        ports.shuffle(&mut StdRng::seed_from_u64(1));
        ports.truncate((u64::from(count) * u64::from(self.percent) / 100) as usize);
        ports
    }

    /// Keys of the flows that have the ports: that of the instance's packets, and that of the answers.
    fn keys<A: Net>(self) -> Vec<[FlowKey<A>; 2]> {
        let key = |(number, port): (usize, u16)| {
            // Others than those that the driver sends from.
            let host = clients::INSTANCES + 0x100 + (number >> 14) as u32;
            let forth = FlowKey {
                source: A::client(host),
                destination: destination(),
                ports: FlowKey::<A>::ports_word(40_000 + (number & 0x3fff) as u16, PORT),
                protocol: u32::from(self.protocol),
            };
            let back = FlowKey {
                source: destination(),
                destination: A::snat(self.whose.index),
                ports: FlowKey::<A>::ports_word(PORT, port),
                protocol: u32::from(self.protocol),
            };
            [forth, back]
        };
        self.ports().into_iter().enumerate().map(key).collect()
    }
}

impl Product {
    /// Gives the instances of a family their ways out. `slot`: the interface that they are behind.
    pub(super) fn configure_outbound<A: Net>(&self) -> Result<()> {
        for outgoing in [QUIET, TOLD, LARGE, MAPPED] {
            self.add_way::<A>(outgoing)?;
        }
        let private = instance::<A>(PUBLIC);
        self.add_owner(private, Owner::INSTANCE | Owner::HAS_PUBLIC_IP)?;
        self.add_owner(A::PUBLIC_IP, Owner::PUBLIC_IP)?;
        let map = self.map(A::MAPS.public_ips)?;
        for (address, other) in [(private, A::PUBLIC_IP), (A::PUBLIC_IP, private)] {
            let public = PublicIp {
                other,
                ..PublicIp::default()
            };
            bpf::put(map, &address, &public)?;
        }
        Ok(())
    }

    fn add_way<A: Net>(&self, outgoing: Outgoing) -> Result<()> {
        let Outgoing {
            index,
            ports,
            flags,
        } = outgoing;
        let number = u32::from(index) + 1;
        let range = SnatRange {
            address: A::snat(index),
            first: FIRST_PORT,
            count: ports,
            before: 0,
        };
        bpf::put(self.map(A::MAPS.snat_ranges)?, &number, &range)?;
        let way = Way {
            rule: OUTBOUND_RULE,
            flags: flags | (FlowKind::OutboundRule as u32) << Way::KIND_SHIFT,
            idle: LONG,
            idle_dns: LONG,
            first: number,
            ranges: 1,
            ports: u32::from(ports),
            ..Way::default()
        };
        for protocol in [TCP, UDP] {
            let key = WayKey::new(instance::<A>(index), u32::from(protocol));
            bpf::put(self.map(A::MAPS.ways)?, &key, &way)?;
            let counters = WayCounters::<A>::default();
            bpf::put(self.map(A::MAPS.way_counters)?, &key, &counters)?;
        }
        self.add_owner(instance::<A>(index), Owner::INSTANCE)?;
        self.add_owner(A::snat(index), Owner::FRONTEND | Owner::SNAT)
    }

    /// Says whether there are public IPs: whatever has no flow is asked for them then.
    pub(crate) fn set_public_ips(&self, are_there: bool) -> Result<()> {
        let map = self.map(names::SETTINGS)?;
        let mut settings: Settings = bpf::get(map, 0)?;
        settings.flags &= !Settings::PUBLIC_IPS;
        if are_there {
            settings.flags |= Settings::PUBLIC_IPS;
        }
        bpf::put(map, &0_u32, &settings)
    }

    /// Takes ports.
    pub(crate) fn take_ports<A: Net>(&mut self, taken: Taken, hop: Hop) -> Result<()> {
        let now = self.jiffies()?;
        let (mut keys, mut flows) = (Vec::new(), Vec::new());
        for [forth, back] in taken.keys::<A>() {
            keys.extend([forth, back]);
            let from = FlowKind::OutboundRule.byte(Direction::FromInstance, false);
            flows.push(super::established(&back.reversed(), from, hop, now));
            let to = FlowKind::other_way(from);
            flows.push(super::established(&forth.reversed(), to, hop, now));
        }
        bpf::put_all(self.map(A::MAPS.flows)?, &keys, &flows).context("take SNAT ports")?;
        self.forget_searches()
    }

    /// Gives them back.
    pub(crate) fn give_ports_back<A: Net>(&self, taken: Taken) -> Result<()> {
        bpf::remove_all(self.map(A::MAPS.flows)?, taken.keys::<A>().as_flattened())
            .context("give SNAT ports back")
    }

    /// Forgets the flows that packets with these numbers opened, and the mappings that they hang on.
    pub(crate) fn forget_opened<A: Net>(
        &self,
        course: &Course<A>,
        numbers: Range<u64>,
        are_mapped: bool,
    ) -> Result<()> {
        let plan = course.plan();
        let map = self.map(A::MAPS.flows)?;
        let mut keys = Vec::new();
        let mut add = |key: FlowKey<A>| -> Result<()> {
            let flow: Option<Flow<A>> = bpf::find(map, &key)?;
            let flow = flow.with_context(|| format!("there is no flow {key:?}"))?;
            keys.extend([key, flow.reply_key(key.protocol)]);
            Ok(())
        };
        for number in numbers {
            let key = course.key(flow_of(number, plan.mask, plan.shift));
            add(key)?;
            if are_mapped {
                add(FlowKey {
                    destination: A::default(),
                    ports: FlowKey::<A>::ports_word(key.source_port(), 0),
                    ..key
                })?;
            }
        }
        bpf::remove_all(map, &keys).context("forget new outbound flows")?;
        self.forget_occupied()
    }

    /// Forgets how far searches for ports have come, and who was refused one.
    pub(crate) fn forget_searches(&self) -> Result<()> {
        let numbers: Vec<u32> = (0..POSITIONS).collect();
        let nowhere = vec![Position::default(); numbers.len()];
        bpf::put_all(self.map(names::POSITIONS)?, &numbers, &nowhere).context("forget searches")
    }

    /// Forgets how many answers were given lately.
    pub(crate) fn forget_answers(&self) -> Result<()> {
        bpf::clear_per_cpu::<PerCpu>(self.map(names::PER_CPU)?, 0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// A packet tries 1,024 ports at least before it is put off.
    #[test]
    fn a_free_port_is_never_far() {
        for whose in [QUIET, LARGE] {
            let taken = Taken {
                whose,
                protocol: UDP,
                percent: 99,
            };
            let ports: HashSet<u16> = taken.ports().into_iter().collect();
            let all = FIRST_PORT..=FIRST_PORT + (whose.ports - 1);
            let free: Vec<u16> = all.filter(|port| !ports.contains(port)).collect();
            // Round the end to the first one again.
            let again = free
                .iter()
                .map(|port| u32::from(*port) + u32::from(whose.ports));
            let places: Vec<u32> = free
                .iter()
                .map(|port| u32::from(*port))
                .chain(again)
                .collect();
            assert!(places.windows(2).all(|pair| pair[1] - pair[0] < 1_024));
        }
    }
}
