//! Members that are taken out: their datagrams go to others at once, what is left of their flows ends after the drain.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::Daemon;
use super::flush::Which;
use crate::api;
use crate::config::model::{AdminState, MemberRef};
use crate::control_plane::{Drains, Whose, to_move, to_stay};

/// How often it is looked whether a drain is over.
pub(super) const LOOK: Duration = Duration::from_millis(200);
/// Packets that were under way with the former ring open flows too: they are moved a moment later.
const MOVES: [Duration; 2] = [Duration::ZERO, Duration::from_millis(500)];

/// What is known of those that are taken out.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    /// Who was moved away from.
    moved: Whose,
    /// Who stayed last.
    staying: Option<Whose>,
    drains: Drains,
}

impl Daemon {
    /// Follows what was written to the tables.
    pub(super) fn follow_members(&mut self) {
        let Some(config) = self.control_plane.config().cloned() else {
            return;
        };
        let ids = self.control_plane.ids();
        let moving = to_move(&config, ids, self.control_plane.health());
        let staying = to_stay(&config, ids);
        // At the start nobody knows who was there before: whoever is out now may have left just then.
        let before = self.leaving.staying.take();
        let before = before.unwrap_or_else(|| moving.union(&staying).copied().collect());
        let (drain, now) = (config.timeouts.drain, Instant::now());
        self.leaving.drains.follow(&before, &staying, drain, now);
        self.leaving.staying = Some(staying);
        let new: Whose = moving.difference(&self.leaving.moved).copied().collect();
        self.leaving.moved = moving;
        if !new.is_empty() {
            self.end_flows(Which::Datagrams(new), &MOVES);
        }
    }

    /// Ends what is left of those whose drain is over.
    pub(super) fn look_at_drains(&mut self) {
        let due = self.leaving.drains.take_due(Instant::now());
        if !due.is_empty() {
            log::info!(
                "the drain of {} members is over: what is left of their flows ends",
                due.len()
            );
            self.end_flows(Which::All(due), &[Duration::ZERO]);
        }
    }

    /// `set admin-state ... --drain`: when what is left of a member's flows ends.
    pub(super) fn drain(&mut self, drain: &api::Drain) -> Result<()> {
        let config = self.control_plane.config().cloned();
        let config = config.context("no configuration is in force yet")?;
        let target = MemberRef::of(&drain.member);
        let pool = config.pool(&drain.pool);
        let pool = pool.with_context(|| format!("there is no pool {}", drain.pool))?;
        let member = pool.members.iter().find(|member| member.target == target);
        let member = member.with_context(|| format!("{} has no member {target}", pool.name))?;
        if member.admin_state != AdminState::Down {
            bail!(
                "{target} is not taken out of {}: its admin_state is not \"down\"",
                pool.name
            );
        }
        let Some(ip_config) = config.ip_config(&target) else {
            return Ok(());
        };
        let ids = self.control_plane.ids();
        let rules = config.rules.iter().filter(|rule| rule.pool == pool.name);
        let rules: Vec<u32> = rules.filter_map(|rule| ids.rules.get(&rule.name)).collect();
        let whose: Whose = (ip_config.addresses())
            .flat_map(|address| rules.iter().map(move |id| (*id, address)))
            .collect();
        let due = Instant::now() + Duration::from_secs_f64(drain.seconds.clamp(0.0, MOST_SECONDS));
        self.leaving.drains.end_at(whose, due);
        Ok(())
    }

    /// Ends flows in the background, as often as there are pauses.
    fn end_flows(&self, which: Which, pauses: &'static [Duration]) {
        let job = self.job(which);
        tokio::task::spawn_blocking(move || {
            for pause in pauses {
                std::thread::sleep(*pause);
                if let Err(error) = job.run() {
                    log::warn!("ending the flows of members that were taken out: {error:#}");
                }
            }
        });
    }
}

/// Longest drain that a command may ask for, seconds: a year.
const MOST_SECONDS: f64 = 31_536_000.0;
