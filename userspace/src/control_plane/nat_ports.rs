//! Which port of an inbound NAT rule each member of its pool has: the one that it pins, else the one that it
//! had, else the first that is free, in file order.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::model::{Config, InboundNatRule, MemberRef, NatTarget, Pool};

/// By name of the rule, then by member.
pub type NatPorts = BTreeMap<String, BTreeMap<MemberRef, u16>>;

/// The ports that the members have from now on. Whom the range has no port for is left out.
pub(super) fn assign(config: &Config, former: &NatPorts) -> NatPorts {
    let pools: BTreeMap<&str, &Pool> = config
        .pools
        .iter()
        .map(|pool| (pool.name.as_str(), pool))
        .collect();
    let nothing = BTreeMap::new();
    let over_pools = config.inbound_nat_rules.iter().filter_map(|rule| {
        let NatTarget::Pool(pool) = &rule.target else {
            return None;
        };
        let had = former.get(&rule.name).unwrap_or(&nothing);
        Some((
            rule.name.clone(),
            assign_one(rule, pools.get(pool.as_str())?, had),
        ))
    });
    over_pools.collect()
}

fn assign_one(
    rule: &InboundNatRule,
    pool: &Pool,
    had: &BTreeMap<MemberRef, u16>,
) -> BTreeMap<MemberRef, u16> {
    let range = rule.port.range();
    let mut taken = BTreeSet::new();
    let mut ports = BTreeMap::new();
    let mut give = |member: &MemberRef, port: Option<u16>, ports: &mut BTreeMap<_, _>| {
        let free = port.filter(|port| range.contains(port) && taken.insert(*port));
        if let Some(port) = free {
            ports.insert(member.clone(), port);
        }
    };
    for member in &pool.members {
        give(&member.target, member.nat_port, &mut ports);
    }
    for member in &pool.members {
        if !ports.contains_key(&member.target) {
            give(&member.target, had.get(&member.target).copied(), &mut ports);
        }
    }
    let mut free: Vec<u16> = range.filter(|port| !taken.contains(port)).rev().collect();
    for member in &pool.members {
        if !ports.contains_key(&member.target)
            && let Some(port) = free.pop()
        {
            ports.insert(member.target.clone(), port);
        }
    }
    ports
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn config(members: &str, range: &str) -> Config {
        let text = format!(
            r#"
[node]
interfaces = ["c0"]
[[frontend]]
name = "web"
ipv4 = "203.0.113.10"
[[instance]]
name = "a"
ipv4 = "10.0.1.1"
[[instance]]
name = "b"
ipv4 = "10.0.1.2"
[[instance]]
name = "c"
ipv4 = "10.0.1.3"
[[instance]]
name = "d"
ipv4 = "10.0.1.4"
[[pool]]
name = "web"
members = [{members}]
[[inbound_nat_rule]]
name = "ssh"
frontend = "web"
protocol = "tcp"
port = "{range}"
pool = "web"
backend_port = 22
"#
        );
        let loaded = config::parse("test.toml", &text).unwrap_or_else(|errors| panic!("{errors}"));
        loaded.config
    }

    fn told(ports: &NatPorts) -> Vec<(&str, u16)> {
        let ports = ports["ssh"].iter();
        ports
            .map(|(member, port)| (member.instance.as_str(), *port))
            .collect()
    }

    /// B9-19, B9-20.
    #[test]
    fn members_keep_their_ports_while_others_leave_and_join() {
        let first = assign(
            &config(r#""a", "b", "c""#, "2200-2202"),
            &NatPorts::default(),
        );
        assert_eq!(told(&first), [("a", 2200), ("b", 2201), ("c", 2202)]);
        let without = assign(&config(r#""c", "b""#, "2200-2202"), &first);
        assert_eq!(told(&without), [("b", 2201), ("c", 2202)]);
        let joined = assign(&config(r#""d", "c", "b""#, "2200-2202"), &without);
        assert_eq!(told(&joined), [("b", 2201), ("c", 2202), ("d", 2200)]);
    }

    #[test]
    fn a_pinned_port_wins_over_a_kept_one() {
        let first = assign(&config(r#""a", "b""#, "2200-2202"), &NatPorts::default());
        let pinned = config(
            r#""a", "b", { instance = "c", nat_port = 2200 }"#,
            "2200-2202",
        );
        assert_eq!(
            told(&assign(&pinned, &first)),
            [("a", 2202), ("b", 2201), ("c", 2200)]
        );
    }

    #[test]
    fn whom_the_range_has_no_port_for_gets_one_when_another_leaves() {
        let first = assign(
            &config(r#""a", "b", "c""#, "2200-2201"),
            &NatPorts::default(),
        );
        assert_eq!(told(&first), [("a", 2200), ("b", 2201)]);
        let without = assign(&config(r#""b", "c""#, "2200-2201"), &first);
        assert_eq!(told(&without), [("b", 2201), ("c", 2200)]);
    }

    #[test]
    fn a_port_outside_a_changed_range_is_given_up() {
        let first = assign(&config(r#""a", "b""#, "2200-2201"), &NatPorts::default());
        let moved = assign(&config(r#""a", "b""#, "2201-2202"), &first);
        assert_eq!(told(&moved), [("a", 2202), ("b", 2201)]);
    }
}
