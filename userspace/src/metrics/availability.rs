//! Whether rules work, as the node finds them when it tries them.

use std::fmt;
use std::net::IpAddr;

use super::Values;
use super::families::{Family, Kind, Page, Subject};

static AVAILABILITY: Family = Family {
    stem: "data_path_availability_ratio",
    kind: Kind::Gauge,
    labels: &["frontend", "rule", "address"],
    help: "Part of the trials of a rule in the last five minutes that were answered, 0 to 1",
};

pub(super) static SUBJECT: Subject = Subject {
    families: &[&AVAILABILITY],
    write,
};

/// How a rule was found at an address of its frontend.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleAvailability {
    /// The frontend.
    pub frontend: String,
    /// The rule.
    pub rule: String,
    /// The address.
    pub address: IpAddr,
    /// The part of its trials that were answered, 0 to 1.
    pub share: f64,
}

fn write(values: &Values, page: &mut Page<'_>) -> fmt::Result {
    let mut lines = page.family(&AVAILABILITY)?;
    for one in &values.availability {
        let address = one.address.to_string();
        lines.part([&one.frontend, &one.rule, &address], one.share)?;
    }
    Ok(())
}
