//! The node tries its own rules: a SYN from a reserved source is run through the program as if a client had sent
//! it, and goes out to an instance if the program says so. The program catches the answer. What follows from it is
//! decided in [`crate::availability`].

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result};
use forebay_common::abi::Trial;
use forebay_common::family::{Family, V4, V6};
use forebay_common::flow::FlowKey;
use forebay_common::reason::{Fate, Reason};
use forebay_common::wire::{Mac, TCP};

use super::Daemon;
use crate::availability::{
    Availability, Failure, Level, Segment, Standing, TIMEOUT, Target, targets,
};
use crate::config::model::{Advertise, Config};
use crate::control_plane::{HostInterface, XdpState};
use crate::events::{EventKind, Happening, Moment};
use crate::metrics::RuleAvailability;

/// How often it is looked what is due.
pub(super) const LOOK: Duration = Duration::from_millis(100);
/// Trials that are begun at one look.
const AT_ONCE: usize = 10;
/// Trials come from ports from this one on, one after the other, so that those of ten seconds have places of their
/// own.
const FIRST_PORT: u16 = 0x8000;
/// In the first octet of a MAC address: chosen by oneself, and of one station.
const LOCAL: u8 = 0x02;
const GROUP: u8 = 0x01;

const KINDS: [EventKind; 2] = [
    EventKind::DataPathAvailabilityWarning,
    EventKind::DataPathAvailabilityCritical,
];

/// Trials, and what they have shown.
pub(super) struct Trials {
    availability: Availability,
    next_port: u16,
    pending: VecDeque<Pending>,
    /// Why nothing is tried.
    idle: Option<String>,
    /// What the kernel said that cannot do it.
    refused: Option<String>,
}

/// A trial that is waited for.
struct Pending {
    target: Target,
    segment: Segment,
    ifindex: u32,
    until: Duration,
}

impl Trials {
    pub(super) fn new() -> Self {
        Self {
            availability: Availability::default(),
            next_port: rand::random(),
            pending: VecDeque::new(),
            idle: None,
            refused: None,
        }
    }

    pub(super) fn availability(&self) -> &Availability {
        &self.availability
    }

    /// What is known of rules, for the metrics.
    pub(super) fn measured(&self, now: Duration) -> Vec<RuleAvailability> {
        let rows = self.availability.rows(now);
        let known = rows.filter_map(|row| {
            Some(RuleAvailability {
                frontend: row.target.frontend.clone(),
                rule: row.target.rule.clone(),
                address: row.target.address,
                share: row.share?,
            })
        });
        known.collect()
    }

    /// Tries the rules of a configuration from now on.
    pub(super) fn configure(&mut self, config: &Config, now: Duration) {
        let random = || [rand::random(), rand::random()];
        self.availability.configure(targets(config), now, random);
    }

    fn take_port(&mut self) -> u16 {
        self.next_port = self.next_port.wrapping_add(1) | FIRST_PORT;
        self.next_port
    }
}

impl Daemon {
    /// Takes in what has become of trials, begins those that are due, and tells of what follows.
    pub(super) fn look_at_trials(&mut self) {
        let now = self.moment();
        self.conclude_trials(now.uptime);
        let reason = self.why_idle();
        if reason != self.trials.idle {
            self.change_idle(reason, now);
        }
        if self.trials.idle.is_some() || !self.ready {
            return;
        }
        for (target, to) in self.trials.availability.due(now.uptime, AT_ONCE) {
            if let Err(error) = self.try_out(target, to, now.uptime) {
                log::warn!("try the data path: {error:#}");
            }
        }
        if let Some(standings) = self.trials.availability.judge(now.uptime) {
            self.tell_availability(now, &standings);
        }
    }

    /// Why nothing can be tried, if that is so.
    fn why_idle(&self) -> Option<String> {
        if let Some(refused) = &self.trials.refused {
            return Some(refused.clone());
        }
        let config = self.control_plane.config()?;
        let is_routed = config.node.advertise == Advertise::None;
        if !is_routed && !self.control_plane.advertises() {
            return Some("this node does not claim its addresses".to_owned());
        }
        let attached = || {
            let host = self.control_plane.host().iter();
            host.filter(|one| one.is_attached())
        };
        if let Some(generic) = attached().find(|one| one.xdp == XdpState::Generic) {
            let name = &generic.name;
            return Some(format!("{name} has the program in generic mode"));
        }
        let takes_none = attached().next().is_some() && !attached().any(|one| one.takes_redirects);
        takes_none.then(|| "no interface takes frames that are redirected".to_owned())
    }

    fn change_idle(&mut self, reason: Option<String>, now: Moment) {
        match &reason {
            Some(reason) => {
                log::info!("the availability of the data path is not measured: {reason}");
                for one in std::mem::take(&mut self.trials.pending) {
                    self.take_back(&one);
                }
                self.trials.availability.pause();
                self.clear_availability(now, |_| true);
            }
            None => log::info!("the availability of the data path is measured"),
        }
        self.trials.idle = reason;
    }

    /// Begins a trial.
    fn try_out(&mut self, target: Target, to: SocketAddr, now: Duration) -> Result<()> {
        let Some(ingress) = ingress(self.control_plane.host(), to.ip()) else {
            // Without a link nothing could come either.
            let down = Err(Failure::Stopped(Reason::NoRoute));
            self.trials.availability.record(&target, now, down);
            return Ok(());
        };
        let ifindex = ingress.ifindex;
        let segment = Segment {
            source: SocketAddr::new(source_for(to.ip()), self.trials.take_port()),
            destination: to,
            sequence: rand::random(),
            source_mac: random_mac(),
            destination_mac: ingress.mac.octets(),
        };
        let port = segment.source.port();
        self.dataplane.begin_trial(port, &expected(&segment))?;
        let frame = segment.syn().context("make a trial")?;
        if let Err(error) = self.dataplane.run_trial(&frame, ifindex) {
            self.trial_refused(&error);
            return Ok(());
        }
        match self.dataplane.trial(port)?.reason() {
            Some(reason) if leaves(reason) => self.trials.pending.push_back(Pending {
                target,
                segment,
                ifindex,
                until: now + TIMEOUT,
            }),
            reason => {
                let stopped = reason.and_then(reason_of).unwrap_or(Reason::NotLoaded);
                let stopped = Err(Failure::Stopped(stopped));
                self.trials.availability.record(&target, now, stopped);
            }
        }
        Ok(())
    }

    /// The kernel does not run frames: an interface that has just gone is no reason to give up.
    fn trial_refused(&mut self, error: &io::Error) {
        let code = error.raw_os_error();
        if matches!(code, Some(libc::EINVAL | libc::EOPNOTSUPP | libc::EPERM)) {
            let refused = format!("the kernel runs no frames of the node's own ({error})");
            self.trials.refused = Some(refused);
        } else {
            log::debug!("a trial was not run: {error}");
        }
    }

    /// Ends the trials that were answered, or waited for long enough.
    fn conclude_trials(&mut self, now: Duration) {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for one in std::mem::take(&mut self.trials.pending) {
            let port = one.segment.source.port();
            let is_answered = match self.dataplane.trial(port) {
                Ok(trial) => trial.port == u32::from(port) && trial.is_answered(),
                Err(error) => {
                    log::warn!("{error:#}");
                    continue;
                }
            };
            if !is_answered && now < one.until {
                self.trials.pending.push_back(one);
                continue;
            }
            let outcome = if is_answered {
                Ok(())
            } else {
                self.take_back(&one);
                Err(Failure::NoAnswer)
            };
            self.trials.availability.record(&one.target, now, outcome);
            match (one.segment.source.ip(), one.segment.destination.ip()) {
                (IpAddr::V4(from), IpAddr::V4(to)) => {
                    v4.push(key(V4::from(from), V4::from(to), &one.segment));
                }
                (IpAddr::V6(from), IpAddr::V6(to)) => {
                    v6.push(key(V6::from(from), V6::from(to), &one.segment));
                }
                _ => {}
            }
        }
        if let Err(error) = self.forget_trials(&v4, &v6) {
            log::warn!("forget the flows of trials: {error:#}");
        }
    }

    fn forget_trials(&self, v4: &[FlowKey<V4>], v6: &[FlowKey<V6>]) -> Result<()> {
        let flows = self.flows();
        if !v4.is_empty() {
            flows.v4.forget(v4)?;
        }
        if !v6.is_empty() {
            flows.v6.forget(v6)?;
        }
        Ok(())
    }

    /// Ends what an instance may have begun whose answer has not come.
    fn take_back(&self, one: &Pending) {
        let run = |frame: Vec<u8>| self.dataplane.run_trial(&frame, one.ifindex);
        if let Err(error) = one.segment.reset().and_then(run) {
            log::debug!("a trial was not taken back: {error}");
        }
    }

    fn tell_availability(&mut self, now: Moment, standings: &[Standing]) {
        let levels = |about: &str| self.trials.availability.level(about).is_none();
        let unknown: Vec<String> = KINDS
            .into_iter()
            .flat_map(|kind| self.events.open_ones(kind))
            .filter(|about| levels(about))
            .collect();
        self.clear_availability(now, |about| unknown.iter().any(|one| one == about));
        let [warning, critical] = KINDS;
        for standing in standings {
            let about = &standing.frontend;
            let message = message(standing);
            if standing.level != Level::Critical {
                self.events.clear(now, critical, about, &message);
            }
            match standing.level {
                Level::Good => self.events.clear(now, warning, about, &message),
                // A warning that is open stays so, and is not told again meanwhile.
                Level::Critical => self.events.open(now, about, happening(critical, standing)),
                Level::Warning => self.events.open(now, about, happening(warning, standing)),
            }
        }
    }

    /// Ends what is open of frontends of which nothing is known any more.
    fn clear_availability(&mut self, now: Moment, is_meant: impl Fn(&str) -> bool) {
        for kind in KINDS {
            for about in self.events.open_ones(kind) {
                if is_meant(&about) {
                    let message = format!("frontend {about} is not tried any more");
                    self.events.clear(now, kind, &about, &message);
                }
            }
        }
    }
}

/// The interface that clients of an address are likeliest to come in on: where the address is on the link, else
/// the first one. `None` when none is up. In a trial a frame leaves by redirect even where it came in.
fn ingress(host: &[HostInterface], address: IpAddr) -> Option<&HostInterface> {
    let up = || {
        let attached = host.iter().filter(|one| one.is_attached());
        attached.filter(|one| one.link_ups.is_some() && one.takes_redirects)
    };
    let is_on_link = |one: &&HostInterface| one.networks.iter().any(|net| net.contains(&address));
    up().find(is_on_link).or_else(|| up().next())
}

fn source_for(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => V4::TRIALS.into(),
        IpAddr::V6(_) => V6::TRIALS.into(),
    }
}

fn random_mac() -> [u8; 6] {
    let mut mac: [u8; 6] = rand::random();
    mac[0] = mac[0] & !GROUP | LOCAL;
    mac
}

/// What the program knows a trial and its answer by.
fn expected(segment: &Segment) -> Trial {
    let mac = Mac::from_octets(segment.source_mac);
    Trial {
        port: segment.source.port().into(),
        mac_head: mac.head,
        mac_tail: mac.tail.into(),
        acknowledged: segment.acknowledged(),
        verdict: 0,
        answer: 0,
    }
}

fn key<A: Family>(source: A, destination: A, segment: &Segment) -> FlowKey<A> {
    let (from, to) = (segment.source.port(), segment.destination.port());
    FlowKey {
        source,
        destination,
        ports: FlowKey::<A>::ports_word(from, to),
        protocol: TCP.into(),
    }
}

fn reason_of(number: u32) -> Option<Reason> {
    Reason::ALL
        .iter()
        .copied()
        .find(|one| *one as u32 == number)
}

/// Whether a packet with this reason is on its way.
fn leaves(number: u32) -> bool {
    reason_of(number)
        .is_some_and(|reason| reason.fate() == Fate::Forward || reason == Reason::ForwardedByKernel)
}

fn percent(share: f64) -> f64 {
    (share * 1000.0).round() / 10.0
}

fn message(standing: &Standing) -> String {
    let why = standing.last_failure.map_or_else(String::new, |failure| {
        format!("; the last one that failed: {failure}")
    });
    format!(
        "{} % of the trials of frontend {} were answered{why}",
        percent(standing.share),
        standing.frontend
    )
}

fn happening(kind: EventKind, standing: &Standing) -> Happening {
    let mut addresses: Vec<IpAddr> = standing.affected.iter().map(|(one, _)| *one).collect();
    let mut ports: Vec<u16> = standing.affected.iter().map(|(_, port)| *port).collect();
    addresses.sort_unstable();
    addresses.dedup();
    ports.sort_unstable();
    ports.dedup();
    Happening::new(kind, message(standing))
        .with("frontend", &standing.frontend)
        .with("addresses", addresses)
        .with("ports", ports)
        .with("percent", percent(standing.share))
        .with(
            "reason",
            standing.last_failure.map(|failure| failure.to_string()),
        )
}
