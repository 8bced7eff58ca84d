//! What follows for frontends from how their trials have ended.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::window::Count;
use super::{Availability, Failure};

/// Frontends are judged this often.
const EACH: Duration = Duration::from_secs(60);
/// A frontend is judged once its trials are this old, so that the first of them alone say nothing.
const EXPERIENCE: Duration = Duration::from_secs(40);

/// Below this part of answered trials the frontend is critical.
const CRITICAL: f64 = 0.25;
/// From this part on it is so no more.
const NOT_CRITICAL: f64 = 0.30;
/// Below this part there is something to look at.
const WARNING: f64 = 0.90;
/// From this part on there is no more.
const NO_WARNING: f64 = 0.95;

/// How a frontend is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Level {
    /// Its rules work.
    #[default]
    Good,
    /// Some trials fail.
    Warning,
    /// Most trials fail.
    Critical,
}

impl Level {
    /// The level after this one, with this part of trials answered. Who is close to a bound stays.
    pub(super) fn next(self, share: f64) -> Self {
        let is_critical = share < CRITICAL || (self == Self::Critical && share < NOT_CRITICAL);
        let is_warned = share < WARNING || (self != Self::Good && share < NO_WARNING);
        match (is_critical, is_warned) {
            (true, _) => Self::Critical,
            (false, true) => Self::Warning,
            (false, false) => Self::Good,
        }
    }
}

/// How a frontend is found.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// Its name.
    pub frontend: String,
    /// How it is.
    pub level: Level,
    /// The part of its trials that were answered, 0 to 1.
    pub share: f64,
    /// Addresses and ports of which trials were not answered.
    pub affected: Vec<(IpAddr, u16)>,
    /// Why the last one failed that did.
    pub last_failure: Option<Failure>,
}

impl Availability {
    /// Judges every frontend of which enough is known, once a minute. Others keep their level, unless nothing
    /// is known of them any more.
    pub fn judge(&mut self, now: Duration) -> Option<Vec<Standing>> {
        if now < self.judged + EACH {
            return None;
        }
        self.judged = now;
        let mut counts: BTreeMap<&str, Count> = BTreeMap::new();
        for (target, tried) in &self.tried {
            let count = counts.entry(&target.frontend).or_default();
            *count = *count + tried.window.count(now);
        }
        let is_known = |count: &Count| count.all > 0;
        self.levels
            .retain(|frontend, _| counts.get(frontend.as_str()).is_some_and(is_known));
        let mut found = Vec::new();
        for (frontend, count) in counts {
            let is_young = |since| now.saturating_sub(since) < EXPERIENCE;
            let Some(share) = count.share().filter(|_| !count.since.is_none_or(is_young)) else {
                continue;
            };
            let before = self.levels.get(frontend).copied().unwrap_or_default();
            found.push(self.standing(frontend, before.next(share), share, now));
        }
        let levels = found.iter().map(|one| (one.frontend.clone(), one.level));
        self.levels.extend(levels);
        Some(found)
    }

    fn standing(&self, frontend: &str, level: Level, share: f64, now: Duration) -> Standing {
        let rows = self.rows(now);
        let bad = rows.filter(|row| {
            row.target.frontend == frontend && row.share.is_some_and(|share| share < 1.0)
        });
        let mut standing = Standing {
            frontend: frontend.to_owned(),
            level,
            share,
            affected: Vec::new(),
            last_failure: None,
        };
        for row in bad {
            standing.affected.push((row.target.address, row.port));
            standing.last_failure = row.last_failure.or(standing.last_failure);
        }
        standing
    }

    /// How a frontend was last found; `None`: it was not judged, or nothing is known of it any more.
    pub fn level(&self, frontend: &str) -> Option<Level> {
        self.levels.get(frontend).copied()
    }
}
