//! Whether a member is up, told from what its probes found one after the other.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::damping::{Damping, SavedDamping};
use super::outcome::{Failure, Outcome};
use crate::config::model::Probe;
use crate::events::Moment;

/// Whether a member is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// New: no probe has succeeded, too few have failed. Takes no new flows.
    Unknown,
    /// Takes new flows.
    Up,
    /// Takes no new flows.
    Down,
}

impl Verdict {
    /// The word for it in output.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// What is shown of a member's health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Whether it is up.
    pub verdict: Verdict,
    /// Why, in one word: `ok`, `not-probed-yet`, `recovering`, `held-after-flapping`, or what went wrong last.
    pub reason: &'static str,
    /// What went wrong last, unless it is up.
    pub failure: Option<Failure>,
    /// What the last probe found.
    pub last: Option<Outcome>,
    /// Probes in a row that found the same, well or not, the last one included.
    pub consecutive: u32,
    /// Since when the verdict stands.
    pub changed_at: SystemTime,
    /// How long recovery is still held, of one that has fallen too often.
    pub held_for: Option<Duration>,
}

/// Judges one probed address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Judge {
    verdict: Verdict,
    changed_at: SystemTime,
    last: Option<Outcome>,
    /// Probes in a row that succeeded and failed; one of them is 0.
    successes: u32,
    failures: u32,
    /// The last failure that counts.
    failure: Option<Failure>,
    damping: Damping,
}

/// What a new daemon takes over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedJudge {
    up: bool,
    changed_at: SystemTime,
    failure: Option<Failure>,
    damping: SavedDamping,
}

impl Judge {
    pub(super) fn new(now: Moment) -> Self {
        Self {
            verdict: Verdict::Unknown,
            changed_at: now.wall,
            last: None,
            successes: 0,
            failures: 0,
            failure: None,
            damping: Damping::default(),
        }
    }

    pub(super) fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Takes what a probe found.
    pub(super) fn record(&mut self, outcome: Outcome, probe: &Probe, now: Moment) {
        self.last = Some(outcome);
        if !probe.flap_damping {
            self.damping = Damping::default();
        }
        match outcome.result {
            Err(failure) if failure.is_ours() => {}
            Err(failure) => {
                self.failure = Some(failure);
                self.successes = 0;
                self.failures = self.failures.saturating_add(1);
                self.may_fall(probe, now);
            }
            Ok(()) => {
                self.failures = 0;
                self.successes = self.successes.saturating_add(1);
                self.may_rise(probe, now);
            }
        }
    }

    fn may_fall(&mut self, probe: &Probe, now: Moment) {
        if self.verdict == Verdict::Down || self.failures < probe.fall {
            return;
        }
        if self.verdict == Verdict::Up && probe.flap_damping {
            self.damping.fell(now);
        }
        self.turn(Verdict::Down, now);
    }

    fn may_rise(&mut self, probe: &Probe, now: Moment) {
        let rises = match self.verdict {
            Verdict::Up => false,
            Verdict::Unknown => true,
            Verdict::Down => self.successes >= probe.rise && self.damping.held_for(now).is_none(),
        };
        if rises {
            self.damping.rose();
            self.failure = None;
            self.turn(Verdict::Up, now);
        }
    }

    fn turn(&mut self, verdict: Verdict, now: Moment) {
        self.verdict = verdict;
        self.changed_at = now.wall;
    }

    pub(super) fn standing(&self, now: Moment) -> Standing {
        let held_for = self.damping.held_for(now);
        let held_for = held_for.filter(|_| self.verdict == Verdict::Down);
        let failure = self.failure.filter(|_| self.verdict != Verdict::Up);
        Standing {
            verdict: self.verdict,
            reason: self.reason(held_for.is_some()),
            failure,
            last: self.last,
            consecutive: self.successes.max(self.failures),
            changed_at: self.changed_at,
            held_for,
        }
    }

    fn reason(&self, is_held: bool) -> &'static str {
        let failed = self.failure.map(Failure::label);
        let ours = self.last.and_then(|last| last.result.err());
        let ours = ours.filter(|failure| failure.is_ours()).map(Failure::label);
        match self.verdict {
            Verdict::Up => "ok",
            Verdict::Down if is_held && self.successes > 0 => "held-after-flapping",
            Verdict::Down if self.successes > 0 => "recovering",
            Verdict::Down => failed.unwrap_or("not-probed-yet"),
            Verdict::Unknown => failed.or(ours).unwrap_or("not-probed-yet"),
        }
    }

    /// What a new daemon takes over; `None`: nothing is known.
    pub(super) fn save(&self, now: Moment) -> Option<SavedJudge> {
        (self.verdict != Verdict::Unknown).then(|| SavedJudge {
            up: self.verdict == Verdict::Up,
            changed_at: self.changed_at,
            failure: self.failure,
            damping: self.damping.save(now),
        })
    }

    /// What was saved. What was found in a row is counted anew: nobody probed meanwhile.
    pub(super) fn restored(saved: &SavedJudge, now: Moment) -> Self {
        let verdict = match saved.up {
            true => Verdict::Up,
            false => Verdict::Down,
        };
        Self {
            verdict,
            changed_at: saved.changed_at,
            failure: saved.failure,
            damping: Damping::restored(&saved.damping, now),
            ..Self::new(now)
        }
    }
}
