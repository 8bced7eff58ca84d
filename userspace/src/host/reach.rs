//! Whether the host can reach the members that the configuration names.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Netlink, Way};
use crate::config::Diagnostic;
use crate::config::model::{Config, MemberRef};

/// What a member's way from this host may have that its operator did not mean.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Finding {
    /// No route.
    NoRoute,
    /// The address is the host's own.
    Local,
    /// The route leaves by this interface, which the node is not attached to.
    NotAttached(String),
}

/// Warnings about members without a route, or with one that the node cannot take by itself. `file` is
/// for the messages.
///
/// A host that has none of the configured interfaces is not the node: nothing is said there.
pub async fn warnings(netlink: &Netlink, config: &Config, file: &str) -> Vec<Diagnostic> {
    let mut warnings = Vec::new();
    let found = netlink.interfaces(&config.node.interfaces).await;
    let ours: Vec<String> = found.map_or_else(
        |_| Vec::new(),
        |found| found.into_iter().map(|one| one.name).collect(),
    );
    if ours.is_empty() {
        return warnings;
    }
    for (member, address) in members(config) {
        let unspecified: IpAddr = match address {
            IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
        };
        // A host that cannot be asked is no reason to warn.
        let Ok(way) = netlink.way(unspecified, address, None).await else {
            continue;
        };
        if let Some(finding) = judge(&way, &ours) {
            warnings.push(diagnostic(file, &member, address, &finding));
        }
    }
    warnings
}

/// Every address of every pool member, once.
fn members(config: &Config) -> BTreeSet<(MemberRef, IpAddr)> {
    let members = config.pools.iter().flat_map(|pool| &pool.members);
    let addresses =
        members.filter_map(|member| Some((&member.target, config.ip_config(&member.target)?)));
    addresses
        .flat_map(|(target, ip_config)| {
            ip_config
                .addresses()
                .map(|address| (target.clone(), address))
        })
        .collect()
}

fn judge(way: &Way, ours: &[String]) -> Option<Finding> {
    match way {
        Way::None => Some(Finding::NoRoute),
        Way::Local => Some(Finding::Local),
        Way::Out { interface, .. } if !ours.contains(interface) => {
            Some(Finding::NotAttached(interface.clone()))
        }
        Way::Out { .. } => None,
    }
}

fn diagnostic(file: &str, member: &MemberRef, address: IpAddr, finding: &Finding) -> Diagnostic {
    let (expected, message) = match finding {
        Finding::NoRoute => (
            "an address that this host has a route to",
            "packets to it are dropped (no-route): add a route, or check on the node itself"
                .to_owned(),
        ),
        Finding::Local => (
            "an address of another machine",
            "it is this host's own: traffic through the node does not reach local programs"
                .to_owned(),
        ),
        Finding::NotAttached(interface) => (
            "an address behind one of [node].interfaces",
            format!(
                "its route leaves by {interface}: the kernel forwards to it, several times slower, unless {interface} is added"
            ),
        ),
    };
    Diagnostic {
        file: file.to_owned(),
        line: 0,
        key: format!("instance \"{}\".{}", member.instance, member.ip_config),
        found: address.to_string(),
        expected: expected.to_owned(),
        message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out(interface: &str) -> Way {
        Way::Out {
            ifindex: 2,
            interface: interface.to_owned(),
            neighbor: "10.0.0.1".parse().unwrap(),
            mac: None,
        }
    }

    #[test]
    fn only_ways_by_attached_interfaces_go_without_a_warning() {
        let attached = ["eth1".to_owned()];
        assert_eq!(judge(&out("eth1"), &attached), None);
        assert_eq!(
            judge(&out("eth9"), &attached),
            Some(Finding::NotAttached("eth9".to_owned()))
        );
        assert_eq!(judge(&Way::None, &attached), Some(Finding::NoRoute));
        assert_eq!(judge(&Way::Local, &attached), Some(Finding::Local));
    }

    #[test]
    fn a_warning_names_the_member_and_what_to_do() {
        let member = MemberRef {
            instance: "web-1".to_owned(),
            ip_config: "primary".to_owned(),
        };
        let told = diagnostic(
            "f.toml",
            &member,
            "10.0.1.11".parse().unwrap(),
            &Finding::NoRoute,
        )
        .to_string();
        assert!(
            told.contains("web-1") && told.contains("10.0.1.11") && told.contains("add a route"),
            "{told}"
        );
    }
}
