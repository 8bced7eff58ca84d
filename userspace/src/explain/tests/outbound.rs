//! Packets that instances send to the outside, public IPs, hairpins.

use forebay_common::flow::{Direction, FlowKind, FlowRef, Seen};
use forebay_common::wire::TCP;

use super::*;

const RULE: &str = r#"
[[outbound_rule]]
name = "web-out"
pool = "web"
frontends = ["web"]
ports_per_instance = 8
"#;

const NO_BURST: &str = "burst = false\n";

const ALICE: &str = r#"
[[public_ip]]
name = "alice"
ipv4 = "203.0.113.50"
[[instance]]
name = "two"
ipv4 = "10.0.1.2"
public_ip = "alice"
"#;

const OUTSIDE: &str = "198.51.100.7";

fn sample(more: &str) -> String {
    format!("{SAMPLE}{more}")
}

/// What is told of a packet when the way is known.
fn told(text: &str, question: &Question) -> Explanation {
    explain_in(text, question, Some(&out("10.0.1.254")), &[]).0
}

fn answer<'e>(told: &'e Explanation, question: &str) -> &'e str {
    let mut steps = told.steps.iter();
    let step = steps.find(|step| step.question.contains(question));
    &step
        .unwrap_or_else(|| panic!("{question} in {:?}", told.steps))
        .answer
}

fn source(told: &Explanation) -> (&str, u16) {
    let translated = told.translated.as_ref().unwrap();
    (translated.source.as_str(), translated.source_port)
}

fn destination(told: &Explanation) -> (&str, u16) {
    let translated = told.translated.as_ref().unwrap();
    (translated.destination.as_str(), translated.destination_port)
}

#[test]
fn an_outbound_packet_is_told_with_its_rule_and_the_ports_that_it_may_get() {
    let told = told(&sample(RULE), &question(6, "10.0.1.1", OUTSIDE, 443));
    assert_eq!(told.reason, "forwarded");
    let way = answer(&told, "which way out has 10.0.1.1 over tcp?");
    assert!(
        way.starts_with("outbound rule web-out: 8 SNAT ports"),
        "{way}"
    );
    let own = &told.snat_ports[0];
    assert_eq!(own.address, "203.0.113.10");
    assert_eq!((own.last - own.first, own.shared), (7, false));
    assert!(told.snat_ports.len() > 1);
    assert!(told.snat_ports[1..].iter().all(|range| range.shared));
    let (address, port) = source(&told);
    assert_eq!(address, "203.0.113.10");
    assert!((own.first..=own.last).contains(&port));
    assert_eq!(destination(&told), (OUTSIDE, 443));
    let ports = answer(
        &told,
        "which SNAT port does it get towards 198.51.100.7:443?",
    );
    let expected = format!("203.0.113.10 ports {}-{}", own.first, own.last);
    assert!(ports.contains(&expected), "{ports}");
    assert_eq!(told.instance.as_deref(), Some("one"));
}

#[test]
fn the_other_methods_are_told_by_name() {
    let implied = told(SAMPLE, &question(6, "10.0.1.1", OUTSIDE, 443));
    assert_eq!(implied.reason, "forwarded");
    assert!(answer(&implied, "which way out has 10.0.1.1").contains("outbound_snat"));
    let three = "[[instance]]\nname = \"three\"\nipv4 = \"10.0.1.3\"\n";
    let text = sample(three) + "[default_outbound]\nfrontends = [\"web\"]\n";
    let default = told(&text, &question(17, "10.0.1.3", OUTSIDE, 123));
    let way = answer(&default, "which way out has 10.0.1.3");
    assert!(way.starts_with("default outbound: 1024 "), "{way}");
    assert!(!default.snat_ports.is_empty());
    answer(&default, "which SNAT port does it get towards everybody?");
}

#[test]
fn a_ping_is_told_with_the_identifier_that_it_gets() {
    for (protocol, from, to) in [(1, "10.0.1.1", OUTSIDE), (58, "fd00:1::1", "2001:db8:9::7")] {
        let told = told(&sample(RULE), &question(protocol, from, to, 0));
        assert_eq!(told.reason, "forwarded");
        let own = &told.snat_ports[0];
        assert!((own.first..=own.last).contains(&source(&told).1));
        assert_eq!(destination(&told), (to, 0));
    }
}

#[test]
fn who_has_no_way_is_told_so() {
    let told = told(
        &sample("outbound_snat = false\n"),
        &question(6, "10.0.1.1", OUTSIDE, 443),
    );
    assert_eq!(
        (told.verdict.as_str(), told.reason.as_str()),
        ("drop", "no-outbound")
    );
    assert_eq!(answer(&told, "which way out has 10.0.1.1"), "none");
    assert!(told.snat_ports.is_empty());
}

#[test]
fn ports_that_are_known_to_be_in_use_are_not_given() {
    let text = sample(&format!("{RULE}{NO_BURST}"));
    let asked = question(6, "10.0.1.1", OUTSIDE, 443);
    let free = told(&text, &asked);
    let own = &free.snat_ports[0];
    let way = out("10.0.1.254");
    let but_one: Vec<_> = (own.first + 1..=own.last).map(holder).collect();
    let (one_left, _) = explain_in(&text, &asked, Some(&way), &but_one);
    assert_eq!(source(&one_left).1, own.first);
    let all: Vec<_> = (own.first..=own.last).map(holder).collect();
    let (none_left, _) = explain_in(&text, &asked, Some(&way), &all);
    assert_eq!(
        (none_left.verdict.as_str(), none_left.reason.as_str()),
        ("answer", "snat-refused")
    );
    assert_eq!(none_left.translated, None);
}

/// The answers of a flow of another source port, which holds this port towards the outside.
fn holder(port: u16) -> (FlowKey<V4>, Flow<V4>) {
    let v4 = |text: &str| V4::from(text.parse::<std::net::Ipv4Addr>().unwrap());
    let key = FlowKey {
        source: v4(OUTSIDE),
        destination: v4("203.0.113.10"),
        ports: FlowKey::<V4>::ports_word(443, port),
        protocol: TCP.into(),
    };
    let mut flow = Flow::<V4> {
        source: v4(OUTSIDE),
        destination: v4("10.0.1.1"),
        ports: FlowKey::<V4>::ports_word(443, 50_000),
        kind: FlowKind::OutboundRule.byte(Direction::ToInstance, false),
        ..Flow::default()
    };
    let all = Seen::PACKET.0 | Seen::SYN.0 | Seen::ACK.0;
    let entry = FlowRef::over(&mut flow);
    entry.set_fixed(60_000, 0);
    entry.set_seen_to_instance(all);
    entry.set_seen_from_instance(all);
    entry.set_last_seen(1000);
    (key, flow)
}

#[test]
fn a_public_ip_is_told_in_both_directions() {
    let text = sample(ALICE);
    let outward = told(&text, &question(6, "10.0.1.2", OUTSIDE, 443));
    assert_eq!(outward.reason, "forwarded");
    assert_eq!(source(&outward), ("203.0.113.50", 40_000));
    let has = answer(&outward, "which public IP has 10.0.1.2?");
    assert_eq!(has, "public IP alice (203.0.113.50)");
    assert!(outward.snat_ports.is_empty(), "every port is kept");
    let inward = told(&text, &question(6, OUTSIDE, "203.0.113.50", 22));
    assert_eq!(inward.reason, "forwarded");
    assert_eq!(destination(&inward), ("10.0.1.2", 22));
    let whose = answer(&inward, "whose address is 203.0.113.50?");
    assert_eq!(whose, "public IP alice");
    let whose = answer(&inward, "whose is public IP alice?");
    assert_eq!(whose, "two/primary (10.0.1.2)");
    let esp = told(&text, &question(50, OUTSIDE, "203.0.113.50", 0));
    assert_eq!(esp.reason, "forwarded");
    assert_eq!(destination(&esp), ("10.0.1.2", 0));
}

#[test]
fn an_instance_that_talks_to_its_own_frontend_is_told_with_both_translations() {
    let told = told(SAMPLE, &question(6, "10.0.1.1", "203.0.113.10", 80));
    assert_eq!(told.reason, "forwarded");
    assert_eq!(source(&told).0, "203.0.113.10");
    assert_eq!(destination(&told), ("10.0.1.1", 8080));
    assert_eq!(answer(&told, "which rule is on tcp port 80?"), "rule http");
    answer(&told, "which SNAT port does it get towards 10.0.1.1:8080?");
}
