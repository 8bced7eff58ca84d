//! Public IPs, and what goes before them or after.

use forebay_common::abi::{Settings, Way, WayKey};
use forebay_common::family::{Family, V6};
use forebay_common::flow::FlowKind;

use super::outbound::{WEB, WEB_RULE, instance, kind, network, outbound, way, with};
use super::*;

#[test]
fn precedence_is_public_ip_then_outbound_rule_then_implied_then_default() {
    let one = network(1, "");
    let default = "[default_outbound]\nfrontends = [\"nat\"]\n";
    let public = "[[public_ip]]\nname = \"alice\"\nipv4 = \"203.0.113.50\"\n";
    let kind_of = |text: &str| way(&with(text), &instance(1), UDP).and_then(kind);
    let mut text = one;
    assert_eq!(kind_of(&text), None);
    text += default;
    assert_eq!(kind_of(&text), Some(FlowKind::DefaultOutbound));
    text += WEB_RULE;
    assert_eq!(kind_of(&text), Some(FlowKind::RuleImplied));
    text += &outbound("out", "");
    assert_eq!(kind_of(&text), Some(FlowKind::OutboundRule));
    text += public;
    let of_it = text.replace("name = \"i1\"\n", "name = \"i1\"\npublic_ip = \"alice\"\n");
    let plane = with(&of_it);
    assert_eq!(way(&plane, &instance(1), UDP), None);
    let tables = plane.applied();
    let (private, public) = (v4(&instance(1)), v4("203.0.113.50"));
    assert_eq!(
        tables.v4.addresses[&private].roles,
        Owner::INSTANCE | Owner::HAS_PUBLIC_IP
    );
    let owner = tables.v4.addresses[&public];
    assert_eq!(owner.roles, Owner::PUBLIC_IP);
    assert_ne!(owner.on_link, 0);
    assert_eq!(
        tables.v4.public_ips,
        BTreeMap::from([(private, public), (public, private)])
    );
    assert_ne!(tables.settings.flags & Settings::PUBLIC_IPS, 0);
    assert!(
        plane
            .claims()
            .iter()
            .any(|claim| claim.address == IpAddr::from(public))
    );
    // The public IP has no IPv6.
    let key = WayKey::new(
        V6::from("fd00:1::1".parse::<std::net::Ipv6Addr>().unwrap()),
        UDP.into(),
    );
    assert!(tables.v6.ways.contains_key(&key));
}

#[test]
fn a_public_ip_that_nobody_has_is_not_claimed() {
    let plane = with(&network(
        1,
        "[[public_ip]]\nname = \"a\"\nipv4 = \"203.0.113.50\"\n",
    ));
    assert!(
        !plane
            .applied()
            .v4
            .addresses
            .contains_key(&v4("203.0.113.50"))
    );
    assert_eq!(plane.applied().settings.flags & Settings::PUBLIC_IPS, 0);
}

#[test]
fn whoever_has_no_way_reaches_rules_and_public_ips_all_the_same() {
    let public = "[[public_ip]]\nname = \"alice\"\nipv4 = \"203.0.113.50\"\n";
    let text = network(2, &(WEB_RULE.to_owned() + public))
        .replace("name = \"i1\"\n", "name = \"i1\"\npublic_ip = \"alice\"\n");
    let plane = with(&text);
    for protocol in [TCP, UDP, V4::ICMP] {
        let to_public = way(&plane, "203.0.113.50", protocol).unwrap();
        assert_eq!(kind(to_public), Some(FlowKind::Hairpin));
        assert_eq!((to_public.ports, to_public.burst_ports), (0, 64_000));
        let to_web = way(&plane, WEB, protocol).unwrap();
        assert_eq!(kind(to_web), Some(FlowKind::Hairpin));
        assert_eq!(to_web.flags & 0xff, Way::REJECT);
        let free = 64_000 - 8 - 1024;
        // An eighth, in whole blocks.
        let expected = if protocol == TCP {
            free
        } else {
            (free / 8_u32).div_ceil(8) * 8
        };
        assert_eq!((to_web.ports, to_web.burst_ports), (0, expected));
    }
    assert_eq!(way(&plane, "203.0.113.64", TCP), None, "no rule is there");
}

#[test]
fn what_was_remembered_of_public_ips_is_void_after_the_last_write() {
    let public = "[[public_ip]]\nname = \"alice\"\nipv4 = \"203.0.113.50\"\n";
    let without = network(2, WEB_RULE);
    let with_one =
        without.replace("name = \"i1\"\n", "name = \"i1\"\npublic_ip = \"alice\"\n") + public;
    let mut plane = with(&without);
    let mut before = plane.applied().settings.generation;
    for text in [&with_one, &without] {
        let changes = plane.handle(Event::Config(parsed(text))).unwrap();
        let Some(Change::Settings(settings)) = changes.last() else {
            panic!("{changes:?}");
        };
        let last = settings.generation;
        assert_ne!(last, before);
        let earlier = changes[..changes.len() - 1].iter();
        for change in earlier {
            if let Change::Settings(settings) = change {
                assert_ne!(settings.generation, last, "too early");
                assert_ne!(
                    settings.generation, before,
                    "a daemon may have died before the last"
                );
            }
        }
        before = settings.generation;
        assert_eq!(plane.applied().settings, *settings);
        assert_eq!(plane.handle(Event::Config(parsed(text))).unwrap(), []);
    }
}

#[test]
fn an_open_node_looks_for_public_ips_before_the_first_instance_has_one() {
    let public = "[[public_ip]]\nname = \"alice\"\nipv4 = \"203.0.113.50\"\n";
    let without = network(2, WEB_RULE);
    let with_one =
        without.replace("name = \"i1\"\n", "name = \"i1\"\npublic_ip = \"alice\"\n") + public;
    let mut plane = with(&without);
    let changes = plane.handle(Event::Config(parsed(&with_one))).unwrap();
    let looks = changes.iter().position(|change| {
        matches!(change, Change::Settings(settings) if settings.flags & Settings::PUBLIC_IPS != 0)
    });
    let has_one = changes.iter().position(|change| match change {
        Change::V4(FamilyChange::Address(_, Some(owner))) => {
            owner.roles & Owner::HAS_PUBLIC_IP != 0
        }
        _ => false,
    });
    assert!(looks.unwrap() < has_one.unwrap(), "{changes:?}");

    let mut changes = plane.handle(Event::Config(parsed(&without))).unwrap();
    let Some(Change::Settings(last)) = changes.pop() else {
        panic!("{changes:?}");
    };
    assert_eq!(last.flags & Settings::PUBLIC_IPS, 0);
    let looks_no_more = |change: &Change| matches!(change, Change::Settings(settings) if settings.flags & Settings::PUBLIC_IPS == 0);
    assert!(!changes.iter().any(looks_no_more), "{changes:?}");
}
