//! SNAT ports, and who got one.

use std::fmt;

use super::Values;
use super::families::{Family, Kind, Page, Subject};

static ALLOCATED: Family = Family {
    stem: "snat_ports_allocated",
    kind: Kind::Gauge,
    labels: &["instance", "ip_config", "address", "protocol"],
    help: "SNAT ports of a public address that are an IP configuration's own",
};

static USED: Family = Family {
    stem: "snat_ports_used",
    kind: Kind::Gauge,
    labels: &["instance", "ip_config", "address", "protocol"],
    help: "SNAT ports of a public address that an IP configuration uses, shared ones too",
};

static CONNECTIONS: Family = Family {
    stem: "snat_connections",
    kind: Kind::Counter,
    labels: &["instance", "address", "protocol", "state"],
    help: "New flows from a private address to the outside that got a SNAT port, and packets that were refused one",
};

pub(super) static SUBJECT: Subject = Subject {
    families: &[&ALLOCATED, &USED, &CONNECTIONS],
    write,
};

/// What became of the flows that a private address wanted to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnatConnections {
    /// The instance; empty for those that are none.
    pub instance: String,
    /// Its private address.
    pub address: String,
    /// The protocol.
    pub protocol: String,
    /// Flows that got a port.
    pub successful: u64,
    /// Packets that were refused one.
    pub failed: u64,
}

fn write(values: &Values, page: &mut Page<'_>) -> fmt::Result {
    let mut lines = page.family(&ALLOCATED)?;
    for one in &values.snat {
        let labels = [&one.instance, &one.ip_config, &one.address, &one.protocol];
        lines.gauge(labels.map(String::as_str), one.allocated.into())?;
    }
    let mut lines = page.family(&USED)?;
    for one in &values.snat {
        let labels = [&one.instance, &one.ip_config, &one.address, &one.protocol];
        lines.gauge(labels.map(String::as_str), one.used.into())?;
    }
    let mut lines = page.family(&CONNECTIONS)?;
    for one in &values.connections {
        let labels = [&one.instance, &one.address, &one.protocol].map(String::as_str);
        let [instance, address, protocol] = labels;
        lines.counter([instance, address, protocol, "successful"], one.successful)?;
        lines.counter([instance, address, protocol, "failed"], one.failed)?;
    }
    Ok(())
}
