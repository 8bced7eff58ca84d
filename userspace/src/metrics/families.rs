//! How families of metrics are described and written.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::Values;

/// What every name begins with.
pub(super) const PREFIX: &str = "forebay";

/// What a family measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, while the tables live; its name ends in `_total`.
    Counter,
    /// What is now.
    Gauge,
    /// How long things took, in seconds.
    Seconds,
}

impl Kind {
    /// Its word.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Seconds => "histogram",
        }
    }
}

/// A family of metrics.
#[derive(Debug)]
pub struct Family {
    /// Its name, without what the prefix, the unit and the kind add.
    pub(super) stem: &'static str,
    /// What it measures.
    pub kind: Kind,
    /// Its labels, in order.
    pub labels: &'static [&'static str],
    /// What it means, without a full stop.
    pub(super) help: &'static str,
}

impl Family {
    /// The name of its lines.
    pub fn name(&self) -> String {
        let end = match self.kind {
            Kind::Counter => "_total",
            Kind::Gauge => "",
            Kind::Seconds => "_seconds",
        };
        format!("{PREFIX}_{}{end}", self.stem)
    }
}

/// Families that one file writes, one after the other.
pub(super) struct Subject {
    pub(super) families: &'static [&'static Family],
    pub(super) write: fn(&Values, &mut Page<'_>) -> fmt::Result,
}

/// Where families are written.
pub(super) struct Page<'e>(DescriptorEncoder<'e>);

impl<'e> Page<'e> {
    pub(super) fn of(encoder: DescriptorEncoder<'e>) -> Self {
        Self(encoder)
    }

    /// Begins a family; its lines follow.
    pub(super) fn family(&mut self, family: &'static Family) -> Result<Lines<'_>, fmt::Error> {
        const SECONDS: &Unit = &Unit::Seconds;
        let (kind, unit) = match family.kind {
            Kind::Counter => (MetricType::Counter, None),
            Kind::Gauge => (MetricType::Gauge, None),
            Kind::Seconds => (MetricType::Histogram, Some(SECONDS)),
        };
        let (stem, help) = (family.stem, format!("{}.", family.help));
        let encoder = self.0.encode_descriptor(stem, &help, unit, kind)?;
        Ok(Lines { family, encoder })
    }
}

/// Where lines of a family are written. Each takes the values of the family's labels, in order.
pub(super) struct Lines<'e> {
    family: &'static Family,
    encoder: MetricEncoder<'e>,
}

impl Lines<'_> {
    pub(super) fn counter<const N: usize>(&mut self, labels: [&str; N], value: u64) -> fmt::Result {
        let labels = self.labels(labels);
        let mut encoder = self.encoder.encode_family(&labels)?;
        encoder.encode_counter::<[(&str, &str); 0], _, f64>(&value, None)
    }

    pub(super) fn gauge<const N: usize>(&mut self, labels: [&str; N], value: u64) -> fmt::Result {
        let labels = self.labels(labels);
        self.encoder.encode_family(&labels)?.encode_gauge(&value)
    }

    /// A gauge that is a part of a whole.
    pub(super) fn part<const N: usize>(&mut self, labels: [&str; N], value: f64) -> fmt::Result {
        let labels = self.labels(labels);
        self.encoder.encode_family(&labels)?.encode_gauge(&value)
    }

    /// `buckets`: upper bounds, and how many are in each but not in the one before.
    pub(super) fn histogram<const N: usize>(
        &mut self,
        labels: [&str; N],
        sum: f64,
        buckets: &[(f64, u64)],
    ) -> fmt::Result {
        let labels = self.labels(labels);
        let count = buckets.iter().map(|(_, count)| count).sum();
        let mut encoder = self.encoder.encode_family(&labels)?;
        encoder.encode_histogram::<[(&str, &str); 0]>(sum, count, buckets, None)
    }

    fn labels<'v, const N: usize>(&self, values: [&'v str; N]) -> [(&'static str, &'v str); N] {
        let names = self.family.labels;
        debug_assert_eq!(names.len(), N, "{}", self.family.stem);
        std::array::from_fn(|at| (names[at], values[at]))
    }
}
