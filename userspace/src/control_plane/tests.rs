mod churn;
mod frontends;
mod health;
mod outbound;
mod public_ips;
mod scale;
mod shared;
mod switch;

use std::collections::BTreeMap;
use std::net::IpAddr;

use forebay_common::abi::{Interface, MAX_INTERFACES, Owner, PortKey};
use forebay_common::family::V4;
use forebay_common::wire::{Mac, TCP, UDP};

use super::*;
use crate::config;

const SIZES: Sizes = Sizes {
    entries: 1_000,
    untrusted_sets: 16,
};

const SAMPLE: &str = r#"
[node]
name = "lb1"
interfaces = ["c0", "i0"]
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
members = ["one", { instance = "two", weight = 3 }]
[[rule]]
name = "http"
frontend = "web"
protocol = "tcp"
port = 80
pool = "web"
backend_port = 8080
[[rule]]
name = "dns"
frontend = "web"
protocol = "udp"
port = 53
pool = "web"
"#;

fn parsed(text: &str) -> Arc<Config> {
    match config::parse("test.toml", text) {
        Ok(loaded) => Arc::new(loaded.config),
        Err(errors) => panic!("{errors}"),
    }
}

fn host() -> Vec<HostInterface> {
    ["c0", "i0"]
        .into_iter()
        .zip(7..)
        .map(|(name, ifindex)| HostInterface {
            name: name.to_owned(),
            ifindex,
            mtu: 1500,
            mac: Mac::from_octets([2, 0, 0, 0, 0, ifindex as u8]),
            networks: vec![
                if name == "c0" {
                    "203.0.113.0/24"
                } else {
                    "10.0.1.0/24"
                }
                .parse()
                .unwrap(),
            ],
            link_ups: Some(1),
            ..HostInterface::default()
        })
        .collect()
}

fn control_plane() -> ControlPlane {
    let mut control_plane = ControlPlane::new(TickRate(250), SIZES, [1, 2], TableState::default());
    control_plane.handle(Event::Host(host())).unwrap();
    control_plane
}

fn v4(text: &str) -> V4 {
    V4::from(text.parse::<std::net::Ipv4Addr>().unwrap())
}

fn position(changes: &[Change], what: impl Fn(&Change) -> bool) -> usize {
    changes.iter().position(what).expect("the change is there")
}

#[test]
fn nothing_is_written_before_there_is_a_configuration() {
    assert!(control_plane().applied().bindings.is_empty());
    assert_eq!(control_plane().handle(Event::Host(Vec::new())).unwrap(), []);
}

#[test]
fn tables_say_what_the_file_says() {
    let mut control_plane = control_plane();
    control_plane.handle(Event::Config(parsed(SAMPLE))).unwrap();
    let tables = control_plane.applied();
    let owner = tables.v4.addresses[&v4("203.0.113.10")];
    assert_eq!(owner.roles, Owner::FRONTEND | Owner::ECHO | Owner::SNAT);
    let slot = control_plane.ids().slots.get(&"c0".to_owned()).unwrap();
    assert_eq!(owner.on_link, 1 << slot);
    let http = *tables.rule_on(PortKey::new(owner.id, TCP, 80)).unwrap();
    assert_eq!(http.port_offset, 8000);
    assert_eq!(http.tcp_idle, 240 * 250);
    let dns = *tables.rule_on(PortKey::new(owner.id, UDP, 53)).unwrap();
    assert_eq!((dns.udp_dns, dns.udp_idle), (10 * 250, 240 * 250));
    assert_eq!(
        dns.targets, http.targets,
        "rules that see a pool alike share its ring"
    );
    assert_ne!(dns.id, http.id);
    let Ring::Members(members) = &tables.rings[&http.targets[0]] else {
        panic!("ring is written")
    };
    assert_eq!(members.iter().map(|m| m.weight).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(tables.v4.addresses[&v4("10.0.1.2")].roles, Owner::INSTANCE);
    assert_eq!(tables.bindings.len(), 2);
    assert_eq!(tables.ports.len(), 4, "two rules in two families");
}

#[test]
fn what_is_pointed_at_is_written_first() {
    let changes = control_plane()
        .handle(Event::Config(parsed(SAMPLE)))
        .unwrap();
    let backend = position(&changes, |c| {
        matches!(c, Change::V4(FamilyChange::Backend(..)))
    });
    let ring = position(&changes, |c| matches!(c, Change::Ring(..)));
    let filter = position(&changes, |c| matches!(c, Change::AddressFilter(..)));
    let address = position(&changes, |c| {
        matches!(c, Change::V4(FamilyChange::Address(..)))
    });
    let counters = position(&changes, |c| matches!(c, Change::ResetCounters(..)));
    let port = position(&changes, |c| matches!(c, Change::Port(..)));
    let rule = position(
        &changes,
        |c| matches!(c, Change::Binding(_, rule) if rule.is_active()),
    );
    assert!(backend < ring && ring < port && port < rule && counters < rule);
    assert!(
        rule < filter && filter < address,
        "a frontend appears with all of its rules"
    );
    assert!(
        matches!(changes.last(), Some(Change::Settings(_))),
        "settings open the node for business"
    );
}

#[test]
fn the_same_file_again_changes_nothing() {
    let mut control_plane = control_plane();
    control_plane.handle(Event::Config(parsed(SAMPLE))).unwrap();
    assert_eq!(
        control_plane.handle(Event::Config(parsed(SAMPLE))).unwrap(),
        []
    );
}

#[test]
fn a_removed_rule_is_gone_at_once_and_its_id_waits_for_its_flows() {
    let mut control_plane = control_plane();
    control_plane.handle(Event::Config(parsed(SAMPLE))).unwrap();
    let http = control_plane.ids().rules.get(&"http".to_owned()).unwrap();
    let without = SAMPLE
        .replace("name = \"http\"", "name = \"plain\"")
        .replace("port = 80\n", "port = 81\n");
    let changes = control_plane
        .handle(Event::Config(parsed(&without)))
        .unwrap();
    let removed = position(
        &changes,
        |c| matches!(c, Change::Binding(_, rule) if rule.id == http && !rule.is_active()),
    );
    let added = position(
        &changes,
        |c| matches!(c, Change::Binding(_, rule) if rule.id != http && rule.is_active()),
    );
    assert!(added < removed);
    let plain = control_plane.ids().rules.get(&"plain".to_owned()).unwrap();
    assert_ne!(plain, http);

    let mut census = Census::default();
    census
        .members
        .insert((http, "10.0.1.1".parse().unwrap()), 1);
    control_plane.handle(Event::Census(census)).unwrap();
    assert_eq!(
        control_plane.ids().rules.key_of(http),
        Some(&"http".to_owned()),
        "a flow holds it"
    );
    let nothing = || Event::Census(Census::default());
    control_plane.handle(nothing()).unwrap();
    assert!(
        control_plane.ids().rules.key_of(http).is_some(),
        "a census under way may have missed a young flow"
    );
    control_plane.handle(nothing()).unwrap();
    assert_eq!(control_plane.ids().rules.key_of(http), None);
}

#[test]
fn a_removed_frontend_is_answered_for_until_its_flows_have_ended() {
    let mut control_plane = control_plane();
    control_plane.handle(Event::Config(parsed(SAMPLE))).unwrap();
    let moved = SAMPLE.replace("203.0.113.10", "203.0.113.11");
    control_plane.handle(Event::Config(parsed(&moved))).unwrap();
    let old = v4("203.0.113.10");
    assert_eq!(
        control_plane.applied().v4.addresses[&old].roles,
        Owner::FRONTEND
    );
    let mut census = Census::default();
    census.frontends.insert(IpAddr::from(old));
    control_plane.handle(Event::Census(census)).unwrap();
    assert!(control_plane.applied().v4.addresses.contains_key(&old));
    control_plane
        .handle(Event::Census(Census::default()))
        .unwrap();
    let changes = control_plane
        .handle(Event::Census(Census::default()))
        .unwrap();
    assert!(!control_plane.applied().v4.addresses.contains_key(&old));
    assert!(
        changes.iter().any(
            |c| matches!(c, Change::V4(FamilyChange::Address(address, None)) if *address == old)
        )
    );
}

#[test]
fn a_new_daemon_takes_over_the_ids_it_finds() {
    let mut first = control_plane();
    // Another order of allocation than a fresh start would give.
    first
        .handle(Event::Config(parsed(
            &SAMPLE.replace("\"http\"", "\"zzz\""),
        )))
        .unwrap();
    first.handle(Event::Config(parsed(SAMPLE))).unwrap();
    let mut second = ControlPlane::new(TickRate(250), SIZES, [1, 2], left_behind(&first));
    second.handle(Event::Host(host())).unwrap();
    second.handle(Event::Config(parsed(SAMPLE))).unwrap();
    let ids = |control_plane: &ControlPlane| -> BTreeMap<PortKey, u32> {
        let tables = control_plane.applied();
        let ports = tables.ports.keys();
        ports
            .map(|key| (*key, tables.rule_on(*key).unwrap().id))
            .collect()
    };
    assert_eq!(ids(&second), ids(&first));
    assert_eq!(second.applied().v4, first.applied().v4);
    assert_eq!(second.applied().v6, first.applied().v6);
    assert_eq!(second.applied().interfaces, first.applied().interfaces);
}

/// The tables as a new daemon finds them.
fn left_behind(former: &ControlPlane) -> TableState {
    let mut tables = former.applied().clone();
    for ring in tables.rings.values_mut() {
        *ring = Ring::Unknown;
    }
    tables
        .spreads
        .values_mut()
        .for_each(|places| *places = None);
    tables
}

#[test]
fn a_new_daemon_gives_nobody_the_id_of_a_removed_rule_that_flows_still_hold() {
    let mut first = control_plane();
    first.handle(Event::Config(parsed(SAMPLE))).unwrap();
    let dns = first.ids().rules.get(&"dns".to_owned()).unwrap();
    let http = first.ids().rules.get(&"http".to_owned()).unwrap();
    let without = SAMPLE.split("[[rule]]\nname = \"http\"").next().unwrap();
    first.handle(Event::Config(parsed(without))).unwrap();
    let held = BTreeSet::from([dns, http]);
    let mut second = ControlPlane::new(TickRate(250), SIZES, [1, 2], left_behind(&first))
        .with_held_rules(held.clone());
    second.handle(Event::Host(host())).unwrap();
    second.handle(Event::Config(parsed(SAMPLE))).unwrap();
    for name in ["dns", "http"] {
        let id = second.ids().rules.get(&name.to_owned()).unwrap();
        assert!(!held.contains(&id), "{name} has {id} of {held:?}");
    }
    // The flows end.
    for _ in 0..2 {
        second.handle(Event::Census(Census::default())).unwrap();
    }
    assert!(
        held.iter()
            .all(|id| second.ids().rules.key_of(*id).is_none())
    );
}

#[test]
fn a_new_daemon_with_an_edited_file_never_fills_a_ring_that_rules_still_use() {
    let mut first = control_plane();
    first.handle(Event::Config(parsed(SAMPLE))).unwrap();
    let adopted = left_behind(&first);
    // The first rule moves to a pool of its own; the second stays on the shared one.
    let moved = SAMPLE
        .replace(
            "[[rule]]\nname = \"http\"",
            "[[pool]]\nname = \"own\"\nmembers = [\"two\"]\n[[rule]]\nname = \"http\"",
        )
        .replacen(
            "pool = \"web\"\nbackend_port",
            "pool = \"own\"\nbackend_port",
            1,
        );
    let mut second = ControlPlane::new(TickRate(250), SIZES, [1, 2], adopted.clone());
    second.handle(Event::Host(host())).unwrap();
    let changes = second.handle(Event::Config(parsed(&moved))).unwrap();
    let filled = changes.iter().filter_map(|change| match change {
        Change::Ring(id, Some(_)) => Some(*id),
        _ => None,
    });
    let filled: Vec<u32> = filled.collect();
    assert!(!filled.is_empty());
    assert!(
        filled.iter().all(|id| !adopted.rings.contains_key(id)),
        "{filled:?}"
    );
}

#[test]
fn a_rule_id_with_a_new_owner_counts_from_zero() {
    let mut control_plane = control_plane();
    let changes = control_plane.handle(Event::Config(parsed(SAMPLE))).unwrap();
    let resets = |changes: &[Change]| -> Vec<u32> {
        let ids = changes.iter().filter_map(|change| match change {
            Change::ResetCounters(id) => Some(*id),
            _ => None,
        });
        ids.collect()
    };
    assert_eq!(resets(&changes), [1, 2]);
    let more = SAMPLE.replace("port = 53", "port = 54");
    let changes = control_plane.handle(Event::Config(parsed(&more))).unwrap();
    assert_eq!(
        resets(&changes),
        [0; 0],
        "a rule that moves to another port goes on counting"
    );
}

#[test]
fn interfaces_are_written_again_whenever_the_host_has_changed() {
    let mut control_plane = control_plane();
    control_plane.handle(Event::Config(parsed(SAMPLE))).unwrap();
    let changes = control_plane.handle(Event::Host(host())).unwrap();
    let written = changes
        .iter()
        .filter(|change| matches!(change, Change::Interface(_, Some(_))));
    assert_eq!(written.count(), 2, "{changes:?}");
}

#[test]
fn plan_names_what_a_reload_would_change() {
    let old = parsed(SAMPLE);
    let text = SAMPLE
        .replace("weight = 3", "weight = 4")
        .replace("name = \"dns\"", "name = \"names\"");
    let changes = plan(Some(&old), &parsed(&text));
    let words: Vec<String> = changes
        .iter()
        .map(|c| format!("{} {} {}", c.action, c.kind, c.name))
        .collect();
    assert_eq!(
        words,
        ["change pool web", "add rule names", "remove rule dns"]
    );
    assert!(
        changes[0].detail.contains("weight: 3 -> weight: 4"),
        "{}",
        changes[0].detail
    );
    assert_eq!(plan(Some(&old), &old), []);
}

fn vlan(name: &str, ifindex: u32, id: u8) -> HostInterface {
    let tag = u32::from_ne_bytes([0x81, 0x00, 0, id]);
    HostInterface {
        name: name.to_owned(),
        ifindex,
        vlan: Some(VlanDevice {
            nic: 7,
            tags: [tag, 0],
        }),
        address4: Some("10.0.5.1".parse().unwrap()),
        ..HostInterface::default()
    }
}

#[test]
fn a_vlan_device_is_an_interface_that_leaves_by_its_nic() {
    let mut control_plane = control_plane();
    control_plane.handle(Event::Config(parsed(SAMPLE))).unwrap();
    let mut host = host();
    host.push(vlan("c0.5", 20, 5));
    control_plane.handle(Event::Host(host)).unwrap();
    let slot = control_plane.ids().slots.get(&"c0.5".to_owned()).unwrap();
    let entry = control_plane.applied().interfaces[&slot];
    assert_eq!((entry.ifindex, entry.nic), (20, 7));
    assert_eq!(entry.address4, v4("10.0.5.1"));
    let key = vlan_key(&entry).unwrap();
    assert_eq!((key.nic, key.outer, key.inner), (7, 5, 0));
    let nic = control_plane.ids().slots.get(&"c0".to_owned()).unwrap();
    let entry = control_plane.applied().interfaces[&nic];
    assert_eq!((entry.ifindex, entry.nic), (7, 7));
    assert_eq!(vlan_key(&entry), None);
}

#[test]
fn the_slot_of_an_interface_that_is_gone_is_given_out_again_once_no_flow_can_name_it() {
    let mut control_plane = control_plane();
    control_plane.handle(Event::Config(parsed(SAMPLE))).unwrap();
    let with = |name: &str, ifindex| {
        let mut host = host();
        host.push(vlan(name, ifindex, 5));
        Event::Host(host)
    };
    control_plane.handle(with("c0.5", 20)).unwrap();
    let slot_of = |plane: &ControlPlane, name: &str| plane.ids().slots.get(&name.to_owned());
    let first = slot_of(&control_plane, "c0.5").unwrap();
    control_plane.handle(Event::Host(host())).unwrap();
    assert!(!control_plane.applied().interfaces.contains_key(&first));
    for _ in 1..SLOT_PATIENCE {
        control_plane
            .handle(Event::Census(Census::default()))
            .unwrap();
    }
    control_plane.handle(with("other", 21)).unwrap();
    assert_ne!(slot_of(&control_plane, "other"), Some(first));
    control_plane
        .handle(Event::Census(Census::default()))
        .unwrap();
    assert_eq!(slot_of(&control_plane, "c0.5"), None);

    for number in 0..2_u32 * MAX_INTERFACES {
        control_plane.handle(Event::Host(host())).unwrap();
        for _ in 0..SLOT_PATIENCE {
            control_plane
                .handle(Event::Census(Census::default()))
                .unwrap();
        }
        let name = format!("new{number}");
        control_plane.handle(with(&name, 30 + number)).unwrap();
        assert!(slot_of(&control_plane, &name).is_some(), "{name}");
    }
}

#[test]
fn an_interface_that_comes_back_in_time_keeps_its_slot() {
    let mut control_plane = control_plane();
    control_plane.handle(Event::Config(parsed(SAMPLE))).unwrap();
    let slot = control_plane.ids().slots.get(&"i0".to_owned());
    control_plane
        .handle(Event::Host(host()[..1].to_vec()))
        .unwrap();
    for _ in 1..SLOT_PATIENCE {
        control_plane
            .handle(Event::Census(Census::default()))
            .unwrap();
    }
    control_plane.handle(Event::Host(host())).unwrap();
    assert_eq!(control_plane.ids().slots.get(&"i0".to_owned()), slot);
}

#[test]
fn more_vlan_devices_than_slots_leave_some_to_the_kernel() {
    let mut control_plane = control_plane();
    control_plane.handle(Event::Config(parsed(SAMPLE))).unwrap();
    let mut many = host();
    many.extend((1..100).map(|id| vlan(&format!("c0.{id}"), 100 + u32::from(id), id)));
    control_plane.handle(Event::Host(many)).unwrap();
    assert_eq!(
        control_plane.applied().interfaces.len() as u32,
        MAX_INTERFACES - 1
    );
    for name in ["c0", "i0"] {
        assert!(control_plane.ids().slots.get(&name.to_owned()).is_some());
    }
}

#[test]
fn more_attached_interfaces_than_slots_are_refused() {
    let mut control_plane = control_plane();
    control_plane.handle(Event::Config(parsed(SAMPLE))).unwrap();
    let many = (0..MAX_INTERFACES).map(|number| HostInterface {
        name: format!("eth{number}"),
        ifindex: 100 + number,
        ..HostInterface::default()
    });
    let refused = control_plane.handle(Event::Host(many.collect()));
    let told = refused.unwrap_err().to_string();
    assert!(told.contains("63 interfaces"), "{told}");
}

#[test]
fn the_slot_of_an_interface_that_went_while_no_daemon_ran_is_kept_for_a_while() {
    let mut first = control_plane();
    first.handle(Event::Config(parsed(SAMPLE))).unwrap();
    let mut second = ControlPlane::new(TickRate(250), SIZES, [1, 2], first.applied().clone());
    let mut changed = host()[..1].to_vec();
    changed.push(vlan("new", 20, 5));
    second.handle(Event::Host(changed)).unwrap();
    second.handle(Event::Config(parsed(SAMPLE))).unwrap();
    let former = first.ids().slots.get(&"i0".to_owned());
    assert_ne!(second.ids().slots.get(&"new".to_owned()), former);
    assert_eq!(
        second.ids().slots.get(&"c0".to_owned()),
        first.ids().slots.get(&"c0".to_owned())
    );
}

#[test]
fn redirects_to_interfaces_that_take_none_are_off_when_one_is_native() {
    let mut control_plane = control_plane();
    control_plane.handle(Event::Config(parsed(SAMPLE))).unwrap();
    let flags = |c0, i0, i0_takes| {
        let mut host = host();
        (host[0].xdp, host[0].takes_redirects) = (c0, true);
        (host[1].xdp, host[1].takes_redirects) = (i0, i0_takes);
        let mut control_plane = control_plane.clone();
        control_plane.handle(Event::Host(host)).unwrap();
        ["c0", "i0"].map(|name| {
            let slot = control_plane.ids().slots.get(&name.to_owned()).unwrap();
            control_plane.applied().interfaces[&slot].flags
        })
    };
    use XdpState::{Generic, Native};
    assert_eq!(flags(Native, Generic, false), [0, Interface::NO_REDIRECT]);
    assert_eq!(flags(Native, Native, false), [0, Interface::NO_REDIRECT]);
    assert_eq!(flags(Native, Generic, true), [0, 0]);
    assert_eq!(flags(Generic, Generic, false), [0, 0]);
}
