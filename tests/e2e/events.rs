//! What the daemon tells operators of.

use std::process::Stdio;
use std::time::Duration;

use forebay_tests::netlab::{Arms, Forebay};
use serde_json::Value;

use crate::scene::{Scene, eventually};

/// The events so far: one JSON object a line.
fn events(forebay: &Forebay) -> Vec<Value> {
    let text = forebay.text(&["events", "--json"]).unwrap();
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn names(events: &[Value]) -> Vec<&str> {
    let names = events.iter().map(|event| event["event"].as_str().unwrap());
    names.collect()
}

#[test]
fn loaded_and_rejected_files_are_events() {
    let Some(scene) = Scene::run(Arms::One, |_| {}) else {
        return;
    };
    let Scene {
        forebay, config, ..
    } = &scene;
    assert_eq!(names(&events(forebay)), ["ConfigLoaded"]);
    let sha256 = forebay.json(&["status"]).unwrap()["config"]["sha256"].clone();
    assert_eq!(events(forebay)[0]["sha256"], sha256);

    let wrong = format!("{config}\n[timeouts]\ntcp_idle = \"never\"\n");
    forebay.write_config(&wrong).unwrap();
    for _ in 0..3 {
        assert_eq!(forebay.cli(&["reload"]).unwrap().code, 1);
    }
    let told = events(forebay);
    assert_eq!(
        names(&told),
        ["ConfigLoaded", "ConfigRejected"],
        "said once in five minutes"
    );
    assert_eq!(told[1]["severity"], "warning");
    let message = told[1]["message"].as_str().unwrap();
    assert!(message.contains("tcp_idle"), "{message}");

    forebay.write_config(&config.to_string()).unwrap();
    forebay.text(&["reload"]).unwrap();
    assert_eq!(
        names(&events(forebay))[2..],
        ["ConfigRejectedCleared", "ConfigLoaded"]
    );
    let human = forebay.text(&["events"]).unwrap();
    assert_eq!(human.lines().count(), 4, "{human}");
}

#[test]
fn a_follower_hears_of_what_happens_later() {
    let Some(scene) = Scene::run(Arms::One, |_| {}) else {
        return;
    };
    let heard = scene.lab.path().join("heard");
    let file = std::fs::File::create(&heard).unwrap();
    let mut command = scene.forebay.command(&["events", "--follow", "--json"]);
    let mut follower = command.stdout(Stdio::from(file)).spawn().unwrap();
    let lines = || std::fs::read_to_string(&heard).unwrap().lines().count();
    eventually("the first event is heard", Duration::from_secs(5), || {
        lines() == 1
    });
    scene.forebay.text(&["reload"]).unwrap();
    eventually("the reload is heard", Duration::from_secs(2), || {
        lines() == 2
    });
    follower.kill().unwrap();
    follower.wait().unwrap();
}
