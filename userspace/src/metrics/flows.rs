//! How many flows there are.

use std::fmt;

use forebay_common::flow::FlowState;

use super::Values;
use super::families::{Family, Kind, Page, Subject};

const FAMILIES: [&str; 2] = ["ipv4", "ipv6"];
const STATES: [FlowState; 4] = [
    FlowState::Opening,
    FlowState::Established,
    FlowState::Closing,
    FlowState::Closed,
];

static FLOWS: Family = Family {
    stem: "flows",
    kind: Kind::Gauge,
    labels: &["family", "state"],
    help: "Tracked flows",
};

static FLOW_CAPACITY: Family = Family {
    stem: "flow_capacity",
    kind: Kind::Gauge,
    labels: &["family"],
    help: "Flows that fit",
};

pub(super) static SUBJECT: Subject = Subject {
    families: &[&FLOWS, &FLOW_CAPACITY],
    write,
};

/// The flows of one IP family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FlowTable {
    states: [u64; 4],
    capacity: u64,
}

impl FlowTable {
    /// One of so many flows; `in_state` tells them apart.
    pub fn new(capacity: u64, in_state: impl Fn(FlowState) -> u64) -> Self {
        Self {
            states: STATES.map(in_state),
            capacity,
        }
    }
}

fn write(values: &Values, page: &mut Page<'_>) -> fmt::Result {
    let mut lines = page.family(&FLOWS)?;
    for (family, table) in FAMILIES.iter().zip(&values.flows) {
        for (state, flows) in STATES.iter().zip(table.states) {
            lines.gauge([family, state.label()], flows)?;
        }
    }
    let mut lines = page.family(&FLOW_CAPACITY)?;
    for (family, table) in FAMILIES.iter().zip(&values.flows) {
        lines.gauge([family], table.capacity)?;
    }
    Ok(())
}
