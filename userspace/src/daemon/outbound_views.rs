//! What commands show of the ways out, from the configuration. Pure.

use std::collections::BTreeSet;

use anyhow::Result;

use super::answers::require_name;
use super::views::{View, protocol, text};
use crate::api;
use crate::config::model::{Config, Instance, IpConfig, MemberRef, OutboundRule, Pool, PublicIp};
use crate::config::snat::outward::{Method, Outward, listed};
use crate::config::snat::{Family, Origin, Plan, Share, available_to, plan};

impl View<'_> {
    /// `show instances`
    pub(super) fn instances(&self) -> Vec<api::Instance> {
        let outward = Outward::of(self.config);
        let view = |instance: &Instance| api::Instance {
            name: instance.name.clone(),
            security_group: instance.security_group.clone(),
            ip_configs: (instance.ip_configs.iter())
                .map(|ip_config| ip_config_of(self.config, &outward, instance, ip_config))
                .collect(),
        };
        self.config.instances.iter().map(view).collect()
    }

    /// `show public-ips`
    pub(super) fn public_ips(&self) -> Vec<api::PublicIp> {
        let zone = self.config.dns.as_ref().map(|dns| dns.zone.as_str());
        let view = |public_ip: &PublicIp| {
            let owner = owner(self.config, &public_ip.name);
            let label = public_ip.dns_label.as_ref();
            let (v4, v6) = (public_ip.ipv4, public_ip.ipv6);
            let addresses = v4.map(|address| address.to_string());
            api::PublicIp {
                name: public_ip.name.clone(),
                addresses: (addresses.into_iter())
                    .chain(v6.map(|address| address.to_string()))
                    .collect(),
                instance: owner.as_ref().map(|owner| owner.instance.clone()),
                ip_config: owner.map(|owner| owner.ip_config),
                dns_name: label
                    .zip(zone)
                    .map(|(label, zone)| format!("{label}.{zone}")),
            }
        };
        self.config.public_ips.iter().map(view).collect()
    }

    /// `show outbound-rules`
    pub(super) fn outbound_rules(&self) -> Vec<api::OutboundRule> {
        let outward = Outward::of(self.config);
        let rules = self.config.outbound_rules.iter().enumerate();
        rules
            .map(|(index, rule)| outbound_rule(self.config, outward.plan(), index, rule))
            .collect()
    }

    /// `outbound-ips`
    pub(super) fn outbound_ips(&self, name: &str) -> Result<api::OutboundIps> {
        require_name(self.config, name)?;
        let instances = self.config.instances.iter();
        let named = instances.filter(|instance| instance.name == name);
        let outward = Outward::of(self.config);
        let targets = named.flat_map(|instance| {
            let ip_configs = instance.ip_configs.iter();
            ip_configs.map(|ip_config| target(instance, ip_config))
        });
        let targets: Vec<MemberRef> = targets.collect();
        let used = targets.iter().flat_map(|target| outward.used(target));
        let possible = targets.iter().flat_map(|target| outward.possible(target));
        Ok(api::OutboundIps {
            instance: name.to_owned(),
            outbound_ips: listed(&used.collect()),
            possible_outbound_ips: listed(&possible.collect()),
        })
    }
}

/// SNAT ports of a file, for each IP configuration.
pub(super) fn promises(config: &Config) -> Vec<api::SnatPromise> {
    let plan = plan(config);
    let mut promises: Vec<_> = plan
        .shares
        .iter()
        .flat_map(|share| {
            let (method, rule) = match share.origin {
                Origin::OutboundRule(at) => (
                    Method::OutboundRule,
                    config.outbound_rules.get(at).map(|rule| &rule.name),
                ),
                Origin::Rule(at) => (
                    Method::RuleImplied,
                    config.rules.get(at).map(|rule| &rule.name),
                ),
                Origin::DefaultOutbound => (Method::DefaultOutbound, None),
            };
            let family = match share.family {
                Family::V4 => "ipv4",
                Family::V6 => "ipv6",
            };
            share.ip_configs.iter().map(move |target| api::SnatPromise {
                instance: target.instance.clone(),
                ip_config: target.ip_config.clone(),
                family: family.to_owned(),
                method: method.label().to_owned(),
                rule: rule.cloned().unwrap_or_default(),
                protocol: protocol(share.protocol).to_owned(),
                frontends: share.frontends.clone(),
                ports: share.ports,
            })
        })
        .collect();
    promises.sort_by(|a, b| {
        (&a.instance, &a.ip_config, &a.family).cmp(&(&b.instance, &b.ip_config, &b.family))
    });
    promises
}

fn target(instance: &Instance, ip_config: &IpConfig) -> MemberRef {
    MemberRef {
        instance: instance.name.clone(),
        ip_config: ip_config.name.clone(),
    }
}

fn ip_config_of(
    config: &Config,
    outward: &Outward<'_>,
    instance: &Instance,
    ip_config: &IpConfig,
) -> api::IpConfig {
    let target = target(instance, ip_config);
    let is_member = |pool: &&Pool| pool.members.iter().any(|member| member.target == target);
    let methods = Family::ALL.map(|family| outward.method(&target, family));
    let strongest = methods.into_iter().min().unwrap_or(Method::None);
    api::IpConfig {
        name: ip_config.name.clone(),
        addresses: text(ip_config.addresses()),
        public_ip: ip_config.public_ip.clone(),
        pools: (config.pools.iter().filter(is_member))
            .map(|pool| pool.name.clone())
            .collect(),
        outbound: strongest.label().to_owned(),
        outbound_ipv4: methods[0].label().to_owned(),
        outbound_ipv6: methods[1].label().to_owned(),
    }
}

/// Who has a public IP.
fn owner(config: &Config, public_ip: &str) -> Option<MemberRef> {
    config.instances.iter().find_map(|instance| {
        let has_it = |ip_config: &&IpConfig| ip_config.public_ip.as_deref() == Some(public_ip);
        let ip_config = instance.ip_configs.iter().find(has_it)?;
        Some(target(instance, ip_config))
    })
}

fn outbound_rule(
    config: &Config,
    plan: &Plan,
    index: usize,
    rule: &OutboundRule,
) -> api::OutboundRule {
    let origin = Origin::OutboundRule(index);
    let shares = || plan.shares.iter().filter(|share| share.origin == origin);
    let members: BTreeSet<_> = shares().flat_map(|share| &share.ip_configs).collect();
    let frontends = rule.frontends.iter();
    let frontends = frontends.filter_map(|name| config.frontend(name));
    let networks = frontends.flat_map(|frontend| {
        let v4 = frontend.ipv4.map(ipnet::IpNet::V4);
        v4.into_iter().chain(frontend.ipv6.map(ipnet::IpNet::V6))
    });
    let address = |network: ipnet::IpNet| match network.prefix_len() == network.max_prefix_len() {
        true => network.addr().to_string(),
        false => network.to_string(),
    };
    let burst = shares().map(|share| unreserved(config, plan, share));
    api::OutboundRule {
        name: rule.name.clone(),
        pool: rule.pool.clone(),
        frontends: rule.frontends.clone(),
        addresses: networks.map(address).collect(),
        protocol: protocol(rule.protocol).to_owned(),
        // What a member has over either family.
        ports_per_instance: shares().map(|share| share.ports).min().unwrap_or(0),
        burst_ports: match rule.burst {
            true => burst.min().unwrap_or(0),
            false => 0,
        },
        instances: members.len(),
    }
}

/// Ports of a promise's frontends that nobody was promised.
fn unreserved(config: &Config, plan: &Plan, share: &Share) -> u64 {
    let competes = |other: &&Share| {
        let shared = other
            .frontends
            .iter()
            .any(|name| share.frontends.contains(name));
        other.family == share.family && other.protocol.overlaps(share.protocol) && shared
    };
    let reserved = plan.shares.iter().filter(competes).map(Share::needed);
    available_to(config, share).saturating_sub(reserved.sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    #[test]
    fn check_tells_scripts_how_many_ports_each_is_promised() {
        let text = r#"
node.interfaces = ["eth0"]
[[frontend]]
name = "web"
ipv4 = "203.0.113.10"
ipv6 = "2001:db8:1::10"
[[instance]]
name = "one"
ipv4 = "10.0.1.1"
ipv6 = "fd00:1::1"
[[instance]]
name = "two"
ipv4 = "10.0.1.2"
[[pool]]
name = "web"
members = ["one"]
[[outbound_rule]]
name = "web-out"
pool = "web"
frontends = ["web"]
ports_per_instance = 64
[default_outbound]
frontends = ["web"]
"#;
        let loaded = parse("f.toml", text).unwrap_or_else(|errors| panic!("{errors}"));
        let promises = promises(&loaded.config);
        let words: Vec<_> = promises
            .iter()
            .map(|one| {
                let names = (one.instance.as_str(), one.ip_config.as_str());
                let method = (one.method.as_str(), one.rule.as_str());
                (names, one.family.as_str(), method, one.ports)
            })
            .collect();
        let one = ("one", "primary");
        let rule = ("outbound-rule", "web-out");
        let default = ("default-outbound", "");
        assert_eq!(
            words,
            [
                (one, "ipv4", rule, 64),
                (one, "ipv6", rule, 64),
                (("two", "primary"), "ipv4", default, 1024),
            ]
        );
    }
}
