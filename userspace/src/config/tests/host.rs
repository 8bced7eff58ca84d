//! What the host that the file is for has to do with it.

use std::collections::{BTreeMap, BTreeSet};

use super::{BASE, Expectation, assert_only};
use crate::config::{Diagnostics, Host, Loaded, Options, Sockets, parse_with};

fn host(addresses: &[&str]) -> Host {
    let on_eth9 = |address: &&str| (address.parse().unwrap(), "eth9".to_owned());
    Host {
        interfaces: BTreeSet::from(["eth0".to_owned(), "eth9".to_owned()]),
        addresses: addresses.iter().map(on_eth9).collect::<BTreeMap<_, _>>(),
        local_ports: Some(32768..=60999),
        reserved_ports: vec![40000..=40009],
        bound: Sockets::default(),
    }
}

fn read(text: &str, host: Host) -> Result<Loaded, Diagnostics> {
    let options = Options {
        host_name: Some("lb-host".to_owned()),
        accept_unavailable: true,
        host: Some(host),
    };
    parse_with("f.toml", text, &options)
}

fn refuses(text: &str, host: Host, expectation: Expectation) {
    assert_only(text, &read(text, host).unwrap_err().errors, expectation);
}

fn warns(text: &str, host: Host, expectation: Expectation) {
    assert_only(text, &read(text, host).unwrap().warnings, expectation);
}

fn shared() -> String {
    BASE.replacen("name = \"web\"\n", "name = \"web\"\nshared = true\n", 1)
}

const WEB: [&str; 2] = ["203.0.113.10", "2001:db8:1::10"];

#[test]
fn a_frontend_with_an_address_of_the_host_has_to_be_shared() {
    let expected = "an address that is not the host's own, or shared = true";
    for (address, key, found) in [
        (WEB[0], "frontend \"web\".ipv4", "\"203.0.113.10\""),
        (WEB[1], "frontend \"web\".ipv6", "\"2001:db8:1::10\""),
        (
            "2001:db8:1::64",
            "frontend \"nat\".ipv6",
            "\"2001:db8:1::64\"",
        ),
        (
            "203.0.113.66",
            "frontend \"nat\".ipv4",
            "\"203.0.113.64/30\"",
        ),
    ] {
        let text = BASE.replace(&format!("{found}\n"), &format!("{found} #<\n"));
        let message = "is on eth9";
        refuses(&text, host(&[address]), (key, found, expected, message));
    }
    read(BASE, host(&["203.0.113.9", "fe80::1", "127.0.0.1"])).unwrap();
}

#[test]
fn a_shared_frontend_with_addresses_of_the_host_is_as_it_should_be() {
    let loaded = read(&shared(), host(&WEB)).unwrap();
    assert_eq!(loaded.warnings, []);
}

#[test]
fn a_shared_frontend_whose_address_the_host_lacks_gets_a_warning() {
    let text = shared().replace("\"203.0.113.10\"\n", "\"203.0.113.10\" #<\n");
    let (key, found) = ("frontend \"web\".ipv4", "\"203.0.113.10\"");
    let expectation = (
        key,
        found,
        "an address of the host",
        "no interface has the address",
    );
    warns(&text, host(&WEB[1..]), expectation);
}

#[test]
fn only_frontends_that_do_not_share_lose_an_address_to_the_host() {
    let taken =
        |text: &str| host(&[WEB[0], "10.0.1.11"]).taken(&read(text, host(&[])).unwrap().config);
    let expected = (WEB[0].parse().unwrap(), "eth9".to_owned());
    assert_eq!(taken(BASE), BTreeSet::from([expected]));
    assert_eq!(taken(&shared()), BTreeSet::new());
}

#[test]
fn a_public_ip_is_never_the_hosts_own() {
    let public_ip = "[[public_ip]]\nname = \"alice\"\nipv4 = \"203.0.113.50\" #<\n";
    let text = format!("{BASE}{public_ip}");
    let expected = "an address that is not the host's own";
    let (key, found) = ("public_ip \"alice\".ipv4", "\"203.0.113.50\"");
    refuses(
        &text,
        host(&["203.0.113.50"]),
        (key, found, expected, "take it off eth9"),
    );
}

#[test]
fn a_rule_of_a_shared_frontend_on_a_port_of_the_hosts_own_connections_gets_a_warning() {
    let on = |port: &str| shared().replace("port = 80\n", &format!("port = {port} #<\n"));
    let expected = "a port outside ip_local_port_range (32768-60999)";
    let text = on("50000");
    let expectation = (
        "rule \"web-http\".port",
        "50000",
        expected,
        "ip_local_reserved_ports",
    );
    warns(&text, host(&WEB), expectation);
    for fine in ["40001", "443"] {
        assert_eq!(read(&on(fine), host(&WEB)).unwrap().warnings, [], "{fine}");
    }
    let not_shared = BASE.replace("port = 80\n", "port = 50000\n");
    assert_eq!(read(&not_shared, host(&[])).unwrap().warnings, []);
}

#[test]
fn a_host_that_is_not_the_node_has_nothing_to_say() {
    let mut elsewhere = host(&WEB);
    elsewhere.interfaces = BTreeSet::from(["wlan0".to_owned()]);
    read(BASE, elsewhere.clone()).unwrap();
    assert_eq!(read(&shared(), Host::default()).unwrap().warnings, []);
    assert_eq!(read(&shared(), elsewhere).unwrap().warnings, []);
}

#[test]
fn certificates_that_the_node_cannot_read() {
    let text = format!(
        "{BASE}[[probe]]\nname = \"p\"\nprotocol = \"https\"\ntls_verify = true\nca_file = \"/absent/ca.pem\" #<\n"
    );
    let expectation = (
        "probe \"p\".ca_file",
        "\"/absent/ca.pem\"",
        "a file of certificates in PEM",
        "/absent/ca.pem cannot be read: No such file",
    );
    refuses(&text, host(&[]), expectation);
    let elsewhere = Host {
        interfaces: BTreeSet::from(["lo".to_owned()]),
        ..host(&[])
    };
    assert!(
        read(&text, elsewhere).is_ok(),
        "another machine need not have it"
    );
}
