//! Frames that no honest machine sends, while the node is at work.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use forebay_tests::chance::Chance;
use forebay_tests::frame::{Fragment, Frame, SERVICE_TAG, TAG, TCP, UDP};
use forebay_tests::netlab::bulk::{self, Echo};
use forebay_tests::netlab::config::Rule;
use forebay_tests::netlab::{Arms, Forebay, Lab};
use forebay_tests::network::IpVersion;
use forebay_tests::random::{bytes, damage};

use crate::endpoints::{CLIENT, FRONTEND, client_wire, host_of};
use crate::scene::{Scene, frontend};

const PORT: u16 = 7000;
const FRAMES: usize = 20_000;
/// What is transferred at a time meanwhile, each way.
const BYTES: usize = 500_000;
/// `status` is asked once in so many frames.
const BETWEEN_QUESTIONS: usize = 2_000;

#[test]
fn twenty_thousand_malformed_frames_harm_neither_flows_nor_the_daemon() {
    let Some(scene) = Scene::run(Arms::Two, |config| {
        config.rules.push(Rule::new("bulk", "tcp", PORT, PORT));
    }) else {
        return;
    };
    let Scene { lab, forebay, .. } = &scene;
    for instance in &lab.instances {
        for at in [
            SocketAddr::from((instance.ipv4, PORT)),
            SocketAddr::from((instance.ipv6, PORT)),
        ] {
            bulk::serve(at, &instance.namespace).unwrap();
        }
    }
    let mut transfers = frontend(PORT).map(|to| Echo::open(&lab.client, to).unwrap());
    let before = Counts::read(lab, forebay);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for transfer in &mut transfers {
            let is_over = &is_over;
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    transfer.exchange(BYTES).unwrap();
                }
            });
        }
        // Ends the transfers whatever happens here.
        let _over = OnDrop(&is_over);
        send_malformed(lab, forebay);
    });
    for transfer in &mut transfers {
        transfer.exchange(BYTES).unwrap();
    }
    // What was sent last is on its way.
    std::thread::sleep(Duration::from_millis(500));
    let seen = of_nics(lab, "_xdp_packets") - before.seen;
    let after = Counts::read(lab, forebay);
    let drops = forebay.json(&["show", "drops"]).unwrap();
    // Each frame that the program saw is under a reason; neighbours talk on meanwhile.
    assert!(seen > FRAMES as u64, "{seen}");
    assert!(
        after.counted - before.counted >= seen,
        "{seen} seen: {drops}"
    );
    // The kernel counts a frame as dropped also when the program ends in no verdict.
    assert_eq!(
        after.dropped_by_kernel - before.dropped_by_kernel,
        after.dropped - before.dropped,
        "{drops}"
    );
    let reasons = drops.as_object().unwrap();
    let met: Vec<_> = reasons
        .iter()
        .filter(|(_, count)| count.as_u64() > Some(0))
        .collect();
    assert!(met.len() >= 10, "only {met:?}");
    let status = forebay.json(&["status"]).unwrap();
    assert_eq!(status["ready"], true);
    assert!(!forebay.log().contains("panicked"), "{}", forebay.log());
}

fn send_malformed(lab: &Lab, forebay: &Forebay) {
    let (wire, good) = client_wire(lab);
    let mut chance = Chance::new(33);
    for number in 0..FRAMES {
        let mut frame = if chance.one_in(3) {
            bytes(&mut chance)
        } else {
            let mut frame = plausible(lab, &good, &mut chance).build();
            if !chance.one_in(6) {
                damage(&mut frame, &mut chance);
            }
            frame
        };
        frame[..12].copy_from_slice(&[good.macs[1], good.macs[0]].concat());
        wire.send(&frame).unwrap();
        if number % BETWEEN_QUESTIONS == 0 {
            assert_eq!(forebay.json(&["status"]).unwrap()["ready"], true);
        }
    }
}

/// A frame that is right as far as each of its parts goes.
fn plausible(lab: &Lab, good: &Frame, chance: &mut Chance) -> Frame {
    let version = *chance.pick(&IpVersion::BOTH);
    let (source, destination) = match chance.below(8) {
        0 => (FRONTEND, CLIENT),
        1 => (CLIENT, host_of(&lab.instances[0])),
        2 => (host_of(&lab.instances[0]), FRONTEND),
        _ => (CLIENT, FRONTEND),
    };
    let tags = match chance.below(8) {
        0 => vec![(TAG, 7)],
        1 => vec![(SERVICE_TAG, 8), (TAG, 9)],
        _ => Vec::new(),
    };
    let extensions = (0..chance.below(12).saturating_sub(6))
        .map(|_| *chance.pick(&[0, 43, 44, 51, 60, 135]))
        .collect();
    let fragment = Fragment {
        offset: chance.below(200) as u16 * u16::from(chance.one_in(2)),
        more: chance.one_in(2),
    };
    Frame {
        version,
        source,
        destination,
        // Far from those that the client's kernel gives to its transfers.
        source_port: 1_000 + chance.below(50) as u16,
        destination_port: *chance.pick(&[80, 5000, PORT, 81]),
        protocol: *chance.pick(&[TCP, UDP, UDP, 1, 58, 47]),
        flags: chance.bits() as u8,
        hops: *chance.pick(&[0, 1, 2, 64, 255]),
        tags,
        option_words: chance.below(11).saturating_sub(5) as u8,
        extensions,
        fragment: chance.one_in(4).then_some(fragment),
        ..good.clone()
    }
    .with_payload(chance.below(120) as usize)
}

/// Sets the flag when the scope is left.
struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Packets as the node counts them, and then as the kernel does.
#[derive(Debug)]
struct Counts {
    counted: u64,
    dropped: u64,
    seen: u64,
    dropped_by_kernel: u64,
}

impl Counts {
    fn read(lab: &Lab, forebay: &Forebay) -> Self {
        let status = forebay.json(&["status"]).unwrap();
        let of = |fate: &str| status["packets"][fate].as_u64().unwrap();
        let counted = ["forwarded", "passed", "answered", "dropped", "own"].map(of);
        Self {
            counted: counted.iter().sum(),
            dropped: of("dropped"),
            seen: of_nics(lab, "_xdp_packets"),
            dropped_by_kernel: of_nics(lab, "_xdp_drops"),
        }
    }
}

/// The sum of a driver's counters that end in this, over queues that receive and the node's NICs.
fn of_nics(lab: &Lab, ending: &str) -> u64 {
    let mut sum = 0;
    for nic in &lab.interfaces {
        let counters = lab.node.run("ethtool", &["-S", nic]).unwrap();
        sum += counters
            .lines()
            .filter_map(|line| line.trim().split_once(": "))
            .filter(|(name, _)| name.starts_with("rx_queue_") && name.ends_with(ending))
            .map(|(_, value)| value.parse::<u64>().unwrap())
            .sum::<u64>();
    }
    sum
}
