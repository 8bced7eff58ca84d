//! Ways out, SNAT ports and public IPs of a world.

use std::ops::RangeInclusive;

use forebay_common::abi::{Owner, Settings, SnatRange, Way, WayKey};
use forebay_common::flow::FlowKind;

use super::{IDLE, TIMEOUTS, World, WorldSide};
use crate::frame::{TCP, UDP};
use crate::network::Host;
use forebay_common::family::{V4, V6};

/// How instances go out, in both families.
#[derive(Debug, Clone)]
pub struct Outward {
    /// Addresses and ports of the instance itself.
    pub own: Vec<(Host, RangeInclusive<u16>)>,
    /// Those that it shares.
    pub burst: Vec<(Host, RangeInclusive<u16>)>,
    /// Flags of the way.
    pub flags: u32,
    /// Kind of the flows.
    pub kind: FlowKind,
    /// Counts the packets.
    pub rule: u32,
}

impl Outward {
    /// By these ports of an address, and no others.
    pub fn by(address: Host, ports: RangeInclusive<u16>) -> Self {
        Self {
            own: vec![(address, ports)],
            burst: Vec::new(),
            flags: Way::REJECT,
            kind: FlowKind::OutboundRule,
            rule: 40,
        }
    }

    /// With more flags.
    #[must_use]
    pub fn flagged(self, flags: u32) -> Self {
        Self {
            flags: self.flags | flags,
            ..self
        }
    }

    /// And by these ports that others have too.
    #[must_use]
    pub fn and_burst(mut self, address: Host, ports: RangeInclusive<u16>) -> Self {
        self.burst.push((address, ports));
        self
    }
}

impl World {
    /// Gives an instance a way out over TCP, UDP and ICMP.
    pub fn add_way(&mut self, instance: Host, outward: &Outward) {
        self.add_way_of::<V4>(instance.raw(), outward);
        self.add_way_of::<V6>(instance.raw(), outward);
        for (address, _) in outward.own.iter().chain(&outward.burst) {
            self.each_owner(*address, |owner| {
                owner.roles |= Owner::FRONTEND | Owner::SNAT;
            });
        }
    }

    /// Gives a source of one family a way out.
    pub fn add_way_of<A: WorldSide>(&mut self, source: A, outward: &Outward) {
        let part = A::part_mut(self);
        let mut add = |ranges: &[(Host, RangeInclusive<u16>)]| {
            let first = part.snat_ranges.len() as u32 + 1;
            let mut before = 0;
            for (address, ports) in ranges {
                let count = ports.end() - ports.start() + 1;
                let range = SnatRange {
                    address: address.raw(),
                    first: *ports.start(),
                    count,
                    before,
                };
                before += u32::from(count);
                let number = part.snat_ranges.len() as u32 + 1;
                part.snat_ranges.insert(number, range);
            }
            (first, before)
        };
        let (first, ports) = add(&outward.own);
        let (burst_first, burst_ports) = add(&outward.burst);
        for (protocol, idle) in [(TCP, IDLE), (UDP, IDLE), (A::ICMP, TIMEOUTS.icmp_idle)] {
            let way = Way {
                rule: outward.rule,
                flags: outward.flags | (outward.kind as u32) << Way::KIND_SHIFT,
                idle,
                idle_dns: 10_000,
                first,
                ranges: outward.own.len() as u32,
                ports,
                burst_first,
                burst_ranges: outward.burst.len() as u32,
                burst_ports,
            };
            part.ways
                .insert(WayKey::new(source, u32::from(protocol)), way);
        }
    }

    /// Gives an instance a public IP.
    pub fn add_public_ip(&mut self, instance: Host, public: Host) {
        self.settings_mut().flags |= Settings::PUBLIC_IPS;
        self.each_owner(instance, |owner| owner.roles |= Owner::HAS_PUBLIC_IP);
        self.each_owner(public, |owner| owner.roles |= Owner::PUBLIC_IP);
        let both: (V4, V4) = (instance.raw(), public.raw());
        self.v4.public_ips.extend([both, (both.1, both.0)]);
        let both: (V6, V6) = (instance.raw(), public.raw());
        self.v6.public_ips.extend([both, (both.1, both.0)]);
    }
}
