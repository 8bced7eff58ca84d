//! The tables of the file, one module for each group, and the values they come to.

mod dns;
mod frontends;
mod inbound_nat;
mod instances;
mod node;
mod outbound;
mod pools;
mod probes;
mod rules;
mod security;

use std::collections::BTreeMap;

use super::model::{
    Api, Config, DefaultOutbound, Dns, Frontend, InboundNatRule, Instance, Limits, Log, Node,
    OutboundRule, Pool, Probe, PublicIp, Rule, SecurityGroup, Timeouts,
};
use super::names::Names;
use super::place::Placed;
use super::reader::Table;

/// What the file says, each part by itself; how the parts fit together is not yet known.
pub(super) struct Draft {
    pub(super) names: Names,
    pub(super) node: Placed<Node>,
    pub(super) limits: Limits,
    pub(super) timeouts: Timeouts,
    pub(super) api: Api,
    pub(super) log: Log,
    pub(super) frontends: Vec<Placed<Frontend>>,
    pub(super) public_ips: Vec<Placed<PublicIp>>,
    pub(super) instances: Vec<Placed<Instance>>,
    pub(super) pools: Vec<Placed<Pool>>,
    pub(super) probes: Vec<Placed<Probe>>,
    pub(super) rules: Vec<Placed<Rule>>,
    pub(super) inbound_nat_rules: Vec<Placed<InboundNatRule>>,
    pub(super) outbound_rules: Vec<Placed<OutboundRule>>,
    pub(super) default_outbound: Option<Placed<DefaultOutbound>>,
    pub(super) dns: Option<Placed<Dns>>,
    pub(super) security_groups: Vec<Placed<SecurityGroup>>,
}

impl Draft {
    /// Reads every table of the file.
    pub(super) fn read(mut root: Table<'_>, host_name: &dyn Fn() -> Option<String>) -> Self {
        let mut names = Names::default();
        let node = node::node(root.table("node"), host_name);
        let frontends = each(&mut root, "frontend", &mut names, frontends::frontend);
        let rules = each(&mut root, "rule", &mut names, |table, names| {
            rules::rule(table, names, &node.value, &frontends)
        });
        let draft = Self {
            limits: node::limits(root.table("limits")),
            timeouts: node::timeouts(root.table("timeouts")),
            api: node::api(root.table("api")),
            log: node::log(root.table("log")),
            public_ips: each(&mut root, "public_ip", &mut names, frontends::public_ip),
            instances: each(&mut root, "instance", &mut names, instances::instance),
            pools: each(&mut root, "pool", &mut names, pools::pool),
            probes: each(&mut root, "probe", &mut names, probes::probe),
            inbound_nat_rules: each(
                &mut root,
                "inbound_nat_rule",
                &mut names,
                inbound_nat::inbound_nat_rule,
            ),
            outbound_rules: each(
                &mut root,
                "outbound_rule",
                &mut names,
                outbound::outbound_rule,
            ),
            default_outbound: once(&mut root, "default_outbound", outbound::default_outbound),
            dns: once(&mut root, "dns", dns::dns),
            security_groups: each(
                &mut root,
                "security_group",
                &mut names,
                security::security_group,
            ),
            node,
            frontends,
            rules,
            names,
        };
        root.finish();
        draft
    }

    /// The values without their places.
    pub(super) fn to_config(&self) -> Config {
        Config {
            node: self.node.value.clone(),
            limits: self.limits,
            timeouts: self.timeouts,
            api: self.api.clone(),
            log: self.log.clone(),
            frontends: values(&self.frontends),
            public_ips: values(&self.public_ips),
            instances: values(&self.instances),
            pools: values(&self.pools),
            probes: values(&self.probes),
            rules: values(&self.rules),
            inbound_nat_rules: values(&self.inbound_nat_rules),
            outbound_rules: values(&self.outbound_rules),
            default_outbound: self
                .default_outbound
                .as_ref()
                .map(|placed| placed.value.clone()),
            dns: self.dns.as_ref().map(|placed| placed.value.clone()),
            security_groups: values(&self.security_groups),
            host_ports: BTreeMap::new(),
        }
    }
}

/// Reads every table of a list; those that cannot be understood are left out.
fn each<T>(
    root: &mut Table<'_>,
    key: &'static str,
    names: &mut Names,
    mut read: impl FnMut(Table<'_>, &mut Names) -> Option<Placed<T>>,
) -> Vec<Placed<T>> {
    let tables = root.tables(key);
    (tables.into_iter())
        .filter_map(|table| read(table, names))
        .collect()
}

/// Reads a table that may be absent.
fn once<T>(
    root: &mut Table<'_>,
    key: &'static str,
    read: impl FnOnce(Table<'_>) -> Option<Placed<T>>,
) -> Option<Placed<T>> {
    let present = root.has(key);
    let table = root.table(key);
    if present { read(table) } else { None }
}

fn values<T: Clone>(placed: &[Placed<T>]) -> Vec<T> {
    placed.iter().map(|placed| placed.value.clone()).collect()
}
