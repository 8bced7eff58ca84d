//! The node answers for frontends that are on-link, without having their addresses.

use std::net::IpAddr;

use forebay_tests::netlab::client::curl;
use forebay_tests::netlab::{Arms, Lab};
use serde_json::Value;

use crate::scene::{Scene, frontend};

#[test]
fn frontends_resolve_to_the_nic_and_are_not_on_the_host() {
    for arms in [Arms::Two, Arms::One] {
        let Some(scene) = Scene::run(arms, |_| {}) else {
            return;
        };
        let Scene { lab, .. } = &scene;
        let mac = lab.node.link(lab.interfaces[0]).unwrap()["address"].clone();
        for to in frontend(80) {
            for _ in 0..2 {
                curl(&lab.client, to, 1).unwrap();
                assert_eq!(resolved(lab, to.ip()), mac, "{arms:?} {to}");
                lab.client.ip("neighbour flush dev eth0").unwrap();
            }
            let on_host = lab.node.run("ip", &["-json", "address", "show"]).unwrap();
            assert!(!on_host.contains(&format!("\"{}\"", to.ip())), "{on_host}");
        }
    }
}

/// The link-layer address that the client has learnt.
fn resolved(lab: &Lab, address: IpAddr) -> Value {
    let address = address.to_string();
    let arguments = ["-json", "neighbour", "show", "dev", "eth0", "to", &address];
    let entries: Value = serde_json::from_str(&lab.client.run("ip", &arguments).unwrap()).unwrap();
    entries[0]["lladdr"].clone()
}
