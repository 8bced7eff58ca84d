//! What the program itself writes to the daemon's log.

use std::time::{Duration, Instant};

use forebay_tests::netlab::Arms;
use forebay_tests::netlab::client::connect_within;

use crate::scene::{Scene, frontend};

#[test]
fn a_packet_that_the_node_refuses_is_written_down_at_level_debug() {
    for (level, written) in [("debug", true), ("info", false)] {
        let Some(scene) = Scene::run(Arms::Two, |config| {
            config.log_level = level;
            config.pools[0].members.clear();
        }) else {
            return;
        };
        let Scene { lab, forebay, .. } = &scene;
        for to in frontend(80) {
            assert!(connect_within(&lab.client, None, to, Duration::from_millis(300)).is_err());
        }
        assert!(forebay.drops("no-backend").unwrap() >= 2);
        let line = "opened no flow, reason 33";
        // It comes by way of a ring buffer, after the packet.
        let begun = Instant::now();
        while written && !forebay.log().contains(line) && begun.elapsed() < Duration::from_secs(3) {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(
            forebay.log().contains(line),
            written,
            "level {level}: {}",
            forebay.log()
        );
    }
}
