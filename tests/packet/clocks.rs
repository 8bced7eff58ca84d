//! The program that reads the kernel's clocks.

use std::time::Duration;

use forebay_tests::engine::with_live;
use nix::time::{ClockId, clock_gettime};

fn since_boot() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).unwrap();
    Duration::from(time).as_nanos() as u64
}

#[test]
fn jiffies_and_the_boot_clock_are_read_together() {
    with_live(|live| {
        let before = since_boot();
        let [jiffies, boot] = live.clocks();
        assert!((before..=since_boot()).contains(&boot), "{before} {boot}");

        std::thread::sleep(Duration::from_millis(400));
        let [later, boot_later] = live.clocks();
        let per_second = (later - jiffies) as f64 * 1e9 / (boot_later - boot) as f64;
        let known = [100.0, 250.0, 300.0, 1_000.0];
        assert!(
            known
                .iter()
                .any(|rate| (per_second / rate - 1.0).abs() < 0.1),
            "{per_second} jiffies a second"
        );
    });
}
