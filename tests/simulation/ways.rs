//! How a source may reach the outside, as configurations say.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use forebay::config::model::{
    Config, Filtering, Frontend, Instance, Mapping, OnExhaustion, OutboundRule, Ports, Protocol,
};
use forebay_tests::frame::{TCP, UDP};

/// Ports that may be used for SNAT.
const SNAT_PORTS: RangeInclusive<u16> = 1_024..=65_023;
/// They go in blocks of so many.
const BLOCK: u16 = 8;

/// What a source may become while the tables hold parts of some configurations.
#[derive(Debug, Default)]
pub(crate) struct WaysOut {
    /// Its own public IPs.
    pub(crate) public: BTreeSet<IpAddr>,
    /// The addresses that it shares, and the blocks of ports that rules have there; a port is right if it is right
    /// in one of the configurations.
    pub(crate) shared: BTreeMap<IpAddr, Vec<BTreeSet<u16>>>,
    /// It may have none.
    pub(crate) none: bool,
    /// It may be nobody that this node knows.
    pub(crate) unknown: bool,
    /// Its port may be the same for all destinations; it may differ.
    pub(crate) independent: BTreeSet<bool>,
    /// Who gets no port may be told; may not.
    pub(crate) reject: BTreeSet<bool>,
    /// Anybody may send to that port.
    pub(crate) open_to_all: bool,
    /// Whoever was contacted may.
    pub(crate) open_to_contacted: bool,
}

/// One configuration's answer.
enum Method<'c> {
    Public(IpAddr),
    Rule(&'c OutboundRule),
    /// Names of frontends.
    Shared(Vec<&'c str>),
    None,
}

impl WaysOut {
    /// The ways of a source over a protocol.
    pub(crate) fn of(files: &[Arc<Config>], source: IpAddr, protocol: u8) -> Self {
        let (mut ways, ipv6) = (Self::default(), source.is_ipv6());
        let is_guest = |config: &Arc<Config>| instance(config, source).is_none();
        for config in files {
            if let Some(instance) = instance(config, source) {
                ways.add(
                    config,
                    method(config, instance, ipv6, protocol),
                    ipv6,
                    protocol,
                );
            } else {
                ways.unknown |= config.default_outbound.is_none();
            }
            // Who is nobody by one of them may go by the default of any.
            if files.iter().any(is_guest) {
                ways.add(config, default(config, ipv6), ipv6, protocol);
            }
        }
        ways
    }

    fn add(&mut self, config: &Config, method: Method<'_>, ipv6: bool, protocol: u8) {
        match method {
            Method::Public(address) => drop(self.public.insert(address)),
            Method::None => self.none = true,
            Method::Rule(rule) => {
                let mapping = match protocol {
                    TCP => rule.tcp_mapping,
                    _ => rule.udp_mapping,
                };
                let is_independent = mapping == Mapping::EndpointIndependent;
                self.independent.insert(is_independent);
                let rejects = rule.on_exhaustion == OnExhaustion::Reject;
                self.reject.insert(rejects);
                let filtering = Some(rule.filtering).filter(|_| is_independent);
                self.open_to_all |= filtering == Some(Filtering::EndpointIndependent);
                self.open_to_contacted |= filtering == Some(Filtering::AddressDependent);
                let names = rule.frontends.iter().map(String::as_str).collect();
                self.share(config, names, ipv6);
            }
            Method::Shared(names) => {
                self.independent.insert(protocol != TCP);
                self.reject.insert(true);
                self.share(config, names, ipv6);
            }
        }
    }

    fn share(&mut self, config: &Config, names: Vec<&str>, ipv6: bool) {
        for name in names {
            let taken = taken(config, name);
            for address in addresses(config, name, ipv6) {
                self.shared.entry(address).or_default().push(taken.clone());
            }
        }
    }

    /// Whether a new flow may leave by an address and port.
    pub(crate) fn has(&self, (address, port): (IpAddr, u16)) -> bool {
        let is_free = |taken: &BTreeSet<u16>| !taken.contains(&(port / BLOCK));
        let found = self.shared.get(&address);
        SNAT_PORTS.contains(&port) && found.is_some_and(|files| files.iter().any(is_free))
    }

    /// Whether it may have a way with ports.
    pub(crate) fn is_shared(&self) -> bool {
        !self.shared.is_empty()
    }
}

/// The instance with a private address.
pub(crate) fn instance(config: &Config, address: IpAddr) -> Option<&Instance> {
    let mut all = config.instances.iter();
    all.find(|instance| {
        let mut own = instance.ip_configs.iter().flat_map(|one| one.addresses());
        own.any(|own| own == address)
    })
}

/// The public IP of an instance, if that has this family.
pub(crate) fn public_ip(config: &Config, instance: &Instance, ipv6: bool) -> Option<IpAddr> {
    let name = instance.ip_configs.first()?.public_ip.as_ref()?;
    let found = config.public_ips.iter().find(|one| one.name == *name)?;
    if ipv6 {
        found.ipv6.map(IpAddr::V6)
    } else {
        found.ipv4.map(IpAddr::V4)
    }
}

fn frontend<'c>(config: &'c Config, name: &str) -> Option<&'c Frontend> {
    config.frontends.iter().find(|one| one.name == name)
}

fn addresses(config: &Config, name: &str, ipv6: bool) -> Vec<IpAddr> {
    let all = frontend(config, name)
        .into_iter()
        .flat_map(|one| one.every_address());
    all.filter(|address| address.is_ipv6() == ipv6).collect()
}

/// Blocks of ports that rules of a frontend have: a rule for every port has none.
pub(crate) fn taken(config: &Config, name: &str) -> BTreeSet<u16> {
    let rules = config.rules.iter().map(|rule| (&rule.frontend, &rule.port));
    let nat = config.inbound_nat_rules.iter();
    let all = rules.chain(nat.map(|rule| (&rule.frontend, &rule.port)));
    let mut taken = BTreeSet::new();
    for (_, ports) in all.filter(|(of, ports)| *of == name && **ports != Ports::Every) {
        let range = ports.range();
        taken.extend(range.start() / BLOCK..=range.end() / BLOCK);
    }
    taken
}

fn default(config: &Config, ipv6: bool) -> Method<'_> {
    let default = config.default_outbound.as_ref();
    let names = default.map_or(Vec::new(), |one| usable(config, &one.frontends, ipv6));
    if names.is_empty() {
        Method::None
    } else {
        Method::Shared(names)
    }
}

/// A public IP before an outbound rule before the frontends of rules before the default.
fn method<'c>(config: &'c Config, instance: &Instance, ipv6: bool, protocol: u8) -> Method<'c> {
    if let Some(address) = public_ip(config, instance, ipv6) {
        return Method::Public(address);
    }
    let pools = config.pools.iter().filter(|pool| {
        let mut members = pool.members.iter();
        members.any(|member| member.target.instance == instance.name)
    });
    let pools: Vec<&str> = pools.map(|pool| pool.name.as_str()).collect();
    let rules = config
        .outbound_rules
        .iter()
        .filter(|rule| pools.contains(&rule.pool.as_str()))
        .filter(|rule| !usable(config, &rule.frontends, ipv6).is_empty());
    let rules: Vec<&OutboundRule> = rules.collect();
    if !rules.is_empty() {
        let first = rules.iter().find(|rule| match rule.protocol {
            Protocol::Tcp => protocol == TCP,
            Protocol::Udp => protocol == UDP,
            Protocol::All => true,
        });
        return first.map_or(Method::None, |rule| Method::Rule(rule));
    }
    let implied = config.rules.iter().filter(|rule| {
        let mut outbound = config.outbound_rules.iter();
        rule.outbound_snat
            && pools.contains(&rule.pool.as_str())
            && !outbound.any(|outbound| outbound.pool == rule.pool)
            && !addresses(config, &rule.frontend, ipv6).is_empty()
    });
    let names: Vec<&str> = implied.map(|rule| rule.frontend.as_str()).collect();
    if names.is_empty() {
        default(config, ipv6)
    } else {
        Method::Shared(names)
    }
}

fn usable<'n>(config: &Config, names: &'n [String], ipv6: bool) -> Vec<&'n str> {
    let names = names.iter().map(String::as_str);
    names
        .filter(|name| !addresses(config, name, ipv6).is_empty())
        .collect()
}
