//! Security rules that would keep the node's own probes from a member.

use std::collections::HashSet;
use std::net::IpAddr;

use super::Check;
use crate::config::model::{
    Instance, IpConfig, Probe, ProbeFamily, Rule, SecurityDirection, SecurityGroup,
    SecurityProtocol, SecurityRule, Selector,
};
use crate::config::place::Place;

pub(super) fn check(check: &Check<'_>) {
    let mut warned = HashSet::new();
    for rule in &check.draft.rules {
        let probe = rule
            .value
            .probe
            .as_ref()
            .and_then(|probe| check.probes.get(probe.as_str()));
        let Some(probe) = probe.map(|probe| &probe.value) else {
            continue;
        };
        let Some(port) = probe.port.or_else(|| only_backend_port(&rule.value)) else {
            continue;
        };
        for (target, instance, ip_config) in check.targets(&rule.value.pool) {
            for address in probed_addresses(probe, ip_config) {
                let blocking = blocking_rule(check, instance, ip_config, address, port);
                if let Some((security_rule, place)) = blocking
                    && warned.insert((place.path.clone(), &probe.name, port))
                {
                    let message = format!(
                        "it denies probe \"{}\" to port {port} of {target} ({address}): the member \
                         is held down; allow \"LoadBalancer\" with a priority below {}",
                        probe.name, security_rule.priority
                    );
                    let expected = "a rule that lets the node's probes through";
                    check.source.warning(place.whole(), expected, message);
                }
            }
        }
    }
}

fn only_backend_port(rule: &Rule) -> Option<u16> {
    let ports = rule.port.backend_range(rule.backend_port);
    (ports.start() == ports.end()).then_some(*ports.start())
}

fn probed_addresses<'d>(
    probe: &Probe,
    ip_config: &'d IpConfig,
) -> impl Iterator<Item = IpAddr> + use<'d> {
    let family = probe.family;
    ip_config.addresses().filter(move |address| match family {
        ProbeFamily::Each => true,
        ProbeFamily::Ipv4 => address.is_ipv4(),
        ProbeFamily::Ipv6 => address.is_ipv6(),
    })
}

/// The rule that decides about the probe, if it denies. Without one the default rules allow it.
fn blocking_rule<'d>(
    check: &Check<'d>,
    instance: &Instance,
    ip_config: &IpConfig,
    address: IpAddr,
    port: u16,
) -> Option<(&'d SecurityRule, &'d Place)> {
    let group = ip_config
        .security_group
        .as_ref()
        .or(instance.security_group.as_ref())?;
    let group = check.security_groups.get(group.as_str())?;
    let deciding = deciding_rule(check, &group.value, address, port)?;
    let rule = &group.value.rules[deciding];
    (!rule.allow).then(|| (rule, &group.parts[deciding]))
}

fn deciding_rule(
    check: &Check<'_>,
    group: &SecurityGroup,
    address: IpAddr,
    port: u16,
) -> Option<usize> {
    group.rules.iter().position(|rule| {
        rule.direction == SecurityDirection::Inbound
            && matches!(rule.protocol, SecurityProtocol::Tcp | SecurityProtocol::Any)
            && rule.source_ports.is_empty()
            && (rule.destination_ports.is_empty()
                || rule
                    .destination_ports
                    .iter()
                    .any(|ports| ports.contains(&port)))
            && comes_from_the_node(&rule.source)
            && goes_to(check, &rule.destination, address)
    })
}

/// The node's own address is not known here: a prefix counts only when it is all there is.
fn comes_from_the_node(source: &[Selector]) -> bool {
    source.is_empty()
        || source.iter().any(|selector| match selector {
            Selector::LoadBalancer => true,
            Selector::Net(net) => net.prefix_len() == 0,
            Selector::VirtualNetwork | Selector::Internet => false,
        })
}

fn goes_to(check: &Check<'_>, destination: &[Selector], address: IpAddr) -> bool {
    let private = check.draft.node.value.is_private(address);
    destination.is_empty()
        || destination.iter().any(|selector| match selector {
            Selector::Net(net) => net.contains(&address),
            Selector::VirtualNetwork => private,
            Selector::Internet => !private,
            Selector::LoadBalancer => false,
        })
}
