//! Members that fall again and again are held out longer and longer.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::events::Moment;

/// Falls that are longer ago are forgotten. The time that a member is held out does not count.
const REMEMBERED: Duration = Duration::from_mins(10);
/// From this fall on, recovery is held.
const FIRST_HELD: usize = 3;
/// How long at first; twice as long from fall to fall.
const SHORTEST: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_mins(5);
/// More falls hold no longer.
const MOST_FALLS: usize = 7;

/// The zero of times in here lies before the start of the daemon, as falls may.
const BEFORE_START: Duration = Duration::from_hours(1);

/// Remembers the falls of one member.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Damping {
    /// In order. Moved on by the time that recovery was held.
    falls: Vec<Duration>,
    hold: Option<Hold>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Hold {
    until: Duration,
    length: Duration,
}

/// What a new daemon takes over: times by the clock on the wall.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct SavedDamping {
    falls: Vec<SystemTime>,
    hold: Option<(SystemTime, Duration)>,
}

fn time(now: Moment) -> Duration {
    now.uptime + BEFORE_START
}

impl Damping {
    /// The member has fallen.
    pub(super) fn fell(&mut self, now: Moment) {
        let now = time(now);
        let is_remembered = |fall: &Duration| now.saturating_sub(*fall) < REMEMBERED;
        self.falls.retain(is_remembered);
        self.falls.push(now);
        self.falls
            .drain(..self.falls.len().saturating_sub(MOST_FALLS));
        self.hold = self.falls.len().checked_sub(FIRST_HELD).map(|doublings| {
            let length = (SHORTEST * (1 << doublings)).min(LONGEST);
            let until = now + length;
            Hold { until, length }
        });
    }

    /// The member has recovered.
    pub(super) fn rose(&mut self) {
        if let Some(hold) = self.hold.take() {
            for fall in &mut self.falls {
                *fall += hold.length;
            }
        }
    }

    /// How long recovery is still held; `None`: it is not.
    pub(super) fn held_for(&self, now: Moment) -> Option<Duration> {
        let left = self.hold?.until.checked_sub(time(now))?;
        (!left.is_zero()).then_some(left)
    }

    pub(super) fn save(&self, now: Moment) -> SavedDamping {
        let wall = |at: Duration| match at.checked_sub(time(now)) {
            Some(ahead) => now.wall + ahead,
            None => now.wall - (time(now) - at),
        };
        SavedDamping {
            falls: self.falls.iter().copied().map(wall).collect(),
            hold: self.hold.map(|hold| (wall(hold.until), hold.length)),
        }
    }

    /// What was saved. Clocks that were set meanwhile hold nobody longer than a fall can.
    pub(super) fn restored(saved: &SavedDamping, now: Moment) -> Self {
        let uptime = |at: SystemTime| match at.duration_since(now.wall) {
            Ok(ahead) => time(now) + ahead.min(LONGEST),
            Err(ago) => time(now).saturating_sub(ago.duration()),
        };
        let falls = saved.falls.iter().map(|fall| uptime(*fall).min(time(now)));
        let hold = saved.hold.map(|(until, length)| Hold {
            until: uptime(until),
            length: length.min(LONGEST),
        });
        Self {
            falls: falls.collect(),
            hold,
        }
    }
}
