//! Watches SNAT ports: who is refused new flows, who is about to be, and what `show snat` tells.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::{mpsc, oneshot};

use super::Daemon;
use super::answers::require_name;
use super::snat_events::{Source, Usage, about, about_address, exhaustion, high_usage, usage};
use super::snat_views::SnatView;
use crate::api;
use crate::config::model::Config;
use crate::control_plane::{SnatDestinations, SnatUse};
use crate::dataplane::WayCount;
use crate::events::{EventKind, Refusals};

/// How often it is looked whether anybody was refused: operators are told within a second.
pub(super) const LOOK: Duration = Duration::from_millis(250);
/// No allocation is smaller than a block of 8, of which 6 are no high usage.
const FEW: u32 = 6;

/// What is known of SNAT ports.
pub(super) struct SnatWatch {
    /// Packets that were refused, all together; reading that is cheap.
    refused: Option<u64>,
    refusals: Refusals<Source>,
    counts: Vec<WayCount>,
    /// Whose use is being counted.
    asked: BTreeSet<Source>,
    /// Who uses most of its ports of an address.
    high: BTreeSet<(Source, IpAddr)>,
    counted: mpsc::Sender<Counted>,
}

/// A count of the ports in use, which took a while.
pub(super) struct Counted {
    found: Result<(SnatUse, SnatDestinations)>,
    purpose: Purpose,
}

/// What it is for.
enum Purpose {
    /// These are refused new flows.
    Tell(Vec<Source>),
    /// `show snat`
    Answer(Option<String>, oneshot::Sender<api::Response>),
}

impl SnatWatch {
    /// Knows nothing yet; its counts come back by the channel.
    pub(super) fn new() -> (Self, mpsc::Receiver<Counted>) {
        let (counted, receiver) = mpsc::channel(16);
        let watch = Self {
            refused: None,
            refusals: Refusals::default(),
            counts: Vec::new(),
            asked: BTreeSet::new(),
            high: BTreeSet::new(),
            counted,
        };
        (watch, receiver)
    }
}

impl Daemon {
    /// Looks whether anybody was refused a new flow since the last look.
    pub(super) fn look_at_snat(&mut self) {
        if let Err(error) = self.find_refused() {
            log::warn!("look who is refused SNAT ports: {error:#}");
        }
        let (now, kind) = (self.moment(), EventKind::SnatPortExhaustion);
        for source in self.snat.refusals.calmed(now.uptime) {
            let message = "no new flow was refused for a minute";
            self.events.clear(now, kind, &about(source), message);
        }
    }

    fn find_refused(&mut self) -> Result<()> {
        let refused = self.dataplane.snat_refused()?;
        if self.snat.refused == Some(refused) {
            return Ok(());
        }
        self.snat.counts = self.dataplane.way_counts()?;
        let counts = self.snat.counts.iter();
        let counts = counts.map(|count| ((count.source, count.protocol), count.refused));
        let now = self.moment();
        let grown = self.snat.refusals.look(now.uptime, counts.collect());
        // Only then: what could not be read is read at the next look.
        self.snat.refused = Some(refused);
        let kind = EventKind::SnatPortExhaustion;
        let is_new = |source: &Source| {
            !self.snat.asked.contains(source) && self.events.is_due(now, kind, &about(*source))
        };
        let new: Vec<Source> = grown.into_iter().filter(is_new).collect();
        if !new.is_empty() {
            self.snat.asked.extend(&new);
            self.count_snat(Purpose::Tell(new));
        }
        Ok(())
    }

    /// `show snat`, answered later.
    pub(super) fn show_snat(
        &mut self,
        instance: Option<String>,
        reply: oneshot::Sender<api::Response>,
    ) {
        let known = self.config_in_force().and_then(|config| match &instance {
            Some(name) => require_name(config, name),
            None => Ok(()),
        });
        match known.and_then(|()| self.dataplane.way_counts()) {
            Ok(counts) => {
                self.snat.counts = counts;
                self.count_snat(Purpose::Answer(instance, reply));
            }
            Err(error) => drop(reply.send(api::Response::from(Err(error)))),
        }
    }

    fn config_in_force(&self) -> Result<&Config> {
        let config = self.control_plane.config();
        config
            .map(|config| &**config)
            .context("no configuration is in force yet")
    }

    /// Counts in the background, for large tables take a while.
    fn count_snat(&self, purpose: Purpose) {
        let (flows, counted) = (self.flows(), self.snat.counted.clone());
        let owned = self.owned();
        let is_wanted: Box<dyn Fn(IpAddr) -> bool + Send> = match &purpose {
            Purpose::Answer(None, _) => Box::new(|_| true),
            Purpose::Answer(Some(name), _) => {
                let own = self.addresses_of(name);
                Box::new(move |source| own.contains(&source))
            }
            Purpose::Tell(sources) => {
                let sources: Vec<IpAddr> = sources.iter().map(|(source, _)| *source).collect();
                Box::new(move |source| {
                    let others = IpAddr::is_unspecified;
                    sources.contains(&source)
                        || (!owned.contains(&source) && sources.iter().any(others))
                })
            }
        };
        tokio::task::spawn_blocking(move || {
            let found = flows.snat_use(is_wanted);
            // Who asked may have gone.
            let _ = counted.blocking_send(Counted { found, purpose });
        });
    }

    /// Private addresses of all instances.
    fn owned(&self) -> HashSet<IpAddr> {
        let instances = self.control_plane.config().into_iter();
        let instances = instances.flat_map(|config| &config.instances);
        let ip_configs = instances.flat_map(|instance| &instance.ip_configs);
        ip_configs
            .flat_map(|ip_config| ip_config.addresses())
            .collect()
    }

    fn addresses_of(&self, name: &str) -> HashSet<IpAddr> {
        let instances = self.control_plane.config().into_iter();
        let instances = instances.flat_map(|config| &config.instances);
        let named = instances.filter(|instance| instance.name == name);
        let ip_configs = named.flat_map(|instance| &instance.ip_configs);
        ip_configs
            .flat_map(|ip_config| ip_config.addresses())
            .collect()
    }

    /// Takes a count to what it is for.
    pub(super) fn snat_counted(&mut self, counted: Counted) {
        match counted.purpose {
            Purpose::Answer(instance, reply) => {
                let answer = counted.found.and_then(|(used, destinations)| {
                    let view = SnatView {
                        config: self.config_in_force()?,
                        ways: &self.control_plane.applied().snat_ways(),
                        used: &used,
                        destinations: &destinations,
                        counts: &self.snat.counts,
                    };
                    Ok(serde_json::to_value(view.lines(instance.as_deref()))?)
                });
                // Who asked may have gone.
                let _ = reply.send(api::Response::from(answer));
            }
            Purpose::Tell(sources) => {
                self.snat.asked.retain(|source| !sources.contains(source));
                match counted.found {
                    Ok(found) => self.tell_exhausted(&sources, &found),
                    Err(error) => log::warn!("count the SNAT ports in use: {error:#}"),
                }
            }
        }
    }

    fn tell_exhausted(&mut self, sources: &[Source], found: &(SnatUse, SnatDestinations)) {
        let Some(config) = self.control_plane.config().cloned() else {
            return;
        };
        let (now, owned) = (self.moment(), self.owned());
        for source in sources {
            let is_it = |count: &&WayCount| (count.source, count.protocol) == *source;
            let Some(count) = self.snat.counts.iter().find(is_it) else {
                continue;
            };
            let way = self.control_plane.applied().snat_way(source.0, source.1);
            let is_its = |user: IpAddr| match source.0.is_unspecified() {
                true => user.is_ipv6() == source.0.is_ipv6() && !owned.contains(&user),
                false => user == source.0,
            };
            let happening = exhaustion(&config, count, way.as_ref(), found, is_its);
            self.events.open(now, &about(*source), happening);
        }
    }

    /// Tells who uses most of its ports, from what the sweep has counted.
    pub(super) fn judge_snat_use(&mut self) {
        let Some(config) = self.control_plane.config().cloned() else {
            return;
        };
        let (now, kind) = (self.moment(), EventKind::HighSnatPortUsage);
        let mut before = std::mem::take(&mut self.snat.high);
        for (user, used) in &self.census.snat.ports {
            let (source, used) = ((user.source, user.protocol), used.len());
            let was_high = before.contains(&(source, user.address));
            if used <= FEW && !was_high {
                continue;
            }
            let way = self.control_plane.applied().snat_way(source.0, source.1);
            let ports = way.and_then(|way| way.ports.get(&user.address).cloned());
            let ports = ports.unwrap_or_default();
            let ports = match ports.allocated() {
                0 => ports.burst(),
                own => own,
            };
            let subject = about_address(source, user.address);
            match usage(used, ports) {
                Usage::High if config.owner_of(user.source).is_some() => {
                    let happening = high_usage(&config, source, user.address, [used, ports]);
                    self.events.open(now, &subject, happening);
                }
                Usage::Between if was_high => {}
                _ => continue,
            }
            before.remove(&(source, user.address));
            self.snat.high.insert((source, user.address));
        }
        for (source, address) in before {
            let message = "at most 70 % of the ports are in use";
            let subject = about_address(source, address);
            self.events.clear(now, kind, &subject, message);
        }
    }
}
