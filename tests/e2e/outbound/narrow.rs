//! Links between an instance and the outside that are narrow, or too far away.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::Duration;

use forebay_tests::netlab::client::connect;
use forebay_tests::netlab::{Arms, Beyond, Instance, Namespace};

use super::{Outside, PUBLIC, outbound_rule};

const MTU: u16 = 1400;
const BYTES: usize = 3_000_000;

/// A node whose first instance goes out by SNAT and the second by a public IP, and a host behind a narrow link.
fn outside() -> Option<(Outside, Beyond)> {
    let tables = format!(
        "{}\n[[public_ip]]\nname = \"alice\"\nipv4 = \"{}\"\nipv6 = \"{}\"\n",
        outbound_rule(""),
        PUBLIC.0,
        PUBLIC.1
    );
    let outside = Outside::run_with(Arms::Two, &tables, |config| {
        config.instances[1].public_ip = Some("alice");
    })?;
    let far = outside.lab().client_beyond(MTU).unwrap();
    Some((outside, far))
}

fn far_addresses(far: &Beyond) -> [IpAddr; 2] {
    [far.host.ipv4.into(), far.host.ipv6.into()]
}

/// Sends much from one end to the other.
fn transfer(from: &Instance, listening: &Instance, at: IpAddr, is_upload: bool) {
    use std::io::{Read, Write};
    let listener = listening
        .namespace
        .enter(|| TcpListener::bind((at, 7400)))
        .unwrap();
    let near = connect(&from.namespace, None, SocketAddr::new(at, 7400)).unwrap();
    let (far, _) = listener.accept().unwrap();
    let (mut sender, mut receiver) = if is_upload { (near, far) } else { (far, near) };
    let patience = Some(Duration::from_secs(10));
    receiver.set_read_timeout(patience).unwrap();
    sender.set_write_timeout(patience).unwrap();
    let writer = std::thread::spawn(move || sender.write_all(&vec![7; BYTES]));
    let mut received = Vec::new();
    receiver.read_to_end(&mut received).unwrap();
    writer.join().unwrap().unwrap();
    assert_eq!(received.len(), BYTES, "{at} {is_upload}");
}

fn knows_the_mtu(host: &Namespace, to: IpAddr) -> bool {
    let route = host.run("ip", &["route", "get", &to.to_string()]).unwrap();
    route.contains(&format!("mtu {MTU}"))
}

#[test]
fn instances_learn_of_a_narrow_path_through_ports_and_through_a_public_ip() {
    let Some((outside, far)) = outside() else {
        return;
    };
    for instance in &outside.lab().instances[..2] {
        // TCP is not to find out by itself (RFC 4821).
        for host in [&instance.namespace, &far.host.namespace] {
            host.sysctl("net/ipv4/tcp_mtu_probing", "0").unwrap();
        }
        for to in far_addresses(&far) {
            assert!(
                !knows_the_mtu(&instance.namespace, to),
                "{to}: known already"
            );
            transfer(instance, &far.host, to, true);
            assert!(knows_the_mtu(&instance.namespace, to), "{to}: not learnt");
        }
        for host in [&instance.namespace, &far.host.namespace] {
            for family in ["-4", "-6"] {
                host.run("ip", &[family, "route", "flush", "cache"])
                    .unwrap();
            }
        }
        // And the outside of the way to the instance, whose own packets are answers.
        for to in far_addresses(&far) {
            transfer(instance, &far.host, to, false);
        }
    }
}

#[test]
fn programs_that_look_for_the_way_out_see_its_routers_and_its_mtu() {
    let Some((outside, far)) = outside() else {
        return;
    };
    for instance in &outside.lab().instances[..2] {
        let run = |program: &str, arguments: &[&str]| {
            let output = instance.namespace.command(program).args(arguments).output();
            let output = output.unwrap();
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let nodes: [&str; 2] = ["10.0.1.1", "fd00:1::1"];
        let routers = ["203.0.113.2", "2001:db8:1::2"];
        for (version, to) in far_addresses(&far).into_iter().enumerate() {
            let to = &to.to_string();
            let expired = ["-n", "-c", "1", "-W", "2", "-t"];
            for (hops, from) in [("1", nodes[version]), ("2", routers[version])] {
                let said = run("ping", &[&expired[..], &[hops, to]].concat());
                assert!(
                    said.to_lowercase().contains("time exceeded")
                        || said.contains("Time to live exceeded"),
                    "{said}"
                );
                assert!(
                    said.to_lowercase().contains(&format!("from {from}")),
                    "{said}"
                );
            }
            let said = run("tracepath", &["-n", "-m", "8", to]);
            assert!(said.contains("reached"), "{said}");
            assert!(said.contains(&format!("pmtu {MTU}")), "{said}");
            for router in [nodes[version], routers[version]] {
                assert!(said.contains(router), "{said}");
            }
            let said = run("traceroute", &["-n", "-q", "1", "-w", "2", "-m", "8", to]);
            for router in [nodes[version], routers[version], to] {
                assert!(said.contains(router), "{said}");
            }
        }
    }
}
