//! Whose health is asked for, and what has to be probed for that.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::model::{Config, IpConfig, MemberRef, Probe, ProbeFamily, Rule};

/// What is judged: a member's address, by a probe of a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Target {
    /// Name of the probe.
    pub probe: String,
    /// The member's address.
    pub address: IpAddr,
    /// The probed port.
    pub port: u16,
}

/// What is really asked: differs from the target where one address is judged by another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Probed {
    /// Name of the probe.
    pub probe: String,
    /// The address that is connected to.
    pub address: IpAddr,
    /// The port that is connected to.
    pub port: u16,
}

/// How a target is judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// Whose address it is.
    pub member: MemberRef,
    /// What is asked for it.
    pub by: Probed,
}

/// Everything that is judged, and everything that is probed for that.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Targets {
    /// By target.
    pub judged: BTreeMap<Target, Judged>,
    /// The settings of each probe that runs: one for several rules, pools and targets.
    pub probed: BTreeMap<Probed, Arc<Probe>>,
}

/// The port that a rule's probe asks; `None`: neither the probe nor the rule says it.
pub fn probed_port(rule: &Rule, probe: &Probe) -> Option<u16> {
    probe.port.or_else(|| {
        let ports = rule.port.backend_range(rule.backend_port);
        (ports.start() == ports.end()).then(|| *ports.start())
    })
}

/// What is judged and probed for a configuration: the members of the pools of rules that have a probe. An IP
/// configuration without the family that the probe asks for is judged by the address that it has.
pub fn targets(config: &Config) -> Targets {
    let named = |probe: &Probe| (probe.name.clone(), Arc::new(probe.clone()));
    let probes: BTreeMap<String, Arc<Probe>> = config.probes.iter().map(named).collect();
    let ip_configs = ip_configs(config);
    let mut targets = Targets::default();
    for rule in &config.rules {
        let probe = rule.probe.as_ref().and_then(|name| probes.get(name));
        let Some((probe, port)) = probe.and_then(|probe| Some((probe, probed_port(rule, probe)?)))
        else {
            continue;
        };
        let pool = config.pool(&rule.pool);
        for member in pool.into_iter().flat_map(|pool| &pool.members) {
            if let Some(ip_config) = ip_configs.get(&member.target) {
                targets.add(&member.target, ip_config, probe, port);
            }
        }
    }
    targets
}

/// Every IP configuration by what names it.
pub(crate) fn ip_configs(config: &Config) -> BTreeMap<MemberRef, &IpConfig> {
    let each = config.instances.iter().flat_map(|instance| {
        let of_instance = instance.ip_configs.iter();
        of_instance.map(|ip_config| {
            let member = MemberRef {
                instance: instance.name.clone(),
                ip_config: ip_config.name.clone(),
            };
            (member, ip_config)
        })
    });
    each.collect()
}

impl Targets {
    fn add(&mut self, member: &MemberRef, ip_config: &IpConfig, probe: &Arc<Probe>, port: u16) {
        for address in ip_config.addresses() {
            let target = Target {
                probe: probe.name.clone(),
                address,
                port,
            };
            let by = Probed {
                probe: probe.name.clone(),
                address: judge_of(address, ip_config, probe.family),
                port,
            };
            self.probed.insert(by.clone(), probe.clone());
            let member = member.clone();
            self.judged.insert(target, Judged { member, by });
        }
    }
}

/// The address that is asked to judge this one.
fn judge_of(address: IpAddr, ip_config: &IpConfig, family: ProbeFamily) -> IpAddr {
    let judge = match family {
        ProbeFamily::Each => None,
        ProbeFamily::Ipv4 => ip_config.ipv4.map(IpAddr::V4),
        ProbeFamily::Ipv6 => ip_config.ipv6.map(IpAddr::V6),
    };
    judge.unwrap_or(address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_all;

    const BASE: &str = r#"
[node]
name = "lb"
interfaces = ["eth0"]
[[frontend]]
name = "web"
ipv4 = "203.0.113.10"
[[instance]]
name = "a"
ipv4 = "10.0.1.11"
ipv6 = "fd00:1::11"
[[instance]]
name = "b"
ipv6 = "fd00:1::12"
[[instance]]
name = "idle"
ipv4 = "10.0.1.13"
[[pool]]
name = "web"
members = ["a", "b"]
[[pool]]
name = "idle"
members = ["idle"]
[[rule]]
name = "no-probe"
frontend = "web"
port = 79
pool = "idle"
"#;

    fn of(addition: &str) -> Vec<(String, String)> {
        let loaded = parse_all("f.toml", &format!("{BASE}{addition}")).unwrap();
        let targets = targets(&loaded.config);
        let by: std::collections::BTreeSet<_> = targets.judged.values().map(|j| &j.by).collect();
        assert_eq!(by, targets.probed.keys().collect());
        let show = |probe: &str, address, port| format!("{probe} {address} {port}");
        let each = targets.judged.iter().map(|(target, judged)| {
            let by = &judged.by;
            assert!(loaded.config.owner_of(target.address) == Some(judged.member.clone()));
            (
                show(&target.probe, target.address, target.port),
                show(&by.probe, by.address, by.port),
            )
        });
        each.collect()
    }

    fn probe(settings: &str) -> String {
        format!("[[probe]]\nname = \"p\"\n{settings}\n")
    }

    fn rule(name: &str, settings: &str) -> String {
        format!(
            "[[rule]]\nname = \"{name}\"\nfrontend = \"web\"\npool = \"web\"\nprobe = \"p\"\n{settings}\n"
        )
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned());
        expected.iter().map(owned).collect()
    }

    #[test]
    fn only_members_behind_a_probe_are_judged_each_by_itself() {
        assert_eq!(of(""), []);
        assert_eq!(of(&probe("protocol = \"tcp\"")), []);
        let text = probe("protocol = \"tcp\"") + &rule("r", "port = 80\nbackend_port = 8080");
        let expected = ["p 10.0.1.11 8080", "p fd00:1::11 8080", "p fd00:1::12 8080"];
        assert_eq!(of(&text), pairs(&expected.map(|one| (one, one))));
    }

    #[test]
    fn one_family_judges_both_where_it_is_there() {
        let text = probe("protocol = \"tcp\"\nfamily = \"ipv4\"") + &rule("r", "port = 80");
        let expected = [
            ("p 10.0.1.11 80", "p 10.0.1.11 80"),
            ("p fd00:1::11 80", "p 10.0.1.11 80"),
            ("p fd00:1::12 80", "p fd00:1::12 80"),
        ];
        assert_eq!(of(&text), pairs(&expected));
    }

    #[test]
    fn rules_share_what_they_ask_alike() {
        let own_port = probe("protocol = \"tcp\"\nport = 9000\nfamily = \"ipv6\"")
            + &rule("r", "port = 80")
            + &rule("s", "port = \"8000-8010\"")
            + &rule("t", "protocol = \"udp\"\nport = 53");
        let expected = [
            ("p 10.0.1.11 9000", "p fd00:1::11 9000"),
            ("p fd00:1::11 9000", "p fd00:1::11 9000"),
            ("p fd00:1::12 9000", "p fd00:1::12 9000"),
        ];
        assert_eq!(of(&own_port), pairs(&expected));
        let two_ports = probe("protocol = \"tcp\"")
            + &rule("r", "port = 80")
            + &rule("s", "port = 443\nbackend_port = 80")
            + &rule("t", "port = 81");
        let ports: Vec<_> = of(&two_ports)
            .into_iter()
            .map(|(target, _)| target)
            .collect();
        assert_eq!(
            ports,
            [
                "p 10.0.1.11 80",
                "p 10.0.1.11 81",
                "p fd00:1::11 80",
                "p fd00:1::11 81",
                "p fd00:1::12 80",
                "p fd00:1::12 81"
            ]
        );
    }
}
