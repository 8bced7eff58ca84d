//! Which of several addresses flows leave by, and what operators are told of them.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use forebay_tests::netlab::mirror::{Reflection, reflect_udp};
use forebay_tests::netlab::{Arms, Namespace, address};

use super::{NAT, Outside, PORTS, from_any, frontend_table, mirror, of_family, outbound_rule};

const NAT_2: (Ipv4Addr, Ipv6Addr) = (
    Ipv4Addr::new(203, 0, 113, 21),
    Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x21),
);
const DEFAULT: (Ipv4Addr, Ipv6Addr) = (
    Ipv4Addr::new(203, 0, 113, 30),
    Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x30),
);
const WEB: (Ipv4Addr, Ipv6Addr) = (address::FRONTEND_V4, address::FRONTEND_V6);

fn default_outbound() -> String {
    let frontend = frontend_table("default", DEFAULT);
    format!("{frontend}\n[default_outbound]\nfrontends = [\"default\"]\n")
}

/// As whom destinations see flows from there; each is asked, over both families.
fn seen(from: &Namespace, times: usize) -> BTreeSet<IpAddr> {
    let mut seen = BTreeSet::new();
    for _ in 0..times {
        for host in [2, 3] {
            for to in PORTS.into_iter().flat_map(|port| mirror(host, port)) {
                let mut flow = Reflection::open(from, None, to).unwrap();
                assert_eq!(flow.ask().unwrap(), flow.seen, "answers come back");
                seen.insert(flow.seen.ip());
            }
        }
    }
    seen
}

fn outbound_ips(outside: &Outside, more: &[&str]) -> BTreeSet<IpAddr> {
    let words = [&["outbound-ips", "web-1"], more].concat();
    let text = outside.scene.forebay.text(&words).unwrap();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

fn all(pairs: &[(Ipv4Addr, Ipv6Addr)]) -> BTreeSet<IpAddr> {
    let both = |&(ipv4, ipv6): &(Ipv4Addr, Ipv6Addr)| [IpAddr::from(ipv4), IpAddr::from(ipv6)];
    pairs.iter().flat_map(both).collect()
}

#[test]
fn a_secondary_address_goes_out_by_the_frontend_of_its_own_pool() {
    let second: (Ipv4Addr, Ipv6Addr) = (
        "10.0.1.111".parse().unwrap(),
        "fd00:1::111".parse().unwrap(),
    );
    let Some(outside) = Outside::run_with(Arms::Two, "", |config| {
        let first = config.instances.remove(0);
        config.more = format!(
            "\n[[instance]]\nname = {:?}\nip_configs = [\n  \
             {{ name = \"primary\", ipv4 = \"{}\", ipv6 = \"{}\" }},\n  \
             {{ name = \"second\", ipv4 = \"{}\", ipv6 = \"{}\" }},\n]\n\
             \n[[pool]]\nname = \"second\"\nmembers = [\"web-1/second\"]\n{}",
            first.name,
            first.ipv4,
            first.ipv6,
            second.0,
            second.1,
            outbound_rule("").replace("pool = \"web\"", "pool = \"second\""),
        );
    }) else {
        return;
    };
    let instance = &outside.lab().instances[0];
    instance
        .namespace
        .ip(&format!(
            "address add {}/24 dev eth0\naddress add {}/64 dev eth0 nodad",
            second.0, second.1
        ))
        .unwrap();
    for to in mirror(2, 7000) {
        for (source, expected) in [
            (from_any(instance, to).ip(), WEB),
            (of_family(second, to), NAT),
        ] {
            let source = SocketAddr::new(source, 0);
            let mut flow = Reflection::open(&instance.namespace, Some(source), to).unwrap();
            assert_eq!(flow.seen.ip(), of_family(expected, to), "{source}");
            assert_eq!(flow.ask().unwrap(), flow.seen);
            let datagram = reflect_udp(&instance.namespace, source, to).unwrap();
            assert_eq!(datagram.ip(), of_family(expected, to), "{source}");
        }
    }
    assert_eq!(outbound_ips(&outside, &[]), all(&[WEB, NAT]));
}

#[test]
fn every_address_that_flows_are_seen_from_is_listed_and_none_is_listed_for_nothing() {
    let two = |selection: &str| {
        let rule = outbound_rule(&format!("frontend_selection = {selection:?}"));
        let rule = rule.replace("[\"nat\"]", "[\"nat\", \"nat-2\"]");
        format!(
            "{}{}{rule}",
            default_outbound(),
            frontend_table("nat-2", NAT_2)
        )
    };
    let Some(mut outside) = Outside::run(Arms::Two, &two("spread")) else {
        return;
    };
    let now = all(&[NAT, NAT_2]);
    let possible = all(&[NAT, NAT_2, WEB, DEFAULT]);
    let instance = |outside: &Outside| seen(&outside.lab().instances[0].namespace, 5);
    assert_eq!(outbound_ips(&outside, &[]), now);
    assert_eq!(outbound_ips(&outside, &["--possible"]), possible);
    assert!(instance(&outside).is_subset(&now));
    outside.reload(&two("random"), |_| {});
    assert_eq!(instance(&outside), now);
    // Without its rule the other methods count, which were possible before.
    let rules = outside.scene.config.rules.clone();
    for (with_rules, expected) in [(true, WEB), (false, DEFAULT)] {
        outside.reload(&default_outbound(), |config| {
            config.rules = if with_rules {
                rules.clone()
            } else {
                Vec::new()
            };
        });
        let now = outbound_ips(&outside, &[]);
        assert_eq!(now, all(&[expected]));
        assert!(now.is_subset(&possible));
        assert_eq!(instance(&outside), now);
    }
}

#[test]
fn all_addresses_of_a_prefix_are_used_and_one_destination_sees_one_of_them() {
    let rule = |selection: &str| {
        let frontend = "\n[[frontend]]\nname = \"nat\"\nipv4 = \"203.0.113.64/30\"\n\
                        ipv6 = \"2001:db8:1::40/126\"\n";
        let rule = outbound_rule(&format!("frontend_selection = {selection:?}"));
        rule.replace(&frontend_table("nat", NAT), frontend)
    };
    let Some(mut outside) = Outside::run(Arms::Two, &rule("spread")) else {
        return;
    };
    let prefix: BTreeSet<IpAddr> = (0x40..0x44)
        .flat_map(|last: u16| {
            let ipv6 = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, last);
            [Ipv4Addr::new(203, 0, 113, last as u8).into(), ipv6.into()]
        })
        .collect();
    let mut used = BTreeSet::new();
    for instance in &outside.lab().instances {
        for to in PORTS.into_iter().flat_map(|port| mirror(2, port)) {
            let open = |_| Reflection::open(&instance.namespace, None, to).unwrap();
            let flows: Vec<_> = (0..5).map(open).collect();
            let addresses: BTreeSet<_> = flows.iter().map(|flow| flow.seen.ip()).collect();
            assert_eq!(addresses.len(), 1, "{to}: {addresses:?}");
            used.extend(addresses);
        }
    }
    assert!(used.len() > 2 && used.is_subset(&prefix), "{used:?}");
    outside.reload(&rule("random"), |_| {});
    let random = seen(&outside.lab().instances[0].namespace, 60);
    assert_eq!(random, prefix);
}

#[test]
fn a_host_that_is_no_instance_goes_out_by_the_default() {
    let Some(outside) = Outside::run(Arms::Two, &default_outbound()) else {
        return;
    };
    let host = &outside.lab().switch;
    assert_eq!(seen(host, 3), all(&[DEFAULT]));
    for to in mirror(2, 7000) {
        let source = of_family((address::OTHER_V4, address::OTHER_V6), to);
        let socket = SocketAddr::new(source, 0);
        let datagram = reflect_udp(host, socket, to).unwrap();
        assert_eq!(datagram.ip(), of_family(DEFAULT, to));
        let words = ["show", "flows", "--source", &source.to_string()];
        let flows = outside.scene.forebay.list(&words).unwrap();
        assert!(!flows.is_empty());
        assert!(
            flows.iter().all(|flow| flow["kind"] == "default-outbound"),
            "{flows:?}"
        );
    }
}
