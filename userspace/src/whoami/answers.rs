//! What each source is told about its way out. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use crate::config::model::{Config, MemberRef};
use crate::config::snat::Family;
use crate::config::snat::outward::{Method, Outward, listed};

/// `GET /whoami`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// The address that asks.
    pub source: IpAddr,
    /// Its instance; empty for others in the virtual network.
    pub instance: String,
    /// Its IP configuration.
    pub ip_config: String,
    /// How it goes out over the family that it asks by.
    pub method: &'static str,
    /// The first of the addresses that it goes out with.
    pub address: Option<String>,
    /// All of them.
    pub addresses: Vec<String>,
    /// Ports of these that are its own: those of a public IP are all.
    pub ports: Vec<Ports>,
}

/// Ports of an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Ports {
    /// The address.
    pub address: String,
    /// `tcp`, `udp`, `icmp` or `all`.
    pub protocol: &'static str,
    /// First port.
    pub first: u16,
    /// Last port.
    pub last: u16,
}

/// Answers for every source.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answers {
    pub(super) by_source: BTreeMap<IpAddr, Answer>,
    /// For sources that are no instance's: the virtual network, and the addresses of default outbound.
    others: Option<(Vec<IpNet>, [Vec<String>; 2])>,
}

impl Answers {
    /// Those of a configuration; `ports` says which ones a source has.
    pub fn of(config: &Config, ports: impl Fn(IpAddr) -> Vec<Ports>) -> Self {
        let outward = Outward::of(config);
        let mut by_source = BTreeMap::new();
        for instance in &config.instances {
            for ip_config in &instance.ip_configs {
                let target = MemberRef {
                    instance: instance.name.clone(),
                    ip_config: ip_config.name.clone(),
                };
                for source in ip_config.addresses() {
                    let answer = answer(&outward, &target, source, &ports);
                    by_source.insert(source, answer);
                }
            }
        }
        let others = config.default_outbound.as_ref().map(|default| {
            let networks = Family::ALL.map(|family| {
                let names = default.frontends.iter().map(String::as_str);
                listed(&outward.addresses(names, family))
            });
            (config.node.virtual_network.clone(), networks)
        });
        Self { by_source, others }
    }

    /// The answer for who asks; `None` for strangers.
    pub fn for_source(&self, source: IpAddr) -> Option<Answer> {
        if let Some(answer) = self.by_source.get(&source) {
            return Some(answer.clone());
        }
        let (virtual_network, addresses) = self.others.as_ref()?;
        if !virtual_network
            .iter()
            .any(|prefix| prefix.contains(&source))
        {
            return None;
        }
        let addresses = addresses[usize::from(source.is_ipv6())].clone();
        let method = match addresses.is_empty() {
            true => Method::None,
            false => Method::DefaultOutbound,
        };
        Some(Answer {
            source,
            instance: String::new(),
            ip_config: String::new(),
            method: method.label(),
            address: addresses.first().cloned(),
            addresses,
            ports: Vec::new(),
        })
    }
}

fn answer(
    outward: &Outward<'_>,
    target: &MemberRef,
    source: IpAddr,
    ports: impl Fn(IpAddr) -> Vec<Ports>,
) -> Answer {
    let family = match source {
        IpAddr::V4(_) => Family::V4,
        IpAddr::V6(_) => Family::V6,
    };
    let method = outward.method(target, family);
    let addresses = listed(&outward.used_over(target, family));
    let all = |address: &String| Ports {
        address: address.clone(),
        protocol: "all",
        first: 0,
        last: u16::MAX,
    };
    Answer {
        source,
        instance: target.instance.clone(),
        ip_config: target.ip_config.clone(),
        method: method.label(),
        address: addresses.first().cloned(),
        ports: match method {
            Method::PublicIp => addresses.iter().map(all).collect(),
            _ => ports(source),
        },
        addresses,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_all;

    const FILE: &str = r#"
node.interfaces = ["eth0"]
frontend = [{ name = "nat", ipv4 = "203.0.113.64/31" }]
instance = [
  { name = "a", ipv4 = "10.0.1.1", ipv6 = "fd00::1", public_ip = "alice" },
  { name = "b", ip_configs = [{ name = "second", ipv4 = "10.0.1.2" }] },
]
public_ip = [{ name = "alice", ipv4 = "203.0.113.50" }]
default_outbound.frontends = ["nat"]
"#;

    fn answers(text: &str) -> Answers {
        let config = parse_all("f", text).unwrap_or_else(|refusal| panic!("{refusal}"));
        Answers::of(&config.config, |_| {
            vec![Ports {
                address: "203.0.113.64".to_owned(),
                protocol: "tcp",
                first: 1024,
                last: 2047,
            }]
        })
    }

    fn told(answers: &Answers, source: &str) -> Option<serde_json::Value> {
        let answer = answers.for_source(source.parse().unwrap())?;
        Some(serde_json::to_value(answer).unwrap())
    }

    #[test]
    fn who_asks_is_told_its_own_way_out() {
        let answers = answers(FILE);
        assert_eq!(
            told(&answers, "10.0.1.2").unwrap(),
            serde_json::json!({
                "source": "10.0.1.2", "instance": "b", "ip_config": "second",
                "method": "default-outbound", "address": "203.0.113.64",
                "addresses": ["203.0.113.64", "203.0.113.65"],
                "ports": [{"address": "203.0.113.64", "protocol": "tcp", "first": 1024, "last": 2047}],
            })
        );
        let public = told(&answers, "10.0.1.1").unwrap();
        assert_eq!(public["method"], "public-ip");
        assert_eq!(public["address"], "203.0.113.50");
        assert_eq!(public["ports"][0]["last"], 65535);
        let v6 = told(&answers, "fd00::1").unwrap();
        assert_eq!(
            (&v6["method"], &v6["address"]),
            (&"none".into(), &serde_json::Value::Null)
        );
    }

    #[test]
    fn others_in_the_virtual_network_have_default_outbound_and_strangers_nothing() {
        let with_default = answers(FILE);
        let other = told(&with_default, "10.9.9.9").unwrap();
        assert_eq!(other["instance"], "");
        assert_eq!(other["method"], "default-outbound");
        assert_eq!(told(&with_default, "198.51.100.1"), None);
        let without = FILE.replace("default_outbound.frontends = [\"nat\"]", "");
        assert_eq!(told(&answers(&without), "10.9.9.9"), None);
    }
}
