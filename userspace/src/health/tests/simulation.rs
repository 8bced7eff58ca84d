//! Health and schedule together, over simulated instances that die.

use std::collections::BinaryHeap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

/// What the daemon may take to come to a thing.
const SLACK: Duration = Duration::from_millis(100);

/// How an instance is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Death {
    Refuses,
    IsSilent,
}

/// What is to come: when, and the outcome of a probe that has ended, or `None`: a probe is due.
type Coming = (Duration, Option<bool>);

struct Simulation {
    schedule: Schedule,
    coming: BinaryHeap<std::cmp::Reverse<Coming>>,
    random: StdRng,
    timeout: Duration,
    death: (Duration, Death),
}

impl Simulation {
    /// The next probe ends: when, and how.
    fn next(&mut self) -> (Duration, bool) {
        loop {
            let std::cmp::Reverse((now, ended)) = self.coming.pop().unwrap();
            if let Some(is_good) = ended {
                return (now, is_good);
            }
            let late = SLACK.mul_f64(self.random.random_range(0.0..0.5));
            self.schedule.take(now + late);
            let due = self.schedule.due();
            self.coming.push(std::cmp::Reverse((due, None)));
            let (end, is_good) = self.probe(now + late);
            self.coming.push(std::cmp::Reverse((end, Some(is_good))));
        }
    }

    /// A probe that begins now: when it ends, and how.
    fn probe(&mut self, start: Duration) -> (Duration, bool) {
        let answer = self.timeout.mul_f64(self.random.random_range(0.0..0.9));
        let (died, death) = self.death;
        match (start + answer < died, death) {
            (true, _) => (start + answer, true),
            (false, Death::Refuses) => (start + answer, false),
            (false, Death::IsSilent) => (start + self.timeout, false),
        }
    }
}

/// From the death of an instance to its fall, and the failures in a row until then.
fn fall_of(seed: u64, settings: &str, death: Death) -> (Duration, Duration) {
    let mut run = Run::with(settings);
    let probe = run.health.targets().probed[&probed(A)].clone();
    let mut random = StdRng::seed_from_u64(seed);
    let died = Duration::from_secs_f64(random.random_range(30.0..60.0));
    let schedule = Schedule::new(Duration::ZERO, probe.interval, random.random());
    let mut simulation = Simulation {
        coming: [std::cmp::Reverse((schedule.due(), None))].into(),
        schedule,
        random,
        timeout: probe.timeout,
        death: (died, death),
    };
    let mut failures = 0;
    loop {
        let (now, is_good) = simulation.next();
        let outcome = if is_good { GOOD } else { bad(Failure::Reset) };
        failures = if is_good { 0 } else { failures + 1 };
        let now_at = at(now.as_secs_f64());
        for turned in run.health.record(&probed(A), outcome, now_at) {
            if turned.to == Verdict::Down {
                assert_eq!(failures, probe.fall, "SEED={seed}");
                let longest = probe.interval * probe.fall + probe.timeout + SLACK;
                return (now.checked_sub(died).unwrap(), longest);
            }
        }
    }
}

#[test]
fn dead_instance_is_down_within_interval_times_fall_and_the_timeout() {
    let settings = [
        "",
        "fall = 1",
        "interval = \"100ms\"\nfall = 5",
        "interval = \"1s\"\ntimeout = \"3s\"\nfall = 3",
        "interval = \"2s\"\ntimeout = \"200ms\"\nfall = 4\nrise = 3",
    ];
    let mut slowest: f64 = 0.0;
    for seed in 0..100 {
        for settings in settings {
            for death in [Death::Refuses, Death::IsSilent] {
                let (took, longest) = fall_of(seed, settings, death);
                assert!(
                    took <= longest,
                    "SEED={seed} {settings:?} {death:?}: {took:?} is more than {longest:?}"
                );
                slowest = slowest.max(took.div_duration_f64(longest));
            }
        }
    }
    assert!(slowest > 0.8, "the bound is not tried: {slowest}");
}
