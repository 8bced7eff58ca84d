//! Ports that shared frontends leave to the host.

use std::collections::BTreeSet;

use super::*;
use crate::config::{Host, Sockets};

/// A host with these dynamic ports, on which programs listen there.
fn host(local: std::ops::RangeInclusive<u16>, bound: &[&str]) -> Host {
    Host {
        local_ports: Some(local),
        bound: Sockets::At(bound.iter().map(|one| one.parse().unwrap()).collect()),
        ..Host::default()
    }
}

fn read_for(text: &str, host: &Host) -> Result<Loaded, Diagnostics> {
    let options = Options {
        host_name: Some("lb".into()),
        accept_unavailable: true,
        host: Some(host.clone()),
    };
    parse_with("f.toml", text, &options)
}

fn shared(text: &str) -> String {
    text.replacen("name = \"f\"\n", "name = \"f\"\nshared = true\n", 1)
}

fn blocks(text: &str, host: &Host) -> BTreeSet<u32> {
    taken_blocks(&read_for(text, host).unwrap().config, "f")
}

#[test]
fn a_shared_frontend_keeps_off_the_hosts_dynamic_and_listening_ports() {
    let text = shared(&network(1, RULE_80));
    let ours = ["0.0.0.0:5000", "[::]:5001", "203.0.113.1:6000"];
    let host = host(32768..=60999, &ours);
    let taken = blocks(&text, &host);
    let expected = BTreeSet::from([80 / 8, 5000 / 8, 6000 / 8]);
    let expected: BTreeSet<u32> = expected.into_iter().chain(32768 / 8..=60999 / 8).collect();
    assert_eq!(taken, expected);
    let config = read_for(&text, &host).unwrap().config;
    let ports = available_ports(&config, &config.frontends[0], Family::V4);
    assert_eq!(ports, 64_000 - (60_999 / 8 - 32_768 / 8 + 1) * 8 - 2 * 8);
}

#[test]
fn sockets_on_other_addresses_of_the_host_are_in_nobodys_way() {
    let others = ["127.0.0.1:5000", "[::1]:5008", "203.0.113.2:5016"];
    let host = host(65024..=65535, &others);
    let taken = blocks(&shared(&network(1, "")), &host);
    assert_eq!(taken, (65024 / 8..=65535 / 8).collect());
}

#[test]
fn a_frontend_that_is_not_shared_has_all_its_ports() {
    let host = host(32768..=60999, &["0.0.0.0:5000"]);
    assert_eq!(blocks(&network(1, ""), &host), BTreeSet::new());
}

#[test]
fn ports_reserved_on_the_host_are_free_for_snat() {
    let host = Host {
        reserved_ports: vec![40000..=49999],
        ..host(32768..=60999, &[])
    };
    let taken = blocks(&shared(&network(1, "")), &host);
    assert!(taken.contains(&(39999 / 8)) && taken.contains(&(50000 / 8)));
    assert!((5000..6250).all(|block| !taken.contains(&block)));
}

#[test]
fn explicit_numbers_are_refused_and_automatic_ones_halve_by_what_the_host_leaves() {
    // 1024 to 32767 and 61000 to 65023 are left: 35,768 ports.
    let host = host(32768..=60999, &[]);
    let fits = shared(&network(10, &outbound("o", "\"f\"", "3576")));
    read_for(&fits, &host).unwrap();
    let text = shared(&network(10, &outbound("o", "\"f\"", "3584")));
    let errors = read_for(&text, &host).unwrap_err().errors;
    assert_eq!(errors.len(), 1, "{errors:#?}");
    let message = &errors[0].message;
    assert!(message.contains("available 35768"), "{message}");
    assert!(message.contains("ports of the host itself"), "{message}");
    read_for(&text.replace("shared = true", ""), &host).unwrap();
    let automatic = shared(&network(50, &outbound("o", "\"f\"", "\"auto\"")));
    let loaded = read_for(&automatic, &host).unwrap();
    assert_eq!(plan(&loaded.config).shares[0].ports, 512);
    assert_eq!(loaded.warnings.len(), 1);
    let all = read(&automatic).unwrap().config;
    assert_eq!(plan(&all).shares[0].ports, 1024);
}

#[test]
fn without_a_shared_frontend_nobody_asks_where_programs_listen() {
    let host = Host {
        bound: Sockets::Ask(|| panic!("somebody asks")),
        ..host(32768..=60999, &[])
    };
    read_for(&network(1, ""), &host).unwrap();
}
