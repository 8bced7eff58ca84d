//! The daemon itself: its version, and how reloads went.

use std::fmt;

use super::Values;
use super::families::{Family, Kind, Page, Subject};

static BUILD_INFO: Family = Family {
    stem: "build_info",
    kind: Kind::Gauge,
    labels: &["version"],
    help: "Version of the daemon, always 1",
};

static CONFIG_RELOADS: Family = Family {
    stem: "config_reloads",
    kind: Kind::Counter,
    labels: &["result"],
    help: "Reloads of the configuration since the daemon was started",
};

pub(super) static SUBJECT: Subject = Subject {
    families: &[&BUILD_INFO, &CONFIG_RELOADS],
    write,
};

/// Reloads since the daemon was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reloads {
    /// After which the file was in force.
    pub successful: u64,
    /// After which the former configuration stayed.
    pub failed: u64,
}

fn write(values: &Values, page: &mut Page<'_>) -> fmt::Result {
    let mut lines = page.family(&BUILD_INFO)?;
    lines.gauge([env!("CARGO_PKG_VERSION")], 1)?;
    let mut lines = page.family(&CONFIG_RELOADS)?;
    lines.counter(["successful"], values.reloads.successful)?;
    lines.counter(["failed"], values.reloads.failed)
}
