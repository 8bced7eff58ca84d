//! Members that flap.

use super::*;

impl Run {
    /// Fails once at this time; the member was up, and is down.
    fn fall_at(&mut self, seconds: f64) {
        assert_eq!(self.verdict(A), Verdict::Up, "at {seconds}");
        self.record_at(seconds, bad(Failure::Reset));
        assert_eq!(self.verdict(A), Verdict::Down, "at {seconds}");
    }

    fn record_at(&mut self, seconds: f64, outcome: Outcome) {
        self.now = seconds;
        self.health.record(&probed(A), outcome, at(seconds));
    }

    /// Succeeds each second; says how long after the fall it is up again.
    fn recover(&mut self) -> f64 {
        let fallen = self.now;
        while self.verdict(A) == Verdict::Down {
            self.record_at(self.now + 1.0, GOOD);
            assert!(self.now < fallen + 1000.0, "never up again");
        }
        self.now - fallen
    }
}

fn flapping(settings: &str) -> Run {
    let mut run = Run::with(&format!("fall = 1\n{settings}"));
    run.record_at(0.5, GOOD);
    run
}

#[test]
fn third_fall_is_held_and_each_further_one_twice_as_long() {
    let mut run = flapping("");
    let mut held = Vec::new();
    for _ in 0..9 {
        run.fall_at(run.now + 20.0);
        held.push(run.recover());
    }
    let expected = [1.0, 1.0, 30.0, 60.0, 120.0, 240.0, 300.0, 300.0, 300.0];
    assert_eq!(held, expected);
}

#[test]
fn falls_that_are_long_ago_are_forgotten() {
    let mut run = flapping("");
    for second in [100.0, 400.0, 701.0, 1002.0] {
        run.fall_at(second);
        assert_eq!(run.recover(), 1.0, "at {second}");
    }
    run.fall_at(1100.0);
    assert_eq!(run.recover(), 30.0);
    run.fall_at(1131.0 + 601.0);
    assert_eq!(run.recover(), 1.0);
}

#[test]
fn one_that_is_held_says_so_and_still_has_to_rise() {
    let mut run = flapping("rise = 2");
    for second in [10.0, 20.0] {
        run.fall_at(second);
        assert_eq!(run.recover(), 2.0);
    }
    run.fall_at(30.0);
    assert_eq!(run.standing(A).reason, "reset");
    run.record_at(31.0, GOOD);
    let standing = run.standing(A);
    assert_eq!(standing.reason, "held-after-flapping");
    assert_eq!(standing.held_for, Some(Duration::from_secs(29)));
    run.record_at(59.5, bad(Failure::AnswerTimeout));
    run.record_at(60.0, GOOD);
    let standing = run.standing(A);
    assert_eq!((standing.verdict, standing.held_for), (Verdict::Down, None));
    assert_eq!(standing.reason, "recovering");
    run.record_at(60.5, GOOD);
    assert_eq!(run.verdict(A), Verdict::Up);
}

#[test]
fn without_damping_nobody_is_held() {
    let mut run = flapping("flap_damping = false");
    for n in 1..10 {
        run.fall_at(f64::from(n) * 10.0);
        assert_eq!(run.recover(), 1.0);
    }
    let mut run = flapping("");
    for second in [10.0, 20.0] {
        run.fall_at(second);
        run.recover();
    }
    run.fall_at(30.0);
    let config = config("fall = 1\nflap_damping = false");
    run.health.configure(&config, at(31.0));
    assert_eq!(run.recover(), 1.0, "switched off while it is held");
}
