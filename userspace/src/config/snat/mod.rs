//! How many SNAT ports each IP configuration is promised, and whether the promises can be kept.

pub mod outward;
mod stores;
mod users;

use std::collections::BTreeSet;

use self::stores::Stores;
use self::users::Users;
use super::model::{Config, Frontend, IpConfig, MemberRef, Ports, Protocol, PublicIp};

/// First port that is used for SNAT.
pub const FIRST_PORT: u16 = 1024;
/// Last port that is used for SNAT.
pub const LAST_PORT: u16 = 65023;
/// Ports are promised in aligned blocks of this many.
pub const BLOCK: u32 = 8;
/// What the automatic table gives at most.
pub const MOST_AUTOMATIC_PORTS: u32 = 1024;

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    /// How many addresses of this family a frontend has.
    pub fn addresses_of(self, frontend: &Frontend) -> u64 {
        let bits = match self {
            Family::V4 => frontend.ipv4.map(|net| 32 - net.prefix_len()),
            Family::V6 => frontend.ipv6.map(|net| 128 - net.prefix_len()),
        };
        bits.map_or(0, |bits| 1u64.checked_shl(bits.into()).unwrap_or(u64::MAX))
    }

    /// Whether an IP configuration has an address of this family.
    pub fn of_ip_config(self, ip_config: &IpConfig) -> bool {
        match self {
            Family::V4 => ip_config.ipv4.is_some(),
            Family::V6 => ip_config.ipv6.is_some(),
        }
    }

    fn of_public_ip(self, public_ip: &PublicIp) -> bool {
        match self {
            Family::V4 => public_ip.ipv4.is_some(),
            Family::V6 => public_ip.ipv6.is_some(),
        }
    }
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
    }
}

/// Who promises the ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Position among the outbound rules.
    OutboundRule(usize),
    /// Position, among the rules, of the first rule that implies it.
    Rule(usize),
    /// `[default_outbound]`
    DefaultOutbound,
}

/// The same promise to several IP configurations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// Who promises.
    pub origin: Origin,
    /// Of which family the ports are.
    pub family: Family,
    /// What they can be used for.
    pub protocol: Protocol,
    /// Names of the frontends they are taken from.
    pub frontends: Vec<String>,
    /// Who gets them.
    pub ip_configs: Vec<MemberRef>,
    /// The number is automatic.
    pub automatic: bool,
    /// Ports for each IP configuration as written or by the table.
    pub wanted: u32,
    /// Ports for each IP configuration that it really gets; below `wanted` only when automatic.
    pub ports: u32,
}

impl Share {
    /// Ports it takes altogether, in whole blocks.
    pub fn needed(&self) -> u64 {
        u64::from(self.ports.div_ceil(BLOCK)) * u64::from(BLOCK) * self.ip_configs.len() as u64
    }
}

/// Explicit promises that cannot be kept together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortage {
    /// Positions in [`Plan::shares`].
    pub shares: Vec<usize>,
    /// Ports they need together.
    pub needed: u64,
    /// Ports their frontends have together.
    pub available: u64,
    /// Names of those frontends.
    pub frontends: Vec<String>,
}

/// Every promise of a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// By family, explicit ones first.
    pub shares: Vec<Share>,
    /// Empty unless explicit numbers over-commit.
    pub shortages: Vec<Shortage>,
}

/// Ports that the table gives each of so many IP configurations for one address.
pub fn automatic_ports(ip_configs: usize) -> u32 {
    match ip_configs {
        0..=50 => 1024,
        51..=100 => 512,
        101..=200 => 256,
        201..=400 => 128,
        401..=800 => 64,
        _ => 32,
    }
}

/// Blocks, counted from port 0, that rules and inbound NAT rules of a frontend touch, and those of the host's own
/// ports if it shares the frontend's address.
pub fn taken_blocks(config: &Config, frontend: &str) -> BTreeSet<u32> {
    let rules = config.rules.iter().map(|rule| (&rule.frontend, &rule.port));
    let nat_rules = (config.inbound_nat_rules.iter()).map(|rule| (&rule.frontend, &rule.port));
    let block = |port: u16| u32::from(port) / BLOCK;
    let mut taken = BTreeSet::new();
    for (name, ports) in rules.chain(nat_rules) {
        if *name == frontend && !matches!(ports, Ports::Every) {
            let range = ports.range();
            taken.extend(block(*range.start())..=block(*range.end()));
        }
    }
    for range in config.host_ports.get(frontend).into_iter().flatten() {
        taken.extend(block(*range.start())..=block(*range.end()));
    }
    taken
}

/// Ports of one family that a frontend has for SNAT: all but those of the blocks that are taken.
pub fn available_ports(config: &Config, frontend: &Frontend, family: Family) -> u64 {
    let taken = taken_blocks(config, &frontend.name);
    let all = u32::from(FIRST_PORT) / BLOCK..=u32::from(LAST_PORT) / BLOCK;
    let free = all.clone().count() - taken.iter().filter(|block| all.contains(block)).count();
    free as u64 * u64::from(BLOCK) * family.addresses_of(frontend)
}

/// Ports that the frontends of a promise have.
pub fn available_to(config: &Config, share: &Share) -> u64 {
    let frontends = config.frontends.iter();
    frontends
        .filter(|frontend| share.frontends.contains(&frontend.name))
        .map(|frontend| available_ports(config, frontend, share.family))
        .sum()
}

/// Works out every promise. References to what does not exist are passed over.
pub fn plan(config: &Config) -> Plan {
    let mut plan = Plan::default();
    for family in Family::ALL {
        let mut shares = Users::new(config, family).shares();
        let stores = Stores::new(config, family);
        // Explicit numbers come first: automatic ones take what is left.
        shares.sort_by_key(|share| (share.automatic, share.origin));
        let explicit = shares.iter().filter(|share| !share.automatic).count();
        let shortages = stores.shortages(&shares[..explicit], plan.shares.len());
        if shortages.is_empty() {
            stores.fit(&mut shares);
        }
        plan.shares.append(&mut shares);
        plan.shortages.extend(shortages);
    }
    plan
}

#[cfg(test)]
mod tests;
