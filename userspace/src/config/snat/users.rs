//! Which IP configuration goes out by which method: public IP, outbound rule, rule-implied,
//! default outbound, in this order and for each family by itself.

use std::collections::{BTreeMap, BTreeSet};

use super::{Family, MOST_AUTOMATIC_PORTS, Origin, Share, automatic_ports};
use crate::config::model::{Config, Frontend, IpConfig, MemberRef, PortsPerInstance, Protocol};

/// Who goes out by which method.
pub(super) struct Users<'c> {
    config: &'c Config,
    family: Family,
    frontends: BTreeMap<&'c str, &'c Frontend>,
    /// Outbound rules that work over this family, by pool.
    of_pool: BTreeMap<&'c str, Vec<usize>>,
    /// By pool without outbound rule, the frontends that its rules imply, and the first of those rules.
    implied_by_pool: BTreeMap<&'c str, (usize, BTreeSet<&'c str>)>,
    /// Outbound rules, each with its users.
    outbound: BTreeMap<usize, Vec<MemberRef>>,
    /// Users by the frontends that their rules imply, and the first of those rules.
    implied: BTreeMap<Vec<&'c str>, (usize, Vec<MemberRef>)>,
    default: Vec<MemberRef>,
}

impl<'c> Users<'c> {
    pub(super) fn new(config: &'c Config, family: Family) -> Self {
        let by_name = |frontend: &'c Frontend| (frontend.name.as_str(), frontend);
        let mut users = Self {
            config,
            family,
            frontends: config.frontends.iter().map(by_name).collect(),
            of_pool: BTreeMap::new(),
            implied_by_pool: BTreeMap::new(),
            outbound: BTreeMap::new(),
            implied: BTreeMap::new(),
            default: Vec::new(),
        };
        users.look_at_pools();
        let mut pools: BTreeMap<&MemberRef, BTreeSet<&str>> = BTreeMap::new();
        for pool in &config.pools {
            for member in &pool.members {
                pools.entry(&member.target).or_default().insert(&pool.name);
            }
        }
        for instance in &config.instances {
            for ip_config in &instance.ip_configs {
                let target = MemberRef {
                    instance: instance.name.clone(),
                    ip_config: ip_config.name.clone(),
                };
                if family.of_ip_config(ip_config) && !users.has_public_ip(ip_config) {
                    let pools = pools.get(&target).cloned().unwrap_or_default();
                    users.place(target, &pools);
                }
            }
        }
        users
    }

    fn has_public_ip(&self, ip_config: &IpConfig) -> bool {
        ip_config.public_ip.as_ref().is_some_and(|name| {
            let mut public_ips = self.config.public_ips.iter();
            public_ips.any(|ip| ip.name == *name && self.family.of_public_ip(ip))
        })
    }

    fn has_family(&self, frontend: &str) -> bool {
        let frontend = self.frontends.get(frontend);
        frontend.is_some_and(|frontend| self.family.addresses_of(frontend) > 0)
    }

    fn usable<'n>(&self, names: &'n [String]) -> Vec<&'n str> {
        let names = names.iter().map(String::as_str);
        names.filter(|name| self.has_family(name)).collect()
    }

    /// What members of pools may use: looked up once for each rule, not for each rule and member.
    fn look_at_pools(&mut self) {
        let config = self.config;
        for (index, rule) in config.outbound_rules.iter().enumerate() {
            if !self.usable(&rule.frontends).is_empty() {
                self.of_pool.entry(&rule.pool).or_default().push(index);
            }
        }
        let outbound = config.outbound_rules.iter();
        let with_outbound: BTreeSet<&str> = outbound.map(|rule| rule.pool.as_str()).collect();
        for (index, rule) in config.rules.iter().enumerate() {
            let pool = rule.pool.as_str();
            let implies = rule.outbound_snat && !with_outbound.contains(pool);
            if implies && self.has_family(&rule.frontend) {
                let implied = self.implied_by_pool.entry(pool);
                let (_, frontends) = implied.or_insert((index, BTreeSet::new()));
                frontends.insert(&rule.frontend);
            }
        }
    }

    /// Public IPs are passed by the caller: outbound rule, then rule-implied, then default.
    fn place(&mut self, target: MemberRef, pools: &BTreeSet<&str>) {
        let outbound = pools.iter().filter_map(|pool| self.of_pool.get(pool));
        let outbound: BTreeSet<usize> = outbound.flatten().copied().collect();
        if !outbound.is_empty() {
            let rules = &self.config.outbound_rules;
            let mut before: Vec<Protocol> = Vec::new();
            for index in outbound {
                let protocol = rules[index].protocol;
                // What earlier rules of other pools have taken whole needs no ports here.
                if !before.contains(&protocol) && !before.contains(&Protocol::All) {
                    self.outbound.entry(index).or_default().push(target.clone());
                }
                before.push(protocol);
            }
            return;
        }
        let implied = pools
            .iter()
            .filter_map(|pool| self.implied_by_pool.get(pool));
        let implied: Vec<_> = implied.collect();
        if let Some(first) = implied.iter().map(|(first, _)| *first).min() {
            let frontends = implied.iter().flat_map(|(_, frontends)| frontends);
            let frontends: BTreeSet<&str> = frontends.copied().collect();
            let frontends = frontends.into_iter().collect();
            let group = self.implied.entry(frontends).or_insert((first, Vec::new()));
            group.1.push(target);
        } else {
            self.default.push(target);
        }
    }

    pub(super) fn shares(self) -> Vec<Share> {
        let mut shares = Vec::new();
        for (index, rule) in self.config.outbound_rules.iter().enumerate() {
            let users = self.outbound.get(&index).cloned().unwrap_or_default();
            let frontends = self.usable(&rule.frontends);
            let ports = rule.ports_per_instance;
            let origin = Origin::OutboundRule(index);
            shares.push(self.share(origin, rule.protocol, ports, &frontends, users));
        }
        for (frontends, (rule, users)) in &self.implied {
            let ports = PortsPerInstance::Auto;
            let origin = Origin::Rule(*rule);
            shares.push(self.share(origin, Protocol::All, ports, frontends, users.clone()));
        }
        if let Some(default) = &self.config.default_outbound {
            let frontends = self.usable(&default.frontends);
            let users = if frontends.is_empty() {
                Vec::new()
            } else {
                self.default.clone()
            };
            let ports = default.ports_per_instance;
            let origin = Origin::DefaultOutbound;
            shares.push(self.share(origin, Protocol::All, ports, &frontends, users));
        }
        shares.retain(|share| !share.frontends.is_empty());
        self.fill_in_the_table(&mut shares);
        shares
    }

    fn share(
        &self,
        origin: Origin,
        protocol: Protocol,
        ports: PortsPerInstance,
        frontends: &[&str],
        ip_configs: Vec<MemberRef>,
    ) -> Share {
        let ports = match ports {
            PortsPerInstance::Auto => None,
            PortsPerInstance::Fixed(ports) => Some(ports),
        };
        Share {
            origin,
            family: self.family,
            protocol,
            frontends: frontends.iter().map(|name| (*name).to_owned()).collect(),
            ip_configs,
            automatic: ports.is_none(),
            wanted: ports.unwrap_or(0),
            ports: ports.unwrap_or(0),
        }
    }

    /// The table counts everybody who may use an address, each once.
    fn fill_in_the_table(&self, shares: &mut [Share]) {
        let mut users: BTreeMap<String, BTreeSet<MemberRef>> = BTreeMap::new();
        for share in shares.iter() {
            for frontend in &share.frontends {
                let users = users.entry(frontend.clone()).or_default();
                users.extend(share.ip_configs.iter().cloned());
            }
        }
        for share in shares.iter_mut().filter(|share| share.automatic) {
            let most = share.frontends.iter().map(|name| users[name].len()).max();
            let addresses: u64 = (share.frontends.iter())
                .filter_map(|name| self.frontends.get(name.as_str()))
                .map(|frontend| self.family.addresses_of(frontend))
                .sum();
            let ports = u64::from(automatic_ports(most.unwrap_or(0))).saturating_mul(addresses);
            let ports = ports.min(u64::from(MOST_AUTOMATIC_PORTS));
            share.wanted = u32::try_from(ports).unwrap_or(MOST_AUTOMATIC_PORTS);
            share.ports = share.wanted;
        }
    }
}
