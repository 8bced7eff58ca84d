//! The configuration as the rest of the daemon sees it: valid by construction.
//!
//! Only [`super::load`] makes these values, after every reference has been resolved and every
//! range checked, so nobody downstream has to doubt them. Names stay strings: they are the
//! operator's words and appear in output; numeric ids are the control plane's business.

mod inventory;
mod node;
mod outbound;
mod probe;
mod rule;
mod security;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;

pub use self::inventory::*;
pub use self::node::*;
pub use self::outbound::*;
pub use self::probe::*;
pub use self::rule::*;
pub use self::security::*;

/// A whole, valid configuration file.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `[node]`
    pub node: Node,
    /// `[limits]`
    pub limits: Limits,
    /// `[timeouts]`
    pub timeouts: Timeouts,
    /// `[api]`
    pub api: Api,
    /// `[log]`
    pub log: Log,
    /// `[[frontend]]`, in file order
    pub frontends: Vec<Frontend>,
    /// `[[public_ip]]`, in file order
    pub public_ips: Vec<PublicIp>,
    /// `[[instance]]`, in file order
    pub instances: Vec<Instance>,
    /// `[[pool]]`, in file order
    pub pools: Vec<Pool>,
    /// `[[probe]]`, in file order
    pub probes: Vec<Probe>,
    /// `[[rule]]`, in file order
    pub rules: Vec<Rule>,
    /// `[[inbound_nat_rule]]`, in file order
    pub inbound_nat_rules: Vec<InboundNatRule>,
    /// `[[outbound_rule]]`, in file order
    pub outbound_rules: Vec<OutboundRule>,
    /// `[default_outbound]`
    pub default_outbound: Option<DefaultOutbound>,
    /// `[dns]`
    pub dns: Option<Dns>,
    /// `[[security_group]]`, in file order
    pub security_groups: Vec<SecurityGroup>,
    /// Ports that shared frontends leave to the host that the file was read for, by name: not from the file.
    pub host_ports: BTreeMap<String, Vec<RangeInclusive<u16>>>,
}

impl Config {
    /// The IP configuration that a member names.
    pub fn ip_config(&self, target: &MemberRef) -> Option<&IpConfig> {
        let instance = self
            .instances
            .iter()
            .find(|instance| instance.name == target.instance)?;
        instance
            .ip_configs
            .iter()
            .find(|ip_config| ip_config.name == target.ip_config)
    }

    /// The IP configuration that has a private address, as `instance/ip_config`.
    pub fn owner_of(&self, address: IpAddr) -> Option<MemberRef> {
        self.instances.iter().find_map(|instance| {
            let has_it =
                |ip_config: &&IpConfig| ip_config.addresses().any(|known| known == address);
            let found = instance.ip_configs.iter().find(has_it)?;
            Some(MemberRef {
                instance: instance.name.clone(),
                ip_config: found.name.clone(),
            })
        })
    }

    /// The pool of this name.
    pub fn pool(&self, name: &str) -> Option<&Pool> {
        self.pools.iter().find(|pool| pool.name == name)
    }

    /// The frontend of this name.
    pub fn frontend(&self, name: &str) -> Option<&Frontend> {
        self.frontends.iter().find(|frontend| frontend.name == name)
    }
}
