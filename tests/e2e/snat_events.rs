//! What operators hear and see when an instance runs out of SNAT ports.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use forebay_tests::netlab::{Arms, Forebay, address};
use serde_json::Value;

use crate::scene::{Scene, eventually};

const PORTS: usize = 8;

fn told(forebay: &Forebay, name: &str) -> Option<Value> {
    let text = forebay.text(&["events", "--json"]).unwrap();
    let mut events = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.find(|event| event["event"] == name)
}

#[test]
fn who_runs_out_of_snat_ports_is_told_of_within_a_second() {
    let Some(scene) = Scene::run(Arms::Two, |config| {
        config.more += "\n[[outbound_rule]]\nname = \"out\"\npool = \"web\"\nfrontends = [\"web\"]\n\
                        ports_per_instance = 8\nburst = false\n";
    }) else {
        return;
    };
    let Scene { forebay, lab, .. } = &scene;
    let instance = lab.instance("web-1").unwrap();
    let send = |count: usize| -> Vec<UdpSocket> {
        instance.namespace.enter(|| {
            let sockets = (0..count).map(|_| {
                let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
                socket.send_to(b"x", (address::CLIENT_V4, 9)).unwrap();
                socket
            });
            sockets.collect()
        })
    };
    let _held = send(PORTS);
    let line = || {
        let lines = forebay
            .list(&["show", "snat", "--instance", "web-1"])
            .unwrap();
        let is_it = |line: &Value| {
            line["protocol"] == "udp" && line["address"] == address::FRONTEND_V4.to_string()
        };
        lines.into_iter().find(is_it).unwrap()
    };
    assert_eq!(
        (&line()["allocated"], &line()["used"]),
        (&PORTS.into(), &PORTS.into())
    );
    eventually("high usage is told", Duration::from_secs(3), || {
        told(forebay, "HighSnatPortUsage").is_some()
    });
    assert_eq!(told(forebay, "SnatPortExhaustion"), None);

    let begun = Instant::now();
    let _refused = send(1);
    eventually("exhaustion is told", Duration::from_secs(1), || {
        told(forebay, "SnatPortExhaustion").is_some()
    });
    println!("told after {:?}", begun.elapsed());
    let event = told(forebay, "SnatPortExhaustion").unwrap();
    for (field, value) in [
        ("instance", "web-1".to_owned()),
        ("protocol", "udp".to_owned()),
        ("address", address::FRONTEND_V4.to_string()),
        ("destination", address::CLIENT_V4.to_string()),
    ] {
        assert_eq!(event[field], value, "{event}");
    }
    assert_eq!(
        (&event["destination_port"], &event["used"]),
        (&9.into(), &PORTS.into())
    );
    assert_eq!(event["top_destinations"][0]["port"], 9);
    assert_eq!(line()["failed_total"], 1);

    let flows = forebay
        .list(&["show", "flows", "--instance", "web-1"])
        .unwrap();
    let kinds: Vec<&str> = flows
        .iter()
        .map(|flow| flow["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["outbound-rule"; PORTS]);
    assert_eq!(
        (&flows[0]["rule"], &flows[0]["frontend"]),
        (&"out".into(), &"web".into())
    );
    assert_eq!(flows[0]["original"]["source"], instance.ipv4.to_string());

    let source = instance.ipv4.to_string();
    forebay
        .text(&["flush", "flows", "--source", &source])
        .unwrap();
    eventually("the ports are free", Duration::from_secs(3), || {
        line()["used"] == 0
    });
}
