//! A link that is narrower than both ends think: who sends too much is told, by ICMP errors that go
//! through the node or come from it, and sends less.
//!
//! With `echo` and `hops` this is the acceptance test "ICMP echo + errors + PMTU" (33): B9-24, B9-26 as far
//! as it is about packets of flows, B9-28.

use std::net::{IpAddr, SocketAddr};

use forebay_tests::netlab::client::{udp_ask, udp_socket};
use forebay_tests::netlab::config;
use forebay_tests::netlab::{Arms, Config, Instance, Namespace, address};
use serde_json::Value;

use crate::iperf::rules_for_iperf;
use crate::scene::{Scene, client_towards, frontend, has_programs};

const PORT: u16 = 5201;
const MTU: u16 = 1400;

#[test]
fn icmp_echo_errors_and_path_mtu_from_beyond_the_client_reach_the_instance() {
    if !has_programs(&["iperf3"]) {
        return;
    }
    let Some(scene) = Scene::run(Arms::Two, |config| {
        only_the_first_instance(config);
        rules_for_iperf(config);
    }) else {
        return;
    };
    let far = scene.lab.client_beyond(MTU).unwrap();
    Path {
        scene: &scene,
        client: (
            &far.host.namespace,
            [far.host.ipv4.into(), far.host.ipv6.into()],
        ),
        instance: &scene.lab.instances[0],
        learns: [true, true],
    }
    .is_found();
}

#[test]
fn icmp_echo_errors_and_path_mtu_from_beyond_the_instances_reach_the_client() {
    if !has_programs(&["iperf3"]) {
        return;
    }
    let Some(mut scene) = Scene::install(Arms::Two, rules_for_iperf) else {
        return;
    };
    let far = scene.lab.instance_beyond(MTU).unwrap();
    scene.config.instances.push(config::Instance {
        name: far.host.name.clone(),
        ipv4: far.host.ipv4,
        ipv6: far.host.ipv6,
        public_ip: None,
    });
    scene.config.pools[0].members = vec![(far.host.name.clone(), 1)];
    let text = scene.config.to_string();
    scene.forebay.write_config(&text).unwrap();
    scene.forebay.start().unwrap();
    Path {
        client: usual_client(&scene),
        instance: &far.host,
        scene: &scene,
        learns: [true, true],
    }
    .is_found();
}

#[test]
fn icmp_echo_errors_and_path_mtu_of_the_nodes_own_link_to_the_instances_is_told_by_the_node() {
    let Some(scene) = with_narrow_link_to_the_instances() else {
        return;
    };
    let before = answered(&scene);
    Path {
        client: usual_client(&scene),
        instance: &scene.lab.instances[0],
        scene: &scene,
        learns: [true, false],
    }
    .is_found();
    assert!(answered(&scene) >= before + 2, "the node told nobody");
}

#[test]
fn icmp_echo_errors_and_path_mtu_of_the_nodes_own_link_to_the_clients_is_told_by_the_node() {
    if !has_programs(&["iperf3"]) {
        return;
    }
    let Some(scene) = Scene::run(Arms::Two, |config| {
        only_the_first_instance(config);
        rules_for_iperf(config);
    }) else {
        return;
    };
    let Scene { lab, .. } = &scene;
    lab.node.ip(&format!("link set client0 mtu {MTU}")).unwrap();
    // The client keeps to it, but does not say so when it connects.
    lab.client
        .ip(&format!(
            "route add {} dev eth0 mtu {MTU} advmss 1460\n\
             route add {} dev eth0 mtu {MTU} advmss 1440",
            address::FRONTEND_V4,
            address::FRONTEND_V6
        ))
        .unwrap();
    let before = answered(&scene);
    Path {
        client: usual_client(&scene),
        instance: &lab.instances[0],
        scene: &scene,
        learns: [false, true],
    }
    .is_found();
    assert!(answered(&scene) >= before + 2, "the node told nobody");
}

#[test]
fn icmp_echo_errors_and_path_mtu_do_not_stop_datagrams_that_are_too_big() {
    let Some(scene) = with_narrow_link_to_the_instances() else {
        return;
    };
    let Scene { lab, .. } = &scene;
    let payload = "x".repeat(1_440);
    for to in frontend(5000) {
        let socket = udp_socket(&lab.client, SocketAddr::new(client_towards(to), 0)).unwrap();
        if to.is_ipv4() {
            may_be_cut_on_the_way(&socket);
        } else {
            // Routers do not cut IPv6 packets (RFC 8200 section 4.5): the first is lost, and its sender told.
            socket.send_to(payload.as_bytes(), to).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
        for _ in 0..3 {
            let answer = udp_ask(&socket, to, &payload).unwrap_or_else(|error| {
                panic!(
                    "{to}: {error:#} {}",
                    scene.forebay.json(&["show", "drops"]).unwrap()
                )
            });
            assert_eq!(answer.payload, payload);
        }
    }
}

/// The kernel of the client lets routers cut what this socket sends, and ignores the path MTU.
fn may_be_cut_on_the_way(socket: &std::net::UdpSocket) {
    use std::os::fd::AsRawFd;
    let value = libc::IP_PMTUDISC_DONT;
    // SAFETY: the option is an int, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    assert_eq!(result, 0);
}

/// A lab with one member, whose node has a link to the instances that is narrower than their own.
fn with_narrow_link_to_the_instances() -> Option<Scene> {
    if !has_programs(&["iperf3"]) {
        return None;
    }
    let scene = Scene::run(Arms::Two, |config| {
        only_the_first_instance(config);
        rules_for_iperf(config);
    })?;
    let Scene { lab, .. } = &scene;
    lab.node.ip(&format!("link set inst0 mtu {MTU}")).unwrap();
    // The instance keeps to it, but does not say so when it is connected to.
    lab.instances[0]
        .namespace
        .ip(&format!(
            "route replace default via 10.0.1.1 mtu {MTU} advmss 1460\n\
             route replace default via fd00:1::1 mtu {MTU} advmss 1440"
        ))
        .unwrap();
    Some(scene)
}

fn only_the_first_instance(config: &mut Config) {
    config.pools[0].members.truncate(1);
}

type Client<'a> = (&'a Namespace, [IpAddr; 2]);

fn usual_client(scene: &Scene) -> Client<'_> {
    let addresses = [address::CLIENT_V4.into(), address::CLIENT_V6.into()];
    (&scene.lab.client, addresses)
}

fn answered(scene: &Scene) -> u64 {
    let status = scene.forebay.json(&["status"]).unwrap();
    status["packets"]["answered"].as_u64().unwrap()
}

/// A client and an instance with a narrow link somewhere between them.
struct Path<'a> {
    scene: &'a Scene,
    client: Client<'a>,
    instance: &'a Instance,
    /// Whether the client, and the instance, has to learn of it from others.
    learns: [bool; 2],
}

impl Path<'_> {
    /// Bulk transfers in both directions do not stall, and who sends has learnt the MTU.
    fn is_found(&self) {
        let (client, client_addresses) = &self.client;
        let instance = &self.instance.namespace;
        for namespace in [client, instance] {
            // TCP is not to find out by itself (RFC 4821).
            namespace.sysctl("net/ipv4/tcp_mtu_probing", "0").unwrap();
        }
        let _server = self.scene.lab.start_iperf(self.instance).unwrap();
        for (to, from) in frontend(PORT).into_iter().zip(client_addresses) {
            let to = to.ip();
            for (sender, receiver, more, learns) in [
                (*client, to, &[][..], self.learns[0]),
                (instance, *from, &["--reverse"][..], self.learns[1]),
            ] {
                // Who knows already says so when it connects.
                for host in [*client, instance] {
                    for family in ["-4", "-6"] {
                        host.run("ip", &[family, "route", "flush", "cache"])
                            .unwrap();
                    }
                }
                assert!(
                    knows_the_mtu(sender, receiver) != learns,
                    "{receiver}: known already"
                );
                let received = self.transfer(to, more);
                // A connection that loses all its full packets brings some kilobytes.
                assert!(received > 2_000_000, "{to} {more:?}: {received} bytes");
                assert!(knows_the_mtu(sender, receiver), "{to} {more:?}: not learnt");
            }
        }
    }

    fn transfer(&self, to: IpAddr, more: &[&str]) -> u64 {
        let to = to.to_string();
        let mut arguments = vec!["--json", "--client", &to, "--time", "2"];
        arguments.extend(more);
        let text = self.client.0.run("iperf3", &arguments).unwrap();
        let result: Value = serde_json::from_str(&text).unwrap();
        result["end"]["sum_received"]["bytes"].as_u64().unwrap()
    }
}

/// Whether a host knows that packets to an address must not be longer.
fn knows_the_mtu(host: &Namespace, to: IpAddr) -> bool {
    let route = host.run("ip", &["route", "get", &to.to_string()]).unwrap();
    route.contains(&format!("mtu {MTU}"))
}
