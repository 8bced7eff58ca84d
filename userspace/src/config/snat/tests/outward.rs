//! Which way instances go out, and with which addresses.

use super::super::outward::{Method, Outward, listed};
use super::super::{Family, IpConfig, MemberRef};
use crate::config::model::Config;
use crate::config::parse_all;

const FILE: &str = r#"
node.interfaces = ["eth0"]
frontend = [
  { name = "web", ipv4 = "203.0.113.10", ipv6 = "2001:db8:1::10" },
  { name = "nat", ipv4 = "203.0.113.64/30" },
  { name = "wide", ipv6 = "2001:db8:2::/127" },
]
instance = [
  { name = "both", ipv4 = "10.0.1.1", ipv6 = "fd00::1", public_ip = "alice" },
  { name = "ruled", ipv4 = "10.0.1.2", ipv6 = "fd00::2" },
  { name = "implied", ipv4 = "10.0.1.3", ipv6 = "fd00::3" },
  { name = "lonely", ipv4 = "10.0.1.4", ipv6 = "fd00::4" },
]
public_ip = [{ name = "alice", ipv4 = "203.0.113.50" }]
pool = [
  { name = "out", members = ["both", "ruled"] },
  { name = "web", members = ["both", "ruled", "implied"] },
]
rule = [{ name = "web", frontend = "web", port = 80, pool = "web" }]
outbound_rule = [{ name = "out", pool = "out", frontends = ["nat"] }]
default_outbound.frontends = ["wide"]
"#;

fn config() -> Config {
    let loaded = parse_all("f", FILE).unwrap_or_else(|refusal| panic!("{refusal}"));
    loaded.config
}

fn ways(outward: &Outward<'_>, instance: &str) -> [Method; 2] {
    let target = MemberRef::of(instance);
    Family::ALL.map(|family| outward.method(&target, family))
}

#[test]
fn the_strongest_method_counts_for_each_family_by_itself() {
    let config = config();
    let outward = Outward::of(&config);
    for (instance, expected) in [
        // The public IP and the outbound rule's frontend have IPv4 only.
        ("both", [Method::PublicIp, Method::RuleImplied]),
        ("ruled", [Method::OutboundRule, Method::RuleImplied]),
        ("implied", [Method::RuleImplied, Method::RuleImplied]),
        ("lonely", [Method::None, Method::DefaultOutbound]),
        ("nobody", [Method::None, Method::None]),
    ] {
        assert_eq!(ways(&outward, instance), expected, "{instance}");
    }
}

#[test]
fn addresses_are_those_of_the_method_and_of_all_methods() {
    let config = config();
    let outward = Outward::of(&config);
    let of = |instance: &str| {
        let target = MemberRef::of(instance);
        [outward.used(&target), outward.possible(&target)].map(|nets| listed(&nets).join(" "))
    };
    let prefix = "203.0.113.64 203.0.113.65 203.0.113.66 203.0.113.67";
    assert_eq!(
        of("both"),
        [
            "203.0.113.50 2001:db8:1::10".to_owned(),
            format!("203.0.113.10 203.0.113.50 {prefix} 2001:db8:1::10 2001:db8:2:: 2001:db8:2::1")
        ]
    );
    assert_eq!(
        of("ruled"),
        [
            format!("{prefix} 2001:db8:1::10"),
            format!("203.0.113.10 {prefix} 2001:db8:1::10 2001:db8:2:: 2001:db8:2::1")
        ]
    );
    assert_eq!(
        of("lonely"),
        [
            "2001:db8:2:: 2001:db8:2::1".to_owned(),
            "2001:db8:2:: 2001:db8:2::1".to_owned()
        ]
    );
    assert_eq!(of("nobody"), [String::new(), String::new()]);
}

#[test]
fn what_is_used_now_is_possible() {
    let config = config();
    let outward = Outward::of(&config);
    for instance in &config.instances {
        let IpConfig { name, .. } = &instance.ip_configs[0];
        let target = MemberRef::of(&format!("{}/{name}", instance.name));
        let (used, possible) = (outward.used(&target), outward.possible(&target));
        assert!(!used.is_empty() && used.is_subset(&possible), "{target}");
    }
}
