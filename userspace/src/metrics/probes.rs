//! How long probes take.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::Values;
use super::families::{Family, Kind, Page, Subject};
use super::members;
use crate::config::model::Config;
use crate::health::{Probed, Targets};

static PROBE_DURATION: Family = Family {
    stem: "probe_duration",
    kind: Kind::Seconds,
    labels: &["pool", "instance", "address"],
    help: "How long probes of a member's address took, whether or not they succeeded",
};

pub(super) static SUBJECT: Subject = Subject {
    families: &[&PROBE_DURATION],
    write,
};

/// Upper bounds, seconds; the last one has none.
const BOUNDS: [f64; 13] = [
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    f64::INFINITY,
];

/// How many took how long.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Durations {
    counts: [u64; BOUNDS.len()],
    sum: f64,
}

impl Durations {
    /// Adds one.
    pub fn add(&mut self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let fits = |(bound, _): &(&f64, &mut u64)| seconds <= **bound;
        if let Some((_, count)) = BOUNDS.iter().zip(&mut self.counts).find(fits) {
            *count += 1;
        }
        self.sum += seconds;
    }

    fn extend(&mut self, other: &Self) {
        let counts = self.counts.iter_mut().zip(other.counts);
        counts.for_each(|(mine, theirs)| *mine += theirs);
        self.sum += other.sum;
    }

    fn buckets(&self) -> [(f64, u64); BOUNDS.len()] {
        std::array::from_fn(|at| (BOUNDS[at], self.counts[at]))
    }
}

/// The durations of every probe that runs.
#[derive(Debug, Clone, Default)]
pub struct Probes(BTreeMap<Probed, Durations>);

impl Probes {
    /// Notes how long one took.
    pub fn add(&mut self, probed: &Probed, duration: Duration) {
        match self.0.get_mut(probed) {
            Some(known) => known.add(duration),
            None => self.0.entry(probed.clone()).or_default().add(duration),
        }
    }

    /// Forgets those that do not run any more.
    pub fn keep(&mut self, targets: &Targets) {
        self.0
            .retain(|probed, _| targets.probed.contains_key(probed));
    }

    /// What is told of them: for each pool and each address that is judged by a probe of that address.
    pub fn of_members(&self, config: &Config, targets: &Targets) -> Vec<ProbeDurations> {
        let mut told: BTreeMap<(&str, &str, IpAddr), BTreeSet<&Probed>> = BTreeMap::new();
        members::each(config, |probing| {
            let judged = targets.judged.get(&probing.target).map(|judged| &judged.by);
            let own = judged.filter(|by| by.address == probing.address);
            let instance = probing.member.target.instance.as_str();
            let place = (probing.pool.name.as_str(), instance, probing.address);
            told.entry(place).or_default().extend(own);
        });
        let durations =
            |((pool, instance, address), probed): ((&str, &str, _), BTreeSet<&Probed>)| {
                let known: Vec<&Durations> =
                    probed.iter().filter_map(|by| self.0.get(by)).collect();
                let mut durations = **known.first()?;
                known.iter().skip(1).for_each(|more| durations.extend(more));
                Some(ProbeDurations {
                    pool: pool.to_owned(),
                    instance: instance.to_owned(),
                    address,
                    durations,
                })
            };
        told.into_iter().filter_map(durations).collect()
    }
}

/// The durations of the probes of a member's address.
#[derive(Debug, Clone, PartialEq)]
pub struct ProbeDurations {
    /// The pool.
    pub pool: String,
    /// The member's instance.
    pub instance: String,
    /// Its address.
    pub address: IpAddr,
    /// How many took how long.
    pub durations: Durations,
}

fn write(values: &Values, page: &mut Page<'_>) -> fmt::Result {
    let mut lines = page.family(&PROBE_DURATION)?;
    for of in &values.probes {
        let (address, durations) = (of.address.to_string(), &of.durations);
        let labels = [&*of.pool, &*of.instance, &*address];
        lines.histogram(labels, durations.sum, &durations.buckets())?;
    }
    Ok(())
}
