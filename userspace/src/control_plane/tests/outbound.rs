//! Ways out, their ports, and public IPs.

use std::collections::BTreeSet;
use std::fmt::Write;

use forebay_common::abi::{Settings, SnatRange, Way, WayKey};
use forebay_common::family::{Family, V6};
use forebay_common::flow::FlowKind;

use super::*;

const BASE: &str = r#"
[node]
name = "lb1"
interfaces = ["c0", "i0"]
[[frontend]]
name = "web"
ipv4 = "203.0.113.10"
ipv6 = "2001:db8:1::10"
[[frontend]]
name = "nat"
ipv4 = "203.0.113.64/30"
"#;

pub(super) const WEB: &str = "203.0.113.10";
pub(super) const WEB_RULE: &str =
    "[[rule]]\nname = \"http\"\nfrontend = \"web\"\nport = 8080\npool = \"web\"\n";

/// So many instances in pool `web`.
pub(super) fn network(instances: usize, rest: &str) -> String {
    let mut text = BASE.to_owned();
    let mut members = Vec::new();
    for n in 1..=instances {
        let _ = write!(
            text,
            "[[instance]]\nname = \"i{n}\"\nipv4 = \"{}\"\nipv6 = \"fd00:1::{n:x}\"\n",
            instance(n)
        );
        members.push(format!("\"i{n}\""));
    }
    let _ = writeln!(
        text,
        "[[pool]]\nname = \"web\"\nmembers = [{}]",
        members.join(", ")
    );
    text + rest
}

pub(super) fn instance(n: usize) -> String {
    format!("10.0.{}.{}", n / 250 + 1, n % 250 + 1)
}

pub(super) fn outbound(name: &str, keys: &str) -> String {
    format!("[[outbound_rule]]\nname = \"{name}\"\npool = \"web\"\nfrontends = [\"web\"]\n{keys}\n")
}

/// A control plane with this file.
pub(super) fn with(text: &str) -> ControlPlane {
    let mut control_plane = control_plane();
    control_plane.handle(Event::Config(parsed(text))).unwrap();
    check(control_plane.applied());
    control_plane
}

fn reload(control_plane: &mut ControlPlane, text: &str) -> Vec<Change> {
    let changes = control_plane.handle(Event::Config(parsed(text))).unwrap();
    check(control_plane.applied());
    changes
}

pub(super) fn way(plane: &ControlPlane, source: &str, protocol: u8) -> Option<Way> {
    let key = WayKey::new(v4(source), protocol.into());
    plane.applied().v4.ways.get(&key).copied()
}

pub(super) fn kind(way: Way) -> Option<FlowKind> {
    FlowKind::from_byte((way.flags >> Way::KIND_SHIFT) as u8)
}

pub(super) fn own(plane: &ControlPlane, source: &str, protocol: u8) -> Vec<SnatRange<V4>> {
    let way = way(plane, source, protocol).expect("there is a way");
    list(&plane.applied().v4, way.first, way.ranges)
}

fn burst(plane: &ControlPlane, source: &str, protocol: u8) -> Vec<SnatRange<V4>> {
    let way = way(plane, source, protocol).expect("there is a way");
    list(&plane.applied().v4, way.burst_first, way.burst_ranges)
}

fn list<A: Ord + Copy>(state: &FamilyState<A>, first: u32, count: u32) -> Vec<SnatRange<A>> {
    (first..first + count)
        .map(|number| state.snat_ranges[&number])
        .collect()
}

/// Address, first port and how many.
fn words(ranges: &[SnatRange<V4>]) -> Vec<(String, u16, u16)> {
    let each = ranges.iter();
    each.map(|range| {
        let address = IpAddr::from(range.address).to_string();
        (address, range.first, range.count)
    })
    .collect()
}

/// What holds whatever the configuration.
fn check(tables: &TableState) {
    check_family(&tables.v4);
    check_family(&tables.v6);
}

fn check_family<A: Family + Ord + Into<IpAddr>>(state: &FamilyState<A>) {
    let mut named = BTreeSet::new();
    let mut owners: BTreeMap<(A, u32, u16), A> = BTreeMap::new();
    let mut shared: BTreeMap<(A, u32, u16), bool> = BTreeMap::new();
    for (key, way) in &state.ways {
        let mut before = 0;
        for range in list(state, way.first, way.ranges) {
            assert_eq!(range.before, before);
            assert_eq!((range.first % 8, range.count % 8), (0, 0), "whole blocks");
            before += u32::from(range.count);
            for port in (range.first..range.first + range.count).step_by(8) {
                let port = (range.address, key.protocol, port);
                assert_eq!(owners.insert(port, key.source), None, "one owner each");
            }
        }
        assert_eq!(way.ports, before);
        let mut before = 0;
        for range in list(state, way.burst_first, way.burst_ranges) {
            assert_eq!(range.before, before);
            before += u32::from(range.count);
            let independent = way.flags & Way::ENDPOINT_INDEPENDENT != 0;
            for port in (range.first..range.first + range.count).step_by(8) {
                let port = (range.address, key.protocol, port);
                assert_eq!(*shared.entry(port).or_insert(independent), independent);
            }
        }
        assert_eq!(way.burst_ports, before);
        named.extend(way.first..way.first + way.ranges);
        named.extend(way.burst_first..way.burst_first + way.burst_ranges);
    }
    for port in shared.keys() {
        assert!(!owners.contains_key(port), "what is shared is nobody's own");
    }
    let written: BTreeSet<u32> = state.snat_ranges.keys().copied().collect();
    assert_eq!(written, named, "what nothing names is not kept");
    for (address, ..) in owners.keys().chain(shared.keys()) {
        let owner = state.addresses.get(address).expect("it is this node's");
        assert_ne!(owner.roles & (Owner::FRONTEND | Owner::PUBLIC_IP), 0);
    }
}

#[test]
fn members_of_a_rule_go_out_by_its_frontend() {
    let plane = with(&network(2, WEB_RULE));
    for protocol in [TCP, UDP, V4::ICMP] {
        let way = way(&plane, &instance(1), protocol).unwrap();
        assert_eq!(kind(way), Some(FlowKind::RuleImplied));
        assert_eq!((way.ports, way.rule), (1024, 0));
        let independent = way.flags & Way::ENDPOINT_INDEPENDENT != 0;
        assert_eq!(independent, protocol != TCP);
        assert_ne!(way.flags & Way::REJECT, 0);
        assert_eq!(way.flags & Way::TCP_RESET != 0, protocol == TCP);
    }
    let seconds = |protocol| {
        let way = way(&plane, &instance(1), protocol).unwrap();
        (way.idle / 250, way.idle_dns / 250)
    };
    assert_eq!(seconds(TCP), (240, 240));
    assert_eq!(seconds(UDP), (240, 10));
    assert_eq!(seconds(V4::ICMP), (60, 60));
    let of_instance = |n| words(&own(&plane, &instance(n), TCP));
    assert_eq!(of_instance(1), [(WEB.to_owned(), 1024, 1024)]);
    assert_eq!(of_instance(2), [(WEB.to_owned(), 2048, 1024)]);
    // The block of the rule's port is left out.
    assert_eq!(
        words(&burst(&plane, &instance(1), TCP)),
        [
            (WEB.to_owned(), 3072, 8080 - 3072),
            (WEB.to_owned(), 8088, 65_024 - 8088)
        ]
    );
    let owner = plane.applied().v4.addresses[&v4(WEB)];
    assert_ne!(owner.roles & Owner::SNAT, 0);
    let v6 = &plane.applied().v6;
    let source = V6::from("fd00:1::2".parse::<std::net::Ipv6Addr>().unwrap());
    let way = v6.ways[&WayKey::new(source, V6::ICMP.into())];
    assert_eq!((kind(way), way.ports), (Some(FlowKind::RuleImplied), 1024));
}

#[test]
fn the_exact_maximum_is_there_and_a_rule_costs_a_block() {
    let rule = outbound("o", "ports_per_instance = 32000");
    let plane = with(&network(2, &rule));
    for protocol in [TCP, UDP, V4::ICMP] {
        for n in [1, 2] {
            let way = way(&plane, &instance(n), protocol).unwrap();
            assert_eq!((way.ports, way.burst_ports), (32_000, 0));
        }
    }
    let rule = outbound("o", "ports_per_instance = 31992");
    let plane = with(&network(2, &(rule + WEB_RULE)));
    for n in [1, 2] {
        let way = way(&plane, &instance(n), TCP).unwrap();
        assert_eq!((way.ports, way.burst_ports), (31_992, 8));
        let block = 8080..8088;
        let ranges = own(&plane, &instance(n), TCP);
        let mut ports = ranges.iter().map(|r| r.first..r.first + r.count);
        assert!(ports.all(|r| r.end <= block.start || r.start >= block.end));
    }
}

#[test]
fn an_outbound_rule_for_one_protocol_leaves_the_others_without_a_way() {
    let plane = with(&network(
        1,
        &(outbound("out", "protocol = \"tcp\"") + WEB_RULE),
    ));
    let kind_of = |protocol| way(&plane, &instance(1), protocol).and_then(kind);
    assert_eq!(kind_of(TCP), Some(FlowKind::OutboundRule));
    assert_eq!((kind_of(UDP), kind_of(V4::ICMP)), (None, None));
    let id = plane
        .ids()
        .rules
        .get(&"outbound_rule/out".to_owned())
        .unwrap();
    assert_eq!(way(&plane, &instance(1), TCP).unwrap().rule, id);
    assert_eq!(plane.ids().rule_name(id), Some("out"));
}

#[test]
fn of_two_outbound_rules_the_first_has_an_ip_configuration() {
    let more = "[[pool]]\nname = \"other\"\nmembers = [\"i1\"]\n";
    let second = outbound("second", "ports_per_instance = 32000")
        .replace("pool = \"web\"", "pool = \"other\"");
    let first = outbound("first", "ports_per_instance = 32000\nprotocol = \"tcp\"");
    let plane = with(&network(1, &(first.clone() + more + &second)));
    let rule = |plane: &ControlPlane, protocol| {
        let way = way(plane, &instance(1), protocol).unwrap();
        assert_eq!(way.ports, 32_000);
        plane.ids().rule_name(way.rule).unwrap().to_owned()
    };
    assert_eq!([TCP, UDP].map(|p| rule(&plane, p)), ["first", "second"]);
    let first = first.replace("\"tcp\"", "\"all\"");
    let plane = with(&network(1, &(first + more + &second)));
    assert_eq!([TCP, UDP].map(|p| rule(&plane, p)), ["first", "first"]);
}

#[test]
fn an_outbound_rule_says_how_its_ports_are_used() {
    let keys = "mapping = { tcp = \"endpoint-independent\", udp = \"per-destination\" }\n\
                filtering = \"address-dependent\"\nfrontend_selection = \"fill\"\n\
                port_selection = \"lowest\"\nidle_timeout = \"5s\"\ntcp_reset = false\n\
                on_exhaustion = \"drop\"\nburst = false";
    let plane = with(&network(1, &outbound("out", keys)));
    let flags = |protocol| way(&plane, &instance(1), protocol).unwrap().flags & 0xff;
    let both = Way::FILL | Way::LOWEST;
    let open = Way::ENDPOINT_INDEPENDENT | Way::OPEN_TO_CONTACTED;
    assert_eq!(flags(TCP), both | open);
    assert_eq!((flags(UDP), flags(V4::ICMP)), (both, both));
    let way = way(&plane, &instance(1), UDP).unwrap();
    assert_eq!((way.idle, way.idle_dns), (5 * 250, 5 * 250));
    assert_eq!((way.burst_ranges, way.burst_ports), (0, 0));
}

#[test]
fn every_address_of_a_prefix_gives_its_part() {
    let rule = outbound("out", "").replace("[\"web\"]", "[\"nat\"]");
    let plane = with(&network(1, &rule));
    let parts: Vec<_> = words(&own(&plane, &instance(1), UDP));
    let address = |n: u8| format!("203.0.113.{n}");
    assert_eq!(
        parts,
        (64..68)
            .map(|n| (address(n), 1024, 256))
            .collect::<Vec<_>>()
    );
    for n in 64..68 {
        let owner = plane.applied().v4.addresses[&v4(&address(n))];
        assert_eq!(owner.roles, Owner::FRONTEND | Owner::SNAT);
        assert_ne!(owner.on_link, 0);
        let address: IpAddr = address(n).parse().unwrap();
        assert!(plane.claims().iter().any(|claim| claim.address == address));
    }
}

#[test]
fn a_pool_that_outgrows_its_tier_moves_nobody() {
    let mut plane = with(&network(50, WEB_RULE));
    let firsts = |plane: &ControlPlane| -> Vec<u16> {
        (1..=50)
            .map(|n| own(plane, &instance(n), TCP)[0].first)
            .collect()
    };
    let before = firsts(&plane);
    reload(&mut plane, &network(51, WEB_RULE));
    assert_eq!(firsts(&plane), before);
    for n in 1..=51 {
        assert_eq!(way(&plane, &instance(n), TCP).unwrap().ports, 512);
        assert_eq!(own(&plane, &instance(n), TCP).len(), 1);
    }
    reload(&mut plane, &network(50, WEB_RULE));
    assert_eq!(firsts(&plane), before);
    assert!((1..=50).all(|n| way(&plane, &instance(n), TCP).unwrap().ports == 1024));
    // One in the middle leaves: nothing of the others is written.
    let without = network(50, WEB_RULE).replace("\"i25\", ", "");
    let changes = reload(&mut plane, &without);
    let moved = changes.iter().filter(|change| match change {
        Change::V4(FamilyChange::Way(key, Some(way))) => {
            way.ranges > 0 && plane.applied().v4.ways[key].first != way.first
        }
        _ => false,
    });
    assert_eq!(moved.count(), 0);
    assert_eq!(way(&plane, &instance(25), TCP), None);
}

#[test]
fn ranges_are_written_before_their_way_and_cleared_after() {
    let mut plane = with(&network(2, WEB_RULE));
    let before = way(&plane, &instance(1), TCP).unwrap();
    let changes = reload(
        &mut plane,
        &network(2, &(outbound("o", "ports_per_instance = 2048") + WEB_RULE)),
    );
    let after = way(&plane, &instance(1), TCP).unwrap();
    assert_ne!(before.first, after.first);
    let written = position(
        &changes,
        |c| matches!(c, Change::V4(FamilyChange::SnatRange(n, Some(_))) if *n == after.first),
    );
    let switched = position(
        &changes,
        |c| matches!(c, Change::V4(FamilyChange::Way(_, Some(way))) if *way == after),
    );
    let cleared = position(
        &changes,
        |c| matches!(c, Change::V4(FamilyChange::SnatRange(n, None)) if *n == before.first),
    );
    assert!(written < switched && switched < cleared);
    // Its number is nobody's for a while.
    reload(&mut plane, &network(2, WEB_RULE));
    assert_ne!(way(&plane, &instance(1), TCP).unwrap().first, before.first);
    for _ in 0..2 {
        plane.handle(Event::Census(Census::default())).unwrap();
    }
    reload(
        &mut plane,
        &network(2, &outbound("o", "ports_per_instance = 4096")),
    );
    assert_eq!(way(&plane, &instance(1), TCP).unwrap().first, 1);
}

#[test]
fn a_new_daemon_keeps_every_way_and_range() {
    let text = network(30, &(outbound("o", "ports_per_instance = 256") + WEB_RULE));
    let mut first = with(&text.replace("256", "1024"));
    reload(&mut first, &text.replace("\"i7\", ", ""));
    reload(&mut first, &text);
    let mut second = ControlPlane::new(TickRate(250), SIZES, [1, 2], left_behind(&first));
    second.handle(Event::Host(host())).unwrap();
    let changes = second.handle(Event::Config(parsed(&text))).unwrap();
    assert_eq!(second.applied().v4, first.applied().v4);
    assert_eq!(second.applied().v6, first.applied().v6);
    assert!(
        !changes.iter().any(|c| matches!(
            c,
            Change::V4(FamilyChange::Way(..) | FamilyChange::SnatRange(..))
        )),
        "{changes:?}"
    );
    let id = |plane: &ControlPlane| plane.ids().rules.get(&"outbound_rule/o".to_owned());
    assert_eq!(id(&second), id(&first));
}

#[test]
fn what_nobody_reserved_is_split_where_it_is_used_in_both_ways() {
    let more = "[[instance]]\nname = \"x\"\nipv4 = \"10.9.9.9\"\n[[pool]]\nname = \"other\"\nmembers = [\"x\"]\n";
    let per_destination = outbound("other", "mapping = { udp = \"per-destination\" }")
        .replace("pool = \"web\"", "pool = \"other\"");
    let plane = with(&network(1, &(outbound("o", "") + more + &per_destination)));
    let ports = |source: &str| way(&plane, source, UDP).unwrap().burst_ports;
    assert_eq!((ports(&instance(1)), ports("10.9.9.9")), (30_976, 30_976));
    let tcp = |source: &str| way(&plane, source, TCP).unwrap().burst_ports;
    assert_eq!((tcp(&instance(1)), tcp("10.9.9.9")), (61_952, 61_952));
}

#[test]
fn whoever_is_no_instance_shares_what_nobody_reserved() {
    let text = network(
        2,
        "[default_outbound]\nfrontends = [\"nat\"]\nports_per_instance = 64\n",
    );
    let plane = with(&text);
    let other = way(&plane, "0.0.0.0", TCP).unwrap();
    assert_eq!(kind(other), Some(FlowKind::DefaultOutbound));
    assert_eq!((other.ports, other.burst_ports), (0, 4 * 64_000 - 128));
    let instance = way(&plane, &instance(1), TCP).unwrap();
    assert_eq!(
        (instance.ports, instance.burst_ports),
        (64, 4 * 64_000 - 128)
    );
    assert_eq!(instance.burst_first, other.burst_first, "one list for all");
    assert_ne!(
        plane.applied().settings.flags & Settings::DEFAULT_OUTBOUND,
        0
    );
    assert!(plane.applied().v6.ways.is_empty(), "the prefix has no IPv6");
}

#[test]
fn an_address_that_is_taken_away_is_kept_for_its_last_flows() {
    let rule = outbound("out", "").replace("[\"web\"]", "[\"nat\"]");
    let mut plane = with(&network(1, &rule));
    let gone = BASE.replace("ipv4 = \"203.0.113.64/30\"", "ipv4 = \"203.0.113.64/31\"");
    let text = network(1, &rule).replace(BASE, &gone);
    reload(&mut plane, &text);
    let old = v4("203.0.113.66");
    assert_eq!(plane.applied().v4.addresses[&old].roles, Owner::FRONTEND);
    assert!(
        own(&plane, &instance(1), TCP)
            .iter()
            .all(|range| range.address != old)
    );
    for _ in 0..2 {
        plane.handle(Event::Census(Census::default())).unwrap();
    }
    assert!(!plane.applied().v4.addresses.contains_key(&old));
}
