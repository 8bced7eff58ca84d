//! What Prometheus reads moves with what happens, and a slow reader holds up nobody.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use forebay_tests::netlab::client::{connect_within, curl};
use forebay_tests::netlab::{Arms, Forebay, Namespace, address};
use nix::sys::signal::Signal;

use crate::probes::{Alive, probed};
use crate::scene::{Scene, eventually, frontend};

const SOON: Duration = Duration::from_secs(5);

/// Where the metrics are by default.
pub(crate) const DEFAULT: &str = "127.0.0.1:9470";

/// Status, head and body of an answer.
pub(crate) struct Told {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

/// Asks in the node's namespace; `None`: nobody listens there.
pub(crate) fn ask(node: &Namespace, address: &str, request: &str) -> Option<Told> {
    let address: SocketAddr = address.parse().unwrap();
    let stream = node.enter(|| TcpStream::connect_timeout(&address, SOON));
    let mut stream = stream.ok()?;
    stream.set_read_timeout(Some(SOON * 2)).unwrap();
    let request = format!("{request} HTTP/1.1\r\nHost: node\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    Some(Told {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head: head.to_owned(),
        body: body.to_owned(),
    })
}

fn scrape(node: &Namespace) -> String {
    ask(node, DEFAULT, "GET /metrics").unwrap().body
}

/// The sum of the lines of a name that have all of these labels; `None` when there is no such line.
fn value(text: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let has = |line: &str, (label, value): &(&str, &str)| {
        line.contains(&format!("{{{label}=\"{value}\""))
            || line.contains(&format!(",{label}=\"{value}\""))
    };
    let lines = text.lines().filter(|line| {
        let own = line.strip_prefix(name);
        own.is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|label| has(line, label))
    });
    let values = lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap());
    values.reduce(|sum, value| sum + value)
}

#[test]
fn metrics_move_with_what_happens() {
    let Some(mut scene) = Scene::install(Arms::Two, probed) else {
        return;
    };
    let mut alive: Vec<Option<Alive>> = (scene.lab.instances.iter())
        .map(|instance| Some(Alive::in_both(instance)))
        .collect();
    scene.forebay.start().unwrap();
    let Scene { lab, forebay, .. } = &scene;
    let told = ask(&lab.node, DEFAULT, "GET /metrics").unwrap();
    let kind = "content-type: text/plain; version=0.0.4; charset=utf-8";
    assert!(told.head.contains(kind), "{}", told.head);

    eventually("all are up", SOON, || {
        value(&scrape(&lab.node), "forebay_backend_up", &[]) == Some(6.0)
    });
    let before = scrape(&lab.node);
    for to in frontend(80) {
        curl(&lab.client, to, 10).unwrap();
        let _ = connect_within(&lab.client, None, SocketAddr::new(to.ip(), 81), SOON / 50);
    }
    let instance = &lab.instances[0];
    let opened = instance.namespace.enter(|| {
        let socket = UdpSocket::bind((instance.ipv4, 0)).unwrap();
        socket.send_to(b"out", (address::CLIENT_V4, 9)).unwrap();
        socket
    });
    eventually("the port is in use", SOON, || {
        let labels = [("instance", "web-1"), ("protocol", "udp")];
        value(&scrape(&lab.node), "forebay_snat_ports_used", &labels) == Some(1.0)
    });
    drop(opened);
    let after = scrape(&lab.node);
    let grown = |name: &str, labels: &[(&str, &str)]| {
        value(&after, name, labels).unwrap() - value(&before, name, labels).unwrap_or(0.0)
    };
    let both = [("frontend", "web")];
    assert_eq!(grown("forebay_new_flows_total", &[("rule", "http")]), 20.0);
    for direction in ["to-instance", "from-instance"] {
        let labels = [("frontend", "web"), ("direction", direction)];
        // Handshake, request or answer, and the end, of twenty connections.
        assert!(grown("forebay_packets_total", &labels) >= 20.0 * 4.0);
        assert!(grown("forebay_bytes_total", &labels) >= 20.0 * 4.0 * 40.0);
    }
    let packets = grown("forebay_packets_total", &both);
    let rules = forebay.list(&["show", "rules"]).unwrap();
    let counted = rules
        .iter()
        .map(|rule| rule["packets_total"].as_f64().unwrap());
    assert_eq!(packets, counted.sum::<f64>(), "as `show rules` has them");
    assert!(grown("forebay_drops_total", &[("reason", "no-rule")]) >= 2.0);
    let successful = [
        ("instance", "web-1"),
        ("protocol", "udp"),
        ("state", "successful"),
    ];
    assert_eq!(grown("forebay_snat_connections_total", &successful), 1.0);
    let allocated = [("instance", "web-1"), ("protocol", "udp")];
    let allocated = value(&after, "forebay_snat_ports_allocated", &allocated);
    assert_eq!(allocated, Some(2.0 * 1024.0), "both families");
    assert!(value(&after, "forebay_flows", &[("family", "ipv6")]).unwrap() >= 10.0);
    assert!(value(&after, "forebay_flow_capacity", &[]).unwrap() > 0.0);
    assert!(value(&after, "forebay_probe_duration_seconds_count", &both[..0]).unwrap() >= 6.0);
    assert_eq!(value(&after, "forebay_build_info", &[]), Some(1.0));

    alive[0] = None;
    let labels = [("instance", "web-1"), ("pool", "web"), ("probe", "alive")];
    eventually("web-1 is down", SOON, || {
        value(&scrape(&lab.node), "forebay_backend_up", &labels) == Some(0.0)
    });
    assert_eq!(
        value(&scrape(&lab.node), "forebay_backend_up", &[]),
        Some(4.0)
    );
}

#[test]
fn sums_of_frontends_stay_when_a_rule_goes_and_reloads_are_counted() {
    let Some(mut scene) = Scene::run(Arms::Two, |_| {}) else {
        return;
    };
    for to in frontend(80) {
        curl(&scene.lab.client, to, 10).unwrap();
    }
    let packets = |scene: &Scene| {
        let text = scrape(&scene.lab.node);
        value(&text, "forebay_packets_total", &[("frontend", "web")]).unwrap()
    };
    let before = packets(&scene);
    assert!(before >= 160.0, "{before}");
    scene.config.rules.retain(|rule| rule.name != "http");
    let text = scene.config.to_string();
    scene.forebay.write_config(&text).unwrap();
    scene.forebay.text(&["reload"]).unwrap();
    assert!(packets(&scene) >= before);
    scene.forebay.write_config("nonsense").unwrap();
    assert_eq!(
        scene
            .forebay
            .cli(&["reload", "--socket", &socket(&scene)])
            .unwrap()
            .code,
        1
    );
    let told = scrape(&scene.lab.node);
    let reloads = |result| value(&told, "forebay_config_reloads_total", &[("result", result)]);
    assert_eq!(
        (reloads("successful"), reloads("failed")),
        (Some(1.0), Some(1.0))
    );
    scene.forebay.write_config(&text).unwrap();
    scene.forebay.stop(Signal::SIGKILL).unwrap();
    scene.forebay.start().unwrap();
    assert!(packets(&scene) >= before, "the next daemon goes on");
}

fn socket(scene: &Scene) -> String {
    scene.config.socket.display().to_string()
}

fn with_metrics(scene: &Scene, address: &str) -> String {
    let text = scene.config.to_string();
    text.replace("[api]\n", &format!("[api]\nmetrics = \"{address}\"\n"))
}

fn reload_with(scene: &Scene, address: &str) -> (i32, String) {
    let forebay: &Forebay = &scene.forebay;
    forebay.write_config(&with_metrics(scene, address)).unwrap();
    let output = forebay.cli(&["reload"]).unwrap();
    (output.code, output.stderr)
}

#[test]
fn a_reload_moves_the_listener_and_refuses_a_port_that_is_taken() {
    let Some(mut scene) = Scene::run(Arms::Two, |_| {}) else {
        return;
    };
    let (other, taken) = ("127.0.0.1:9555", "127.0.0.1:9556");
    let status = |scene: &Scene, address: &str| {
        ask(&scene.lab.node, address, "GET /readyz").map(|told| told.status)
    };
    assert_eq!(reload_with(&scene, other).0, 0);
    assert_eq!(
        (status(&scene, other), status(&scene, DEFAULT)),
        (Some(200), None)
    );
    // The same port, on all addresses.
    assert_eq!(reload_with(&scene, "0.0.0.0:9555").0, 0);
    assert_eq!(status(&scene, other), Some(200));
    assert_eq!(reload_with(&scene, other).0, 0);

    let squatter = scene.lab.node.enter(|| TcpListener::bind(taken).unwrap());
    let (code, error) = reload_with(&scene, taken);
    assert_eq!(code, 1);
    assert!(
        error.contains(taken) && error.contains("[api].metrics"),
        "{error}"
    );
    assert!(error.contains("choose another address"), "{error}");
    assert_eq!(status(&scene, other), Some(200), "the former address stays");
    scene.forebay.stop(Signal::SIGTERM).unwrap();
    let refused = scene.forebay.start().unwrap_err().to_string();
    assert!(refused.contains(taken), "{refused}");
    drop(squatter);
    scene.forebay.start().unwrap();
    assert_eq!(status(&scene, taken), Some(200));
    assert_eq!(reload_with(&scene, "").0, 0);
    assert_eq!(status(&scene, taken), None, "off");
}

#[test]
fn a_default_address_that_is_taken_keeps_no_node_from_starting() {
    let Some(mut scene) = Scene::install(Arms::Two, |_| {}) else {
        return;
    };
    let squatter = scene.lab.node.enter(|| TcpListener::bind(DEFAULT).unwrap());
    scene.forebay.start().unwrap();
    let status = scene.forebay.json(&["status"]).unwrap();
    assert_eq!(status["metrics"]["listening"], false);
    let trouble = status["metrics"]["trouble"].as_str().unwrap();
    assert!(
        trouble.contains("another program has this port"),
        "{trouble}"
    );
    let warned = scene.forebay.text(&["status"]).unwrap();
    assert!(warned.contains(trouble), "{warned}");
    drop(squatter);
    // As every half minute.
    scene.forebay.text(&["reload"]).unwrap();
    let told = ask(&scene.lab.node, DEFAULT, "GET /healthz").unwrap();
    assert_eq!(told.status, 200);
}

#[test]
fn who_never_asks_or_never_reads_holds_up_nobody_for_long() {
    let Some(scene) = Scene::run(Arms::Two, |_| {}) else {
        return;
    };
    let node = &scene.lab.node;
    let address: SocketAddr = DEFAULT.parse().unwrap();
    let connect = || node.enter(|| TcpStream::connect(address).unwrap());
    let idle: Vec<TcpStream> = (0..40).map(|_| connect()).collect();
    let mut deaf: Vec<TcpStream> = (0..10).map(|_| connect()).collect();
    for stream in &mut deaf {
        let request = b"GET /metrics HTTP/1.1\r\nHost: node\r\n\r\n";
        stream.write_all(request).unwrap();
    }
    let begun = Instant::now();
    assert_eq!(scene.forebay.json(&["status"]).unwrap()["ready"], true);
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "the daemon itself"
    );
    let told = ask(node, DEFAULT, "GET /readyz").unwrap();
    assert_eq!(told.status, 200);
    assert!(
        begun.elapsed() < Duration::from_secs(6),
        "{:?}",
        begun.elapsed()
    );
    drop((idle, deaf));
}
