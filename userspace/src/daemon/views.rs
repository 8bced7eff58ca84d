//! What commands show, from configuration, tables and counts. Pure.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};

use forebay_common::abi::RuleCounters;
use forebay_common::reason::{Fate, Reason};
use serde_json::{Value, json};

use crate::api;
use crate::availability::Availability;
use crate::config::model::{
    AdminState, Advertise, Config, Distribution, Forwarding, InboundNatRule, MemberRef, NatTarget,
    Ports, Protocol, Rule,
};
use crate::control_plane::{
    Census, HostInterface, Ids, NatPorts, Whose, XdpState, mappings, needs_kernel,
};
use crate::events::Moment;
use crate::health::Health;

/// What the views are made of.
pub(super) struct View<'v> {
    /// The configuration in force.
    pub config: &'v Config,
    /// Ids in use.
    pub ids: &'v Ids,
    /// The last full count of flows.
    pub census: &'v Census,
    /// What probes found.
    pub health: &'v Health,
    /// Whom the tables send new flows to.
    pub taking: &'v Whose,
    /// How the rules that are tried are found.
    pub trials: &'v Availability,
    /// Now.
    pub now: Moment,
}

pub(super) fn text<T: ToString>(items: impl Iterator<Item = T>) -> Vec<String> {
    items.map(|item| item.to_string()).collect()
}

/// A port as JSON: a number, or `first-last`; port 0 is "every port".
pub(super) fn port(ports: &Ports) -> Value {
    match ports {
        Ports::Single(port) => json!(port),
        Ports::Range(range) => json!(format!("{}-{}", range.start(), range.end())),
        Ports::Every => json!(0),
    }
}

/// A protocol as the file writes it.
pub(super) fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::All => "all",
    }
}

/// `node.advertise` as the file writes it.
pub(super) fn advertise(mode: Advertise) -> &'static str {
    match mode {
        Advertise::Neighbor => "neighbor",
        Advertise::Standby => "standby",
        Advertise::None => "none",
    }
}

/// An admin state as the file writes it.
pub(super) fn admin_state(state: AdminState) -> &'static str {
    match state {
        AdminState::None => "none",
        AdminState::Up => "up",
        AdminState::Down => "down",
    }
}

impl View<'_> {
    /// `show frontends`; `advertised` says of which addresses the node answers for.
    pub(super) fn frontends(&self, advertised: impl Fn(IpAddr) -> bool) -> Vec<api::Frontend> {
        let mut of_frontend: HashMap<&str, Vec<&Rule>> = HashMap::new();
        for rule in &self.config.rules {
            of_frontend.entry(&rule.frontend).or_default().push(rule);
        }
        let mut nat_of_frontend: HashMap<&str, Vec<&String>> = HashMap::new();
        for rule in &self.config.inbound_nat_rules {
            let names = nat_of_frontend.entry(&rule.frontend).or_default();
            names.push(&rule.name);
        }
        let view = |frontend: &crate::config::model::Frontend| {
            let name = frontend.name.as_str();
            let rules = of_frontend.get(name).map_or(&[][..], Vec::as_slice);
            let nat_rules = nat_of_frontend.get(name).into_iter().flatten();
            let mut members: Vec<_> = rules
                .iter()
                .filter_map(|rule| self.config.pool(&rule.pool))
                .flat_map(|p| &p.members)
                .collect();
            members.sort_by(|a, b| a.target.cmp(&b.target));
            members.dedup_by(|a, b| a.target == b.target);
            let v4 = frontend.ipv4.map(|net| {
                if net.prefix_len() == 32 {
                    net.addr().to_string()
                } else {
                    net.to_string()
                }
            });
            let v6 = frontend.ipv6.map(|net| {
                if net.prefix_len() == 128 {
                    net.addr().to_string()
                } else {
                    net.to_string()
                }
            });
            api::Frontend {
                name: frontend.name.clone(),
                addresses: v4.into_iter().chain(v6).collect(),
                shared: frontend.shared,
                advertised: frontend.addresses().any(&advertised),
                rules: (rules.iter().map(|rule| &rule.name))
                    .chain(nat_rules.copied())
                    .cloned()
                    .collect(),
                members_up: members
                    .iter()
                    .filter(|member| self.takes_flows_of(rules, &member.target))
                    .count(),
                members_total: members.len(),
            }
        };
        self.config.frontends.iter().map(view).collect()
    }

    /// `show rules`
    pub(super) fn rules(&self, counters: impl Fn(u32) -> RuleCounters) -> Vec<api::Rule> {
        let now = self.now.uptime;
        let mut trials: HashMap<&str, Vec<api::Trials>> = HashMap::new();
        for row in self.trials.rows(now) {
            let of_rule = trials.entry(&row.target.rule).or_default();
            of_rule.push(api::Trials {
                address: row.target.address.to_string(),
                port: row.port,
                availability: row.share,
                last_failure: row.last_failure.map(|failure| failure.to_string()),
            });
        }
        let view = |rule: &Rule| {
            let id = self.ids.rules.get(&rule.name).unwrap_or(0);
            let counted = counters(id);
            let addresses = self
                .config
                .frontend(&rule.frontend)
                .map(|frontend| text(frontend.addresses()));
            api::Rule {
                name: rule.name.clone(),
                frontend: rule.frontend.clone(),
                addresses: addresses.unwrap_or_default(),
                protocol: protocol(rule.protocol).to_owned(),
                port: port(&rule.port),
                pool: rule.pool.clone(),
                backend_port: rule
                    .backend_port
                    .map_or_else(|| port(&rule.port), |port| json!(port)),
                distribution: match rule.distribution {
                    Distribution::FiveTuple => "5-tuple",
                    Distribution::SourceIp => "source-ip",
                    Distribution::SourceIpProtocol => "source-ip-protocol",
                }
                .to_owned(),
                forwarding: match rule.forwarding {
                    Forwarding::Nat => "nat",
                    Forwarding::FullNat => "full-nat",
                    Forwarding::Dsr => "dsr",
                }
                .to_owned(),
                new_flows_total: counted.new_flows,
                packets_total: counted.packets_to_instance + counted.packets_from_instance,
                bytes_total: counted.bytes_to_instance + counted.bytes_from_instance,
                active_flows: self.flows_of(id),
                availability: self.trials.of_rule(&rule.name, now),
                trials: trials.remove(rule.name.as_str()).unwrap_or_default(),
            }
        };
        self.config.rules.iter().map(view).collect()
    }

    /// Whether any address of a member gets new flows of one of these rules.
    fn takes_flows_of(&self, rules: &[&Rule], member: &MemberRef) -> bool {
        let addresses = self.config.ip_config(member).into_iter();
        let mut addresses = addresses.flat_map(|one| one.addresses());
        let ids: Vec<u32> = rules
            .iter()
            .filter_map(|rule| self.ids.rules.get(&rule.name))
            .collect();
        addresses.any(|address| ids.iter().any(|id| self.taking.contains(&(*id, address))))
    }

    fn flows_of(&self, rule: u32) -> u64 {
        let lowest = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let from = self.census.members.range((rule, lowest)..);
        let of_rule = from.take_while(|((held, _), _)| *held == rule);
        of_rule.map(|(_, count)| count).sum()
    }

    /// `show inbound-nat-rules`; `ports` says which ones members have.
    pub(super) fn inbound_nat_rules(
        &self,
        ports: &NatPorts,
        counters: impl Fn(u32) -> RuleCounters,
    ) -> Vec<api::InboundNatRule> {
        let nobody = BTreeMap::new();
        let view = |rule: &InboundNatRule| {
            let id = self.ids.rules.get(&rule.name).unwrap_or(0);
            let counted = counters(id);
            let first = *rule.port.range().start();
            let given = ports.get(&rule.name).unwrap_or(&nobody);
            let (pool, holders) = match &rule.target {
                NatTarget::Instance(member) => (None, vec![(first, member)]),
                NatTarget::Pool(pool) => (self.config.pool(pool), mappings(given)),
            };
            let left_out = pool.into_iter().flat_map(|pool| &pool.members);
            let left_out = left_out.filter(|member| !given.contains_key(&member.target));
            api::InboundNatRule {
                name: rule.name.clone(),
                frontend: rule.frontend.clone(),
                protocol: protocol(rule.protocol).to_owned(),
                port: port(&rule.port),
                pool: pool.map(|pool| pool.name.clone()),
                mappings: (holders.into_iter())
                    .flat_map(|(port, member)| self.mappings_of(rule, port, member))
                    .collect(),
                members_without_port: text(left_out.map(|member| &member.target)),
                new_flows_total: counted.new_flows,
                packets_total: counted.packets_to_instance + counted.packets_from_instance,
                bytes_total: counted.bytes_to_instance + counted.bytes_from_instance,
                active_flows: self.flows_of(id),
            }
        };
        self.config.inbound_nat_rules.iter().map(view).collect()
    }

    /// A port on each address of the frontend whose family the member has.
    fn mappings_of(
        &self,
        rule: &InboundNatRule,
        port: u16,
        member: &MemberRef,
    ) -> Vec<api::Mapping> {
        let addresses = |ip_config: &crate::config::model::IpConfig| {
            let families: Vec<bool> = ip_config.addresses().map(|a| a.is_ipv6()).collect();
            families
        };
        let families = self.config.ip_config(member).map(addresses);
        let families = families.unwrap_or_default();
        let frontend = self.config.frontend(&rule.frontend);
        let reached = frontend
            .into_iter()
            .flat_map(|frontend| frontend.addresses());
        let reached = reached.filter(|address| families.contains(&address.is_ipv6()));
        let mapping = |address: IpAddr| api::Mapping {
            address: address.to_string(),
            port,
            instance: member.instance.clone(),
            ip_config: member.ip_config.clone(),
            backend_port: rule.backend_port.unwrap_or(port),
        };
        reached.map(mapping).collect()
    }
}

/// `show drops`: every reason to drop a packet, those that never happened too.
pub(super) fn drops(reasons: &BTreeMap<Reason, u64>) -> api::Drops {
    let dropped = reasons
        .iter()
        .filter(|(reason, _)| reason.fate() == Fate::Drop);
    dropped
        .map(|(reason, count)| (reason.label().to_owned(), *count))
        .collect()
}

/// The attached interfaces by the file's order.
pub(super) fn interfaces(names: &[String], host: &[HostInterface]) -> Vec<api::InterfaceStatus> {
    let status = |name: &String| {
        let found = host
            .iter()
            .find(|one| one.is_attached() && one.name == *name);
        let xdp = found.map_or(XdpState::None, |one| one.xdp);
        let over = |vlan: &&HostInterface| {
            !vlan.is_attached() && found.is_some_and(|one| one.ifindex == vlan.nic())
        };
        api::InterfaceStatus {
            name: name.clone(),
            xdp_mode: xdp.label().to_owned(),
            attached: xdp != XdpState::None,
            reached_by: match found {
                Some(one) if !needs_kernel(one, host) => "redirect",
                _ => "kernel",
            }
            .to_owned(),
            vlan_devices: host
                .iter()
                .filter(over)
                .map(|vlan| vlan.name.clone())
                .collect(),
        }
    };
    names.iter().map(status).collect()
}

/// Packets by what became of them.
pub(super) fn totals(reasons: &BTreeMap<Reason, u64>) -> api::PacketTotals {
    let mut totals = api::PacketTotals::default();
    for (reason, count) in reasons {
        match reason.fate() {
            _ if *reason == Reason::ForwardedByKernel => totals.forwarded += count,
            Fate::Forward => totals.forwarded += count,
            Fate::Pass => totals.passed += count,
            Fate::Answer => totals.answered += count,
            Fate::Drop => totals.dropped += count,
            Fate::Own => totals.own += count,
        }
    }
    totals
}
