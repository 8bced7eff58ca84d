//! How the trials of the last minutes have ended.

use std::collections::VecDeque;
use std::ops::Add;
use std::time::Duration;

/// Trials that ended longer ago say nothing.
pub(super) const LOOK_BACK: Duration = Duration::from_secs(300);

/// The last trials of one target.
#[derive(Debug, Default)]
pub(super) struct Window(VecDeque<(Duration, bool)>);

/// How many trials there were, and how many were answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Count {
    pub(super) answered: u32,
    pub(super) all: u32,
    /// When the first of them ended.
    pub(super) since: Option<Duration>,
}

impl Window {
    /// Adds a trial that has just ended.
    pub(super) fn add(&mut self, now: Duration, is_answered: bool) {
        while self.0.front().is_some_and(|(at, _)| is_past(*at, now)) {
            self.0.pop_front();
        }
        self.0.push_back((now, is_answered));
    }

    /// Counts those that say something now.
    pub(super) fn count(&self, now: Duration) -> Count {
        let recent = self.0.iter().filter(|(at, _)| !is_past(*at, now));
        recent.fold(Count::default(), |count, (at, is_answered)| Count {
            answered: count.answered + u32::from(*is_answered),
            all: count.all + 1,
            since: count.since.or(Some(*at)),
        })
    }
}

fn is_past(at: Duration, now: Duration) -> bool {
    now.saturating_sub(at) >= LOOK_BACK
}

impl Count {
    /// The part that was answered; `None` without trials.
    pub(super) fn share(self) -> Option<f64> {
        (self.all > 0).then(|| f64::from(self.answered) / f64::from(self.all))
    }
}

impl Add for Count {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            answered: self.answered + other.answered,
            all: self.all + other.all,
            since: match (self.since, other.since) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            },
        }
    }
}
