//! Members that are taken out: their datagrams go to others at once, what is left of their flows ends after the drain.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::Daemon;
use super::flush::Which;
use crate::api;
use crate::clock::boot_time;
use crate::config::model::{AdminState, MemberRef};
use crate::control_plane::{Drains, SavedDrains, Whose, to_move, to_stay};
use crate::host::write_file;

/// File in the state folder.
const FILE: &str = "drains.json";
/// How often it is looked whether a drain is over.
pub(super) const LOOK: Duration = Duration::from_millis(200);
/// Packets that were under way with the former ring open flows too: they are moved a moment later.
const MOVES: [Duration; 2] = [Duration::ZERO, Duration::from_millis(500)];

/// What is known of those that are taken out.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    /// Who was moved away from.
    moved: Whose,
    drains: Drains,
    /// What the file says.
    kept: SavedDrains,
}

impl Leaving {
    /// Goes on from what a former daemon has promised, if its tables are here.
    pub(super) fn restore(state_dir: &Path, is_adopted: bool) -> Self {
        if !is_adopted {
            // Its numbers of rules mean nothing any more.
            let _ = std::fs::remove_file(state_dir.join(FILE));
            return Self::default();
        }
        let kept = read(state_dir).unwrap_or_else(|error| {
            log::warn!("drains that a former daemon has begun are forgotten: {error:#}");
            SavedDrains::default()
        });
        Self {
            moved: Whose::new(),
            drains: Drains::restore(kept.clone()),
            kept,
        }
    }
}

fn read(state_dir: &Path) -> Result<SavedDrains> {
    let path = state_dir.join(FILE);
    match std::fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text)
            .with_context(|| format!("{} is not what this daemon wrote", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(SavedDrains::default()),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
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
        // Where nobody knows who was there before, whoever is out now may have left just then.
        let all: Whose = moving.union(&staying).copied().collect();
        let (drain, drains) = (config.timeouts.drain, &mut self.leaving.drains);
        drains.follow(staying, || all, drain, boot_time());
        if let Err(error) = self.keep_drains() {
            log::warn!("a daemon that is started anew will not know of these drains: {error:#}");
        }
        let new: Whose = moving.difference(&self.leaving.moved).copied().collect();
        self.leaving.moved = moving;
        if !new.is_empty() {
            self.end_flows(Which::Datagrams(new), &MOVES);
        }
    }

    /// Keeps what was promised for the next daemon.
    fn keep_drains(&mut self) -> Result<()> {
        let Some(config) = self.control_plane.config() else {
            return Ok(());
        };
        let saved = self.leaving.drains.save();
        if saved != self.leaving.kept {
            let text = serde_json::to_vec(&saved).context("write down the drains")?;
            write_file(&config.node.state_dir.join(FILE), &text)?;
            self.leaving.kept = saved;
        }
        Ok(())
    }

    /// Ends what is left of those whose drain is over.
    pub(super) fn look_at_drains(&mut self) {
        // Those that came due at the last look: a daemon that dies as it ends them leaves them to the next.
        if let Err(error) = self.keep_drains() {
            log::debug!("{error:#}");
        }
        let due = self.leaving.drains.take_due(boot_time());
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
        let due = boot_time() + Duration::from_secs_f64(drain.seconds.clamp(0.0, MOST_SECONDS));
        self.leaving.drains.end_at(whose, due);
        self.keep_drains()
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
