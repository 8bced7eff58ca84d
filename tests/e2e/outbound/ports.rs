//! SNAT ports: how many flows they serve.

use std::collections::BTreeSet;

use forebay_tests::netlab::Arms;
use forebay_tests::netlab::client::udp_socket;
use forebay_tests::netlab::mirror::{Reflection, reflect_by};

use super::{NAT, Outside, from_any, mirror, of_family, outbound_rule};

#[test]
fn flows_to_one_destination_need_a_port_each() {
    let rule = outbound_rule("ports_per_instance = 16\nburst = false");
    let Some(outside) = Outside::run(Arms::Two, &rule) else {
        return;
    };
    let [first, second, ..] = &outside.lab().instances[..] else {
        panic!("too few instances")
    };
    for to in mirror(2, 7000) {
        let open = || Reflection::open(&first.namespace, None, to);
        let flows: Vec<_> = (0..16).map(|_| open().unwrap()).collect();
        let ports: BTreeSet<u16> = flows.iter().map(|flow| flow.seen.port()).collect();
        assert_eq!(ports.len(), 16);
        assert!(
            flows
                .iter()
                .all(|flow| flow.seen.ip() == of_family(NAT, to))
        );
        let refused = open().unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        // Others have ports of their own, and there are other destinations.
        Reflection::open(&second.namespace, None, to).unwrap();
        for other in [mirror(2, 7001), mirror(3, 7000)] {
            let other = other[usize::from(to.is_ipv6())];
            let flow = Reflection::open(&first.namespace, None, other).unwrap();
            assert!(
                ports.contains(&flow.seen.port()),
                "a port serves other destinations"
            );
        }
        let socket = udp_socket(&first.namespace, from_any(first, to)).unwrap();
        reflect_by(&socket, to).unwrap();
    }
}

#[test]
fn eight_ports_serve_nine_ports_of_one_address() {
    let rule = outbound_rule("ports_per_instance = 8\nburst = false");
    let Some(outside) = Outside::run(Arms::Two, &rule) else {
        return;
    };
    let instance = &outside.lab().instances[0];
    for version in 0..2 {
        let mut flows = Vec::new();
        for port in [7000, 7001, 53] {
            for _ in 0..8 {
                let to = mirror(2, port)[version];
                flows.push(Reflection::open(&instance.namespace, None, to).unwrap());
            }
        }
        let ports: BTreeSet<u16> = flows.iter().map(|flow| flow.seen.port()).collect();
        assert_eq!((flows.len(), ports.len()), (24, 8));
    }
}

#[test]
fn burst_goes_beyond_the_guarantee() {
    let rule = outbound_rule("ports_per_instance = 8");
    let Some(outside) = Outside::run(Arms::Two, &rule) else {
        return;
    };
    let instance = &outside.lab().instances[0];
    for to in mirror(2, 7000) {
        let flows: Vec<_> = (0..40)
            .map(|_| Reflection::open(&instance.namespace, None, to).unwrap())
            .collect();
        let ports: BTreeSet<u16> = flows.iter().map(|flow| flow.seen.port()).collect();
        assert_eq!(ports.len(), 40);
    }
}

#[test]
fn datagrams_leave_by_one_port_towards_everybody() {
    let Some(outside) = Outside::run(Arms::Two, &outbound_rule("")) else {
        return;
    };
    let instance = &outside.lab().instances[0];
    for version in 0..2 {
        let to = mirror(2, 7000)[version];
        let socket = udp_socket(&instance.namespace, from_any(instance, to)).unwrap();
        let seen: BTreeSet<_> = [(2, 7000), (2, 7001), (3, 7000), (3, 53)]
            .map(|(host, port)| reflect_by(&socket, mirror(host, port)[version]).unwrap())
            .into();
        assert_eq!(seen.len(), 1, "{seen:?}");
    }
}
