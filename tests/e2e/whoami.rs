//! Instances ask the node how they go out, and operators ask it how many ports they have.

use std::net::IpAddr;

use forebay_tests::netlab::{Arms, address};
use serde_json::Value;

use crate::scene::{Scene, both};

#[test]
fn an_instance_is_told_its_way_out_and_ports() {
    let Some(mut scene) = Scene::install(Arms::Two, |_| {}) else {
        return;
    };
    let text = scene.config.to_string();
    let text = text.replace("[api]\n", "[api]\nwhoami = \"[::]:9471\"\n");
    scene.forebay.write_config(&text).unwrap();
    scene.forebay.start().unwrap();
    let lines = scene.forebay.list(&["show", "snat"]).unwrap();
    for to in both(address::NODE_V4, address::NODE_V6, 9471) {
        for instance in &scene.lab.instances {
            let url = format!("http://{to}/whoami");
            let run = |url: &str| {
                let arguments = ["--silent", "--globoff", "--max-time", "5", url];
                instance.namespace.run("curl", &arguments).unwrap()
            };
            let told: Value = serde_json::from_str(&run(&url)).unwrap();
            let (source, frontend): (IpAddr, IpAddr) = match to.is_ipv4() {
                true => (instance.ipv4.into(), address::FRONTEND_V4.into()),
                false => (instance.ipv6.into(), address::FRONTEND_V6.into()),
            };
            assert_eq!(told["source"], source.to_string());
            assert_eq!(told["instance"], instance.name.as_str());
            assert_eq!(told["method"], "rule-implied");
            assert_eq!(told["address"], frontend.to_string());
            for protocol in ["tcp", "udp", "icmp"] {
                let is_it = |line: &&Value| {
                    line["instance"] == instance.name.as_str()
                        && line["address"] == frontend.to_string()
                        && line["protocol"] == protocol
                };
                let line = lines.iter().find(is_it).unwrap();
                assert_eq!(line["allocated"], 1024, "{line}");
                assert_eq!(
                    (&line["used"], &line["failed_total"]),
                    (&0.into(), &0.into())
                );
                assert_eq!(line["frontend"], "web");
                let ports = told["ports"].as_array().unwrap().iter();
                let of_protocol = ports.filter(|ports| ports["protocol"] == protocol);
                let number = |ports: &Value, key: &str| ports[key].as_u64().unwrap();
                let counted = of_protocol.map(|p| number(p, "last") - number(p, "first") + 1);
                assert_eq!(counted.sum::<u64>(), 1024, "{told}");
            }
            let elsewhere: Value =
                serde_json::from_str(&run(&url.replace("whoami", "metrics"))).unwrap();
            assert!(elsewhere["error"].is_string(), "{elsewhere}");
        }
    }
}
