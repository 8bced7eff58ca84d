//! The daemon dies, is replaced and changes its tables while clients are at work: nobody notices.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use forebay_tests::netlab::client::{Conversation, curl};
use forebay_tests::netlab::{Arms, Forebay, Lab};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::scene::{Scene, eventually, frontend};

/// Connections that live through all of it, half of them of each family.
const LIVE: usize = 200;
/// Requests on connections of their own that are made meanwhile, at least.
const REQUESTS: usize = 500;
/// How long flows may take to move to other tables.
const MOVED: Duration = Duration::from_secs(20);

/// Works while clients are at work. All of `LIVE` connections go on, with the same instance each, and none of
/// `REQUESTS` requests fails.
pub(crate) fn under_load(lab: &Lab, work: impl FnOnce()) {
    let mut live: Vec<_> = frontend(80)
        .into_iter()
        .flat_map(|to| vec![to; LIVE / 2])
        .map(|to| Conversation::open(&lab.client, None, to).unwrap())
        .map(|(conversation, answer)| (conversation, answer.instance))
        .collect();
    let stop = AtomicBool::new(false);
    let is_over = || stop.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        let talk = scope.spawn(|| {
            let mut rounds = 0;
            while !is_over() || rounds < 2 {
                live.iter_mut().try_for_each(ask)?;
                rounds += 1;
            }
            anyhow::Ok(())
        });
        let requests = frontend(80).map(|to| {
            scope.spawn(move || {
                let mut made = 0;
                while !is_over() || made < REQUESTS / 2 {
                    made += curl(&lab.client, to, 25)?.len();
                }
                anyhow::Ok(())
            })
        });
        // Ends the load whatever happens here.
        let _over = OnDrop(&stop);
        work();
        stop.store(true, Ordering::Relaxed);
        talk.join().unwrap().unwrap();
        for one in requests {
            one.join().unwrap().unwrap();
        }
    });
}

/// Tells that it is over when it is dropped.
pub(crate) struct OnDrop<'s>(pub(crate) &'s AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn ask((conversation, instance): &mut (Conversation, String)) -> Result<()> {
    let source = conversation.source()?;
    let answer = conversation
        .ask()
        .with_context(|| format!("the connection of {source}"))?;
    ensure!(
        answer.instance == *instance,
        "the connection of {source} went from {instance} to {}",
        answer.instance
    );
    Ok(())
}

fn counters(forebay: &Forebay) -> [u64; 2] {
    let rules: Vec<Value> = forebay.list(&["show", "rules"]).unwrap();
    ["new_flows_total", "packets_total"].map(|name| rules[0][name].as_u64().unwrap())
}

#[test]
fn a_killed_daemon_under_load_costs_no_request_and_its_successor_counts_on() {
    let Some(mut scene) = Scene::run(Arms::Two, |_| {}) else {
        return;
    };
    let Scene { lab, forebay, .. } = &mut scene;
    under_load(lab, || {
        let mut before = counters(forebay);
        for _ in 0..3 {
            forebay.stop(Signal::SIGKILL).unwrap();
            std::thread::sleep(Duration::from_millis(500));
            forebay.start().unwrap();
            let after = counters(forebay);
            assert!(
                after
                    .iter()
                    .zip(&before)
                    .all(|(after, before)| after > before),
                "new flows and packets: {before:?}, {after:?}"
            );
            before = after;
        }
    });
    assert!(counters(forebay)[0] >= (LIVE + REQUESTS) as u64);
}

#[test]
fn a_new_program_takes_the_place_of_the_old_one_under_two_hundred_live_flows() {
    let Some(mut scene) = Scene::run(Arms::Two, |_| {}) else {
        return;
    };
    let Scene { lab, forebay, .. } = &mut scene;
    under_load(lab, || {
        let before = programs(lab);
        forebay.stop(Signal::SIGTERM).unwrap();
        assert_eq!(programs(lab), before);
        forebay.start().unwrap();
        let after = programs(lab);
        for (before, after) in before.iter().zip(after) {
            assert!(*before != after && after != 0, "{before} and {after}");
        }
    });
}

/// Ids of the programs on the node's interfaces.
fn programs(lab: &Lab) -> Vec<u64> {
    let id = |name: &&str| lab.node.link(name).unwrap()["xdp"]["prog"]["id"].as_u64();
    lab.interfaces
        .iter()
        .map(|name| id(name).unwrap_or(0))
        .collect()
}

#[test]
fn flow_tables_change_their_size_by_reload_under_two_hundred_live_flows() {
    let Some(mut scene) = Scene::run(Arms::Two, |_| {}) else {
        return;
    };
    let Scene {
        lab,
        forebay,
        config,
        ..
    } = &mut scene;
    under_load(lab, || {
        for size in [131_072, 20_000] {
            config.flows = size;
            forebay.write_config(&config.to_string()).unwrap();
            let printed = forebay.text(&["reload"]).unwrap();
            assert!(printed.contains("limits"), "{printed}");
            moved_to(forebay, size);
        }
    });
}

#[test]
fn flow_tables_change_their_size_by_restart_under_two_hundred_live_flows() {
    let Some(mut scene) = Scene::run(Arms::One, |_| {}) else {
        return;
    };
    let Scene {
        lab,
        forebay,
        config,
        ..
    } = &mut scene;
    under_load(lab, || {
        for size in [20_000, 131_072] {
            forebay.stop(Signal::SIGTERM).unwrap();
            config.flows = size;
            forebay.write_config(&config.to_string()).unwrap();
            forebay.start().unwrap();
            moved_to(forebay, size);
        }
    });
}

#[test]
fn a_daemon_killed_while_flows_move_leaves_what_its_successor_goes_on_with() {
    let Some(mut scene) = Scene::run(Arms::Two, |_| {}) else {
        return;
    };
    let Scene {
        lab,
        forebay,
        config,
        ..
    } = &mut scene;
    under_load(lab, || {
        for (round, delay) in [0_u64, 300, 700, 1000, 1300, 1700, 2200]
            .into_iter()
            .enumerate()
        {
            config.flows = if round % 2 == 0 { 131_072 } else { 65_536 };
            forebay.write_config(&config.to_string()).unwrap();
            forebay.signal(Signal::SIGHUP).unwrap();
            std::thread::sleep(Duration::from_millis(delay));
            forebay.stop(Signal::SIGKILL).unwrap();
            forebay.start().unwrap();
        }
        moved_to(forebay, config.flows);
    });
}

/// Waits until the flows are in tables of a size, and nothing is left of the former ones.
fn moved_to(forebay: &Forebay, size: u32) {
    eventually("flows have moved", MOVED, || {
        let flows = &forebay.json(&["status"]).unwrap()["flows"];
        flows["ipv4"]["capacity"] == size
            && flows["ipv6"]["capacity"] == size
            && !forebay.json(&["status"]).unwrap()["flows"]["moving"]
                .as_bool()
                .unwrap()
    });
}

#[test]
fn tables_without_room_for_the_flows_that_are_alive_are_refused() {
    let Some(mut scene) = Scene::run(Arms::Two, |_| {}) else {
        return;
    };
    let Scene {
        lab,
        forebay,
        config,
        ..
    } = &mut scene;
    let [to, _] = frontend(80);
    let mut live: Vec<_> = (0..300)
        .map(|_| Conversation::open(&lab.client, None, to).unwrap().0)
        .collect();
    config.flows = 256;
    forebay.write_config(&config.to_string()).unwrap();
    let refused = forebay.cli(&["reload"]).unwrap();
    assert_eq!(refused.code, 1, "{refused:?}");
    for word in ["limits", "256", "300", "flush flows"] {
        assert!(refused.stderr.contains(word), "{word}: {refused:?}");
    }
    forebay.stop(Signal::SIGTERM).unwrap();
    let refused = forebay.cli(&["run"]).unwrap();
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("has no room"), "{refused:?}");
    config.flows = 65_536;
    forebay.write_config(&config.to_string()).unwrap();
    forebay.start().unwrap();
    for conversation in &mut live {
        conversation.ask().unwrap();
    }
}
