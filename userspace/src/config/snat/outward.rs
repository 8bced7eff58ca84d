//! How each IP configuration reaches the outside, and with which addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::{Family, Origin, Plan, Share, plan};
use crate::config::model::{Config, Frontend, IpConfig, MemberRef, PublicIp};

/// A way to reach the outside, the strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// A public IP of its own.
    PublicIp,
    /// Outbound rules for its pools.
    OutboundRule,
    /// Load-balancing rules for its pools.
    RuleImplied,
    /// `[default_outbound]`
    DefaultOutbound,
    /// There is none.
    None,
}

impl Method {
    /// Its name in output.
    pub const fn label(self) -> &'static str {
        match self {
            Self::PublicIp => "public-ip",
            Self::OutboundRule => "outbound-rule",
            Self::RuleImplied => "rule-implied",
            Self::DefaultOutbound => "default-outbound",
            Self::None => "none",
        }
    }
}

/// What a configuration says about the ways out.
pub struct Outward<'c> {
    config: &'c Config,
    plan: Plan,
    /// Positions of the promises to each, in the plan.
    shares: BTreeMap<(Family, MemberRef), Vec<usize>>,
    pools: BTreeMap<MemberRef, BTreeSet<&'c str>>,
}

impl<'c> Outward<'c> {
    /// Works it out.
    pub fn of(config: &'c Config) -> Self {
        let plan = plan(config);
        let mut shares: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for (index, share) in plan.shares.iter().enumerate() {
            for target in &share.ip_configs {
                let key = (share.family, target.clone());
                shares.entry(key).or_default().push(index);
            }
        }
        let mut pools: BTreeMap<_, BTreeSet<&str>> = BTreeMap::new();
        for pool in &config.pools {
            for member in &pool.members {
                let of_member = pools.entry(member.target.clone()).or_default();
                of_member.insert(pool.name.as_str());
            }
        }
        Self {
            config,
            plan,
            shares,
            pools,
        }
    }

    /// Every promise of SNAT ports.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// How an IP configuration goes out over a family.
    pub fn method(&self, target: &MemberRef, family: Family) -> Method {
        if self.public_address(target, family).is_some() {
            return Method::PublicIp;
        }
        let origins = self.shares_of(target, family).map(|share| share.origin);
        let methods = origins.map(|origin| match origin {
            Origin::OutboundRule(_) => Method::OutboundRule,
            Origin::Rule(_) => Method::RuleImplied,
            Origin::DefaultOutbound => Method::DefaultOutbound,
        });
        methods.min().unwrap_or(Method::None)
    }

    /// The addresses that it goes out with now, IPv4 first.
    pub fn used(&self, target: &MemberRef) -> BTreeSet<IpNet> {
        let families = Family::ALL.into_iter();
        families
            .flat_map(|family| self.used_over(target, family))
            .collect()
    }

    /// The addresses of one family that it goes out with now.
    pub fn used_over(&self, target: &MemberRef, family: Family) -> BTreeSet<IpNet> {
        match self.public_address(target, family) {
            Some(address) => BTreeSet::from([IpNet::from(address)]),
            None => {
                let shares = self.shares_of(target, family);
                let names = shares.flat_map(|share| &share.frontends);
                self.addresses(names.map(String::as_str), family)
            }
        }
    }

    /// The addresses that it may go out with by any method that the configuration has for it, whichever of them
    /// is in the way of the others today.
    pub fn possible(&self, target: &MemberRef) -> BTreeSet<IpNet> {
        let Some(ip_config) = self.config.ip_config(target) else {
            return BTreeSet::new();
        };
        let pools = self.pools.get(target).cloned().unwrap_or_default();
        let outbound = self.config.outbound_rules.iter();
        let outbound = outbound.filter(|rule| pools.contains(rule.pool.as_str()));
        let rules = self.config.rules.iter();
        let rules = rules.filter(|rule| rule.outbound_snat && pools.contains(rule.pool.as_str()));
        let default = self.config.default_outbound.iter();
        let names: BTreeSet<&str> = outbound
            .flat_map(|rule| &rule.frontends)
            .chain(rules.map(|rule| &rule.frontend))
            .chain(default.flat_map(|default| &default.frontends))
            .map(String::as_str)
            .collect();
        let families = Family::ALL.into_iter();
        let families = families.filter(|family| family.of_ip_config(ip_config));
        families
            .flat_map(|family| {
                let public = self.public_address(target, family).map(IpNet::from);
                let names = names.iter().copied();
                self.addresses(names, family).into_iter().chain(public)
            })
            .collect()
    }

    /// The address of its public IP, if that has this family.
    fn public_address(&self, target: &MemberRef, family: Family) -> Option<IpAddr> {
        let ip_config = self.config.ip_config(target)?;
        let public_ip = self.public_ip(ip_config)?;
        match family {
            Family::V4 => public_ip.ipv4.map(IpAddr::V4),
            Family::V6 => public_ip.ipv6.map(IpAddr::V6),
        }
    }

    fn public_ip(&self, ip_config: &IpConfig) -> Option<&'c PublicIp> {
        let name = ip_config.public_ip.as_ref()?;
        let mut public_ips = self.config.public_ips.iter();
        public_ips.find(|public_ip| public_ip.name == *name)
    }

    fn shares_of(&self, target: &MemberRef, family: Family) -> impl Iterator<Item = &Share> {
        let indices = self.shares.get(&(family, target.clone()));
        let indices = indices.into_iter().flatten();
        indices.map(|index| &self.plan.shares[*index])
    }

    /// The addresses of one family that frontends have.
    pub fn addresses<'n>(
        &self,
        frontends: impl Iterator<Item = &'n str>,
        family: Family,
    ) -> BTreeSet<IpNet> {
        let frontends = frontends.filter_map(|name| self.config.frontend(name));
        frontends
            .filter_map(|frontend| network(frontend, family))
            .collect()
    }
}

fn network(frontend: &Frontend, family: Family) -> Option<IpNet> {
    match family {
        Family::V4 => frontend.ipv4.map(IpNet::V4),
        Family::V6 => frontend.ipv6.map(IpNet::V6),
    }
}

/// Addresses as commands print them, one by one. No prefix of a file has more than 256.
pub fn listed(networks: &BTreeSet<IpNet>) -> Vec<String> {
    // `hosts` leaves out the first and the last of an IPv4 network; all of them have ports.
    let one_by_one = |network: &IpNet| -> Vec<String> {
        match network {
            IpNet::V4(network) => (u32::from(network.network())..=u32::from(network.broadcast()))
                .map(|address| Ipv4Addr::from(address).to_string())
                .collect(),
            IpNet::V6(network) => (u128::from(network.network())..=u128::from(network.broadcast()))
                .map(|address| Ipv6Addr::from(address).to_string())
                .collect(),
        }
    };
    networks.iter().flat_map(one_by_one).collect()
}
