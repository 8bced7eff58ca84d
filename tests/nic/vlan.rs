//! VLAN devices over the node's NICs. The switch is one with access ports, so only frames with the
//! right tag arrive anywhere.

use forebay_tests::netlab::bulk::Echo;
use forebay_tests::netlab::client::{answers_ping, curl, spread};
use forebay_tests::netlab::{Arms, Lab, address};

use crate::intact;
use crate::scene::{ARMS, Scene, frontend};

/// Each way.
const BYTES: usize = 500_000;

#[test]
fn instances_behind_a_vlan_serve_clients_without_one() {
    for arms in ARMS {
        let Some(mut scene) = Scene::install(arms, intact::add_rule) else {
            return;
        };
        put_instances_behind_a_vlan(&scene.lab);
        assert_served(&mut scene, &format!("{arms:?}"));
    }
}

#[test]
fn instances_behind_a_vlan_serve_clients_behind_another_on_the_same_nic() {
    let Some(mut scene) = Scene::install(Arms::One, intact::add_rule) else {
        return;
    };
    put_instances_behind_a_vlan(&scene.lab);
    let lab = &scene.lab;
    access_port(lab, "client0", 30);
    move_addresses(
        lab,
        30,
        &format!("{}/24", address::NODE_V4),
        &format!("{}/64", address::NODE_V6),
    );
    assert_served(&mut scene, "one VLAN to another");
}

/// The node's side of the instances' network moves to VLAN 20, and their ports with it.
fn put_instances_behind_a_vlan(lab: &Lab) {
    lab.switch
        .ip("link set br0 type bridge vlan_filtering 1")
        .unwrap();
    for instance in &lab.instances {
        access_port(lab, &instance.name, 20);
    }
    move_addresses(lab, 20, "10.0.1.1/24", "fd00:1::1/64");
}

/// What is on this port of the switch is untagged there and has this tag towards the node.
fn access_port(lab: &Lab, port: &str, vlan: u16) {
    let vlan = vlan.to_string();
    for arguments in [
        &["vlan", "del", "dev", port, "vid", "1"][..],
        &["vlan", "add", "dev", port, "vid", &vlan, "pvid", "untagged"],
        &["vlan", "add", "dev", "node0", "vid", &vlan],
    ] {
        lab.switch.run("bridge", arguments).unwrap();
    }
}

/// Addresses of the node's last NIC move to a new VLAN device over it.
fn move_addresses(lab: &Lab, vlan: u16, ipv4: &str, ipv6: &str) {
    let nic = lab.interfaces.last().unwrap();
    let lines = format!(
        "link add link {nic} name {nic}.{vlan} type vlan id {vlan}\n\
         link set {nic}.{vlan} up\n\
         address del {ipv4} dev {nic}\n\
         address del {ipv6} dev {nic}\n\
         address add {ipv4} dev {nic}.{vlan}\n\
         address add {ipv6} dev {nic}.{vlan} nodad"
    );
    lab.node.ip(&lines).unwrap();
}

/// Requests, bulk data and the node's own ping, all through the XDP program.
fn assert_served(scene: &mut Scene, what: &str) {
    intact::serve_on_instances(&scene.lab);
    scene.start();
    let lab = &scene.lab;
    for to in frontend(80) {
        let answers = curl(&lab.client, to, 30).unwrap();
        assert!(spread(&answers).len() > 1, "{what} {to}: {answers:?}");
    }
    for to in frontend(intact::PORT) {
        let mut echo = Echo::open(&lab.client, to).unwrap();
        echo.exchange(BYTES)
            .unwrap_or_else(|error| panic!("{what} {to}: {error:#}"));
    }
    for own in [address::NODE_V4.into(), address::NODE_V6.into()] {
        assert!(answers_ping(&lab.client, own), "{what}: no ping to {own}");
    }
    scene.assert_kernel_forwards_little();
}
