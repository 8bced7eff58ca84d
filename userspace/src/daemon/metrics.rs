//! What the metrics are made of, and where they are served.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, anyhow};
use forebay_common::abi::Settings;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::frontend_counters::{Carried, id_of};
use super::snat_views::{SnatView, connections};
use super::{Daemon, FRESH_COUNT, views};
use crate::api;
use crate::config::model::{Api, Config};
use crate::control_plane::{Census, SnatDestinations, SnatWay};
use crate::dataplane::{CounterReader, Flows};
use crate::health::{View, targets};
use crate::metrics::{
    Asked, Condition, FlowTable, Gather, MetricsServer, Probes, Pulse, Reloads, RuleAvailability,
    Traffic, Values, backends, counted_for, why_not_ready,
};

/// What is served, and what of it is known to no table.
pub(super) struct Metrics {
    server: Option<MetricsServer>,
    /// Why it is not served.
    trouble: Option<String>,
    asked: mpsc::Sender<Asked>,
    pub(super) pulse: Arc<Pulse>,
    pub(super) reloads: Reloads,
    pub(super) probes: Arc<Mutex<Probes>>,
    /// Of the tables as they are now, once somebody has asked.
    ways: Option<Arc<Vec<SnatWay>>>,
    pub(super) carried: Carried,
}

impl Metrics {
    /// Listens where the file says; what is asked comes by the channel.
    ///
    /// # Errors
    /// It cannot listen on an address that somebody chose, now or ever.
    pub(super) async fn open(api: &Api) -> Result<(Self, mpsc::Receiver<Asked>)> {
        let (asked, receiver) = mpsc::channel(16);
        let mut metrics = Self {
            server: None,
            trouble: None,
            asked,
            pulse: Arc::default(),
            reloads: Reloads::default(),
            probes: Arc::default(),
            ways: None,
            carried: Carried::default(),
        };
        metrics.listen(api.metrics).await?;
        Ok((metrics, receiver))
    }

    /// Listens there, and nowhere else; what is in the way is logged once, and tried again by the next call.
    ///
    /// # Errors
    /// What is in the way will not go by itself, and somebody chose the address.
    async fn listen(&mut self, wanted: Option<SocketAddr>) -> Result<()> {
        if self.server.as_ref().map(MetricsServer::address) == wanted {
            return Ok(());
        }
        if let Some(former) = self.server.take() {
            former.close().await;
        }
        let former = self.trouble.take();
        let Some(address) = wanted else { return Ok(()) };
        match MetricsServer::listen(address, self.asked.clone(), self.pulse.clone()).await {
            Ok(server) => {
                self.server = Some(server);
                log::info!("metrics on http://{address}/metrics");
                Ok(())
            }
            Err(error) => {
                let trouble = explain(address, &error);
                if former.as_ref() != Some(&trouble) {
                    log::warn!("{trouble}; it is tried again every half minute");
                }
                self.trouble = Some(trouble.clone());
                match is_final(address, &error) {
                    true => Err(anyhow!(trouble)),
                    false => Ok(()),
                }
            }
        }
    }

    /// What commands are told of it.
    pub(super) fn listener(&self, config: &Config) -> Option<api::Listener> {
        let address = config.api.metrics?;
        Some(api::Listener {
            address: address.to_string(),
            listening: self.server.is_some(),
            trouble: self.trouble.clone(),
        })
    }

    /// The tables have changed.
    pub(super) fn tables_changed(&mut self) {
        self.ways = None;
    }
}

/// The address that nobody chose may be somebody else's, and one that the host does not have may come.
fn is_final(address: SocketAddr, error: &std::io::Error) -> bool {
    address != Api::DEFAULT_METRICS && error.kind() != ErrorKind::AddrNotAvailable
}

fn explain(address: SocketAddr, error: &std::io::Error) -> String {
    let remedy = match error.kind() {
        ErrorKind::AddrInUse => {
            "another program has this port (`ss -ltnp` names it): stop it, or choose another address, or \"\" for none"
        }
        ErrorKind::AddrNotAvailable => {
            "no interface of this host has the address, or it is down: add it, or choose another, or \"\" for none"
        }
        ErrorKind::PermissionDenied => "choose a port above 1023",
        _ => "choose another address, or \"\" for none",
    };
    format!("cannot serve metrics on {address} ([api].metrics): {error}; {remedy}")
}

/// What is read elsewhere than in the main loop.
struct Parts {
    config: Arc<Config>,
    counters: Arc<CounterReader>,
    flows: Arc<Flows>,
    census: Arc<Census>,
    settings: Settings,
    now: u64,
    ways: Arc<Vec<SnatWay>>,
    health: View,
    probes: Arc<Mutex<Probes>>,
    rules: Vec<(String, u32)>,
    frontends: BTreeMap<String, Vec<u32>>,
    carried: Carried,
    reloads: Reloads,
    availability: Vec<RuleAvailability>,
}

impl Daemon {
    /// Answers what is asked over HTTP.
    pub(super) async fn asked(&mut self, asked: Asked) {
        // Who asked may have gone.
        match asked {
            Asked::Readiness(reply) => drop(reply.send(self.why_not_ready().await)),
            Asked::Values(reply) => {
                if let Some(gather) = self.gather() {
                    let _ = reply.send(gather);
                }
            }
        }
    }

    /// Why the node does not carry traffic as it should, if so.
    pub(super) async fn why_not_ready(&self) -> Option<String> {
        let Some(config) = self.control_plane.config() else {
            return Some("No configuration is in force yet.".to_owned());
        };
        match self.netlink.interfaces(&config.node.interfaces).await {
            Ok(host) => why_not_ready(&Condition {
                is_stopping: false,
                is_set_up: self.ready,
                interfaces: &config.node.interfaces,
                host: &host,
                stuck: self.stuck.as_deref(),
            }),
            Err(error) => Some(format!("The interfaces cannot be looked at: {error:#}.")),
        }
    }

    /// Serves the metrics where the file says.
    pub(super) async fn keep_metrics(&mut self) {
        let config = self.control_plane.config();
        let wanted = config.and_then(|config| config.api.metrics);
        // It is in the log, and in `status`.
        let _ = self.metrics.listen(wanted).await;
    }

    /// Refuses a file with an address that will not do.
    pub(super) async fn require_metrics(&self, new: &Config) -> Result<()> {
        let own = self.metrics.server.as_ref().map(MetricsServer::address);
        let Some(address) = new.api.metrics.filter(|address| own != Some(*address)) else {
            return Ok(());
        };
        match TcpListener::bind(address).await {
            Err(error) if is_final(address, &error) => {
                let is_ours = own.is_some_and(|own| own.port() == address.port());
                if error.kind() == ErrorKind::AddrInUse && is_ours {
                    return Ok(());
                }
                Err(anyhow!(explain(address, &error)))
            }
            _ => Ok(()),
        }
    }

    /// Keeps what frontends have counted by rules that a reload took from them.
    pub(super) fn carry_counters(&mut self, old: &Config, new: &Config) {
        let counted = |counts: &_| -> Traffic {
            let id = id_of(counts, self.control_plane.ids());
            let counted = id.map(|id| self.dataplane.rule_counters(id));
            match counted.transpose() {
                Ok(counted) => counted.unwrap_or_default().into(),
                Err(error) => {
                    log::warn!("{error:#}");
                    Traffic::default()
                }
            }
        };
        let mut carried = self.metrics.carried.clone();
        carried.follow(old, new, counted);
        if carried == self.metrics.carried {
            return;
        }
        if let Err(error) = carried.keep(&new.node.state_dir) {
            log::warn!("counters of frontends will begin anew with the next daemon: {error:#}");
        }
        self.metrics.carried = carried;
    }

    /// Hands over what the values are read from.
    fn gather(&mut self) -> Option<Gather> {
        let config = self.control_plane.config()?.clone();
        let ids = self.control_plane.ids();
        let names = config.rules.iter().map(|rule| &rule.name);
        let names = names.chain(config.inbound_nat_rules.iter().map(|rule| &rule.name));
        let rules = names.filter_map(|name| Some((name.clone(), ids.rules.get(name)?)));
        let rules = rules.collect();
        let frontends = counted_for(&config).into_iter().map(|(frontend, counts)| {
            let ids = counts.iter().filter_map(|counts| id_of(counts, ids));
            (frontend, ids.collect())
        });
        let frontends = frontends.collect();
        let tables = self.control_plane.applied();
        let ways = &mut self.metrics.ways;
        let ways = ways.get_or_insert_with(|| Arc::new(tables.snat_ways()));
        let ways = ways.clone();
        let parts = Parts {
            counters: self.dataplane.counter_reader(),
            flows: self.flows(),
            census: self.census.clone(),
            settings: tables.settings,
            now: self.clock.now(),
            ways,
            health: self.probing.health().view(),
            probes: self.metrics.probes.clone(),
            rules,
            frontends,
            carried: self.metrics.carried.clone(),
            reloads: self.metrics.reloads,
            availability: self.trials.measured(self.started.elapsed()),
            config,
        };
        Some(Box::new(move || parts.read()))
    }
}

impl Parts {
    fn read(self) -> Result<Values> {
        let census = self.census()?;
        let counts = self.counters.way_counts()?;
        let destinations = SnatDestinations::default();
        let snat = SnatView {
            config: &self.config,
            ways: &self.ways,
            used: &census.snat,
            destinations: &destinations,
            counts: &counts,
        };
        let rules = self.rules.iter().map(|(name, id)| {
            let counted = self.counters.rule(*id)?;
            Ok((name.clone(), counted.new_flows))
        });
        let probes = self.probes.lock().unwrap_or_else(PoisonError::into_inner);
        let probes = probes.clone();
        let table = |family: usize, entries: u32| {
            FlowTable::new(u64::from(entries) / 2, |state| {
                census.in_state(family, state)
            })
        };
        Ok(Values {
            reloads: self.reloads,
            frontends: self
                .carried
                .sums(&self.frontends, |id| self.counters.rule(id))?,
            rules: rules.collect::<Result<_>>()?,
            drops: views::drops(&self.counters.reasons()?),
            flows: [
                table(0, self.flows.v4.entries),
                table(1, self.flows.v6.entries),
            ],
            backends: backends(&self.config, &self.health),
            probes: probes.of_members(&self.config, &targets(&self.config)),
            availability: self.availability,
            snat: snat.lines(None),
            connections: connections(&self.config, &counts),
        })
    }

    /// Counts the flows anew, unless that takes too long: then the last sweep's count must do.
    fn census(&self) -> Result<Arc<Census>> {
        if self.census.entries.iter().sum::<u64>() > FRESH_COUNT {
            return Ok(self.census.clone());
        }
        Ok(Arc::new(self.flows.census(&self.settings, self.now)?))
    }
}
