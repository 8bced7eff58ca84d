//! Frames come in on several queues, each on a processor of its own.

use forebay_tests::netlab::client::curl;
use forebay_tests::netlab::{Arms, Namespace};

use crate::scene::{Scene, frontend};

#[test]
fn flows_are_received_on_more_than_one_queue() {
    let Some(scene) = Scene::run(Arms::Two) else {
        return;
    };
    for to in frontend(80) {
        curl(&scene.lab.client, to, 40).unwrap();
    }
    for name in &scene.lab.interfaces {
        let packets = received_by_queue(&scene.lab.node, name);
        let used = packets.iter().filter(|&&count| count > 20).count();
        assert!(used > 1, "{} {name}: {packets:?}", scene.nics.driver);
    }
}

/// Packets by queue, from the driver's statistics.
fn received_by_queue(namespace: &Namespace, device: &str) -> Vec<u64> {
    let text = namespace.run("ethtool", &["-S", device]).unwrap();
    let counters: Vec<(&str, u64)> = text
        .lines()
        .filter_map(|line| line.trim().split_once(": "))
        .filter_map(|(name, count)| Some((what_of_a_queue(name)?, count.parse().unwrap())))
        .collect();
    // virtio_net counts what its program saw; igb counts one way only.
    let all_of = |what| counters.iter().filter(move |counter| counter.0 == what);
    let kind = match all_of("xdp_packets").next() {
        Some(_) => "xdp_packets",
        None => "packets",
    };
    all_of(kind).map(|counter| counter.1).collect()
}

/// What a counter of a receive queue counts: `rx_queue_0_packets`, or `rx0_packets` on later kernels.
fn what_of_a_queue(name: &str) -> Option<&str> {
    let rest = name.strip_prefix("rx_queue_");
    let (number, what) = rest.or_else(|| name.strip_prefix("rx"))?.split_once('_')?;
    number.parse::<u32>().is_ok().then_some(what)
}
