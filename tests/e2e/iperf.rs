//! Bulk transfers by iperf3, in both directions.

use std::time::Duration;

use forebay_tests::netlab::config::Rule;
use forebay_tests::netlab::{Arms, Config, Forebay};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::scene::{Scene, eventually, frontend, has_programs};

const PORT: u16 = 5201;

/// iperf3 opens a control and a data connection, so both have to reach one instance, also when
/// the data goes by UDP.
pub(crate) fn rules_for_iperf(config: &mut Config) {
    for (name, protocol) in [("iperf-tcp", "tcp"), ("iperf-udp", "udp")] {
        let rule = Rule::new(name, protocol, PORT, PORT);
        config.rules.push(Rule {
            distribution: "source-ip",
            ..rule
        });
    }
}

#[test]
fn iperf_moves_tcp_and_udp_in_both_directions() {
    if !has_programs(&["iperf3"]) {
        return;
    }
    for arms in [Arms::Two, Arms::One] {
        let Some(scene) = Scene::run(arms, rules_for_iperf) else {
            return;
        };
        let Scene { lab, forebay, .. } = &scene;
        let _servers: Vec<_> = lab
            .instances
            .iter()
            .map(|instance| lab.start_iperf(instance).unwrap())
            .collect();
        for to in frontend(PORT) {
            let to = to.ip().to_string();
            let iperf = |more: &[&str]| -> Value {
                let mut arguments = vec!["--json", "--client", &to, "--time", "1"];
                arguments.extend(more);
                let text = lab.client.run("iperf3", &arguments);
                let text = text.unwrap_or_else(|error| panic!("{error:#}\n{}", forebay.log()));
                serde_json::from_str(&text).unwrap()
            };
            for direction in [&[][..], &["--reverse"]] {
                let before = rule_bytes(forebay, "iperf-tcp");
                let result = iperf(direction);
                let received = result["end"]["sum_received"]["bytes"].as_u64().unwrap();
                // A megabyte in a second would be a thousand times too slow; this catches a
                // connection that stalls after its handshake.
                assert!(
                    received > 1_000_000,
                    "{arms:?} {to} {direction:?}: {received} bytes"
                );
                let counted = rule_bytes(forebay, "iperf-tcp") - before;
                assert!(
                    counted >= received,
                    "{counted} bytes counted, {received} received"
                );
            }
            for direction in [&[][..], &["--reverse"]] {
                let datagrams = [
                    direction,
                    &["--udp", "--bitrate", "20M", "--length", "1200"],
                ];
                let result = iperf(&datagrams.concat());
                let sum = &result["end"]["sum"];
                let (sent, lost) = (sum["packets"].as_u64(), sum["lost_packets"].as_u64());
                let (Some(sent), Some(lost)) = (sent, lost) else {
                    panic!("{arms:?} {to} {direction:?}: iperf3 says {result}");
                };
                // A busy machine drops datagrams in the buffers of the ends; a node that drops them
                // delivers none, or every other.
                assert!(
                    sent > 500 && lost * 3 < sent,
                    "{arms:?} {to}: {lost} of {sent} lost"
                );
            }
        }
    }
}

#[test]
fn bulk_transfers_in_generic_mode_are_not_put_together_into_frames_too_large_to_send_on() {
    if !has_programs(&["iperf3"]) {
        return;
    }
    let Some(mut scene) = Scene::install(Arms::Two, |config| {
        config.xdp_mode = Some("generic");
        rules_for_iperf(config);
    }) else {
        return;
    };
    let Scene { lab, forebay, .. } = &mut scene;
    let puts_together = || {
        lab.interfaces.iter().all(|nic| {
            let settings = lab.node.run("ethtool", &["-k", nic]).unwrap();
            settings.contains("generic-receive-offload: on")
        })
    };
    assert!(puts_together());
    forebay.start().unwrap();
    eventually("it is switched off", Duration::from_secs(5), || {
        !puts_together()
    });
    assert!(
        forebay
            .log()
            .contains("switched generic-receive-offload off")
    );
    let _servers: Vec<_> = lab
        .instances
        .iter()
        .map(|instance| lab.start_iperf(instance).unwrap())
        .collect();
    for to in frontend(PORT) {
        let to = to.ip().to_string();
        for direction in [&[][..], &["--reverse"]] {
            let mut arguments = vec!["--json", "--client", &to, "--time", "2"];
            arguments.extend(direction);
            let text = lab.client.run("iperf3", &arguments).unwrap();
            let result: Value = serde_json::from_str(&text).unwrap();
            let received = result["end"]["sum_received"]["bytes"].as_u64().unwrap();
            // With every frame that was put together lost, a transfer crawls along on retransmissions.
            assert!(received > 20_000_000, "{to} {direction:?}: {received}");
        }
    }
    assert_eq!(forebay.drops("too-big").unwrap(), 0);
    forebay.stop(Signal::SIGTERM).unwrap();
    forebay.text(&["detach"]).unwrap();
    assert!(puts_together(), "detach gives the host back as it was");
}

fn rule_bytes(forebay: &Forebay, name: &str) -> u64 {
    let rules = forebay.list(&["show", "rules"]).unwrap();
    let rule = rules.iter().find(|rule| rule["name"] == name).unwrap();
    rule["bytes_total"].as_u64().unwrap()
}
