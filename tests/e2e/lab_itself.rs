//! The lab keeps its own promises, so that a failure elsewhere is Forebay's.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use forebay_tests::netlab::client::{answers_ping, curl, udp_ask, udp_socket};
use forebay_tests::netlab::{Arms, Lab, address};

use crate::scene::lab_for;

#[test]
fn everyone_in_a_lab_reaches_the_servers_and_nothing_is_left_behind() {
    for arms in [Arms::Two, Arms::One] {
        let Some((lab, _turn)) = lab_for(arms) else {
            return;
        };
        forward_in_the_kernel(&lab);
        for instance in &lab.instances {
            for address in [IpAddr::V4(instance.ipv4), IpAddr::V6(instance.ipv6)] {
                assert!(
                    answers_ping(&lab.client, address),
                    "{arms:?}: no ping to {address}"
                );
                let answers = curl(&lab.client, SocketAddr::new(address, 8080), 2).unwrap();
                assert_eq!(answers[0].instance, instance.name);
                assert_eq!(answers[0].server, address);
            }
        }
        for (client, instance) in [
            (
                IpAddr::V4(address::CLIENT_V4),
                IpAddr::V4(lab.instances[1].ipv4),
            ),
            (
                IpAddr::V6(address::CLIENT_V6),
                IpAddr::V6(lab.instances[1].ipv6),
            ),
        ] {
            let socket = udp_socket(&lab.client, SocketAddr::new(client, 0)).unwrap();
            let to = SocketAddr::new(instance, 5000);
            let answer = udp_ask(&socket, to, "hello there").unwrap();
            assert_eq!(answer.instance, "web-2");
            assert_eq!(answer.client, socket.local_addr().unwrap());
            assert_eq!((answer.from, answer.payload.as_str()), (to, "hello there"));
        }
        let peer_of_the_node = if arms == Arms::One {
            &lab.switch
        } else {
            &lab.client
        };
        let device = if arms == Arms::One { "node0" } else { "eth0" };
        let link = peer_of_the_node.link(device).unwrap();
        assert_eq!(
            link["xdp"]["mode"], 1,
            "no native XDP program on {device}: {link}"
        );
        let offloads = lab.client.run("ethtool", &["-k", "eth0"]).unwrap();
        assert!(offloads.contains("tx-checksumming: off"), "{offloads}");

        let names: Vec<String> = lab.namespaces().map(|one| one.name().to_owned()).collect();
        let folder = lab.path().to_owned();
        lab.workdir().mount_bpffs("bpf").unwrap();
        drop(lab);
        let left = Command::new("ip").args(["netns", "list"]).output().unwrap();
        let left = String::from_utf8(left.stdout).unwrap();
        for name in names {
            assert!(!left.contains(&name), "{name} is left");
        }
        assert!(!folder.exists(), "{} is left", folder.display());
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        assert!(
            !mounts.contains(folder.to_str().unwrap()),
            "a mount is left: {mounts}"
        );
    }
}

fn forward_in_the_kernel(lab: &Lab) {
    lab.node.sysctl("net/ipv4/ip_forward", "1").unwrap();
    lab.node
        .sysctl("net/ipv6/conf/all/forwarding", "1")
        .unwrap();
    // One-armed, the kernel would tell everyone the short way.
    lab.node
        .sysctl("net/ipv4/conf/all/send_redirects", "0")
        .unwrap();
    for interface in &lab.interfaces {
        lab.node
            .sysctl(&format!("net/ipv4/conf/{interface}/send_redirects"), "0")
            .unwrap();
    }
}
