//! The daemon: one loop that takes what happens (signals, requests, changes of the host, counts of the
//! sweep) to the control plane, and what it decides to the data plane.

mod answers;
mod availability;
mod events;
mod explain;
mod flows;
mod flush;
mod frontend_counters;
mod health_views;
mod interfaces;
mod leaving;
mod metrics;
mod nat_ports;
mod outbound_sizes;
mod outbound_views;
mod probing;
mod resize;
mod snat;
mod snat_events;
mod snat_views;
mod start;
mod sweeper;
mod views;
mod whoami;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;

use crate::advertise::Advertiser;
use crate::api;
use crate::clock::Clock;
use crate::config::model::Config;
use crate::config::{self, Diagnostics, Loaded};
use crate::control_plane::{Census, Change, ControlPlane, Event, HostInterface, NatPorts, plan};
use crate::control_socket::Call;
use crate::dataplane::{Dataplane, Flows, remove_pins};
use crate::events::Events;
use crate::host::{
    HostChange, Neighbors, Netlink, Offloads, ProxyEntries, ResetSocket, Sysctls, facts,
    follow_host, release_neighbors,
};
use crate::metrics::Asked;
use crate::probes::Found;
use crate::systemd::Systemd;
use crate::whoami::{Answers, Whoami};
use snat::{Counted, SnatWatch};
use sweeper::{Swept, Terms};

/// Jiffies and boot clock drift apart (one is slewed); they are compared anew this often.
const CLOCK_CHECK: Duration = Duration::from_secs(30);

/// Environment variable that overrides the level of the file, per module if need be.
pub const LOG_VARIABLE: &str = "FOREBAY_LOG";

/// Sets the level that the file asks for, unless the environment says otherwise.
pub fn set_log_level(log: &config::model::Log) {
    if std::env::var_os(LOG_VARIABLE).is_none() {
        log::set_max_level(log.level);
    }
}

/// Entries up to which flows are counted anew for every question.
const FRESH_COUNT: u64 = 200_000;

/// How the daemon is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The configuration file.
    pub config: PathBuf,
    /// Whether the data plane goes when the daemon does.
    pub detach_on_exit: bool,
}

/// The file in force.
struct InForce {
    sha256: String,
    loaded_at: String,
}

/// The daemon's state.
pub struct Daemon {
    options: Options,
    netlink: Netlink,
    dataplane: Dataplane,
    /// What the sweep goes through: other tables when their size changes.
    flows: watch::Sender<Arc<Flows>>,
    /// Tells both sides of connections that end.
    resets: Option<Arc<ResetSocket>>,
    control_plane: ControlPlane,
    clock: Clock,
    census: Arc<Census>,
    in_force: InForce,
    started: Instant,
    ready: bool,
    /// Why the last write to the tables failed, if it did.
    stuck: Option<String>,
    neighbors: Neighbors,
    /// Interfaces that redirected frames do not reach.
    reached_by_kernel: BTreeSet<String>,
    terms: watch::Sender<Option<Terms>>,
    advertiser: Advertiser,
    /// Addresses of frontends that the host has as well.
    taken: BTreeSet<(IpAddr, String)>,
    /// What is claimed may be something else than what the advertiser was told.
    claims_changed: bool,
    events: Events,
    snat: SnatWatch,
    whoami: Option<Whoami>,
    answers: watch::Sender<Arc<Answers>>,
    leaving: leaving::Leaving,
    probing: probing::Probing,
    metrics: metrics::Metrics,
    systemd: Systemd,
    trials: availability::Trials,
}

/// What wakes the loop.
struct Sources {
    calls: mpsc::Receiver<Call>,
    sweeps: mpsc::Receiver<Swept>,
    host_changes: mpsc::Receiver<HostChange>,
    snat_counts: mpsc::Receiver<Counted>,
    found: mpsc::Receiver<Found>,
    asked: mpsc::Receiver<Asked>,
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

/// Runs the daemon with a file that was read already, until it is told to stop.
///
/// # Errors
/// It cannot start; the message says why and what to do. What it had begun is undone.
pub async fn run(options: Options, loaded: Loaded) -> Result<()> {
    let signals = (
        signal(SignalKind::hangup())?,
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let (daemon, asks) = start::start(options, loaded).await?;
    let start::Asks {
        calls,
        snat_counts,
        found,
        asked,
    } = asks;
    let (send_sweeps, sweeps) = mpsc::channel(1);
    let (flows, terms) = (daemon.flows.subscribe(), daemon.terms.subscribe());
    let resets = daemon.resets.clone();
    std::thread::Builder::new()
        .name("sweep".to_owned())
        .spawn(move || sweeper::run(&flows, &terms, &send_sweeps, resets.as_deref()))
        .context("start the sweep")?;
    let sources = Sources {
        calls,
        sweeps,
        host_changes: follow_host()?,
        snat_counts,
        found,
        asked,
        hangup: signals.0,
        terminate: signals.1,
        interrupt: signals.2,
    };
    daemon.work(sources).await
}

impl Daemon {
    async fn work(mut self, mut sources: Sources) -> Result<()> {
        let mut clock_check = tokio::time::interval(CLOCK_CHECK);
        let mut snat_look = tokio::time::interval(snat::LOOK);
        snat_look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut drain_look = tokio::time::interval(leaving::LOOK);
        drain_look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watchdog = self.systemd.watchdog_interval().map(tokio::time::interval);
        let mut trial_look = tokio::time::interval(availability::LOOK);
        trial_look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // What changed between the first look at the host and the subscription.
        self.host_changed(HostChange {
            interfaces: true,
            hops: true,
        })
        .await;
        let line = self.status_line(None).await;
        self.systemd.ready(&line);
        self.metrics.pulse.start();
        loop {
            self.metrics.pulse.beat();
            if std::mem::take(&mut self.claims_changed) {
                self.tell_claims(false).await;
            }
            tokio::select! {
                Some(call) = sources.calls.recv() => self.called(call).await,
                Some(swept) = sources.sweeps.recv() => self.swept(swept),
                Some(change) = sources.host_changes.recv() => self.host_changed(change).await,
                _ = snat_look.tick() => self.look_at_snat(),
                Some(found) = sources.found.recv() => self.found(found, &mut sources.found),
                _ = drain_look.tick() => self.look_at_drains(),
                _ = trial_look.tick() => self.look_at_trials(),
                Some(counted) = sources.snat_counts.recv() => self.snat_counted(counted),
                Some(asked) = sources.asked.recv() => self.asked(asked).await,
                () = tick(&mut watchdog) => self.systemd.alive(),
                _ = clock_check.tick() => {
                    self.check_clock();
                    self.listen_for_whoami().await;
                    self.keep_metrics().await;
                    // Notices may be lost when there are too many of them.
                    self.host_changed(HostChange { interfaces: true, hops: false }).await;
                    let line = self.status_line(None).await;
                    self.systemd.status(&line);
                }
                _ = sources.hangup.recv() => {
                    match self.reload().await {
                        Ok(report) if report.valid => {}
                        Ok(_) => log::error!("reload refused, the former configuration stays; `forebay check` says why"),
                        Err(error) => log::error!("reload failed, the former configuration stays: {error:#}"),
                    }
                }
                _ = sources.terminate.recv() => break,
                _ = sources.interrupt.recv() => break,
            }
        }
        self.stop().await
    }

    async fn called(&mut self, call: Call) {
        let answer = match call.request {
            // Takes a while, which others need not wait for.
            api::Request::FlushFlows(filter) => return self.flush_flows(filter, call.reply),
            api::Request::Snat { instance } => return self.show_snat(instance, call.reply),
            request => self.answer(request).await,
        };
        // Who asked may have gone.
        let _ = call.reply.send(api::Response::from(answer));
    }

    /// Hands an event to the control plane and makes the changes it decides on.
    fn handle(&mut self, event: Event) -> Result<Vec<Change>> {
        let is_small = matches!(event, Event::HopsInvalid(_) | Event::Census(_));
        self.claims_changed |= !is_small && !matches!(event, Event::Health(_));
        let kept = self.control_plane.nat_ports().clone();
        let changes = self.control_plane.handle(event).inspect_err(|error| {
            self.stuck = Some(error.to_string());
        })?;
        let made = self
            .keep_nat_ports(&kept)
            .and_then(|()| self.dataplane.apply(&changes));
        if !changes.is_empty() {
            self.metrics.tables_changed();
        }
        if let Err(error) = made {
            self.stuck = Some(format!("{error:#}"));
            // What is there decides what the next event has to write.
            self.control_plane.resync(self.dataplane.read_tables()?);
            return Err(error);
        }
        let settings = self.control_plane.applied().settings;
        let _ = self.terms.send(Some(Terms {
            settings,
            clock: self.clock,
        }));
        if !is_small {
            // Small events do not write what was left out.
            self.stuck = None;
            self.follow_members();
            self.look_at_members();
        }
        Ok(changes)
    }

    /// Keeps the ports that members have, before packets see them, if they are not those kept `before`.
    fn keep_nat_ports(&self, before: &NatPorts) -> Result<()> {
        let ports = self.control_plane.nat_ports();
        match self.control_plane.config() {
            Some(config) if ports != before => nat_ports::write(&config.node.state_dir, ports),
            _ => Ok(()),
        }
    }

    /// Has the neighbours told what is claimed now; what comes back is ready when that has begun.
    async fn tell_claims(&self, again: bool) -> oneshot::Receiver<()> {
        self.advertiser
            .claim(self.control_plane.claims(), again)
            .await
    }

    /// Counts the flows anew for whoever asks, unless that takes too long: then the last sweep's count,
    /// which is seconds old at most, must do.
    fn count_now(&mut self) {
        if self.census.entries.iter().sum::<u64>() > FRESH_COUNT {
            return;
        }
        let settings = self.control_plane.applied().settings;
        match self.flows().census(&settings, self.clock.now()) {
            Ok(census) => self.census = Arc::new(census),
            Err(error) => log::warn!("count the flows: {error:#}"),
        }
    }

    fn swept(&mut self, swept: Swept) {
        self.census = Arc::new(swept.census.clone());
        self.judge_snat_use();
        if let Err(error) = self.handle(Event::Census(swept.census)) {
            log::warn!("freeing what no flow holds any more: {error:#}");
        }
        if swept.has_moved_all
            && let Err(error) = self.finish_resize()
        {
            log::warn!("forgetting the former flow tables: {error:#}");
        }
    }

    async fn host_changed(&mut self, change: HostChange) {
        if let Err(error) = self.follow_host(change).await {
            log::warn!("following a change of the host: {error:#}");
        }
    }

    async fn follow_host(&mut self, change: HostChange) -> Result<()> {
        if change.interfaces {
            self.follow_interfaces().await?;
        }
        if change.hops {
            // From the next tick on: what is looked up within this one may still be the old way.
            let now = self.clock.now() as u32;
            self.handle(Event::HopsInvalid(now.wrapping_add(1)))?;
            self.neighbors.look_again();
        }
        Ok(())
    }

    fn check_clock(&mut self) {
        match self.dataplane.read_clocks() {
            Ok(anchor) => {
                self.clock.anchor = anchor;
                let settings = self.control_plane.applied().settings;
                let _ = self.terms.send(Some(Terms {
                    settings,
                    clock: self.clock,
                }));
            }
            Err(error) => log::warn!("{error:#}"),
        }
    }

    /// Reads the file again and runs what it says now.
    ///
    /// An invalid file is reported and changes nothing.
    ///
    /// # Errors
    /// The file is valid and cannot be run; the former configuration stays.
    async fn reload(&mut self) -> Result<api::Report> {
        self.systemd.reloading();
        let outcome = self.run_file().await;
        self.tell_reload(&outcome);
        let is_done = matches!(&outcome, Ok(report) if report.valid);
        let reloads = &mut self.metrics.reloads;
        match is_done {
            true => reloads.successful += 1,
            false => reloads.failed += 1,
        }
        self.keep_whoami().await;
        self.keep_metrics().await;
        let line = self.status_line(Some(is_done)).await;
        self.systemd.ready(&line);
        outcome
    }

    async fn run_file(&mut self) -> Result<api::Report> {
        let loaded = match config::load_for(&self.options.config, facts()) {
            Ok(loaded) => loaded,
            Err(diagnostics) => return Ok(answers::refusal(&diagnostics)),
        };
        let Some(old) = self.control_plane.config().cloned() else {
            return Ok(api::Report::default());
        };
        let mut loaded = loaded;
        let path = self.options.config.display().to_string();
        loaded
            .warnings
            .extend(start::keep_fixed(&old, &mut loaded.config, &path));
        let changes = plan(Some(&old), &loaded.config);
        let found = self
            .netlink
            .interfaces(&loaded.config.node.interfaces)
            .await?;
        start::require_interfaces(&loaded.config.node.interfaces, &found, &self.netlink).await?;
        self.require_room(&loaded.config)?;
        self.require_metrics(&loaded.config).await?;
        let key = start::hash_key(&loaded.config)?;
        let report = answers::report(&loaded, changes);
        let before = self.control_plane.clone();
        let new = Arc::new(loaded.config);
        let switched = self.switch(&new, key, found);
        if let Err(error) = switched.and_then(|()| self.resize()) {
            self.roll_back(before)?;
            return Err(error.context("the former configuration is back in force"));
        }
        self.carry_counters(&old, &new);
        self.in_force = InForce {
            sha256: loaded.sha256,
            loaded_at: start::timestamp(),
        };
        if let Some(config) = self.control_plane.config() {
            set_log_level(&config.log);
        }
        for warning in &loaded.warnings {
            log::warn!("{warning}");
        }
        for change in &report.changes {
            log::info!(
                "reload: {} {} {} {}",
                change.action,
                change.kind,
                change.name,
                change.detail
            );
        }
        Ok(report)
    }

    fn switch(
        &mut self,
        new: &Arc<Config>,
        key: [u64; 2],
        found: Vec<HostInterface>,
    ) -> Result<()> {
        let before = self.control_plane.host().to_vec();
        self.control_plane.set_hash_key(key);
        self.probe(new);
        self.handle(Event::Config(new.clone()))?;
        self.handle(Event::Host(found.clone()))?;
        self.prepare_host(new, &found)?;
        let is_in = |list: &[HostInterface], one: &HostInterface| {
            let mut attached = list.iter().filter(|other| other.is_attached());
            attached.any(|other| other.name == one.name)
        };
        for interface in found.iter().filter(|new| new.is_attached()) {
            if !is_in(&before, interface) {
                self.attach(&interface.name, interface.ifindex)?;
            }
        }
        for gone in before.iter().filter(|old| old.is_attached()) {
            if !new.node.interfaces.contains(&gone.name) {
                self.dataplane.detach(&gone.name)?;
                log::info!("{}: detached", gone.name);
            }
        }
        self.tell_vlans(&before, &found);
        self.keep_neighbors();
        Ok(())
    }

    /// Goes back to what was in force before a switch that failed half-way: the control plane as it was,
    /// over the tables as they are now.
    fn roll_back(&mut self, before: ControlPlane) -> Result<()> {
        let undo = |daemon: &mut Self| -> Result<()> {
            let host = before.host().to_vec();
            daemon.control_plane = before;
            if let Some(config) = daemon.control_plane.config().cloned() {
                daemon.probe(&config);
            }
            daemon.keep_nat_ports(&NatPorts::default())?;
            daemon.control_plane.resync(daemon.dataplane.read_tables()?);
            daemon.handle(Event::Host(host))?;
            daemon.keep_neighbors();
            let interfaces = daemon
                .control_plane
                .config()
                .map(|config| config.node.interfaces.clone());
            daemon.detach_strangers(&interfaces.unwrap_or_default())
        };
        undo(self).context("the reload failed half-way and could not be undone; restart the daemon")
    }

    async fn stop(self) -> Result<()> {
        self.systemd.stopping();
        self.metrics.pulse.stop();
        let Some(config) = self.control_plane.config().cloned() else {
            return Ok(());
        };
        let _ = std::fs::remove_file(&config.api.socket);
        if !self.options.detach_on_exit {
            log::info!("stopping; the data plane goes on forwarding (`forebay detach` removes it)");
            return Ok(());
        }
        // It would make anew what is removed below.
        let _ = self.advertiser.claim(BTreeSet::new(), false).await.await;
        drop((self.dataplane, self.neighbors));
        detach(&config)
            .await
            .map(|_| log::info!("stopping; the data plane is removed"))
    }
}

/// The next tick; never without ticks.
async fn tick(ticks: &mut Option<tokio::time::Interval>) {
    match ticks {
        Some(ticks) => drop(ticks.tick().await),
        None => std::future::pending().await,
    }
}

/// Removes programs, links, pins and proxy-neighbour entries of a node, and puts sysctls and offloads
/// back; says what was done.
///
/// # Errors
/// A daemon runs on the pins, or the kernel refuses.
pub async fn detach(config: &Config) -> Result<Vec<String>> {
    let mut done = Vec::new();
    // The daemon may have been started with another folder than the file names by now.
    for folder in start::pin_folders(config) {
        done.extend(remove_pins(&folder)?);
    }
    start::forget_pins(config);
    // Without netlink there is nothing of the kind to remove.
    if let Ok(netlink) = Netlink::connect() {
        done.extend(ProxyEntries::remove_all(&netlink, &config.node.state_dir).await);
    }
    let restored = Sysctls::open(&config.node.state_dir).restore();
    done.extend(
        restored
            .into_iter()
            .map(|sysctl| format!("sysctl {sysctl}")),
    );
    done.extend(Offloads::open(&config.node.state_dir).restore());
    let released = release_neighbors(&config.node.state_dir).await;
    done.extend(
        released
            .into_iter()
            .map(|neighbor| format!("neighbour {neighbor}")),
    );
    Ok(done)
}

/// The report of `check`: what a file would need, or what is wrong with it.
pub fn check(outcome: &Result<Loaded, Diagnostics>) -> api::Report {
    match outcome {
        Ok(loaded) => answers::report(loaded, plan(None, &loaded.config)),
        Err(diagnostics) => answers::refusal(diagnostics),
    }
}
