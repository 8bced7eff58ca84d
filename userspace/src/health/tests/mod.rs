//! Tests over whole configurations, and over many random histories.

mod damping;
mod restart;
mod simulation;

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::*;
use crate::config::model::Config;
use crate::config::parse_all;

/// Two instances behind a probe with these settings.
fn config(settings: &str) -> Config {
    let text = format!(
        r#"
[node]
name = "lb"
interfaces = ["eth0"]
[[frontend]]
name = "web"
ipv4 = "203.0.113.10"
ipv6 = "2001:db8:1::10"
[[instance]]
name = "a"
ipv4 = "10.0.1.11"
ipv6 = "fd00:1::11"
[[instance]]
name = "b"
ipv4 = "10.0.1.12"
[[pool]]
name = "web"
members = ["a", "b"]
[[probe]]
name = "p"
protocol = "http"
{settings}
[[rule]]
name = "r"
frontend = "web"
port = 80
pool = "web"
probe = "p"
"#
    );
    parse_all("f.toml", &text).unwrap().config
}

fn at(seconds: f64) -> Moment {
    let uptime = Duration::from_secs_f64(seconds);
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000) + uptime;
    Moment { wall, uptime }
}

fn target(address: &str) -> Target {
    Target {
        probe: "p".to_owned(),
        address: address.parse::<IpAddr>().unwrap(),
        port: 80,
    }
}

fn probed(address: &str) -> Probed {
    let Target {
        probe,
        address,
        port,
    } = target(address);
    Probed {
        probe,
        address,
        port,
    }
}

const GOOD: Outcome = Outcome {
    result: Ok(()),
    duration: Duration::from_millis(3),
};

fn bad(failure: Failure) -> Outcome {
    Outcome {
        result: Err(failure),
        duration: Duration::from_millis(4),
    }
}

const A: &str = "10.0.1.11";
const B: &str = "10.0.1.12";

/// One health, and its time: a second for each outcome.
struct Run {
    health: Health,
    now: f64,
}

impl Run {
    fn with(settings: &str) -> Self {
        let mut health = Health::new();
        assert_eq!(health.configure(&config(settings), at(0.0)), []);
        Self { health, now: 0.0 }
    }

    fn record(&mut self, address: &str, outcome: Outcome) -> Vec<Transition> {
        self.now += 1.0;
        self.health.record(&probed(address), outcome, at(self.now))
    }

    fn standing(&self, address: &str) -> Standing {
        let standing = self.health.standing(&target(address), at(self.now));
        standing.unwrap()
    }

    fn verdict(&self, address: &str) -> Verdict {
        let verdict = self.standing(address).verdict;
        let is_up = self.health.view().is_up(&target(address));
        assert_eq!(is_up, verdict == Verdict::Up, "view and verdict differ");
        verdict
    }

    /// Succeeds or fails, letter by letter, and says the verdicts in between: u, d, ?.
    fn play(&mut self, address: &str, letters: &str) -> String {
        let play = letters.chars().map(|letter| {
            let outcome = match letter {
                '+' => GOOD,
                _ => bad(Failure::AnswerTimeout),
            };
            self.record(address, outcome);
            match self.verdict(address) {
                Verdict::Up => 'u',
                Verdict::Down => 'd',
                Verdict::Unknown => '?',
            }
        });
        play.collect()
    }
}

#[test]
fn first_success_admits_a_new_member_whatever_rise_is() {
    let mut run = Run::with("rise = 5");
    assert_eq!(run.verdict(A), Verdict::Unknown);
    assert_eq!(run.standing(A).reason, "not-probed-yet");
    let [up] = &run.record(A, GOOD)[..] else {
        panic!("one transition expected");
    };
    assert_eq!((up.from, up.to), (Verdict::Unknown, Verdict::Up));
    assert_eq!((&up.target, up.reason), (&target(A), "ok"));
    assert_eq!(up.member.to_string(), "a/primary");
    assert_eq!(run.verdict(B), Verdict::Unknown);
    let mut late = Run::with("rise = 5\nfall = 3");
    assert_eq!(late.play(A, "--+"), "??u");
}

#[test]
fn verdicts_change_after_enough_in_a_row_and_no_sooner() {
    let mut run = Run::with("rise = 2\nfall = 3");
    assert_eq!(run.play(A, "+--+--+---"), "uuuuuuuuud");
    assert_eq!(run.play(A, "+-+-++"), "dddddu");
    assert_eq!(run.play(B, "---"), "??d");
    assert_eq!(run.play(B, "++"), "du", "one that was down needs rise");
    let mut at_once = Run::with("fall = 1");
    assert_eq!(at_once.play(A, "+-+"), "udu");
}

#[test]
fn every_failure_counts_alike_and_the_last_one_is_the_reason() {
    let mut run = Run::with("fall = 2");
    run.record(A, GOOD);
    assert_eq!(run.record(A, bad(Failure::Reset)), []);
    let standing = run.standing(A);
    assert_eq!((standing.verdict, standing.reason), (Verdict::Up, "ok"));
    assert_eq!(standing.last, Some(bad(Failure::Reset)));
    let fallen = run.record(A, bad(Failure::UnexpectedStatus(503)));
    assert_eq!(fallen[0].reason, "unexpected-status");
    assert_eq!(fallen[0].failure, Some(Failure::UnexpectedStatus(503)));
    run.record(A, bad(Failure::ConnectionRefused));
    let standing = run.standing(A);
    assert_eq!(standing.reason, "connection-refused");
    assert_eq!(standing.consecutive, 3);
    assert_eq!(standing.changed_at, at(3.0).wall);
}

#[test]
fn what_fails_here_says_nothing_of_the_member() {
    let mut run = Run::with("fall = 2");
    run.record(A, GOOD);
    for _ in 0..10 {
        assert_eq!(run.record(A, bad(Failure::NoResources)), []);
        run.record(B, bad(Failure::CaFile));
    }
    assert_eq!(run.verdict(A), Verdict::Up);
    assert_eq!(run.standing(A).last, Some(bad(Failure::NoResources)));
    assert_eq!(run.verdict(B), Verdict::Unknown);
    assert_eq!(run.standing(B).reason, "ca-file");
}

#[test]
fn one_family_turns_both_addresses() {
    let mut run = Run::with("family = \"ipv4\"\nfall = 1");
    let v6 = "fd00:1::11";
    assert_eq!(run.record(v6, GOOD), [], "nobody asks it");
    let turned: Vec<_> = (run.record(A, GOOD).into_iter())
        .map(|transition| transition.target)
        .collect();
    assert_eq!(turned, [target(A), target(v6)]);
    assert_eq!(run.verdict(v6), Verdict::Up);
    assert_eq!(run.record(A, bad(Failure::Closed)).len(), 2);
    assert_eq!(run.verdict(v6), Verdict::Down);
}

#[test]
fn other_settings_keep_the_verdict_and_other_places_do_not() {
    let mut run = Run::with("path = \"/a\"");
    run.play(A, "+");
    run.play(B, "+--");
    let view = run.health.view();
    let changed = config("path = \"/b\"\ninterval = \"1s\"\nexpect_status = [204]");
    assert_eq!(run.health.configure(&changed, at(10.0)), []);
    assert_eq!(run.health.view(), view);
    assert_eq!(run.verdict(B), Verdict::Down);
    assert_eq!(run.health.targets().probed[&probed(A)].path, "/b");
    // Its IPv6 address was never asked, and is judged by the other one now.
    let turned = run.health.configure(&config("family = \"ipv4\""), at(11.0));
    let [up] = &turned[..] else {
        panic!("one transition expected, not {turned:?}");
    };
    assert_eq!(up.target, target("fd00:1::11"));
    assert_eq!((up.from, up.to), (Verdict::Unknown, Verdict::Up));
    assert_ne!(run.health.view(), view);
    run.health.configure(&config("port = 81"), at(12.0));
    assert_eq!(run.health.standing(&target(A), at(12.0)), None);
    let rows = run.health.rows(at(12.0));
    assert_eq!(rows.len(), 3);
    assert!(rows.iter().all(|row| row.target.port == 81));
    let verdicts = rows.iter().map(|row| row.standing.verdict);
    assert!(verdicts.eq([Verdict::Unknown; 3]));
    assert_eq!(run.health.view().up().count(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever comes, a verdict is what the last outcomes in a row say, or what it was.
    #[test]
    fn verdicts_follow_from_what_came_in_a_row(
        rise in 1_u32..5,
        fall in 1_u32..5,
        outcomes in proptest::collection::vec(proptest::bool::weighted(0.5), 1..80),
    ) {
        let mut run = Run::with(&format!("rise = {rise}\nfall = {fall}\nflap_damping = false"));
        let (mut in_a_row, mut before, mut verdict) = (0, None, Verdict::Unknown);
        for is_good in outcomes {
            in_a_row = if before == Some(is_good) { in_a_row + 1 } else { 1 };
            before = Some(is_good);
            let turned = run.record(A, if is_good { GOOD } else { bad(Failure::Reset) });
            let enough = match (is_good, verdict) {
                (true, Verdict::Unknown) => true,
                (true, Verdict::Down) => in_a_row >= rise,
                (false, Verdict::Up | Verdict::Unknown) => in_a_row >= fall,
                _ => false,
            };
            if enough {
                let expected = if is_good { Verdict::Up } else { Verdict::Down };
                prop_assert_eq!((turned[0].from, turned[0].to), (verdict, expected));
                verdict = expected;
            } else {
                prop_assert_eq!(&turned, &[]);
            }
            prop_assert_eq!(run.verdict(A), verdict);
            prop_assert_eq!(run.standing(A).consecutive, in_a_row);
        }
    }
}
