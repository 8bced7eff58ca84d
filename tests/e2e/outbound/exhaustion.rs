//! When ports run out: what the instance is told, when ports come back, and what the operator hears.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use forebay_tests::netlab::Arms;
use forebay_tests::netlab::mirror::Reflection;
use serde_json::Value;

use super::{Outside, mirror, outbound_rule};
use crate::scene::eventually;

#[test]
fn ports_come_back_after_the_idle_timeout_and_not_before() {
    let rule = outbound_rule("ports_per_instance = 8\nburst = false\nidle_timeout = \"6s\"");
    let Some(outside) = Outside::run(Arms::Two, &rule) else {
        return;
    };
    let instance = &outside.lab().instances[0].namespace;
    for to in mirror(2, 7000) {
        let _flows: Vec<_> = (0..8)
            .map(|_| Reflection::open(instance, None, to).unwrap())
            .collect();
        let full = Instant::now();
        let refused = Reflection::open(instance, None, to).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        std::thread::sleep(Duration::from_millis(5_500).saturating_sub(full.elapsed()));
        Reflection::open(instance, None, to).unwrap_err();
        eventually("a port is free", Duration::from_secs(3), || {
            Reflection::open(instance, None, to).is_ok()
        });
        assert!(full.elapsed() > Duration::from_secs(6) - Duration::from_millis(300));
    }
}

#[test]
fn without_an_answer_the_attempt_waits_and_succeeds_when_a_port_is_free() {
    let rule = "ports_per_instance = 8\nburst = false\non_exhaustion = \"drop\"";
    let Some(outside) = Outside::run(Arms::Two, &outbound_rule(rule)) else {
        return;
    };
    let instance = &outside.lab().instances[0].namespace;
    for to in mirror(2, 7000) {
        let mut flows: Vec<_> = (0..8)
            .map(|_| Reflection::open(instance, None, to).unwrap())
            .collect();
        let refused = Reflection::open(instance, None, to).unwrap_err();
        assert!(matches!(
            refused.kind(),
            ErrorKind::TimedOut | ErrorKind::WouldBlock
        ));
        assert!(outside.scene.forebay.drops("snat-exhausted").unwrap() > 0);
        flows.clear();
    }
}

/// The events of a name, in order.
fn events(outside: &Outside, name: &str) -> Vec<Value> {
    let all = outside.scene.forebay.text(&["events", "--json"]).unwrap();
    let parsed = all.lines().map(|line| serde_json::from_str(line).unwrap());
    parsed
        .filter(|event: &Value| event["event"] == name)
        .collect()
}

#[test]
fn the_operator_hears_of_it_within_a_second_with_all_that_matters() {
    let rule = outbound_rule("ports_per_instance = 8\nburst = false");
    let Some(outside) = Outside::run(Arms::Two, &rule) else {
        return;
    };
    let forebay = &outside.scene.forebay;
    let instance = &outside.lab().instances[0];
    let events = |name: &str| events(&outside, name);
    let to = mirror(2, 7000)[0];
    let _flows: Vec<_> = (0..8)
        .map(|_| Reflection::open(&instance.namespace, None, to).unwrap())
        .collect();
    eventually("ports are nearly used up", Duration::from_secs(3), || {
        events("HighSnatPortUsage").len() == 1
    });
    assert!(events("SnatPortExhaustion").is_empty());
    Reflection::open(&instance.namespace, None, to).unwrap_err();
    let begin = Instant::now();
    eventually("the event", Duration::from_secs(1), || {
        !events("SnatPortExhaustion").is_empty()
    });
    assert!(begin.elapsed() < Duration::from_secs(1));
    let event = &events("SnatPortExhaustion")[0];
    assert_eq!(event["severity"], "critical", "{event}");
    assert_eq!(event["instance"], instance.name.as_str());
    assert_eq!(event["protocol"], "tcp");
    assert_eq!(event["address"], "203.0.113.20");
    assert_eq!(event["destination"], "203.0.113.2");
    assert_eq!(event["destination_port"], 7000);
    assert_eq!(event["allocated"], 8);
    assert_eq!(event["used"], 8);
    assert_eq!(event["top_destinations"][0]["used"], 8, "{event}");
    let rows = forebay
        .list(&["show", "snat", "--instance", &instance.name])
        .unwrap();
    let row = rows
        .iter()
        .find(|row| row["protocol"] == "tcp" && row["address"] == "203.0.113.20")
        .unwrap();
    assert_eq!(row["allocated"], 8, "{row}");
    assert_eq!(row["used"], 8);
    assert_eq!(row["failed_total"], 1);
}

#[test]
fn the_operator_hears_once_that_ports_run_out_and_once_that_it_is_over() {
    let rule = outbound_rule("ports_per_instance = 8\nburst = false");
    let Some(outside) = Outside::run_with(Arms::Two, &rule, |config| {
        config.timeouts = vec![("tcp_fin", "1s"), ("tcp_rst", "1s")];
    }) else {
        return;
    };
    let instance = &outside.lab().instances[0].namespace;
    let count = |name: &str| events(&outside, name).len();
    let to = mirror(2, 7000)[0];
    let open = || Reflection::open(instance, None, to);
    let mut flows: Vec<_> = (0..8).map(|_| open().unwrap()).collect();
    // Refused again and again, and nearly full all the time: told once.
    for _ in 0..8 {
        open().unwrap_err();
        std::thread::sleep(Duration::from_millis(500));
    }
    let last = Instant::now();
    assert_eq!(count("SnatPortExhaustion"), 1);
    assert_eq!(count("HighSnatPortUsage"), 1);
    assert_eq!(count("HighSnatPortUsageCleared"), 0);
    flows.truncate(4);
    let soon = Duration::from_secs(6);
    eventually("usage is low again", soon, || {
        count("HighSnatPortUsageCleared") == 1
    });
    let minute = Duration::from_secs(60);
    eventually("a minute has passed", minute + soon, || {
        count("SnatPortExhaustionCleared") == 1
    });
    assert!(last.elapsed() > minute - Duration::from_secs(1));
    let cleared = &events(&outside, "SnatPortExhaustionCleared")[0];
    assert_eq!(cleared["severity"], "info");
    assert_eq!(cleared["instance"], "web-1");
    assert_eq!(cleared["protocol"], "tcp");
    // The next time is told of again.
    flows.extend((0..4).map(|_| open().unwrap()));
    open().unwrap_err();
    eventually("it is told again", Duration::from_secs(1), || {
        count("SnatPortExhaustion") == 2
    });
}
