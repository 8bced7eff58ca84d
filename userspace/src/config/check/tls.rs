//! Probes over TLS that could verify nobody on this machine.

use super::Check;
use crate::config::host::Host;
use crate::probes::tls_fault;

pub(super) fn check(check: &Check<'_>, host: &Host) {
    if !host.is_node(&check.draft.node.value.interfaces) {
        return;
    }
    for probe in &check.draft.probes {
        if let Some(fault) = tls_fault(&probe.value) {
            let place = probe.place.at(fault.key);
            check.source.error(place, fault.expected, fault.message);
        }
    }
}
