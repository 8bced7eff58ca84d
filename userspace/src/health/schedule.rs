//! When a probe is due.

use std::time::Duration;

/// A new probe is due after no longer than this.
const SOON: Duration = Duration::from_secs(1);

/// The moments at which one probe is due, as durations since any fixed moment. The first comes soon, the others at a
/// random place of the interval, so that thousands that begin together spread out. They lie exactly one interval
/// apart, however late each is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    interval: Duration,
    due: Duration,
    /// From the first one to the second.
    phase: Option<Duration>,
}

impl Schedule {
    /// One that begins now; the random numbers are of 0..1.
    pub fn new(now: Duration, interval: Duration, random: [f64; 2]) -> Self {
        let [first, second] = random.map(|random| random.clamp(0.0, 1.0));
        Self {
            interval,
            due: now + interval.min(SOON).mul_f64(first),
            // Never at once again.
            phase: Some(interval.mul_f64(0.1 + 0.9 * second)),
        }
    }

    /// When the next probe is due.
    pub fn due(&self) -> Duration {
        self.due
    }

    /// Takes the probe that is due. Those that were missed by now are left out.
    pub fn take(&mut self, now: Duration) {
        self.due += self.phase.take().unwrap_or(self.interval);
        if let Some(late) = now.checked_sub(self.due)
            && late >= self.interval
        {
            let missed = late.as_nanos() / self.interval.as_nanos().max(1);
            self.due += Duration::from_nanos((missed * self.interval.as_nanos()) as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(5);

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn first_comes_soon_and_the_others_spread_out() {
        let start = seconds(100.0);
        let mut slots = [0; 5];
        for n in 0..1000 {
            let random = [f64::from(n) / 1000.0, f64::from(n * 7 % 1000) / 1000.0];
            let mut schedule = Schedule::new(start, INTERVAL, random);
            assert!(schedule.due() - start < Duration::from_secs(1));
            let first = schedule.due();
            schedule.take(first);
            let second = schedule.due();
            assert!(second > first && second - first <= INTERVAL);
            schedule.take(second);
            assert_eq!(schedule.due() - second, INTERVAL);
            slots[(second.as_millis() % 5000 / 1000) as usize] += 1;
        }
        assert!(slots.into_iter().all(|n| n > 150), "{slots:?}");
    }

    #[test]
    fn short_intervals_begin_within_themselves() {
        let interval = Duration::from_millis(100);
        let schedule = Schedule::new(seconds(1.0), interval, [0.999, 0.0]);
        assert!(schedule.due() < seconds(1.1));
    }

    #[test]
    fn lateness_does_not_add_up() {
        let mut schedule = Schedule::new(seconds(0.0), INTERVAL, [0.0, 1.0]);
        for n in 0..1000 {
            let due = INTERVAL * n;
            assert_eq!(schedule.due(), due);
            schedule.take(due + Duration::from_millis(400));
        }
    }

    #[test]
    fn probes_that_were_missed_are_not_made_up_for() {
        let mut schedule = Schedule::new(seconds(0.0), INTERVAL, [0.0, 1.0]);
        schedule.take(seconds(0.0));
        schedule.take(seconds(62.0));
        assert_eq!(schedule.due(), seconds(60.0));
        schedule.take(seconds(62.0));
        assert_eq!(schedule.due(), seconds(65.0));
    }
}
