//! Members that do not answer their probes get no new flows.
//!
//! The acceptance tests "probe up/down matrix" (22): B7-03 to B7-07, "established TCP survives, UDP moves" (23): B7-13,
//! B7-14, "AllProbedUp" (24): B7-15, and "one v4 probe for both families" (25): A2-09.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use forebay_tests::netlab::client::{connect_within, curl, spread, udp_ask};
use forebay_tests::netlab::{Arms, Config, Forebay, Instance};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::scene::{Scene, connection_to, eventually, frontend, socket_to};

const PORT: u16 = 9000;
const SOON: Duration = Duration::from_secs(5);
/// Interval, `fall` and time-out of the probe, and what the text of the product allows beyond.
const DETECTION: Duration = Duration::from_millis(200 * 2 + 200 + 100);

const PROBE: &str = "\n[[probe]]\nname = \"alive\"\nprotocol = \"tcp\"\nport = 9000\ninterval = \"200ms\"\n\
                     timeout = \"200ms\"\nfall = 2\nflap_damping = false\n";

/// What answers the probes of an instance, in both families or in one; nobody does once it is dropped.
pub(crate) struct Alive {
    ends: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Alive {
    fn at(instance: &Instance, families: &[IpAddr]) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let open = |address: &IpAddr| {
            let at = SocketAddr::new(*address, PORT);
            let listener = instance.namespace.enter(|| TcpListener::bind(at)).unwrap();
            listener.set_nonblocking(true).unwrap();
            let ends = Arc::clone(&ends);
            std::thread::spawn(move || {
                while !ends.load(Ordering::Relaxed) {
                    while listener.accept().is_ok() {}
                    std::thread::sleep(Duration::from_millis(5));
                }
            })
        };
        let threads = families.iter().map(open).collect();
        Self { ends, threads }
    }

    pub(crate) fn in_both(instance: &Instance) -> Self {
        Self::at(instance, &[instance.ipv4.into(), instance.ipv6.into()])
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

pub(crate) fn probed(config: &mut Config) {
    config.more.push_str(PROBE);
    for rule in &mut config.rules {
        rule.probe = Some("alive");
    }
}

/// Health of every probed address, by address.
fn health(forebay: &Forebay) -> BTreeMap<String, String> {
    let rows = forebay.list(&["show", "probes"]).unwrap();
    let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    (rows.iter())
        .map(|row| (text(row, "address"), text(row, "health")))
        .collect()
}

fn all_are(forebay: &Forebay, wanted: &str) -> bool {
    let found = health(forebay);
    found.len() == 6 && found.values().all(|health| health == wanted)
}

fn events(forebay: &Forebay) -> Vec<String> {
    let text = forebay.text(&["events", "--json"]).unwrap();
    let name = |line: &str| -> String {
        let event: Value = serde_json::from_str(line).unwrap();
        event["event"].as_str().unwrap().to_owned()
    };
    text.lines().map(name).collect()
}

#[test]
fn who_fails_gets_no_new_flows_and_keeps_its_connections() {
    let Some(mut scene) = Scene::install(Arms::Two, probed) else {
        return;
    };
    let mut alive: Vec<Option<Alive>> = (scene.lab.instances.iter())
        .map(|instance| Some(Alive::in_both(instance)))
        .collect();
    scene.forebay.start().unwrap();
    let Scene { lab, forebay, .. } = &scene;
    eventually("all are up", SOON, || all_are(forebay, "up"));
    for to in frontend(80) {
        assert_eq!(spread(&curl(&lab.client, to, 40).unwrap()).len(), 3);
    }
    let mut open = frontend(80).map(|to| connection_to(lab, "web-1", to));
    let sockets = frontend(5000).map(|to| (to, socket_to(lab, "web-1", to)));

    let died = Instant::now();
    alive[0] = None;
    eventually("web-1 is down", SOON, || {
        let down = health(forebay).values().filter(|h| *h == "down").count();
        down == 2
    });
    assert!(died.elapsed() < DETECTION * 3, "{:?}", died.elapsed());
    for to in frontend(80) {
        let answers = curl(&lab.client, to, 30).unwrap();
        assert!(!spread(&answers).contains_key("web-1"), "{answers:?}");
    }
    for (to, socket) in &sockets {
        // One that meets the flow as it ends may be lost.
        socket
            .set_read_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        eventually("the datagrams move", Duration::from_secs(3), || {
            udp_ask(socket, *to, "again").is_ok_and(|answer| answer.instance != "web-1")
        });
    }
    for one in &mut open {
        assert_eq!(one.ask().unwrap().instance, "web-1", "connections stay");
    }
    let rows = forebay.list(&["show", "probes"]).unwrap();
    let row = rows.iter().find(|row| row["instance"] == "web-1").unwrap();
    assert_eq!(row["reason"], "connection-refused", "{row}");
    let pools = forebay.list(&["show", "pools"]).unwrap();
    let address = &pools[0]["members"][0]["addresses"][0];
    assert_eq!(
        (&address["health"], &address["accepts_new_flows"]),
        (&"down".into(), &false.into())
    );
    assert_eq!(
        address["probes"].as_array().unwrap().len(),
        2,
        "one for each rule"
    );
    let frontends = forebay.list(&["show", "frontends"]).unwrap();
    assert_eq!(frontends[0]["members_up"], 2);

    alive[0] = Some(Alive::in_both(&lab.instances[0]));
    eventually("all are up", SOON, || all_are(forebay, "up"));
    for to in frontend(80) {
        assert_eq!(spread(&curl(&lab.client, to, 40).unwrap()).len(), 3);
    }
    let told = events(forebay);
    let count = |name: &str| told.iter().filter(|event| *event == name).count();
    assert_eq!(
        (count("BackendDown"), count("BackendUp")),
        (2, 8),
        "{told:?}"
    );
    assert_eq!(count("NoHealthyBackends"), 0, "{told:?}");
}

#[test]
fn when_all_are_down_the_rule_says_whether_new_flows_go_anywhere() {
    for (policy, goes) in [("down", false), ("up", true)] {
        let prepared = Scene::install(Arms::Two, |config| {
            probed(config);
            for rule in &mut config.rules {
                rule.no_healthy_backends = Some(policy);
            }
        });
        let Some(mut scene) = prepared else { return };
        let alive: Vec<Alive> = scene.lab.instances.iter().map(Alive::in_both).collect();
        scene.forebay.start().unwrap();
        let Scene { lab, forebay, .. } = &scene;
        eventually("all are up", SOON, || all_are(forebay, "up"));
        let mut open = frontend(80).map(|to| connection_to(lab, "web-2", to));
        drop(alive);
        eventually("all are down", SOON, || all_are(forebay, "down"));
        for to in frontend(80) {
            let patience = Duration::from_millis(700);
            let connected = connect_within(&lab.client, None, to, patience);
            assert_eq!(connected.is_ok(), goes, "{policy}: {connected:?}");
        }
        for one in &mut open {
            assert_eq!(one.ask().unwrap().instance, "web-2", "connections stay");
        }
        let told = events(forebay);
        let count = told
            .iter()
            .filter(|event| *event == "NoHealthyBackends")
            .count();
        assert_eq!(count, 4, "two rules over two families: {told:?}");
        let _again: Vec<Alive> = lab.instances.iter().map(Alive::in_both).collect();
        eventually("it is told that they are back", SOON, || {
            let cleared = events(forebay);
            let cleared = cleared
                .iter()
                .filter(|event| *event == "NoHealthyBackendsCleared");
            cleared.count() == 4
        });
        for to in frontend(80) {
            assert!(!curl(&lab.client, to, 10).unwrap().is_empty());
        }
    }
}

#[test]
fn one_family_judges_both_where_the_probe_says_so() {
    let prepared = Scene::install(Arms::Two, |config| {
        probed(config);
        config.more.push_str("family = \"ipv4\"\n");
    });
    let Some(mut scene) = prepared else { return };
    let only_v4 = |instance: &Instance| Alive::at(instance, &[instance.ipv4.into()]);
    let mut alive: Vec<Alive> = scene.lab.instances.iter().map(only_v4).collect();
    scene.forebay.start().unwrap();
    let Scene { lab, forebay, .. } = &scene;
    eventually("all are up", SOON, || all_are(forebay, "up"));
    for to in frontend(80) {
        assert_eq!(spread(&curl(&lab.client, to, 40).unwrap()).len(), 3);
    }
    drop(alive.remove(0));
    eventually("both addresses of web-1 are down", SOON, || {
        health(forebay).values().filter(|h| *h == "down").count() == 2
    });
    for to in frontend(80) {
        let answers = curl(&lab.client, to, 30).unwrap();
        assert!(!spread(&answers).contains_key("web-1"), "{answers:?}");
    }
}

#[test]
fn a_daemon_that_is_started_anew_takes_nobody_out_and_lets_nobody_in() {
    let Some(mut scene) = Scene::install(Arms::Two, probed) else {
        return;
    };
    let mut alive: Vec<Alive> = scene.lab.instances.iter().map(Alive::in_both).collect();
    scene.forebay.start().unwrap();
    eventually("all are up", SOON, || all_are(&scene.forebay, "up"));
    drop(alive.remove(2));
    eventually("web-3 is down", SOON, || {
        let found = health(&scene.forebay);
        found.values().filter(|h| *h == "down").count() == 2
    });
    scene.forebay.stop(Signal::SIGKILL).unwrap();
    scene.forebay.start().unwrap();
    let found = health(&scene.forebay);
    assert_eq!(
        found.values().filter(|h| *h == "up").count(),
        4,
        "{found:?}"
    );
    for to in frontend(80) {
        let answers = curl(&scene.lab.client, to, 40).unwrap();
        let instances: Vec<&str> = spread(&answers).into_keys().collect();
        assert_eq!(instances, ["web-1", "web-2"]);
    }
    let told = events(&scene.forebay);
    assert!(!told.iter().any(|event| event == "BackendDown"), "{told:?}");
}

#[test]
fn a_probe_that_is_added_to_a_rule_costs_no_flow() {
    let Some(mut scene) = Scene::run(Arms::Two, |_| {}) else {
        return;
    };
    let alive: Vec<Alive> = scene.lab.instances.iter().map(Alive::in_both).collect();
    probed(&mut scene.config);
    let text = scene.config.to_string();
    scene.forebay.write_config(&text).unwrap();
    scene.forebay.text(&["reload"]).unwrap();
    // Before and after the first probes have come back.
    for _ in 0..5 {
        for to in frontend(80) {
            assert_eq!(curl(&scene.lab.client, to, 5).unwrap().len(), 5);
        }
    }
    eventually("all are up", SOON, || all_are(&scene.forebay, "up"));
    drop(alive);
}
