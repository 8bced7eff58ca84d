//! Whether the data path works: the node tries its own rules, and this is what it knows of them. The time is given,
//! so that nothing here depends on a clock.

mod judge;
mod segment;
mod targets;
#[cfg(test)]
mod tests;
mod window;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use forebay_common::reason::Reason;

pub use judge::{Level, Standing};
pub use segment::Segment;
pub use targets::{Target, targets};
use window::Window;

use crate::health::Schedule;

/// Between two trials of one target, if there are few.
const INTERVAL: Duration = Duration::from_secs(10);
/// Trials a second, of all targets together.
const MOST_A_SECOND: u32 = 100;
/// How long members have to be found up before their rule is tried.
const PATIENCE: Duration = Duration::from_secs(2);
/// An answer that takes longer is none.
pub const TIMEOUT: Duration = Duration::from_secs(1);

/// Why a trial failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It did not leave the node.
    Stopped(Reason),
    /// It left, and nothing came back.
    NoAnswer,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stopped(reason) => f.write_str(reason.label()),
            Self::NoAnswer => f.write_str("no-answer"),
        }
    }
}

/// What is known of one target.
#[derive(Debug)]
struct Tried {
    port: u16,
    interval: Duration,
    schedule: Schedule,
    window: Window,
    last_failure: Option<Failure>,
}

/// One line about a target.
#[derive(Debug, Clone, PartialEq)]
pub struct Row<'a> {
    /// The target.
    pub target: &'a Target,
    /// The port that is tried.
    pub port: u16,
    /// The part of the trials that were answered, 0 to 1; `None`: nothing is known.
    pub share: Option<f64>,
    /// Why the last one failed that did, of those that count.
    pub last_failure: Option<Failure>,
}

/// The targets, when they are tried, and what came of it.
#[derive(Debug, Default)]
pub struct Availability {
    tried: BTreeMap<Target, Tried>,
    levels: BTreeMap<String, Level>,
    judged: Duration,
}

impl Availability {
    /// Tries these targets from now on. What is known of those that stay is kept.
    pub fn configure(
        &mut self,
        targets: BTreeMap<Target, u16>,
        now: Duration,
        mut random: impl FnMut() -> [f64; 2],
    ) {
        let least = Duration::from_secs(1) * targets.len() as u32 / MOST_A_SECOND;
        let interval = INTERVAL.max(least);
        let mut former = std::mem::take(&mut self.tried);
        for (target, port) in targets {
            let kept = former.remove(&target).filter(|known| known.port == port);
            let tried = match kept {
                Some(known) if known.interval == interval => known,
                kept => Tried {
                    port,
                    interval,
                    schedule: Schedule::new(now + PATIENCE, interval, random()),
                    last_failure: kept.as_ref().and_then(|known| known.last_failure),
                    window: kept.map_or_else(Window::default, |known| known.window),
                },
            };
            self.tried.insert(target, tried);
        }
    }

    /// Forgets what is known: it says nothing about a time in which nothing is tried.
    pub fn pause(&mut self) {
        for tried in self.tried.values_mut() {
            tried.window = Window::default();
            tried.last_failure = None;
        }
        self.levels.clear();
    }

    /// The targets that are due, with their ports, no more than so many. Others wait.
    pub fn due(&mut self, now: Duration, at_most: usize) -> Vec<(Target, SocketAddr)> {
        let due = self.tried.iter_mut();
        let due = due.filter(|(_, tried)| tried.schedule.due() <= now);
        due.take(at_most)
            .map(|(target, tried)| {
                tried.schedule.take(now);
                let to = SocketAddr::new(target.address, tried.port);
                (target.clone(), to)
            })
            .collect()
    }

    /// Takes in how a trial of a target that is still there has ended.
    pub fn record(&mut self, target: &Target, now: Duration, outcome: Result<(), Failure>) {
        let Some(tried) = self.tried.get_mut(target) else {
            return;
        };
        tried.window.add(now, outcome.is_ok());
        if let Err(failure) = outcome {
            tried.last_failure = Some(failure);
        }
    }

    /// What is known of all targets.
    pub fn rows(&self, now: Duration) -> impl Iterator<Item = Row<'_>> {
        self.tried.iter().map(move |(target, tried)| {
            let share = tried.window.count(now).share();
            Row {
                target,
                port: tried.port,
                share,
                last_failure: tried
                    .last_failure
                    .filter(|_| share.is_some_and(|s| s < 1.0)),
            }
        })
    }

    /// The part of the trials of a rule that were answered, over all its addresses.
    pub fn of_rule(&self, rule: &str, now: Duration) -> Option<f64> {
        let first = Target {
            rule: rule.to_owned(),
            address: IpAddr::from([0, 0, 0, 0]),
            frontend: String::new(),
        };
        let from = self.tried.range(first..);
        let of_rule = from.take_while(|(target, _)| target.rule == rule);
        let counts = of_rule.map(|(_, tried)| tried.window.count(now));
        counts.fold(window::Count::default(), |a, b| a + b).share()
    }
}
