use std::net::IpAddr;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};

use super::*;
use crate::config::parse_all;

const BASE: &str = r#"
node.interfaces = ["eth0"]
frontend = [{ name = "web", ipv4 = "203.0.113.10", ipv6 = "2001:db8::10" }]
instance = [{ name = "a", ipv4 = "10.0.1.11", ipv6 = "fd00::11" }, { name = "b", ipv4 = "10.0.1.12" }]
pool = [{ name = "both", members = ["a"] }, { name = "v4", members = ["b"] }]
probe = [{ name = "p", protocol = "tcp", port = 9000 }, { name = "q", protocol = "tcp", port = 80 }]
"#;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Rule, address and port of each target.
fn tried(rules: &str) -> Vec<(String, String, u16)> {
    let loaded = parse_all("f", &format!("{BASE}{rules}")).unwrap_or_else(|e| panic!("{e}"));
    let of = |(target, port): (Target, u16)| (target.rule, target.address.to_string(), port);
    targets(&loaded.config).into_iter().map(of).collect()
}

fn rule(name: &str, settings: &str) -> String {
    format!("[[rule]]\nname = \"{name}\"\nfrontend = \"web\"\n{settings}\n")
}

fn expected(lines: &[(&str, &str, u16)]) -> Vec<(String, String, u16)> {
    let owned = |(rule, address, port): &(&str, &str, u16)| {
        ((*rule).to_owned(), (*address).to_owned(), *port)
    };
    lines.iter().map(owned).collect()
}

#[test]
fn a_rule_is_tried_at_each_address_whose_family_its_pool_has() {
    let rules = rule("r", "port = 80\npool = \"both\"") + &rule("s", "port = 81\npool = \"v4\"");
    assert_eq!(
        tried(&rules),
        expected(&[
            ("r", "203.0.113.10", 80),
            ("r", "2001:db8::10", 80),
            ("s", "203.0.113.10", 81),
        ])
    );
}

#[test]
fn what_takes_no_tcp_is_not_tried() {
    let udp = rule("names", "protocol = \"udp\"\nport = 53\npool = \"v4\"");
    assert_eq!(tried(&udp), []);
    // The rule for TCP alone has the port.
    let both = rule("all", "protocol = \"all\"\nport = 80\npool = \"v4\"")
        + &rule("tcp", "port = 80\npool = \"v4\"");
    assert_eq!(tried(&both), expected(&[("tcp", "203.0.113.10", 80)]));
}

#[test]
fn a_range_is_tried_at_its_first_port_that_nobody_else_has() {
    let rules = rule(
        "range",
        "port = \"8000-8010\"\npool = \"v4\"\nprotocol = \"all\"",
    ) + &rule("first", "port = 8000\npool = \"v4\"")
        + "[[inbound_nat_rule]]\nname = \"nat\"\nfrontend = \"web\"\nport = 8001\ninstance = \"a\"\n";
    assert_eq!(
        tried(&rules),
        expected(&[
            ("first", "203.0.113.10", 8000),
            ("range", "203.0.113.10", 8002)
        ])
    );
}

#[test]
fn every_port_is_tried_at_that_of_the_probe() {
    let every = |probe: &str| {
        rule(
            "ha",
            &format!("port = 0\nprotocol = \"all\"\npool = \"v4\"\n{probe}"),
        )
    };
    assert_eq!(tried(&every("")), []);
    let with = every("probe = \"p\"");
    assert_eq!(tried(&with), expected(&[("ha", "203.0.113.10", 9000)]));
    let shadowed = every("probe = \"q\"") + &rule("web", "port = 80\npool = \"v4\"");
    assert_eq!(tried(&shadowed), expected(&[("web", "203.0.113.10", 80)]));
}

fn target(rule: &str) -> Target {
    Target {
        rule: rule.to_owned(),
        address: IpAddr::from([203, 0, 113, 10]),
        frontend: "web".to_owned(),
    }
}

fn of(rules: &[&str], now: Duration) -> Availability {
    let mut availability = Availability::default();
    let targets = rules.iter().map(|rule| (target(rule), 80));
    availability.configure(targets.collect(), now, || [0.5, 0.5]);
    availability
}

#[test]
fn a_target_is_tried_every_ten_seconds_after_members_had_time_to_come_up() {
    let mut availability = of(&["r"], seconds(100));
    let mut times = Vec::new();
    for tenth in 0..1000 {
        let now = seconds(100) + Duration::from_millis(tenth * 100);
        times.extend(availability.due(now, 10).iter().map(|_| now));
    }
    assert!(
        times[0] >= seconds(102) && times[0] <= seconds(103),
        "{times:?}"
    );
    assert!((10..=11).contains(&times.len()), "{times:?}");
    assert!(
        times[1..]
            .windows(2)
            .all(|pair| pair[1] - pair[0] == INTERVAL)
    );
}

#[test]
fn thousands_of_targets_are_tried_no_faster_than_is_allowed() {
    let names: Vec<String> = (0..5_000).map(|n| format!("rule-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut availability = of(&names, seconds(0));
    let mut total = 0;
    for tenth in 0..1_000 {
        let due = availability.due(Duration::from_millis(tenth * 100), 10);
        assert!(due.len() <= 10);
        total += due.len();
    }
    // Each twice in the hundred seconds.
    assert!((9_000..=10_000).contains(&total), "{total}");
}

#[test]
fn a_change_of_the_file_keeps_what_is_known_of_those_that_stay() {
    let mut availability = of(&["r", "s"], seconds(0));
    for rule in ["r", "s"] {
        availability.record(&target(rule), seconds(5), Ok(()));
    }
    let targets = BTreeMap::from([(target("r"), 80), (target("s"), 81)]);
    availability.configure(targets, seconds(6), || [0.0; 2]);
    assert_eq!(availability.of_rule("r", seconds(7)), Some(1.0));
    assert_eq!(availability.of_rule("s", seconds(7)), None, "another port");
    availability.record(&target("gone"), seconds(7), Ok(()));
    assert_eq!(availability.rows(seconds(7)).count(), 2);
}

#[test]
fn only_the_last_five_minutes_count() {
    let mut availability = of(&["r"], seconds(0));
    let failed = Err(Failure::Stopped(Reason::NoBackend));
    availability.record(&target("r"), seconds(10), failed);
    for at in [100, 200, 300] {
        availability.record(&target("r"), seconds(at), Ok(()));
    }
    assert_eq!(availability.of_rule("r", seconds(300)), Some(0.75));
    let row = availability.rows(seconds(300)).next().unwrap();
    assert_eq!(row.last_failure.unwrap().to_string(), "no-backend");
    assert_eq!(availability.of_rule("r", seconds(310)), Some(1.0));
    let row = availability.rows(seconds(310)).next().unwrap();
    assert_eq!(row.last_failure, None);
    assert_eq!(availability.of_rule("r", seconds(700)), None);
}

/// Runs ten minutes and more, a trial each ten seconds that is answered when `is_answered` says so; the levels
/// by minute.
fn levels(minutes: u64, is_answered: impl Fn(u64) -> bool) -> Vec<Option<Level>> {
    let mut availability = of(&["r"], seconds(0));
    let mut levels = Vec::new();
    for at in (5..=minutes * 60).step_by(5) {
        if at % 10 == 5 {
            let outcome = if is_answered(at) {
                Ok(())
            } else {
                Err(Failure::NoAnswer)
            };
            availability.record(&target("r"), seconds(at), outcome);
        }
        if let Some(standings) = availability.judge(seconds(at)) {
            levels.push(standings.first().map(|one| one.level));
        }
    }
    levels
}

#[test]
fn a_frontend_is_judged_each_minute_by_its_average() {
    let good = Some(Level::Good);
    assert_eq!(levels(3, |_| true), [good; 3]);
    assert_eq!(levels(2, |_| false), [Some(Level::Critical); 2]);
    // Broken after five minutes: 20 % less each minute.
    let found = levels(16, |at| !(300..600).contains(&at));
    let (warning, critical) = (Some(Level::Warning), Some(Level::Critical));
    assert_eq!(
        found,
        [
            good, good, good, good, good, warning, warning, warning, critical, critical, critical,
            warning, warning, warning, good, good
        ]
    );
}

#[test]
fn the_first_trials_alone_say_nothing_and_no_trials_neither() {
    let mut availability = of(&["r"], seconds(0));
    availability.record(&target("r"), seconds(50), Err(Failure::NoAnswer));
    assert_eq!(availability.judge(seconds(60)), Some(Vec::new()));
    assert_eq!(availability.judge(seconds(100)), None, "once a minute");
    let standings = availability.judge(seconds(120)).unwrap();
    assert_eq!(standings[0].level, Level::Critical);
    assert_eq!(standings[0].affected, [(target("r").address, 80)]);
    assert_eq!(availability.level("web"), Some(Level::Critical));
    availability.pause();
    assert_eq!(availability.level("web"), None);
    assert_eq!(availability.judge(seconds(180)), Some(Vec::new()));
}

#[test]
fn a_frontend_stands_for_all_its_rules() {
    let mut availability = of(&["r", "s", "t"], seconds(0));
    for at in [10, 20, 30, 40, 50] {
        for rule in ["r", "s", "t"] {
            let outcome = if rule == "s" {
                Err(Failure::NoAnswer)
            } else {
                Ok(())
            };
            availability.record(&target(rule), seconds(at), outcome);
        }
    }
    let standings = availability.judge(seconds(60)).unwrap();
    assert_eq!(standings.len(), 1);
    assert_eq!(standings[0].level, Level::Warning);
    assert!((standings[0].share - 2.0 / 3.0).abs() < 1e-9);
    assert_eq!(standings[0].last_failure, Some(Failure::NoAnswer));
    assert_eq!(standings[0].affected.len(), 1);
}

#[test]
fn levels_have_distance_between_beginning_and_end() {
    for (before, share, after) in [
        (Level::Good, 0.90, Level::Good),
        (Level::Good, 0.89, Level::Warning),
        (Level::Warning, 0.94, Level::Warning),
        (Level::Warning, 0.95, Level::Good),
        (Level::Warning, 0.25, Level::Warning),
        (Level::Good, 0.24, Level::Critical),
        (Level::Critical, 0.29, Level::Critical),
        (Level::Critical, 0.30, Level::Warning),
        (Level::Critical, 1.0, Level::Good),
    ] {
        assert_eq!(before.next(share), after, "{before:?} at {share}");
    }
}

#[test]
fn segments_are_whole_frames() {
    for [source, destination] in [
        ["192.0.0.8:40000", "203.0.113.10:80"],
        ["[100::8]:40000", "[2001:db8::10]:80"],
    ] {
        let segment = Segment {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            sequence: u32::MAX,
            source_mac: [2; 6],
            destination_mac: [4; 6],
        };
        assert_eq!(segment.acknowledged(), 0);
        for (frame, is_reset) in [(segment.syn(), false), (segment.reset(), true)] {
            let frame = frame.unwrap();
            assert!(frame.len() >= 60);
            assert_eq!((&frame[..6], &frame[6..12]), (&[4; 6][..], &[2; 6][..]));
            let found = SlicedPacket::from_ethernet(&frame).unwrap();
            let Some(TransportSlice::Tcp(tcp)) = found.transport else {
                panic!("no TCP: {frame:02x?}")
            };
            let header = tcp.to_header();
            assert_eq!(
                (header.syn, header.rst, header.ack),
                (!is_reset, is_reset, false)
            );
            assert_eq!(header.sequence_number, if is_reset { 0 } else { u32::MAX });
            let sum = match found.net {
                Some(NetSlice::Ipv4(ip)) => header
                    .calc_checksum_ipv4(&ip.header().to_header(), &[])
                    .unwrap(),
                Some(NetSlice::Ipv6(ip)) => header
                    .calc_checksum_ipv6(&ip.header().to_header(), &[])
                    .unwrap(),
                other => panic!("no IP: {other:?}"),
            };
            assert_eq!(header.checksum, sum);
        }
    }
}
