//! Configuration and host to tables.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use forebay_common::abi::{Interface, LAYOUT_VERSION, MAX_ADDRESSES, Owner, Settings};
use forebay_common::family::{V4, V6};
use forebay_common::flow::Timeouts;
use ipnet::IpNet;

use super::cooling::Cooling;
use super::ids::{Bits, Ids, NoIdLeft};
use super::nat_ports::NatPorts;
use super::state::{HostInterface, TableState, needs_kernel};
use super::{Sizes, reverse};
use crate::clock::TickRate;
use crate::config::model::{Config, InboundNatRule, NatTarget, NoHealthyBackends, Probe, Rule};
use crate::health::{Target, View, probed_port};

/// Next hops are looked up again after this time, so that forwarding heals without the daemon.
pub const HOP_LIFETIME: Duration = Duration::from_secs(1);
/// How full a flow table may be for untrusted flows to be promoted, percent of its entries.
const PROMOTE_PERCENT: u32 = 80;
/// After this time no CPU can still be using a flow entry that it found before, even one whose
/// hypervisor has let it wait.
const GRACE: Duration = Duration::from_millis(40);

/// Names one ring: what its slots depend on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RingKey {
    /// Name of the pool.
    pub pool: String,
    /// Of the members' IPv6 addresses, else IPv4.
    pub ipv6: bool,
    /// By whose word members are in it; `None`: all are.
    pub probe: Option<RingProbe>,
}

/// By whose word members are in a ring.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RingProbe {
    /// Name of the probe.
    pub name: String,
    /// The probed port.
    pub port: u16,
    /// Whether all members are in it when none is up.
    pub all_if_none: bool,
}

impl RingProbe {
    /// That of a rule.
    pub fn of_rule(rule: &Rule, probes: &HashMap<&str, &Probe>) -> Option<Self> {
        let probe = probes.get(rule.probe.as_deref()?)?;
        Some(Self {
            name: probe.name.clone(),
            port: probed_port(rule, probe)?,
            all_if_none: rule.no_healthy_backends == NoHealthyBackends::Up,
        })
    }

    /// What says whether a member's address is in the ring.
    pub fn target(&self, address: IpAddr) -> Target {
        Target {
            probe: self.name.clone(),
            address,
            port: self.port,
        }
    }
}

/// The probes of a configuration by name.
pub(super) fn probes(config: &Config) -> HashMap<&str, &Probe> {
    let probes = config.probes.iter();
    probes.map(|probe| (probe.name.as_str(), probe)).collect()
}

impl RingKey {
    /// The ring of a rule.
    pub fn of_rule(rule: &Rule, ipv6: bool, probes: &HashMap<&str, &Probe>) -> Self {
        Self {
            pool: rule.pool.clone(),
            ipv6,
            probe: RingProbe::of_rule(rule, probes),
        }
    }

    /// The rings that packets may ask for: of the families that frontends have.
    pub fn used_by(config: &Config) -> BTreeSet<Self> {
        let probes = probes(config);
        let frontends: HashMap<&str, _> =
            (config.frontends.iter().map(|f| (f.name.as_str(), f))).collect();
        let mut rings = BTreeSet::new();
        for rule in &config.rules {
            let frontend = frontends.get(rule.frontend.as_str()).into_iter();
            let families = frontend.flat_map(|f| f.addresses()).map(|a| a.is_ipv6());
            rings.extend(families.map(|ipv6| Self::of_rule(rule, ipv6, &probes)));
        }
        rings
    }

    /// The rings of all rules.
    pub fn of_config(config: &Config) -> BTreeSet<Self> {
        let probes = probes(config);
        let rules = config.rules.iter();
        let each =
            rules.flat_map(|rule| [false, true].map(|ipv6| Self::of_rule(rule, ipv6, &probes)));
        each.collect()
    }

    /// Stands for a ring of a former daemon, whose pool is not known.
    pub(super) fn former(id: u32) -> Self {
        Self {
            pool: format!("(former ring {id})"),
            ipv6: false,
            probe: None,
        }
    }
}

/// Names one spread: what its places mean.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SpreadKey {
    /// Name of the inbound NAT rule.
    pub rule: String,
    /// First and last port.
    pub ports: (u16, u16),
    /// Of the members' IPv6 addresses, else IPv4.
    pub ipv6: bool,
}

impl SpreadKey {
    /// The spread of an inbound NAT rule over a pool.
    pub fn of(rule: &InboundNatRule, ipv6: bool) -> Self {
        let range = rule.port.range();
        Self {
            rule: rule.name.clone(),
            ports: (*range.start(), *range.end()),
            ipv6,
        }
    }

    /// The spreads of an inbound NAT rule.
    pub fn of_rule(rule: &InboundNatRule) -> Vec<Self> {
        match rule.target {
            NatTarget::Pool(_) => [false, true].map(|ipv6| Self::of(rule, ipv6)).into(),
            NatTarget::Instance(_) => Vec::new(),
        }
    }

    /// Stands for a spread of a former daemon, whose rule is not known.
    pub(super) fn former(id: u32) -> Self {
        Self {
            rule: format!("(former spread {id})"),
            ports: (0, 0),
            ipv6: false,
        }
    }
}

/// What the desired state is computed from.
pub(super) struct Inputs<'c> {
    pub(super) config: &'c Config,
    pub(super) host: &'c [HostInterface],
    pub(super) ids: &'c Ids,
    pub(super) rate: TickRate,
    pub(super) sizes: Sizes,
    pub(super) hash_key: [u64; 2],
    pub(super) hops_valid_from: u32,
    /// Whether public addresses are answered for.
    pub(super) advertises: bool,
    /// Whether `forebay advertise on` was said.
    pub(super) said_on: bool,
    /// What the tables hold now.
    pub(super) applied: &'c TableState,
    /// What packets may be using although nothing names it any more.
    pub(super) cooling: &'c Cooling,
    /// Which ports of inbound NAT rules the members have.
    pub(super) nat_ports: &'c NatPorts,
    /// What probes say of members.
    pub(super) health: &'c View,
}

impl Inputs<'_> {
    /// The tables as they should be.
    pub(super) fn state(&self) -> Result<TableState, NoIdLeft> {
        let mut state = TableState {
            settings: self.settings(),
            ..TableState::default()
        };
        for interface in self.host {
            if let Some(slot) = self.ids.slots.get(&interface.name) {
                state
                    .interfaces
                    .insert(slot, interface_entry(interface, self.host));
            }
        }
        for net in &self.config.node.virtual_network {
            match net {
                IpNet::V4(net) => state
                    .v4
                    .virtual_network
                    .insert((net.prefix_len().into(), net.network().into())),
                IpNet::V6(net) => state
                    .v6
                    .virtual_network
                    .insert((net.prefix_len().into(), net.network().into())),
            };
        }
        self.add_instances(&mut state);
        let services = self.add_rules(&mut state)?;
        reverse::add(self.config, &mut state);
        self.add_public_ips(&mut state)?;
        self.add_frontends(&mut state, &services);
        self.add_outbound(&mut state)?;
        let most = state.v4.addresses.len().max(state.v6.addresses.len());
        if most > MAX_ADDRESSES as usize {
            return Err(NoIdLeft {
                kind: "addresses of a family",
                limit: MAX_ADDRESSES,
            });
        }
        Ok(state)
    }

    fn settings(&self) -> Settings {
        let timeouts = &self.config.timeouts;
        let ticks = |duration| self.rate.ticks(duration);
        Settings {
            layout: LAYOUT_VERSION,
            flags: flag(self.config.node.allow_direct, Settings::ALLOW_DIRECT)
                | flag(self.said_on, Settings::ADVERTISE_ON)
                | flag(
                    self.config.default_outbound.is_some(),
                    Settings::DEFAULT_OUTBOUND,
                ),
            hash_key: self.hash_key,
            timeouts: Timeouts {
                tcp_half_open: ticks(timeouts.tcp_half_open),
                tcp_fin: ticks(timeouts.tcp_fin),
                tcp_rst: ticks(timeouts.tcp_rst),
                udp_unreplied: ticks(timeouts.udp_unreplied),
                icmp_idle: ticks(timeouts.icmp_idle),
            },
            hops_valid_from: self.hops_valid_from,
            hop_lifetime: ticks(HOP_LIFETIME),
            grace: ticks(GRACE),
            second: ticks(Duration::from_secs(1)),
            untrusted_mask: self.sizes.untrusted_sets - 1,
            promote_below: self.sizes.entries / 100 * PROMOTE_PERCENT,
            new_flow_cost: self.new_flow_cost(),
            generation: self.applied.settings.generation,
            test_now: 0,
        }
    }

    /// What a new flow costs its source, when a second's worth of the clock pays for as many as are allowed.
    fn new_flow_cost(&self) -> u32 {
        match self.config.limits.new_flows_per_second_per_source {
            0 => 0,
            most => (self.rate.ticks(Duration::from_secs(1)) * Settings::COSTS / most).max(1),
        }
    }

    fn add_instances(&self, state: &mut TableState) {
        for address in self
            .config
            .instances
            .iter()
            .flat_map(|i| &i.ip_configs)
            .flat_map(|c| c.addresses())
        {
            match Bits::from(address) {
                Bits::V4(address) => {
                    state.v4.addresses.entry(address).or_default().roles |= Owner::INSTANCE
                }
                Bits::V6(address) => {
                    state.v6.addresses.entry(address).or_default().roles |= Owner::INSTANCE
                }
            }
        }
    }
}

fn flag(is_set: bool, flag: u32) -> u32 {
    if is_set { flag } else { 0 }
}

fn interface_entry(interface: &HostInterface, host: &[HostInterface]) -> Interface {
    Interface {
        ifindex: interface.ifindex,
        mtu: interface.mtu,
        mac_head: interface.mac.head,
        mac_tail: interface.mac.tail,
        flags: if needs_kernel(interface, host) {
            Interface::NO_REDIRECT
        } else {
            0
        },
        nic: interface.nic(),
        tags: interface.tags(),
        address4: interface.address4.map_or(V4::default(), V4::from),
        address6: interface.address6.map_or(V6::default(), V6::from),
    }
}
