//! Packets between any two writes of a reload find their old rule or their new one.

use std::collections::HashMap;
use std::fmt::Write;

use forebay_common::abi::Backend;
use forebay_common::balance::build_ring;
use forebay_common::flow::Hop;
use forebay_common::model::ModelTables;
use forebay_common::pipeline::{self, Exit, forget_both};
use forebay_common::tables::Route;
use forebay_common::wire::HostFrame;
use proptest::prelude::*;

use super::*;
use crate::api::Question;
use crate::explain::{build_frame, endpoints};

/// A dual-stack frontend, and pools with one instance each, so that whoever gets a packet tells its rule.
const BASE: &str = r#"
[node]
name = "lb1"
interfaces = ["c0", "i0"]
[[frontend]]
name = "web"
ipv4 = "203.0.113.10"
ipv6 = "2001:db8:1::10"
"#;

const INSTANCES: usize = 5;

fn base() -> String {
    let mut text = BASE.to_owned();
    for number in 1..=INSTANCES {
        let _ = write!(
            text,
            "[[instance]]\nname = \"i{number}\"\nipv4 = \"10.0.1.{number}\"\nipv6 = \"fd00:1::{number}\"\n\
             [[pool]]\nname = \"p{number}\"\nmembers = [\"i{number}\"]\n"
        );
    }
    text
}

/// Writes one change into tables in memory.
fn write(tables: &mut ModelTables, change: &Change) {
    fn put<K: Eq + std::hash::Hash + Copy, V: Copy>(
        map: &mut HashMap<K, V>,
        key: K,
        value: Option<V>,
    ) {
        match value {
            Some(value) => drop(map.insert(key, value)),
            None => drop(map.remove(&key)),
        }
    }
    match change {
        Change::V4(FamilyChange::Address(address, owner)) => {
            put(&mut tables.v4.addresses, *address, *owner);
        }
        Change::V6(FamilyChange::Address(address, owner)) => {
            put(&mut tables.v6.addresses, *address, *owner);
        }
        Change::V4(FamilyChange::Backend(id, address)) => {
            let backend = address.map(|address| Backend { address });
            put(&mut tables.v4.backends, *id, backend);
        }
        Change::V6(FamilyChange::Backend(id, address)) => {
            let backend = address.map(|address| Backend { address });
            put(&mut tables.v6.backends, *id, backend);
        }
        Change::Port(key, bound) => put(&mut tables.ports, *key, *bound),
        Change::PortRange(range, bound) => put(&mut tables.port_ranges, *range, *bound),
        Change::Binding(id, rule) => drop(tables.bindings.insert(*id, *rule)),
        Change::Ring(id, members) => {
            let ring = build_ring(members.as_deref().unwrap_or_default());
            tables.rings.insert(*id, ring);
        }
        Change::Spread(id, places) => {
            tables
                .spreads
                .insert(*id, places.clone().unwrap_or_default());
        }
        Change::Interface(slot, interface) => put(&mut tables.interfaces, *slot, *interface),
        Change::Settings(settings) => tables.settings = Some(*settings),
        Change::V4(FamilyChange::VirtualNetwork(..))
        | Change::V6(FamilyChange::VirtualNetwork(..))
        | Change::V4(FamilyChange::Reverse(..))
        | Change::V6(FamilyChange::Reverse(..))
        | Change::V4(
            FamilyChange::Way(..) | FamilyChange::SnatRange(..) | FamilyChange::PublicIp(..),
        )
        | Change::V6(
            FamilyChange::Way(..) | FamilyChange::SnatRange(..) | FamilyChange::PublicIp(..),
        )
        | Change::ResetCounters(_)
        | Change::AddressFilter(..) => {}
    }
}

/// Where a first packet goes: address and port of the instance, or the reason why not.
fn fate(tables: &ModelTables, protocol: u8, ipv6: bool, port: u16) -> String {
    let (source, destination) = if ipv6 {
        ("2001:db8:9::7", "2001:db8:1::10")
    } else {
        ("198.51.100.7", "203.0.113.10")
    };
    let question = Question {
        protocol,
        source: source.parse().unwrap(),
        source_port: 40_000,
        destination: destination.parse().unwrap(),
        destination_port: port,
        inbound_interface: None,
    };
    let mut frame = HostFrame::new(&build_frame(&question, [0; 2]).unwrap(), 7);
    let verdict = pipeline::run(&mut frame, tables);
    // The next packet is a first one again.
    let settings = tables.settings.unwrap_or_default();
    for key in tables.v4.untrusted(&settings).keys() {
        forget_both(tables, key);
    }
    for key in tables.v6.untrusted(&settings).keys() {
        forget_both(tables, key);
    }
    if verdict.exit == Exit::Drop {
        return verdict.reason.label().to_owned();
    }
    let to = endpoints(&frame.to_vec()).unwrap();
    format!("{} {}", to.destination, to.destination_port)
}

/// What becomes of packets to ports of interest, in both families and protocols.
fn fates(tables: &ModelTables, ports: &[u16]) -> Vec<String> {
    let mut fates = Vec::new();
    for port in ports {
        for protocol in [TCP, UDP] {
            for ipv6 in [false, true] {
                fates.push(fate(tables, protocol, ipv6, *port));
            }
        }
    }
    fates
}

fn empty_tables() -> ModelTables {
    let mut tables = ModelTables::default();
    let hop = Hop {
        mac: Mac::from_octets([2, 0, 0, 0, 0, 9]),
        slot: 1,
        is_narrow: false,
    };
    tables.v4.routes.push((V4::default(), 0, Route::Hop(hop)));
    tables
        .v6
        .routes
        .push((Default::default(), 0, Route::Hop(hop)));
    tables.now = 1_000_000;
    tables
}

/// Takes a daemon from one file to the next, with packets between any two writes. Returns what became of
/// packets in the end.
fn reload(
    tables: &mut ModelTables,
    control_plane: &mut ControlPlane,
    config: Arc<Config>,
    ports: &[u16],
) -> Vec<String> {
    let changes = control_plane.handle(Event::Config(config)).unwrap();
    // What is to come, from tables that are there already.
    let mut after = empty_tables();
    after.rings.clone_from(&tables.rings);
    fill(&mut after, control_plane.applied());
    let new = fates(&after, ports);
    let mut last = fates(tables, ports);
    for change in &changes {
        write(tables, change);
        let now = fates(tables, ports);
        for (index, found) in now.iter().enumerate() {
            assert!(
                *found == last[index] || *found == new[index],
                "after {change:?}, packet {index}: {found}, was {}, will be {}",
                last[index],
                new[index]
            );
        }
        last = now;
    }
    assert_eq!(last, new, "what was written is what was wanted");
    new
}

fn fill(tables: &mut ModelTables, state: &TableState) {
    for change in &diff::changes(&TableState::default(), state) {
        write(tables, change);
    }
}

fn any_rule() -> impl Strategy<Value = (String, usize)> {
    let first = prop_oneof![Just(80_u16), 8_000_u16..8_012];
    let port = prop_oneof![
        first.clone().prop_map(|port| port.to_string()),
        (first, 0_u16..12).prop_map(|(first, more)| format!("\"{first}-{}\"", first + more)),
        Just("0".to_owned()),
    ];
    let protocol = prop_oneof![Just("tcp"), Just("udp"), Just("all")];
    let offset = prop_oneof![Just(None), (1_000_u16..1_003).prop_map(Some)];
    (port, protocol, 1..=INSTANCES, offset, 0..4_usize).prop_map(
        |(port, protocol, member, backend_port, form)| {
            let is_range = port.starts_with('"');
            let backend = match backend_port {
                Some(backend_port) if port != "0" => format!("backend_port = {backend_port}\n"),
                _ => String::new(),
            };
            let common = format!("frontend = \"web\"\nprotocol = \"{protocol}\"\nport = {port}\n");
            let rule = match form {
                0 if is_range => format!("{common}pool = \"p{member}\"\n{backend}"),
                0 if port != "0" => format!("{common}instance = \"i{member}\"\n{backend}"),
                _ => return (format!("{common}pool = \"p{member}\"\n{backend}"), 0),
            };
            (rule, 1)
        },
    )
}

/// Files of a handful of rules that keep their names from file to file, as far as they are valid.
fn any_file() -> impl Strategy<Value = Option<Arc<Config>>> {
    prop::collection::vec(prop::option::weighted(0.8, any_rule()), 4).prop_map(|rules| {
        let mut text = base();
        for (number, rule) in rules.into_iter().enumerate() {
            if let Some((rule, form)) = rule {
                let kind = ["rule", "inbound_nat_rule"][form];
                let _ = write!(text, "[[{kind}]]\nname = \"r{number}\"\n{rule}");
            }
        }
        let loaded = config::parse("test.toml", &text).ok()?;
        Some(Arc::new(loaded.config))
    })
}

/// Ports at which something may change.
const PORTS: [u16; 9] = [1, 80, 7_999, 8_000, 8_003, 8_007, 8_011, 8_022, 65_535];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Invariant "all or nothing".
    #[test]
    fn a_packet_between_two_writes_finds_its_old_rule_or_its_new_one(
        files in prop::collection::vec(any_file(), 3..8),
    ) {
        let mut control_plane = control_plane();
        let mut tables = empty_tables();
        let first = parsed(&base());
        for change in control_plane.handle(Event::Config(first)).unwrap() {
            write(&mut tables, &change);
        }
        for config in files.into_iter().flatten() {
            reload(&mut tables, &mut control_plane, config, &PORTS);
            control_plane.handle(Event::Census(Census::default())).unwrap();
        }
    }
}

fn rules(rules: &str) -> Arc<Config> {
    parsed(&format!("{}{rules}", base()))
}

fn started() -> (ControlPlane, ModelTables) {
    let mut control_plane = control_plane();
    let mut tables = empty_tables();
    for change in control_plane.handle(Event::Config(rules(""))).unwrap() {
        write(&mut tables, &change);
    }
    (control_plane, tables)
}

/// B9-15, and invariant "all or nothing": in the middle of the writes there is none at which some of a rule's
/// ports are served and others not.
#[test]
fn a_rule_for_many_ports_comes_at_once_in_both_families_and_protocols() {
    const WIDE: &str = "[[rule]]\nname = \"wide\"\nfrontend = \"web\"\nprotocol = \"all\"\nport = \"8001-8011\"\npool = \"p2\"\n";
    let (mut control_plane, mut tables) = started();
    let ports: Vec<u16> = (8_001..=8_011).collect();
    let changes = control_plane.handle(Event::Config(rules(WIDE))).unwrap();
    let mut served_before = 0;
    for change in &changes {
        write(&mut tables, change);
        let fates = fates(&tables, &ports);
        let served = fates.iter().filter(|fate| *fate != "no-rule").count();
        assert!(
            served == 0 || served == fates.len(),
            "after {change:?}: {fates:?}"
        );
        assert!(served >= served_before, "after {change:?}");
        served_before = served;
    }
    assert_eq!(served_before, ports.len() * 4);
    let changes = control_plane.handle(Event::Config(rules(""))).unwrap();
    for change in &changes {
        write(&mut tables, change);
        let fates = fates(&tables, &ports);
        let served = fates.iter().filter(|fate| *fate != "no-rule").count();
        assert!(
            served == 0 || served == fates.len(),
            "after {change:?}: {fates:?}"
        );
    }
    assert!(tables.port_ranges.is_empty(), "nothing is left behind");
}

/// B9-15: a specific rule over HA ports, and what is beneath when it goes.
#[test]
fn ha_ports_serve_what_no_more_specific_rule_takes() {
    const HA: &str = "[[rule]]\nname = \"ha\"\nfrontend = \"web\"\nprotocol = \"all\"\nport = 0\npool = \"p1\"\n";
    const RANGE: &str = "[[rule]]\nname = \"range\"\nfrontend = \"web\"\nprotocol = \"tcp\"\nport = \"8000-8007\"\npool = \"p2\"\nbackend_port = 9000\n";
    const ONE: &str = "[[inbound_nat_rule]]\nname = \"one\"\nfrontend = \"web\"\nprotocol = \"tcp\"\nport = 8003\ninstance = \"i3\"\nbackend_port = 22\n";
    let (mut control_plane, mut tables) = started();
    let mut to = |file: &str| {
        let found = reload(
            &mut tables,
            &mut control_plane,
            rules(file),
            &[8_003, 8_007, 9],
        );
        let tcp4 = [0, 4, 8].map(|index| found[index].clone());
        let udp6 = found[3].clone();
        (tcp4, udp6)
    };
    let none = || "no-rule".to_owned();
    let all = format!("{HA}{RANGE}{ONE}");
    let (tcp, udp) = to(&all);
    assert_eq!(tcp, ["10.0.1.3 22", "10.0.1.2 9007", "10.0.1.1 9"]);
    assert_eq!(udp, "fd00:1::1 8003");
    let (tcp, _) = to(&format!("{HA}{RANGE}"));
    assert_eq!(tcp, ["10.0.1.2 9003", "10.0.1.2 9007", "10.0.1.1 9"]);
    let (tcp, udp) = to(&format!("{RANGE}{ONE}"));
    assert_eq!(
        tcp,
        ["10.0.1.3 22".to_owned(), "10.0.1.2 9007".to_owned(), none()]
    );
    assert_eq!(udp, none());
}

#[test]
fn a_rule_that_changes_keeps_its_id_and_counters_under_a_new_binding() {
    const RANGE: &str = "[[rule]]\nname = \"range\"\nfrontend = \"web\"\nprotocol = \"tcp\"\nport = \"8000-8007\"\npool = \"p2\"\n";
    let (mut control_plane, _) = started();
    control_plane.handle(Event::Config(rules(RANGE))).unwrap();
    let bound = |plane: &ControlPlane| {
        let (binding, rule) = plane.applied().bindings.first_key_value().unwrap();
        (*binding, rule.id)
    };
    let (binding, id) = bound(&control_plane);
    let wider = RANGE.replace("8000-8007", "8000-8008");
    let changes = control_plane.handle(Event::Config(rules(&wider))).unwrap();
    let resets = changes
        .iter()
        .any(|change| matches!(change, Change::ResetCounters(_)));
    assert!(!resets);
    let (other, same) = bound(&control_plane);
    assert_eq!(same, id);
    assert_ne!(other, binding);
    control_plane.handle(Event::Config(rules(RANGE))).unwrap();
    let (third, _) = bound(&control_plane);
    assert_ne!(
        third, binding,
        "a packet may still be reading the first one"
    );
}

#[test]
fn a_new_daemon_binds_again_what_it_finds_with_the_same_ids() {
    const FILE: &str = "[[rule]]\nname = \"ha\"\nfrontend = \"web\"\nprotocol = \"all\"\nport = 0\npool = \"p1\"\n\
        [[inbound_nat_rule]]\nname = \"ssh\"\nfrontend = \"web\"\nprotocol = \"tcp\"\nport = \"2200-2209\"\npool = \"p2\"\nbackend_port = 22\n\
        [[rule]]\nname = \"gone\"\nfrontend = \"web\"\nprotocol = \"tcp\"\nport = 99\npool = \"p3\"\n";
    let (mut first, mut tables) = started();
    for change in first.handle(Event::Config(rules(FILE))).unwrap() {
        write(&mut tables, &change);
    }
    let id = |plane: &ControlPlane, name: &str| plane.ids().rules.get(&name.to_owned());
    let gone = id(&first, "gone").unwrap();
    let mut second = ControlPlane::new(TickRate(250), SIZES, [1, 2], left_behind(&first))
        .with_nat_ports(first.nat_ports().clone());
    second.handle(Event::Host(host())).unwrap();
    let file = FILE
        .replace("gone", "new")
        .replace("port = 99", "port = 98");
    reload(
        &mut tables,
        &mut second,
        rules(&file),
        &[98, 99, 2_200, 2_201, 7],
    );
    for name in ["ha", "ssh"] {
        assert_eq!(id(&second, name), id(&first, name), "{name}");
    }
    assert_ne!(
        id(&second, "new"),
        Some(gone),
        "flows of the removed rule may hold its id"
    );
}
