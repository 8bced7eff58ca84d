//! Who takes new flows of a rule, and whose flows are to go elsewhere.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use forebay_common::abi;

use super::desired::{self, RingProbe};
use super::ids::Ids;
use super::state::{Ring, TableState};
use crate::config::model::{AdminState, Config, Member, Pool, Rule};
use crate::health::View;

/// Whose flows are meant: rule ids with members' addresses.
pub type Whose = BTreeSet<(u32, IpAddr)>;

/// Whether a member's address takes new flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It does.
    In,
    /// It does not.
    Out,
    /// Nothing is known yet: it goes on as it was.
    AsBefore,
}

/// Whether a member's address takes new flows of rules with this probe: the operator's word comes first.
pub fn standing(
    member: &Member,
    address: IpAddr,
    probe: Option<&RingProbe>,
    health: &View,
) -> Standing {
    match (member.admin_state, probe) {
        (AdminState::Up, _) | (AdminState::None, None) => Standing::In,
        (AdminState::Down, _) => Standing::Out,
        (AdminState::None, Some(probe)) => {
            let target = probe.target(address);
            if health.is_up(&target) {
                Standing::In
            } else if health.is_unknown(&target) {
                Standing::AsBefore
            } else {
                Standing::Out
            }
        }
    }
}

/// The members of rules that take no new flows: their datagrams go to others, their connections stay.
pub fn to_move(config: &Config, ids: &Ids, health: &View) -> Whose {
    let mut moving = Whose::new();
    let probes = desired::probes(config);
    each_rule(config, ids, |id, rule, members| {
        let probe = RingProbe::of_rule(rule, &probes);
        let judge = |(member, address): &(&Member, IpAddr)| {
            standing(member, *address, probe.as_ref(), health)
        };
        let all_if_none = probe.as_ref().is_some_and(|probe| probe.all_if_none);
        for ipv6 in [false, true] {
            let of_family = members
                .iter()
                .filter(|(_, address)| address.is_ipv6() == ipv6);
            let nobody = !of_family.clone().any(|one| judge(one) != Standing::Out);
            let stays =
                |member: &Member| nobody && all_if_none && member.admin_state != AdminState::Down;
            let out = of_family.filter(|one| judge(one) == Standing::Out && !stays(one.0));
            moving.extend(out.map(|(_, address)| (id, *address)));
        }
    });
    moving
}

/// A rule that has members of a family, none of which is up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lacking {
    /// Name of the rule.
    pub rule: String,
    /// Name of its pool.
    pub pool: String,
    /// Whether the members' IPv6 addresses are meant, else IPv4.
    pub ipv6: bool,
}

impl Lacking {
    /// The family, as the file writes it.
    pub fn family(&self) -> &'static str {
        if self.ipv6 { "ipv6" } else { "ipv4" }
    }
}

impl std::fmt::Display for Lacking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "rule {} over {}", self.rule, self.family())
    }
}

/// The rules without a member that is up, in a family that frontend and members have.
pub fn lacking(config: &Config, ids: &Ids, health: &View) -> BTreeSet<Lacking> {
    let mut found = BTreeSet::new();
    let probes = desired::probes(config);
    let frontends: HashMap<&str, _> =
        (config.frontends.iter().map(|f| (f.name.as_str(), f))).collect();
    each_rule(config, ids, |_, rule, members| {
        let probe = RingProbe::of_rule(rule, &probes);
        let frontend = frontends.get(rule.frontend.as_str()).into_iter();
        for ipv6 in frontend.flat_map(|f| f.addresses()).map(|a| a.is_ipv6()) {
            let mut of_family = members
                .iter()
                .filter(|(_, address)| address.is_ipv6() == ipv6);
            let mut any = false;
            let nobody = of_family.all(|(member, address)| {
                any = true;
                standing(member, *address, probe.as_ref(), health) == Standing::Out
            });
            if any && nobody {
                found.insert(Lacking {
                    rule: rule.name.clone(),
                    pool: rule.pool.clone(),
                    ipv6,
                });
            }
        }
    });
    found
}

/// Whom the rings in the tables send new flows to.
pub fn taking(tables: &TableState) -> Whose {
    let mut taking = Whose::new();
    let balanced = tables.bindings.values();
    for rule in balanced.filter(|rule| rule.is_active() && rule.way == abi::Rule::RING) {
        for (target, ipv6) in rule.targets.into_iter().zip([false, true]) {
            let Some(Ring::Members(members)) = tables.rings.get(&target) else {
                continue;
            };
            let address = |backend: u32| -> Option<IpAddr> {
                match ipv6 {
                    false => tables.v4.backends.get(&backend).map(|raw| (*raw).into()),
                    true => tables.v6.backends.get(&backend).map(|raw| (*raw).into()),
                }
            };
            let addresses = members.iter().filter_map(|member| address(member.backend));
            taking.extend(addresses.map(|address| (rule.id, address)));
        }
    }
    taking
}

/// The members of rules whom the operator has not taken out.
pub fn to_stay(config: &Config, ids: &Ids) -> Whose {
    let mut staying = Whose::new();
    each_rule(config, ids, |id, _, members| {
        let stay = members
            .iter()
            .filter(|(member, _)| member.admin_state != AdminState::Down);
        staying.extend(stay.map(|(_, address)| (id, *address)));
    });
    staying
}

/// Looks at every rule with its id and the addresses of its members.
fn each_rule<'c>(
    config: &'c Config,
    ids: &Ids,
    mut look: impl FnMut(u32, &'c Rule, &[(&'c Member, IpAddr)]),
) {
    let mut addresses: HashMap<(&str, &str), Vec<IpAddr>> = HashMap::new();
    for instance in &config.instances {
        for one in &instance.ip_configs {
            let name = (instance.name.as_str(), one.name.as_str());
            addresses.insert(name, one.addresses().collect());
        }
    }
    let of_member = |member: &'c Member| {
        let target = &member.target;
        let known = addresses.get(&(target.instance.as_str(), target.ip_config.as_str()));
        let known = known.into_iter().flatten();
        known
            .map(move |address| (member, *address))
            .collect::<Vec<_>>()
    };
    let members = |pool: &'c Pool| pool.members.iter().flat_map(of_member).collect();
    let pools: HashMap<&str, Vec<(&Member, IpAddr)>> = (config.pools.iter())
        .map(|pool| (pool.name.as_str(), members(pool)))
        .collect();
    for rule in &config.rules {
        if let (Some(id), Some(members)) =
            (ids.rules.get(&rule.name), pools.get(rule.pool.as_str()))
        {
            look(id, rule, members);
        }
    }
}
