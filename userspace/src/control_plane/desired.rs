//! Configuration and host to tables.

use std::time::Duration;

use forebay_common::abi::{self, Interface, LAYOUT_VERSION, Owner, Settings};
use forebay_common::balance::{Distribution as Hashed, RingMember};
use forebay_common::family::{V4, V6};
use forebay_common::flow::Timeouts;
use ipnet::IpNet;

use super::ids::{Bits, Ids};
use super::state::{HostInterface, Ring, TableState, needs_kernel};
use crate::clock::TickRate;
use crate::config::model::{Config, Distribution, Ports, Protocol, Rule};

/// Next hops are looked up again after this time, so that forwarding heals without the daemon.
pub const HOP_LIFETIME: Duration = Duration::from_secs(1);
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
}

impl RingKey {
    /// The rings of a rule.
    pub fn of_rule(rule: &Rule) -> [Self; 2] {
        [false, true].map(|ipv6| Self {
            pool: rule.pool.clone(),
            ipv6,
        })
    }
}

/// What the desired state is computed from.
pub(super) struct Inputs<'c> {
    pub(super) config: &'c Config,
    pub(super) host: &'c [HostInterface],
    pub(super) ids: &'c Ids,
    pub(super) rate: TickRate,
    pub(super) hash_key: [u64; 2],
    pub(super) hops_valid_from: u32,
    /// Whether public addresses are answered for.
    pub(super) advertises: bool,
    /// Whether `forebay advertise on` was said.
    pub(super) said_on: bool,
    /// What the tables hold now.
    pub(super) applied: &'c TableState,
}

impl Inputs<'_> {
    /// The tables as they should be.
    pub(super) fn state(&self) -> TableState {
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
        self.add_rules(&mut state);
        self.add_frontends(&mut state);
        state
    }

    fn settings(&self) -> Settings {
        let timeouts = &self.config.timeouts;
        let ticks = |duration| self.rate.ticks(duration);
        Settings {
            layout: LAYOUT_VERSION,
            flags: flag(self.config.node.allow_direct, Settings::ALLOW_DIRECT)
                | flag(self.said_on, Settings::ADVERTISE_ON),
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
            padding: 0,
            test_now: 0,
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

    fn add_rules(&self, state: &mut TableState) {
        for rule in &self.config.rules {
            let Some(id) = self.ids.rules.get(&rule.name) else {
                continue;
            };
            for (address, key) in self.ids.keys_of(self.config, rule) {
                let ring_key = RingKey {
                    pool: rule.pool.clone(),
                    ipv6: address.is_ipv6(),
                };
                let Some(ring) = self.ids.rings.get(&ring_key) else {
                    continue;
                };
                self.add_ring(state, &ring_key, ring);
                state
                    .rules
                    .insert(key, self.rule_entry(rule, id, ring, key.protocol()));
            }
        }
    }

    fn rule_entry(&self, rule: &Rule, id: u32, ring: u32, protocol: u8) -> abi::Rule {
        let Ports::Single(port) = rule.port else {
            return abi::Rule::default();
        };
        let timeouts = &self.config.timeouts;
        let default = match protocol {
            forebay_common::wire::TCP => timeouts.tcp_idle,
            _ if port == 53 => timeouts.udp_dns,
            _ => timeouts.udp_idle,
        };
        abi::Rule {
            id,
            ring,
            idle_timeout: self.rate.ticks(rule.idle_timeout.unwrap_or(default)),
            port_offset: rule.backend_port.unwrap_or(port).wrapping_sub(port),
            distribution: match rule.distribution {
                Distribution::FiveTuple => Hashed::FiveTuple,
                Distribution::SourceIp => Hashed::SourceIp,
                Distribution::SourceIpProtocol => Hashed::SourceIpProtocol,
            } as u8,
            flags: if rule.tcp_reset && rule.protocol != Protocol::Udp {
                abi::Rule::TCP_RESET
            } else {
                0
            },
        }
    }

    fn add_ring(&self, state: &mut TableState, key: &RingKey, id: u32) {
        if state.rings.contains_key(&id) {
            return;
        }
        let mut members = Vec::new();
        let pool = self.config.pools.iter().find(|pool| pool.name == key.pool);
        for member in pool.into_iter().flat_map(|pool| &pool.members) {
            let Some(ip_config) = self.config.ip_config(&member.target) else {
                continue;
            };
            let Some(address) = ip_config
                .addresses()
                .find(|address| address.is_ipv6() == key.ipv6)
            else {
                continue;
            };
            let Some(backend) = self.ids.backends.get(&address) else {
                continue;
            };
            match Bits::from(address) {
                Bits::V4(address) => drop::<Option<V4>>(state.v4.backends.insert(backend, address)),
                Bits::V6(address) => drop::<Option<V6>>(state.v6.backends.insert(backend, address)),
            }
            members.push(RingMember {
                identity: address.to_string().into_bytes(),
                weight: member.weight,
                backend,
            });
        }
        state.rings.insert(id, Ring::Members(members));
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
