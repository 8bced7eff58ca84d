//! What Prometheus reads, and whether the node is alive and ready. Pure, but for the listener.
//!
//! ```text
//! Values ─► subjects (one file each) ─► exposition ─► text          why_not_ready ─► one sentence
//! ```
//!
//! A new family: a `Family` and what writes it in the file of its subject, its values in [`Values`], a line in
//! `docs/metrics.md`. A new subject: a file, and a line in `SUBJECTS`.

mod availability;
mod backends;
mod exposition;
mod families;
mod flows;
mod members;
mod node;
mod probes;
mod readiness;
mod server;
mod snat;
mod traffic;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use availability::RuleAvailability;
pub use backends::{Backend, backends};
pub use exposition::{Format, text};
pub use families::{Family, Kind};
pub use flows::FlowTable;
pub use node::Reloads;
pub use probes::{Durations, ProbeDurations, Probes};
pub use readiness::{Condition, why_not_ready};
pub use server::{Asked, Gather, MetricsServer, Pulse};
pub use snat::SnatConnections;
pub use traffic::{Counts, Traffic, counted_for};

use crate::api;
use families::Subject;

/// Every subject, in the order of the text.
static SUBJECTS: [&Subject; 7] = [
    &node::SUBJECT,
    &traffic::SUBJECT,
    &flows::SUBJECT,
    &backends::SUBJECT,
    &probes::SUBJECT,
    &availability::SUBJECT,
    &snat::SUBJECT,
];

/// Every family, in the order of the text.
pub fn families() -> impl Iterator<Item = &'static Family> {
    SUBJECTS
        .iter()
        .flat_map(|subject| subject.families)
        .copied()
}

/// Everything that is told. What is not known is left out: an absent line, not a wrong one.
#[derive(Debug, Default)]
pub struct Values {
    /// Reloads since the daemon was started.
    pub reloads: Reloads,
    /// By frontend.
    pub frontends: BTreeMap<String, Traffic>,
    /// New flows by rule or inbound NAT rule.
    pub rules: Vec<(String, u64)>,
    /// By reason.
    pub drops: api::Drops,
    /// IPv4, then IPv6.
    pub flows: [FlowTable; 2],
    /// Members' addresses by probe.
    pub backends: Vec<Backend>,
    /// How long probes took.
    pub probes: Vec<ProbeDurations>,
    /// Of the rules that are tried, by address.
    pub availability: Vec<RuleAvailability>,
    /// As `show snat` has them.
    pub snat: Vec<api::Snat>,
    /// What became of flows to the outside.
    pub connections: Vec<SnatConnections>,
}
