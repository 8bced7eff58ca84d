//! The health of members: what is probed, what the probes found, who is up. Pure: outcomes and the time are given.
//!
//! ```text
//! Config ─► targets ─► (probes run elsewhere) ─► Outcome ─► judge ─► Transition, View
//! ```

mod damping;
mod judge;
mod outcome;
mod schedule;
mod targets;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use self::judge::{Judge, SavedJudge};
pub use self::judge::{Standing, Verdict};
pub use self::outcome::{Failure, Outcome};
pub use self::schedule::Schedule;
pub(crate) use self::targets::ip_configs;
pub use self::targets::{Judged, Probed, Target, Targets, probed_port, targets};
use crate::config::model::{Config, MemberRef};
use crate::events::Moment;

/// Which targets are up, and of which nothing is known yet. A clone costs nothing, and stays as it is when a verdict
/// changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct View {
    up: Arc<BTreeSet<Target>>,
    unknown: Arc<BTreeSet<Target>>,
}

impl View {
    /// One with these verdicts.
    pub fn of(verdicts: impl IntoIterator<Item = (Target, Verdict)>) -> Self {
        let (mut up, mut unknown) = (BTreeSet::new(), BTreeSet::new());
        for (target, verdict) in verdicts {
            match verdict {
                Verdict::Up => drop(up.insert(target)),
                Verdict::Unknown => drop(unknown.insert(target)),
                Verdict::Down => {}
            }
        }
        Self {
            up: Arc::new(up),
            unknown: Arc::new(unknown),
        }
    }

    /// Whether a target takes new flows: its probes find it up.
    pub fn is_up(&self, target: &Target) -> bool {
        self.up.contains(target)
    }

    /// Whether nothing was found out about a target yet.
    pub fn is_unknown(&self, target: &Target) -> bool {
        self.unknown.contains(target)
    }

    /// Every target that is up.
    pub fn up(&self) -> impl Iterator<Item = &Target> {
        self.up.iter()
    }
}

impl FromIterator<Target> for View {
    fn from_iter<T: IntoIterator<Item = Target>>(up: T) -> Self {
        Self::of(up.into_iter().map(|target| (target, Verdict::Up)))
    }
}

/// A target whose verdict has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// Which one.
    pub target: Target,
    /// Whose address it is.
    pub member: MemberRef,
    /// The verdict before.
    pub from: Verdict,
    /// The verdict now.
    pub to: Verdict,
    /// Why, in one word.
    pub reason: &'static str,
    /// What went wrong, of one that is not up.
    pub failure: Option<Failure>,
}

/// One line of what is shown of probes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What is judged.
    pub target: Target,
    /// Whose address it is.
    pub member: MemberRef,
    /// What is asked for it.
    pub by: Probed,
    /// How it stands.
    pub standing: Standing,
}

/// What a new daemon takes over, so that nobody falls or is admitted by a restart.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Saved(Vec<(Probed, SavedJudge)>);

/// The health of every target.
#[derive(Debug, Clone, Default)]
pub struct Health {
    targets: Targets,
    judges: BTreeMap<Probed, Judge>,
    judged_by: BTreeMap<Probed, Vec<Target>>,
    view: View,
    /// What the daemon before knew, until the first configuration.
    restored: BTreeMap<Probed, SavedJudge>,
}

impl Health {
    /// One that knows of nobody yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// One that begins where another daemon ended, as far as its first configuration has the same targets.
    pub fn restore(saved: Saved) -> Self {
        Self {
            restored: saved.0.into_iter().collect(),
            ..Self::default()
        }
    }

    /// What a new daemon takes over. Worth keeping whenever a verdict has changed.
    pub fn save(&self, now: Moment) -> Saved {
        let known = self.judges.iter();
        let known = known.filter_map(|(by, judge)| Some((by.clone(), judge.save(now)?)));
        Saved(known.collect())
    }

    /// Judges the targets of this configuration from now on. Whoever was judged before keeps its verdict, whatever
    /// else is changed of its probe; a verdict changes only if another address judges it now.
    pub fn configure(&mut self, config: &Config, now: Moment) -> Vec<Transition> {
        let targets = targets(config);
        let before = self.verdicts();
        let mut judges = std::mem::take(&mut self.judges);
        let restored = std::mem::take(&mut self.restored);
        let mut judge_of = |by: &Probed| {
            let known = judges.remove(by);
            let known = known.or_else(|| Some(Judge::restored(restored.get(by)?, now)));
            known.unwrap_or_else(|| Judge::new(now))
        };
        self.judges = (targets.probed.keys())
            .map(|by| (by.clone(), judge_of(by)))
            .collect();
        self.judged_by.clear();
        for (target, judged) in &targets.judged {
            let judged_by = self.judged_by.entry(judged.by.clone()).or_default();
            judged_by.push(target.clone());
        }
        self.targets = targets;
        self.view = View::of(self.verdicts());
        let changed = self.targets.judged.keys().filter_map(|target| {
            let before = *before.get(target)?;
            self.transition(target, before, now)
        });
        changed.collect()
    }

    /// Takes what a probe found; says whose verdict that changes. A probe that is not configured changes nothing.
    /// Where many fail at once, take all that there is before the next [`Self::view`].
    pub fn record(&mut self, by: &Probed, outcome: Outcome, now: Moment) -> Vec<Transition> {
        let (Some(judge), Some(probe)) = (self.judges.get_mut(by), self.targets.probed.get(by))
        else {
            return Vec::new();
        };
        let before = judge.verdict();
        judge.record(outcome, probe, now);
        if judge.verdict() == before {
            return Vec::new();
        }
        let is_up = judge.verdict() == Verdict::Up;
        let targets = self.judged_by.get(by).into_iter().flatten();
        let up = Arc::make_mut(&mut self.view.up);
        let unknown = Arc::make_mut(&mut self.view.unknown);
        for target in targets.clone() {
            unknown.remove(target);
            match is_up {
                true => up.insert(target.clone()),
                false => up.remove(target),
            };
        }
        let changed = targets.filter_map(|target| self.transition(target, before, now));
        changed.collect()
    }

    /// What is judged and probed.
    pub fn targets(&self) -> &Targets {
        &self.targets
    }

    /// Who is up now.
    pub fn view(&self) -> View {
        self.view.clone()
    }

    /// How a target stands; `None`: it is not judged.
    pub fn standing(&self, target: &Target, now: Moment) -> Option<Standing> {
        let judged = self.targets.judged.get(target)?;
        Some(self.judges.get(&judged.by)?.standing(now))
    }

    /// All targets, in order.
    pub fn rows(&self, now: Moment) -> Vec<Row> {
        let rows = self.targets.judged.iter().filter_map(|(target, judged)| {
            Some(Row {
                target: target.clone(),
                member: judged.member.clone(),
                by: judged.by.clone(),
                standing: self.judges.get(&judged.by)?.standing(now),
            })
        });
        rows.collect()
    }

    fn verdicts(&self) -> BTreeMap<Target, Verdict> {
        let judged = self.targets.judged.iter();
        let each = judged.filter_map(|(target, judged)| {
            let verdict = self.judges.get(&judged.by)?.verdict();
            Some((target.clone(), verdict))
        });
        each.collect()
    }

    fn transition(&self, target: &Target, from: Verdict, now: Moment) -> Option<Transition> {
        let judged = self.targets.judged.get(target)?;
        let standing = self.judges.get(&judged.by)?.standing(now);
        (standing.verdict != from).then(|| Transition {
            target: target.clone(),
            member: judged.member.clone(),
            from,
            to: standing.verdict,
            reason: standing.reason,
            failure: standing.failure,
        })
    }
}
