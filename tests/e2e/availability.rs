//! The node tries its own rules, nobody notices, and operators hear of those that do not work.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use forebay_tests::netlab::{Arms, Forebay, Instance, Lab, Wire};
use serde_json::{Value, json};

use crate::scene::{Scene, eventually, flow_from};

/// Within this time each rule was tried.
const SOON: Duration = Duration::from_secs(15);
/// The sources of trials.
const SOURCES: [[u8; 16]; 2] = [
    [192, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8],
];

fn rule(forebay: &Forebay, name: &str) -> Value {
    let rules = forebay.list(&["show", "rules"]).unwrap();
    rules.into_iter().find(|rule| rule["name"] == name).unwrap()
}

/// The availability of the rule `http` at each address, IPv4 first.
fn of_addresses(forebay: &Forebay) -> Vec<Option<f64>> {
    let rule = rule(forebay, "http");
    let trials = rule["trials"].as_array().unwrap();
    trials
        .iter()
        .map(|one| one["availability"].as_f64())
        .collect()
}

/// Counts the frames of trials that a device gets, until it is asked.
struct Watch {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<usize>,
}

impl Watch {
    fn on(wire: Wire) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&ends);
        let is_of_trial = |frame: &[u8]| match frame.get(12..14) {
            Some([0x08, 0x00]) => [26, 30]
                .iter()
                .any(|at| frame.get(*at..at + 4) == Some(&SOURCES[0][..4])),
            Some([0x86, 0xdd]) => [22, 38]
                .iter()
                .any(|at| frame.get(*at..at + 16) == Some(&SOURCES[1][..])),
            _ => false,
        };
        let thread = std::thread::spawn(move || {
            let mut count = 0;
            while !is_over.load(Ordering::Relaxed) {
                let found = wire.receive(Duration::from_millis(100), is_of_trial);
                count += usize::from(found.is_some());
            }
            count
        });
        Self { ends, thread }
    }

    fn count(self) -> usize {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// A number of an instance's TCP, by its name in `/proc/net/snmp`.
fn tcp_counter(instance: &Instance, name: &str) -> u64 {
    let text = instance
        .namespace
        .enter(|| std::fs::read_to_string("/proc/thread-self/net/snmp"))
        .unwrap();
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let names = lines.next().unwrap().split(' ');
    let mut both = names.zip(lines.next().unwrap().split(' '));
    both.find(|(found, _)| *found == name)
        .unwrap()
        .1
        .parse()
        .unwrap()
}

fn wire_of(lab: &Lab, instance: usize) -> Wire {
    Wire::open(&lab.instances[instance].namespace, "eth0").unwrap()
}

#[test]
fn rules_that_work_are_found_so_and_nobody_notices() {
    let Some(mut scene) = Scene::install(Arms::Two, |_| {}) else {
        return;
    };
    // The lab itself has waited for its servers.
    let opened = |lab: &Lab| -> Vec<u64> {
        let instances = lab.instances.iter();
        instances
            .map(|instance| tcp_counter(instance, "PassiveOpens"))
            .collect()
    };
    let before = opened(&scene.lab);
    scene.forebay.start().unwrap();
    let Scene { lab, forebay, .. } = &scene;
    let outside = Watch::on(Wire::open(&lab.client, "eth0").unwrap());
    let inside: Vec<Watch> = (0..3).map(|n| Watch::on(wire_of(lab, n))).collect();
    eventually("both addresses are tried", SOON, || {
        of_addresses(forebay) == [Some(1.0); 2]
    });
    let http = rule(forebay, "http");
    assert_eq!(http["availability"], json!(1.0));
    assert_eq!(http["trials"][0]["port"], 80);
    assert_eq!(http["trials"][0]["last_failure"], Value::Null);
    for counter in [
        "new_flows_total",
        "packets_total",
        "bytes_total",
        "active_flows",
    ] {
        assert_eq!(http[counter], 0, "{counter}");
    }
    // Datagrams are not tried.
    assert_eq!(rule(forebay, "echo")["availability"], Value::Null);

    assert_eq!(outside.count(), 0, "outside nothing is to be seen");
    let seen: usize = inside.into_iter().map(Watch::count).sum();
    // A SYN and a RST of each.
    assert!(seen >= 4, "{seen}");
    assert_eq!(opened(lab), before, "no service hears of it");
    for source in ["192.0.0.8", "100::8"] {
        let source: IpAddr = source.parse().unwrap();
        assert_eq!(flow_from(forebay, (source, 0).into()), None);
    }
    assert_eq!(
        forebay.list(&["show", "flows"]).unwrap(),
        Vec::<Value>::new()
    );
    let status = forebay.json(&["status"]).unwrap();
    for family in ["ipv4", "ipv6"] {
        let flows = &status["flows"][family];
        assert_eq!([&flows["used"], &flows["untrusted"]], [&json!(0); 2]);
    }
    assert_eq!(status["packets"]["forwarded"], 0);
    assert!(status["packets"]["own"].as_u64() >= Some(4), "{status}");
    let drops = forebay.json(&["show", "drops"]).unwrap();
    for reason in ["unknown-connection", "no-outbound", "no-flow", "bad-source"] {
        assert_eq!(drops[reason], 0, "{reason}");
    }

    // A node that waits for its turn knows nothing of the path.
    forebay.text(&["advertise", "off"]).unwrap();
    eventually("nothing is known", Duration::from_secs(2), || {
        of_addresses(forebay) == [None; 2]
    });
    assert!(forebay.log().contains("the data path is not measured"));
}

#[test]
fn instances_whose_answers_do_not_come_back_are_told_of() {
    let Some(scene) = Scene::run(Arms::Two, |config| {
        config.more.push_str(
            "\n[[probe]]\nname = \"alive\"\nprotocol = \"tcp\"\nport = 8080\ninterval = \"1s\"\ntimeout = \"1s\"\n",
        );
        config.rules[0].probe = Some("alive");
    }) else {
        return;
    };
    let start = Instant::now();
    let Scene { lab, forebay, .. } = &scene;
    eventually("both addresses are tried", SOON, || {
        of_addresses(forebay).iter().all(Option::is_some)
    });
    // The node itself is on their link: its probes go on.
    for instance in &lab.instances {
        instance
            .namespace
            .ip("route del default via 10.0.1.1\nroute del default via fd00:1::1")
            .unwrap();
    }
    eventually("the trials fail", SOON, || {
        let found = of_addresses(forebay);
        found
            .iter()
            .all(|share| share.is_some_and(|share| share < 1.0))
    });
    let http = rule(forebay, "http");
    assert_eq!(http["trials"][1]["last_failure"], "no-answer");
    let critical = || {
        let text = forebay.text(&["events", "--json"]).unwrap();
        let mut events = text.lines().map(|line| serde_json::from_str(line).unwrap());
        events.find(|event: &Value| event["event"] == "DataPathAvailabilityCritical")
    };
    eventually("operators are told", Duration::from_secs(70), || {
        critical().is_some()
    });
    assert!(start.elapsed() < Duration::from_secs(75));
    let event = critical().unwrap();
    assert_eq!(event["severity"], "critical");
    assert_eq!(event["frontend"], "web");
    assert_eq!(event["reason"], "no-answer");
    assert_eq!(event["ports"], json!([80]));
    assert_eq!(event["addresses"].as_array().unwrap().len(), 2);
    assert!(event["percent"].as_f64() < Some(25.0), "{event}");
    let probes = forebay.list(&["show", "probes"]).unwrap();
    assert!(
        probes.iter().all(|probe| probe["health"] == "up"),
        "{probes:?}"
    );
}
