//! What commands show of the ways out, from the configuration. Pure.

use std::collections::BTreeSet;

use anyhow::Result;

use super::answers::require_name;
use super::views::{View, protocol, text};
use crate::api;
use crate::config::model::{Config, Instance, IpConfig, MemberRef, OutboundRule, Pool, PublicIp};
use crate::config::snat::outward::{Method, Outward, listed};
use crate::config::snat::{Family, Origin, Plan, Share, available_to};

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
