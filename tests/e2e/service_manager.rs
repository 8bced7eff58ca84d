//! What systemd is told: a unix socket of the test takes its place.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use forebay_tests::netlab::Arms;
use nix::sys::signal::Signal;

use crate::scene::Scene;

const WATCHDOG: &str = "WATCHDOG=1\n";
const SOON: Duration = Duration::from_secs(10);

struct Manager(UnixDatagram);

impl Manager {
    fn of(scene: &mut Scene) -> Self {
        let path = scene.lab.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        scene
            .forebay
            .set_environment("NOTIFY_SOCKET", path.display());
        Self(socket)
    }

    fn next(&self, patience: Duration) -> Option<String> {
        let mut buffer = [0; 1024];
        self.0.set_read_timeout(Some(patience)).unwrap();
        let length = self.0.recv(&mut buffer).ok()?;
        Some(String::from_utf8(buffer[..length].to_vec()).unwrap())
    }

    /// The next message that is no sign of life.
    fn news(&self) -> String {
        let begun = Instant::now();
        while begun.elapsed() < SOON {
            match self.next(SOON) {
                Some(message) if message != WATCHDOG => return message,
                _ => {}
            }
        }
        panic!("systemd was told nothing within {SOON:?}")
    }

    /// Signs of life in so much time.
    fn signs_of_life(&self, time: Duration) -> usize {
        let (begun, mut count) = (Instant::now(), 0);
        while let Some(left) = time.checked_sub(begun.elapsed()).filter(|t| !t.is_zero()) {
            count += usize::from(self.next(left).as_deref() == Some(WATCHDOG));
        }
        count
    }

    fn expect_reload(&self, status: &str) {
        let reloading = self.news();
        let since = reloading
            .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
            .unwrap();
        assert!(since.trim_end().parse::<u64>().is_ok(), "{reloading}");
        assert_eq!(self.news(), format!("READY=1\nSTATUS={status}\n"));
    }
}

#[test]
fn systemd_is_told_of_start_reloads_and_stop_and_that_the_main_loop_turns() {
    let Some(mut scene) = Scene::install(Arms::Two, |_| {}) else {
        return;
    };
    let manager = Manager::of(&mut scene);
    scene.forebay.set_environment("WATCHDOG_USEC", 400_000);
    scene.forebay.start().unwrap();
    let status = "lab is ready: 2 rules on 2 interfaces";
    assert_eq!(manager.news(), format!("READY=1\nSTATUS={status}\n"));

    scene.forebay.text(&["reload"]).unwrap();
    manager.expect_reload(status);
    scene.forebay.signal(Signal::SIGHUP).unwrap();
    manager.expect_reload(status);
    let file = scene.config.to_string();
    scene
        .forebay
        .write_config(&file.replace("inst0", "inst9"))
        .unwrap();
    scene.forebay.signal(Signal::SIGHUP).unwrap();
    let refused = "the reload failed, the former configuration stays; ";
    manager.expect_reload(&format!("{refused}{status}"));

    // Each 200 ms; a busy machine may be late.
    let second = Duration::from_secs(1);
    assert!((3..=6).contains(&manager.signs_of_life(second)));
    scene.forebay.signal(Signal::SIGSTOP).unwrap();
    let _ = manager.signs_of_life(second / 5);
    assert_eq!(manager.signs_of_life(second), 0);
    scene.forebay.signal(Signal::SIGCONT).unwrap();
    assert!(manager.signs_of_life(second) >= 3);

    scene.forebay.stop(Signal::SIGTERM).unwrap();
    assert_eq!(manager.news(), "STOPPING=1\nSTATUS=stopping\n");
    assert_eq!(manager.next(second / 10), None);
}

#[test]
fn a_watchdog_of_another_process_hears_nothing() {
    let Some(mut scene) = Scene::install(Arms::Two, |_| {}) else {
        return;
    };
    let manager = Manager::of(&mut scene);
    scene.forebay.set_environment("WATCHDOG_USEC", 200_000);
    scene.forebay.set_environment("WATCHDOG_PID", 1);
    scene.forebay.start().unwrap();
    assert!(manager.news().starts_with("READY=1\n"));
    assert_eq!(manager.signs_of_life(Duration::from_millis(600)), 0);
}
