//! The operator takes members out of pools and puts them back.
//!
//! The acceptance test "admin states matrix" (26): B8-01 to B8-04, B8-07.

use std::time::{Duration, Instant};

use forebay_tests::netlab::client::{Conversation, curl, spread, udp_ask};
use forebay_tests::netlab::{Arms, Config, Forebay};
use nix::sys::signal::Signal;

use crate::scene::{Scene, connection_to, eventually, frontend, socket_to};

const SOON: Duration = Duration::from_secs(3);

fn set(forebay: &Forebay, member: &str, more: &[&str]) {
    let mut arguments = vec!["set", "admin-state", "web", member];
    arguments.extend(more);
    forebay.text(&arguments).unwrap();
}

#[test]
fn who_is_taken_out_keeps_connections_and_gets_no_new_flows() {
    let Some(scene) = Scene::run(Arms::Two, |_| {}) else {
        return;
    };
    let Scene { lab, forebay, .. } = &scene;
    let mut open: Vec<Conversation> = (frontend(80).into_iter())
        .map(|to| connection_to(lab, "web-1", to))
        .collect();
    let sockets = frontend(5000).map(|to| (to, socket_to(lab, "web-1", to)));
    for (to, socket) in &sockets {
        // Trusted or not, they move.
        for _ in 0..if to.is_ipv4() { 5 } else { 0 } {
            udp_ask(socket, *to, "more").unwrap();
        }
    }

    set(forebay, "web-1", &["down"]);
    let begun = Instant::now();
    for to in frontend(80) {
        let answers = curl(&lab.client, to, 30).unwrap();
        assert!(!spread(&answers).contains_key("web-1"), "{answers:?}");
    }
    for (to, socket) in &sockets {
        // One that meets the flow as it ends may be lost.
        socket
            .set_read_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        eventually("the datagrams move", SOON, || {
            udp_ask(socket, *to, "again").is_ok_and(|answer| answer.instance != "web-1")
        });
    }
    assert!(begun.elapsed() < SOON * 2, "{:?}", begun.elapsed());
    let pools = forebay.list(&["show", "pools"]).unwrap();
    let web_1 = &pools[0]["members"][0];
    assert_eq!(web_1["admin_state"], "down");
    assert_eq!(web_1["draining"], true);
    assert_eq!(web_1["addresses"][0]["accepts_new_flows"], false);
    for one in &mut open {
        assert_eq!(one.ask().unwrap().instance, "web-1", "connections stay");
    }

    set(forebay, "web-1", &["none"]);
    for to in frontend(80) {
        let answers = curl(&lab.client, to, 30).unwrap();
        assert!(spread(&answers).contains_key("web-1"), "{answers:?}");
    }
    for one in &mut open {
        assert_eq!(one.ask().unwrap().instance, "web-1", "connections stay");
    }
}

/// Waits until a connection is reset; how long that took.
fn time_to_reset(one: &mut Conversation) -> Duration {
    let begun = Instant::now();
    let mut byte = [0];
    let stream = one.stream();
    stream.set_read_timeout(Some(SOON * 2)).unwrap();
    let read = std::io::Read::read(stream, &mut byte);
    let error = read.expect_err("nobody says anything on this connection");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
    begun.elapsed()
}

#[test]
fn what_is_left_after_the_drain_is_reset() {
    let Some(mut scene) = Scene::run(Arms::Two, |_| {}) else {
        return;
    };
    for to in frontend(80) {
        let Scene { lab, forebay, .. } = &scene;
        let mut leaves = connection_to(lab, "web-1", to);
        let mut stays = connection_to(lab, "web-2", to);
        set(forebay, "web-1", &["down", "--drain", "2s"]);
        assert_eq!(leaves.ask().unwrap().instance, "web-1", "not yet");
        let after = time_to_reset(&mut leaves);
        assert!(after > Duration::from_secs(1), "{after:?}");
        assert_eq!(stays.ask().unwrap().instance, "web-2");
        set(forebay, "web-1", &["none"]);
    }
    // The same for who is removed, by the file.
    let mut open: Vec<Conversation> = (frontend(80).into_iter())
        .map(|to| connection_to(&scene.lab, "web-3", to))
        .collect();
    scene.config.pools[0].members.pop();
    let text = format!("{}\n[timeouts]\ndrain = \"1s\"\n", scene.config);
    scene.forebay.write_config(&text).unwrap();
    scene.forebay.text(&["reload"]).unwrap();
    for one in &mut open {
        time_to_reset(one);
    }
}

/// Waits until a connection is reset; that is no earlier than promised, and soon after.
fn is_reset_at(one: &mut Conversation, promised: Instant) {
    time_to_reset(one);
    let now = Instant::now();
    assert!(now >= promised, "{:?} too early", promised - now);
    let late = now - promised;
    assert!(late < Duration::from_secs(2), "{late:?} too late");
}

/// Members that leave by a command and by the file, and a daemon that ends meanwhile.
fn drain_is_kept_by_the_next_daemon(scene: &mut Scene, end: Signal, down_for: Duration) {
    const DRAIN: Duration = Duration::from_secs(4);
    let open =
        |scene: &Scene, name: &str| frontend(80).map(|to| connection_to(&scene.lab, name, to));
    let (mut of_command, mut of_file) = (open(scene, "web-1"), open(scene, "web-3"));
    let mut stays = open(scene, "web-2");
    let removed = scene.config.pools[0].members.pop().unwrap();
    scene
        .forebay
        .write_config(&scene.config.to_string())
        .unwrap();
    let promised = Instant::now() + DRAIN;
    scene.forebay.text(&["reload"]).unwrap();
    set(&scene.forebay, "web-1", &["down", "--drain", "4s"]);
    scene.forebay.stop(end).unwrap();
    for one in of_command.iter_mut().chain(&mut of_file) {
        one.ask().unwrap();
    }
    std::thread::sleep(down_for);
    scene.forebay.start().unwrap();
    let promised = promised.max(Instant::now() - Duration::from_secs(1));
    for one in of_file.iter_mut().chain(&mut of_command) {
        is_reset_at(one, promised);
    }
    for one in &mut stays {
        assert_eq!(one.ask().unwrap().instance, "web-2");
    }
    scene.config.pools[0].members.push(removed);
    scene
        .forebay
        .write_config(&scene.config.to_string())
        .unwrap();
    scene.forebay.text(&["reload"]).unwrap();
}

#[test]
fn a_daemon_that_is_started_anew_ends_flows_when_the_former_one_has_promised() {
    let drained = |config: &mut Config| config.timeouts.push(("drain", "4s"));
    let Some(mut scene) = Scene::run(Arms::Two, drained) else {
        return;
    };
    drain_is_kept_by_the_next_daemon(&mut scene, Signal::SIGKILL, Duration::ZERO);
    drain_is_kept_by_the_next_daemon(&mut scene, Signal::SIGTERM, Duration::ZERO);
    // The time is over while no daemon runs.
    drain_is_kept_by_the_next_daemon(&mut scene, Signal::SIGKILL, Duration::from_secs(5));
}

#[test]
fn the_command_changes_the_members_line_and_nothing_else() {
    let Some(scene) = Scene::run(Arms::One, |_| {}) else {
        return;
    };
    let forebay = &scene.forebay;
    let before = format!("# Kept by hand.\n{}\n# The end.\n", scene.config);
    forebay.write_config(&before).unwrap();
    forebay.text(&["reload"]).unwrap();
    set(forebay, "web-2", &["down"]);
    let with = std::fs::read_to_string(forebay.config_path()).unwrap();
    let same = before.lines().zip(with.lines()).filter(|(a, b)| a == b);
    assert_eq!(same.count(), before.lines().count() - 1, "{with}");
    assert!(with.contains("admin_state = \"down\""), "{with}");
    let refused = forebay.text(&["set", "admin-state", "web", "nobody", "down"]);
    let refused = format!("{:#}", refused.unwrap_err());
    assert!(
        refused.contains("has no member nobody/primary"),
        "{refused}"
    );
    let refused = forebay.text(&["set", "admin-state", "web", "web-1", "up", "--drain", "1s"]);
    let refused = format!("{:#}", refused.unwrap_err());
    assert!(refused.contains("--drain goes with down"), "{refused}");
}
