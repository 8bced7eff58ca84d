use std::net::IpAddr;

use forebay_common::abi::{Owner, RuleKey};
use forebay_common::family::V4;
use forebay_common::wire::{Mac, TCP, UDP};

use super::*;
use crate::config;

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
        })
        .collect()
}

fn control_plane() -> ControlPlane {
    let mut control_plane = ControlPlane::new(TickRate(250), [1, 2], TableState::default());
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
    assert!(control_plane().applied().rules.is_empty());
    assert_eq!(control_plane().handle(Event::Host(Vec::new())).unwrap(), []);
}

#[test]
fn tables_say_what_the_file_says() {
    let mut control_plane = control_plane();
    control_plane.handle(Event::Config(parsed(SAMPLE))).unwrap();
    let tables = control_plane.applied();
    let owner = tables.v4.addresses[&v4("203.0.113.10")];
    assert_eq!(owner.roles, Owner::FRONTEND);
    let slot = control_plane.ids().slots.get(&"c0".to_owned()).unwrap();
    assert_eq!(owner.on_link, 1 << slot);
    let http = tables.rules[&RuleKey::new(owner.id, TCP, 80)];
    assert_eq!(http.port_offset, 8000);
    assert_eq!(http.idle_timeout, 240 * 250);
    let dns = tables.rules[&RuleKey::new(owner.id, UDP, 53)];
    assert_eq!(dns.idle_timeout, 10 * 250);
    assert_eq!(
        dns.ring, http.ring,
        "rules that see a pool alike share its ring"
    );
    assert_ne!(dns.id, http.id);
    let Ring::Members(members) = &tables.rings[&http.ring] else {
        panic!("ring is written")
    };
    assert_eq!(members.iter().map(|m| m.weight).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(tables.v4.addresses[&v4("10.0.1.2")].roles, Owner::INSTANCE);
    assert_eq!(tables.rules.len(), 4, "two rules in two families");
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
    let rule = position(&changes, |c| matches!(c, Change::Rule(..)));
    assert!(backend < ring && ring < rule && filter < address && address < rule);
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
        |c| matches!(c, Change::Rule(key, None) if key.port() == 80),
    );
    let added = position(
        &changes,
        |c| matches!(c, Change::Rule(key, Some(_)) if key.port() == 81),
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
    control_plane
        .handle(Event::Census(Census::default()))
        .unwrap();
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
    let mut adopted = first.applied().clone();
    adopted
        .rings
        .values_mut()
        .for_each(|ring| *ring = Ring::Unknown);
    let mut second = ControlPlane::new(TickRate(250), [1, 2], adopted);
    second.handle(Event::Host(host())).unwrap();
    let changes = second.handle(Event::Config(parsed(SAMPLE))).unwrap();
    assert_eq!(second.applied(), first.applied());
    assert!(
        changes
            .iter()
            .all(|c| matches!(c, Change::Ring(_, Some(_)))),
        "only rings are written anew: {changes:?}"
    );
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
