//! Frames longer than a page.

use std::net::SocketAddr;

use forebay_tests::netlab::bulk::{self, Echo};
use forebay_tests::netlab::config::Rule;
use forebay_tests::netlab::{Arms, Config, Forebay, Lab};
use serde_json::Value;

use crate::scene::{Scene, frontend};

const PORT: u16 = 7000;
const MTU: u64 = 9000;
/// Each way.
const BYTES: usize = 20_000_000;

#[test]
fn jumbo_frames_arrive_intact_in_both_directions() {
    for arms in [Arms::Two, Arms::One] {
        let Some(mut scene) = Scene::install(arms, add_rule) else {
            return;
        };
        for namespace in scene.lab.namespaces() {
            let links = namespace.run("ip", &["-json", "link"]).unwrap();
            let links: Vec<Value> = serde_json::from_str(&links).unwrap();
            for link in links.iter().filter(|link| link["ifname"] != "lo") {
                let name = link["ifname"].as_str().unwrap();
                namespace.ip(&format!("link set {name} mtu {MTU}")).unwrap();
            }
        }
        scene.forebay.start().unwrap();
        let Scene { lab, forebay, .. } = &scene;
        assert_eq!(modes(forebay), vec!["native"; lab.interfaces.len()]);
        serve(lab);
        for to in frontend(PORT) {
            exchange(lab, to, BYTES);
        }
        let flows = forebay.list(&["show", "flows"]).unwrap();
        for flow in flows.iter().filter(|flow| flow["rule"] == "bulk") {
            let (bytes, packets) = (flow["bytes"].as_u64(), flow["packets"].as_u64());
            // Acknowledgements included.
            let mean = bytes.unwrap() / packets.unwrap();
            assert!(mean > 3_000, "{arms:?}: {mean} bytes a packet");
        }
        assert_eq!(forebay.drops("too-big").unwrap(), 0);
    }
}

#[test]
fn large_transfers_arrive_intact_in_generic_mode() {
    for arms in [Arms::Two, Arms::One] {
        let Some(scene) = Scene::run(arms, |config| {
            config.xdp_mode = Some("generic");
            add_rule(config);
        }) else {
            return;
        };
        let Scene { lab, forebay, .. } = &scene;
        assert_eq!(modes(forebay), vec!["generic"; lab.interfaces.len()]);
        serve(lab);
        for to in frontend(PORT) {
            exchange(lab, to, BYTES / 2);
        }
    }
}

fn add_rule(config: &mut Config) {
    config.rules.push(Rule::new("bulk", "tcp", PORT, PORT));
}

/// On every instance, a service that gives back what it gets.
fn serve(lab: &Lab) {
    for instance in &lab.instances {
        for at in [
            SocketAddr::from((instance.ipv4, PORT)),
            SocketAddr::from((instance.ipv6, PORT)),
        ] {
            bulk::serve(at, &instance.namespace).unwrap();
        }
    }
}

fn exchange(lab: &Lab, to: SocketAddr, bytes: usize) {
    let mut echo = Echo::open(&lab.client, to).unwrap();
    echo.exchange(bytes)
        .unwrap_or_else(|error| panic!("{to}: {error:#}"));
}

fn modes(forebay: &Forebay) -> Vec<String> {
    let status = forebay.json(&["status"]).unwrap();
    let interfaces = status["interfaces"].as_array().unwrap();
    let mode = |interface: &Value| interface["xdp_mode"].as_str().unwrap().to_owned();
    interfaces.iter().map(mode).collect()
}
