//! What probes find reaches the control plane, the state folder and the operator.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{MutexGuard, PoisonError};

use anyhow::{Context, Result};
use tokio::sync::mpsc;

use super::Daemon;
use crate::config::model::Config;
use crate::control_plane::{Event, Lacking, Whose, lacking, taking};
use crate::events::{EventKind, Happening, Moment};
use crate::health::{Health, Saved, Transition, Verdict};
use crate::host::write_file;
use crate::metrics::Probes;
use crate::probes::{Found, Prober};

/// File in the state folder.
const FILE: &str = "health.json";

/// Probes, and what they have found.
pub(super) struct Probing {
    health: Health,
    prober: Prober,
    /// What the file says.
    kept: Vec<u8>,
    /// Whom the tables send new flows to.
    pub(super) taking: Whose,
}

impl Probing {
    /// Goes on from what a former daemon knew.
    pub(super) fn restore(state_dir: &Path) -> Result<(Self, mpsc::Receiver<Found>)> {
        let (prober, found) = Prober::new().context("start the probes")?;
        let saved = read(state_dir).unwrap_or_else(|error| {
            log::warn!("members are judged anew: {error:#}");
            Saved::default()
        });
        let probing = Self {
            health: Health::restore(saved),
            prober,
            kept: Vec::new(),
            taking: Whose::new(),
        };
        Ok((probing, found))
    }

    pub(super) fn health(&self) -> &Health {
        &self.health
    }
}

fn read(state_dir: &Path) -> Result<Saved> {
    let path = state_dir.join(FILE);
    match std::fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text)
            .with_context(|| format!("{} is not what this daemon wrote", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Saved::default()),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

impl Daemon {
    /// Probes what a configuration says, and lets the control plane know who is up before it hears of the
    /// configuration.
    pub(super) fn probe(&mut self, config: &Config) {
        let now = self.moment();
        let changed = self.probing.health.configure(config, now);
        self.tell_transitions(now, &changed);
        let probed = &self.probing.health.targets().probed;
        self.probing.prober.configure(probed);
        self.durations().keep(self.probing.health.targets());
        self.control_plane.set_health(self.probing.health.view());
        self.trials.configure(config, now.uptime);
        self.keep_health(now);
    }

    /// Takes what probes have found: all there is, so that many members that fail at once are one change.
    pub(super) fn found(&mut self, first: Found, more: &mut mpsc::Receiver<Found>) {
        let now = self.moment();
        let before = self.probing.health.view();
        let mut changed = Vec::new();
        let mut next = Some(first);
        while let Some(found) = next {
            self.note_duration(&found);
            changed.extend(self.probing.health.record(&found.by, found.outcome, now));
            next = more.try_recv().ok();
        }
        if changed.is_empty() {
            return;
        }
        let view = self.probing.health.view();
        if view != before
            && let Err(error) = self.handle(Event::Health(view))
        {
            log::warn!("following what probes have found: {error:#}");
        }
        self.tell_transitions(now, &changed);
        self.keep_health(now);
    }

    fn durations(&self) -> MutexGuard<'_, Probes> {
        let probes = self.metrics.probes.lock();
        probes.unwrap_or_else(PoisonError::into_inner)
    }

    /// For the metrics. What was not asked of the member says nothing about it.
    fn note_duration(&self, found: &Found) {
        let is_ours = matches!(found.outcome.result, Err(failure) if failure.is_ours());
        let probed = &self.probing.health.targets().probed;
        if !is_ours && probed.contains_key(&found.by) {
            self.durations().add(&found.by, found.outcome.duration);
        }
    }

    /// Looks at who takes new flows now, and tells of rules for which nobody does.
    pub(super) fn look_at_members(&mut self) {
        self.probing.taking = taking(self.control_plane.applied());
        let Some(config) = self.control_plane.config().cloned() else {
            return;
        };
        let (ids, health) = (self.control_plane.ids(), self.control_plane.health());
        let lacking: BTreeSet<Lacking> = lacking(&config, ids, health);
        let (now, kind) = (self.moment(), EventKind::NoHealthyBackends);
        let abouts: BTreeSet<String> = lacking.iter().map(Lacking::to_string).collect();
        for about in self.events.open_ones(kind) {
            if !abouts.contains(&about) {
                let message = format!("{about}: members take new flows again");
                self.events.clear(now, kind, &about, &message);
            }
        }
        for one in lacking {
            let about = one.to_string();
            let message = format!("{about}: no member of pool {} is up", one.pool);
            let happening = Happening::new(kind, message)
                .with("rule", &one.rule)
                .with("pool", &one.pool)
                .with("family", one.family());
            self.events.open(now, &about, happening);
        }
    }

    fn tell_transitions(&mut self, now: Moment, changed: &[Transition]) {
        for one in changed {
            let kind = match one.to {
                Verdict::Up => EventKind::BackendUp,
                Verdict::Down => EventKind::BackendDown,
                Verdict::Unknown => continue,
            };
            let (target, member) = (&one.target, &one.member);
            let why = one
                .failure
                .map_or_else(|| one.reason.to_owned(), |f| f.to_string());
            let message = format!(
                "{member} {} is {} for probe {} of port {}: {why}",
                target.address,
                one.to.label(),
                target.probe,
                target.port
            );
            let happening = Happening::new(kind, message)
                .with("probe", &target.probe)
                .with("instance", &member.instance)
                .with("ip_config", &member.ip_config)
                .with("address", target.address)
                .with("port", target.port)
                .with("reason", why);
            self.events.tell(now, happening);
        }
    }

    /// Keeps what is known for the next daemon.
    fn keep_health(&mut self, now: Moment) {
        let Some(config) = self.control_plane.config() else {
            return;
        };
        let saved = self.probing.health.save(now);
        let path = config.node.state_dir.join(FILE);
        let keep = || -> Result<Option<Vec<u8>>> {
            let text = serde_json::to_vec(&saved).context("write down who is up")?;
            if text == self.probing.kept {
                return Ok(None);
            }
            write_file(&path, &text)?;
            Ok(Some(text))
        };
        match keep() {
            Ok(Some(text)) => self.probing.kept = text,
            Ok(None) => {}
            Err(error) => {
                log::warn!("a daemon that is started anew will judge members anew: {error:#}");
            }
        }
    }
}
