//! SNAT ports of an address that is the host's own too.

use std::collections::BTreeSet;

use forebay_common::abi::WayKey;

use super::*;
use crate::config::{Host, Sockets, parse_for};

const SHARED: &str = r#"
[node]
name = "lb1"
interfaces = ["c0", "i0"]
[[frontend]]
name = "web"
ipv4 = "203.0.113.10"
shared = true
[[instance]]
name = "one"
ipv4 = "10.0.1.1"
[[pool]]
name = "web"
members = ["one"]
[[outbound_rule]]
name = "web-out"
pool = "web"
frontends = ["web"]
"#;

/// The file on a host whose programs wait there.
fn on_host(bound: &[&str]) -> Arc<Config> {
    let host = Host {
        local_ports: Some(32768..=60999),
        bound: Sockets::At(bound.iter().map(|one| one.parse().unwrap()).collect()),
        ..Host::default()
    };
    Arc::new(parse_for("test.toml", SHARED, host).unwrap().config)
}

/// Every port that ways lead to, own and shared ones.
fn ports(plane: &ControlPlane) -> BTreeSet<u16> {
    let ranges = plane.applied().v4.snat_ranges.values();
    let ports = ranges.flat_map(|range| range.first..range.first + range.count);
    ports.collect()
}

#[test]
fn snat_of_a_shared_frontend_keeps_off_the_ports_of_the_host() {
    let mut plane = control_plane();
    let bound = ["0.0.0.0:1030", "203.0.113.10:20000", "127.0.0.1:30000"];
    plane.handle(Event::Config(on_host(&bound))).unwrap();
    let blocks: BTreeSet<u16> = ports(&plane).into_iter().map(|port| port / 8).collect();
    assert!(blocks.iter().all(|block| !(4096..=7624).contains(block)));
    assert!(!blocks.contains(&(1030 / 8)) && !blocks.contains(&(20000 / 8)));
    assert!(blocks.contains(&(30000 / 8)), "nobody reaches it there");
    // 1,024 to 32,767 and 61,000 to 65,023, less two blocks.
    assert_eq!(blocks.len(), 3968 + 503 - 2);
}

#[test]
fn a_program_that_listens_later_is_kept_off_from_the_next_reload_on() {
    let mut plane = control_plane();
    plane.handle(Event::Config(on_host(&[]))).unwrap();
    let key = WayKey::new(v4("10.0.1.1"), UDP.into());
    let range = |plane: &ControlPlane| {
        let tables = &plane.applied().v4;
        tables.snat_ranges[&tables.ways[&key].first]
    };
    let before = range(&plane);
    let listens = format!("0.0.0.0:{}", before.first + 8);
    plane.handle(Event::Config(on_host(&[&listens]))).unwrap();
    assert!(!ports(&plane).contains(&(before.first + 8)));
    assert_eq!(range(&plane).first, before.first, "the rest stays");
    assert_eq!(plane.applied().v4.ways[&key].ports, 1024);
}
