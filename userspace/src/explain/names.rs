//! The operator's words for what the tables hold.

use std::net::IpAddr;

use forebay_common::abi::{Owner, Rule, Way};
use forebay_common::family::Family;
use forebay_common::flow::FlowKind;

use crate::api::SnatPorts;
use crate::config::model::{Config, Ports};
use crate::control_plane::Ids;

/// Turns ids back into the operator's words.
#[derive(Clone, Copy)]
pub struct Names<'n> {
    /// The configuration in force.
    pub config: &'n Config,
    /// Ids in use.
    pub ids: &'n Ids,
}

impl Names<'_> {
    pub(super) fn rule(&self, id: u32) -> String {
        let Some(name) = self.ids.rules.key_of(id) else {
            return format!("rule id {id}");
        };
        let nat_rules = &self.config.inbound_nat_rules;
        if let Some(name) = self.ids.rule_name(id).filter(|plain| plain != name) {
            format!("outbound rule {name}")
        } else if nat_rules.iter().any(|rule| rule.name == *name) {
            format!("inbound NAT rule {name}")
        } else {
            format!("rule {name}")
        }
    }

    /// A rule, and which ports it is for when that is more than one.
    pub(super) fn rule_and_ports(&self, rule: &Rule) -> String {
        let words = self.rule(rule.id);
        let name = self.ids.rules.key_of(rule.id);
        let is = |other: &String| Some(other) == name;
        let rules = self.config.rules.iter();
        let nat_rules = self.config.inbound_nat_rules.iter();
        let ports = (rules.filter(|rule| is(&rule.name)).map(|rule| &rule.port))
            .chain(
                nat_rules
                    .filter(|rule| is(&rule.name))
                    .map(|rule| &rule.port),
            )
            .next();
        match ports {
            Some(Ports::Range(range)) => {
                format!("{words} (ports {}-{})", range.start(), range.end())
            }
            Some(Ports::Every) => format!("{words} (every port)"),
            Some(Ports::Single(_)) | None => words,
        }
    }

    pub(super) fn owner(&self, address: IpAddr, owner: Option<&Owner>) -> String {
        let Some(owner) = owner else {
            return "nobody this node knows".to_owned();
        };
        let mut words = Vec::new();
        if owner.roles & Owner::FRONTEND != 0 {
            let holds = |frontend: &&crate::config::model::Frontend| frontend.has(address);
            match self.config.frontends.iter().find(holds) {
                Some(frontend) => words.push(format!("frontend {}", frontend.name)),
                None => words.push("a removed frontend that still has flows".to_owned()),
            }
        }
        if owner.roles & Owner::INSTANCE != 0 {
            match self.config.owner_of(address) {
                Some(member) => words.push(format!("instance {member}")),
                None => words.push("an instance".to_owned()),
            }
        }
        if owner.roles & Owner::PUBLIC_IP != 0 {
            words.push(self.public_ip(address));
        }
        words.join(" and ")
    }

    /// A public IP by its address.
    pub(super) fn public_ip(&self, address: IpAddr) -> String {
        let mut public_ips = self.config.public_ips.iter();
        let found = public_ips.find(|ip| {
            let v4 = ip.ipv4.map(IpAddr::V4);
            v4.into_iter()
                .chain(ip.ipv6.map(IpAddr::V6))
                .any(|known| known == address)
        });
        match found {
            Some(public_ip) => format!("public IP {}", public_ip.name),
            None => format!("public IP {address}"),
        }
    }

    /// By which method a way leads out.
    pub(super) fn method(&self, way: &Way) -> String {
        if way.rule != 0 {
            return self.rule(way.rule);
        }
        let kind = FlowKind::from_byte((way.flags >> Way::KIND_SHIFT) as u8);
        match kind {
            Some(FlowKind::OutboundRule) => "an outbound rule",
            Some(FlowKind::RuleImplied) => "frontends of its rules (outbound_snat)",
            Some(FlowKind::DefaultOutbound) => "default outbound",
            _ => "for whoever has no way of its own, by that address itself",
        }
        .to_owned()
    }

    pub(super) fn member(&self, address: IpAddr) -> String {
        let name = self
            .config
            .owner_of(address)
            .map(|member| format!("{member} "));
        format!("{}({address})", name.unwrap_or_default())
    }
}

/// Ranges of SNAT ports, in few words.
pub(super) fn ports(ranges: &[SnatPorts]) -> String {
    const MOST: usize = 8;
    let range =
        |range: &SnatPorts| format!("{} ports {}-{}", range.address, range.first, range.last);
    let mut words: Vec<String> = ranges.iter().take(MOST).map(range).collect();
    if ranges.len() > MOST {
        words.push(format!("{} more ranges", ranges.len() - MOST));
    }
    match words.is_empty() {
        true => "none".to_owned(),
        false => words.join(", "),
    }
}

pub(super) fn endpoint<A: Family + Into<IpAddr>>(address: A, port: u16) -> String {
    std::net::SocketAddr::new(address.into(), port).to_string()
}

pub(super) fn mac(octets: [u8; 6]) -> String {
    octets.map(|octet| format!("{octet:02x}")).join(":")
}

/// Name of a protocol number, as commands take it.
pub fn protocol_name(number: u32) -> String {
    match number {
        1 | 58 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        other => other.to_string(),
    }
}
