//! Changes of the configuration reach a running node without disturbing what is unchanged.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use forebay_tests::netlab::client::{Conversation, connect_within, curl, spread};
use forebay_tests::netlab::{Arms, Lab};
use nix::sys::signal::Signal;

use crate::scene::{Scene, eventually, frontend};

#[test]
fn a_new_member_gets_traffic_after_reload() {
    let Some(mut scene) = Scene::run(Arms::Two, |config| config.pools[0].members.truncate(2))
    else {
        return;
    };
    let Scene {
        lab,
        forebay,
        config,
        ..
    } = &mut scene;
    for to in frontend(80) {
        assert_eq!(instances_used(lab, to), ["web-1", "web-2"]);
    }
    config.pools[0].members.push(("web-3".to_owned(), 1));
    forebay.write_config(&config.to_string()).unwrap();
    let printed = forebay.text(&["reload"]).unwrap();
    assert!(
        printed.contains("web"),
        "reload does not say what changed: {printed:?}"
    );
    for to in frontend(80) {
        assert_eq!(instances_used(lab, to), ["web-1", "web-2", "web-3"]);
    }
}

#[test]
fn a_removed_member_keeps_its_connections_and_gets_no_new_ones_after_sighup() {
    let Some(mut scene) = Scene::run(Arms::Two, |_| {}) else {
        return;
    };
    let Scene {
        lab,
        forebay,
        config,
        ..
    } = &mut scene;
    let mut long: Vec<_> = frontend(80)
        .map(|to| conversation_with(lab, to, "web-1"))
        .into();

    config.pools[0].members.remove(0);
    forebay.write_config(&config.to_string()).unwrap();
    forebay.signal(Signal::SIGHUP).unwrap();
    eventually("web-1 has left the pool", Duration::from_secs(5), || {
        let pools = forebay.list(&["show", "pools"]).unwrap();
        !pools[0]["members"]
            .as_array()
            .unwrap()
            .iter()
            .any(|member| member["instance"] == "web-1" && member["draining"] != true)
    });
    for to in frontend(80) {
        assert_eq!(instances_used(lab, to), ["web-2", "web-3"]);
    }
    for conversation in &mut long {
        assert_eq!(conversation.ask().unwrap().instance, "web-1");
    }
}

/// Which instances answered sixty requests; one that is in use is missed once in 10^10 runs.
fn instances_used(lab: &Lab, to: SocketAddr) -> Vec<String> {
    let answers = curl(&lab.client, to, 60).unwrap();
    spread(&answers).into_keys().map(str::to_owned).collect()
}

fn conversation_with(lab: &Lab, to: SocketAddr, instance: &str) -> Conversation {
    (0..200)
        .map(|_| Conversation::open(&lab.client, None, to).unwrap())
        .find(|(_, answer)| answer.instance == instance)
        .unwrap_or_else(|| panic!("no connection to {to} reached {instance}"))
        .0
}

#[test]
fn a_new_rule_opens_its_port_and_a_removed_one_closes_it() {
    let Some(mut scene) = Scene::run(Arms::Two, |_| {}) else {
        return;
    };
    let Scene {
        lab,
        forebay,
        config,
        ..
    } = &mut scene;
    let mut long: Vec<_> = frontend(80)
        .map(|to| Conversation::open(&lab.client, None, to).unwrap().0)
        .into();
    config.rules[0].port = 8000;
    forebay.write_config(&config.to_string()).unwrap();
    forebay.text(&["reload"]).unwrap();
    for to in frontend(8000) {
        curl(&lab.client, to, 5).unwrap();
    }
    for to in frontend(80) {
        let attempt = connect_within(&lab.client, None, to, Duration::from_millis(500));
        assert!(attempt.is_err(), "{to} is still open");
    }
    for conversation in &mut long {
        conversation.ask().unwrap();
    }
}

#[test]
fn requests_do_not_fail_while_the_pool_changes() {
    let Some(mut scene) = Scene::run(Arms::Two, |_| {}) else {
        return;
    };
    let Scene {
        lab,
        forebay,
        config,
        ..
    } = &mut scene;
    let stop = AtomicBool::new(false);
    let made = std::thread::scope(|scope| {
        let requests = frontend(80).map(|to| {
            let (stop, client) = (&stop, &lab.client);
            scope.spawn(move || {
                let mut made = 0;
                while !stop.load(Ordering::Relaxed) {
                    made += curl(client, to, 20)?.len();
                }
                anyhow::Ok(made)
            })
        });
        for round in 0_usize..12 {
            let gone = config.pools[0].members.remove(round % 3);
            forebay.write_config(&config.to_string()).unwrap();
            forebay.text(&["reload"]).unwrap();
            config.pools[0].members.insert(round % 2, gone);
            forebay.write_config(&config.to_string()).unwrap();
            forebay.text(&["reload"]).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        requests.map(|requests| requests.join().unwrap())
    });
    for made in made {
        assert!(made.unwrap() >= 20);
    }
}

#[test]
fn an_invalid_file_is_refused_and_changes_nothing() {
    let Some(scene) = Scene::run(Arms::Two, |_| {}) else {
        return;
    };
    let Scene {
        lab,
        forebay,
        config,
        ..
    } = &scene;
    let before = forebay.json(&["show", "rules"]).unwrap();
    let valid = config.to_string();
    let hash = forebay.json(&["status"]).unwrap()["config"]["sha256"].clone();

    forebay
        .write_config(&valid.replace("pool = \"web\"", "pool = \"wep\""))
        .unwrap();
    let refused = forebay.cli(&["reload"]).unwrap();
    let checked = forebay.cli(&["check"]).unwrap();
    assert_eq!(
        (refused.code, checked.code),
        (1, 2),
        "{refused:?} {checked:?}"
    );
    assert_eq!(refused.stderr.trim(), checked.stderr.trim());
    for word in ["forebay.toml", "pool", "wep"] {
        assert!(
            refused.stderr.contains(word),
            "{word} is not in {}",
            refused.stderr
        );
    }
    forebay.signal(Signal::SIGHUP).unwrap();
    std::thread::sleep(Duration::from_millis(300));

    let after = forebay.json(&["show", "rules"]).unwrap();
    assert_eq!(before[0]["addresses"], after[0]["addresses"]);
    assert_eq!(forebay.json(&["status"]).unwrap()["config"]["sha256"], hash);
    for to in frontend(80) {
        curl(&lab.client, to, 5).unwrap();
    }
}

#[test]
fn plan_says_what_reload_would_do_and_does_nothing() {
    let Some(mut scene) = Scene::run(Arms::Two, |_| {}) else {
        return;
    };
    let Scene {
        forebay, config, ..
    } = &mut scene;
    let nothing = forebay.json(&["plan"]).unwrap();
    assert_eq!(nothing["changes"], serde_json::json!([]), "{nothing}");
    config.rules.pop();
    forebay.write_config(&config.to_string()).unwrap();
    let plan = forebay.json(&["plan"]).unwrap();
    assert_eq!(plan["valid"], true, "{plan}");
    let change = &plan["changes"][0];
    assert_eq!(
        (&change["action"], &change["kind"]),
        (&"remove".into(), &"rule".into()),
        "{plan}"
    );
    assert_eq!(change["name"], "echo");
    assert_eq!(
        forebay.list(&["show", "rules"]).unwrap().len(),
        2,
        "plan has changed something"
    );
}
