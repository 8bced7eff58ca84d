//! The kernel's tick counter, as the data plane reads it, told from the boot clock.

use std::time::Duration;

/// Ticks a second (`CONFIG_HZ`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TickRate(pub u32);

impl TickRate {
    /// Rates that kernels are built with.
    const KNOWN: [u32; 4] = [100, 250, 300, 1000];

    /// The rate behind two readings of (jiffies, boot clock in ns) that lie some time apart; `None` if
    /// no known rate is near.
    pub fn between(first: [u64; 2], second: [u64; 2]) -> Option<Self> {
        let ticks = second[0].checked_sub(first[0])?;
        let nanoseconds = second[1].checked_sub(first[1])?;
        let distance = |rate: &u32| {
            let expected = nanoseconds * u64::from(*rate) / 1_000_000_000;
            expected.abs_diff(ticks)
        };
        let best = Self::KNOWN.into_iter().min_by_key(distance)?;
        // A reading may fall on either side of a tick.
        (distance(&best) <= 2).then_some(Self(best))
    }

    /// A duration in ticks, rounded up: timers are never early.
    pub fn ticks(self, duration: Duration) -> u32 {
        let ticks = (duration.as_nanos() * u128::from(self.0)).div_ceil(1_000_000_000);
        u32::try_from(ticks).unwrap_or(u32::MAX)
    }

    /// Ticks as a duration.
    pub fn duration(self, ticks: u64) -> Duration {
        Duration::from_nanos((u128::from(ticks) * 1_000_000_000 / u128::from(self.0)) as u64)
    }
}

/// Tells jiffies from the boot clock.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// Ticks a second.
    pub rate: TickRate,
    /// Jiffies and boot clock (ns) at one moment.
    pub anchor: [u64; 2],
}

impl Clock {
    /// Jiffies when the boot clock shows `boot_nanoseconds`.
    pub fn jiffies_at(&self, boot_nanoseconds: u64) -> u64 {
        let [jiffies, anchor] = self.anchor;
        let passed = boot_nanoseconds.saturating_sub(anchor);
        jiffies + (u128::from(passed) * u128::from(self.rate.0) / 1_000_000_000) as u64
    }

    /// Jiffies now.
    pub fn now(&self) -> u64 {
        self.jiffies_at(boot_nanoseconds())
    }
}

/// How long ago the machine was started.
pub fn boot_time() -> Duration {
    Duration::from_nanos(boot_nanoseconds())
}

/// The boot clock, nanoseconds.
pub fn boot_nanoseconds() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME);
    now.map_or(0, |now| {
        now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_is_recognised_from_two_readings() {
        for hz in [100, 250, 300, 1000] {
            let start = [5_000_000, 7_000_000_000];
            let ticks = u64::from(hz) / 5;
            for error in [0, 1] {
                let end = [start[0] + ticks + error, start[1] + 200_000_000];
                assert_eq!(
                    TickRate::between(start, end),
                    Some(TickRate(hz)),
                    "{hz} Hz, {error} off"
                );
            }
        }
        assert_eq!(TickRate::between([0, 0], [700, 1_000_000_000]), None);
    }

    #[test]
    fn durations_round_up() {
        assert_eq!(TickRate(250).ticks(Duration::from_millis(1)), 1);
        assert_eq!(TickRate(250).ticks(Duration::from_millis(4)), 1);
        assert_eq!(TickRate(250).ticks(Duration::from_millis(5)), 2);
        assert_eq!(
            TickRate(1000).ticks(Duration::from_secs(86_400)),
            86_400_000
        );
        assert_eq!(TickRate(250).duration(500), Duration::from_secs(2));
    }

    #[test]
    fn clock_goes_on_from_its_anchor() {
        let clock = Clock {
            rate: TickRate(250),
            anchor: [1000, 5_000_000_000],
        };
        assert_eq!(clock.jiffies_at(5_000_000_000), 1000);
        assert_eq!(clock.jiffies_at(6_000_000_000), 1250);
        assert_eq!(clock.jiffies_at(0), 1000);
    }
}
