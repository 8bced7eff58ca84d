//! What is tried: each rule at each address of its frontend, at a port that is the rule's alone.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::config::model::{Config, Ports, Protocol, Rule};

/// A rule at an address of its frontend.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// Name of the rule.
    pub rule: String,
    /// The frontend's address.
    pub address: IpAddr,
    /// Name of the frontend.
    pub frontend: String,
}

/// What is bound to TCP ports of a frontend: protocol, ports, and whose it is.
type Bindings<'c> = HashMap<&'c str, Vec<(Protocol, &'c Ports, &'c str)>>;

/// The targets of a configuration, and the TCP port at which each is tried. Left out are rules without a TCP port of
/// their own, and families that no member of the pool has.
pub fn targets(config: &Config) -> BTreeMap<Target, u16> {
    let bindings = bindings(config);
    let families = families(config);
    let mut found = BTreeMap::new();
    for rule in &config.rules {
        let Some(port) = port_of(rule, config, &bindings) else {
            continue;
        };
        let frontend = config.frontend(&rule.frontend);
        for address in frontend.into_iter().flat_map(|one| one.addresses()) {
            if families.contains(&(rule.pool.as_str(), address.is_ipv6())) {
                let target = Target {
                    rule: rule.name.clone(),
                    address,
                    frontend: rule.frontend.clone(),
                };
                found.insert(target, port);
            }
        }
    }
    found
}

fn bindings(config: &Config) -> Bindings<'_> {
    let rules = config.rules.iter();
    let rules = rules.map(|rule| (&rule.frontend, rule.protocol, &rule.port, &rule.name));
    let nat_rules = config.inbound_nat_rules.iter();
    let nat_rules = nat_rules.map(|rule| (&rule.frontend, rule.protocol, &rule.port, &rule.name));
    let mut bindings = Bindings::new();
    for (frontend, protocol, ports, name) in rules.chain(nat_rules) {
        if protocol != Protocol::Udp {
            let of_frontend = bindings.entry(frontend).or_default();
            of_frontend.push((protocol, ports, name));
        }
    }
    bindings
}

/// The families that the members of each pool have.
fn families(config: &Config) -> HashSet<(&str, bool)> {
    let mut of_member: HashMap<(&str, &str), Vec<bool>> = HashMap::new();
    for instance in &config.instances {
        for one in &instance.ip_configs {
            let families = one.addresses().map(|address| address.is_ipv6());
            of_member.insert((&instance.name, &one.name), families.collect());
        }
    }
    let mut families = HashSet::new();
    for pool in &config.pools {
        for member in &pool.members {
            let target = &member.target;
            let key = (target.instance.as_str(), target.ip_config.as_str());
            let has = of_member.get(&key).into_iter().flatten();
            families.extend(has.map(|family| (pool.name.as_str(), *family)));
        }
    }
    families
}

/// The TCP port at which a rule is tried: its own, the first of its range, or of those of every port the one that
/// its probe asks. A port that something else has, or may have, is no proof for the rule.
fn port_of(rule: &Rule, config: &Config, bindings: &Bindings<'_>) -> Option<u16> {
    if rule.protocol == Protocol::Udp {
        return None;
    }
    let candidates: RangeInclusive<u16> = match &rule.port {
        Ports::Every => {
            let name = rule.probe.as_ref()?;
            let probe = config.probes.iter().find(|probe| probe.name == *name)?;
            let port = probe.port?;
            port..=port
        }
        ports => ports.range(),
    };
    let of_frontend = bindings.get(rule.frontend.as_str())?;
    let others: Vec<_> = of_frontend
        .iter()
        .filter(|(protocol, ports, name)| *name != rule.name && goes_before(*protocol, ports, rule))
        .map(|(_, ports, _)| ports.range())
        .collect();
    candidates
        .into_iter()
        .find(|port| !others.iter().any(|taken| taken.contains(port)))
}

/// Whether what is bound to these ports may have some before the rule.
fn goes_before(protocol: Protocol, ports: &Ports, rule: &Rule) -> bool {
    let rank = |ports: &Ports| match ports {
        Ports::Single(_) => 0,
        Ports::Range(_) => 1,
        Ports::Every => 2,
    };
    let is_general = |protocol: Protocol| u8::from(protocol == Protocol::All);
    match rank(ports).cmp(&rank(&rule.port)) {
        std::cmp::Ordering::Less => true,
        // Of two ranges the one that is tried is not to depend on their order.
        std::cmp::Ordering::Equal if rank(ports) == 1 => true,
        std::cmp::Ordering::Equal => is_general(protocol) < is_general(rule.protocol),
        std::cmp::Ordering::Greater => false,
    }
}
