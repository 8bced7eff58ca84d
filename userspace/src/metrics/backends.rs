//! Who is up.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use super::Values;
use super::families::{Family, Kind, Page, Subject};
use super::members::{self, Probing};
use crate::config::model::{AdminState, Config, MemberRef};
use crate::health::View;

static BACKEND_UP: Family = Family {
    stem: "backend_up",
    kind: Kind::Gauge,
    labels: &["pool", "instance", "ip_config", "address", "probe"],
    help: "Whether a member's address is up for a probe, or by its admin state",
};

pub(super) static SUBJECT: Subject = Subject {
    families: &[&BACKEND_UP],
    write,
};

/// How a member's address stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// The pool.
    pub pool: String,
    /// The member.
    pub member: MemberRef,
    /// Its address.
    pub address: IpAddr,
    /// The probe.
    pub probe: String,
    /// Whether it is up. Where rules have a probe ask several ports, on all of them.
    pub is_up: bool,
}

/// How all members' addresses stand of which something is known.
pub fn backends(config: &Config, health: &View) -> Vec<Backend> {
    let mut found: BTreeMap<(&str, &MemberRef, IpAddr, String), bool> = BTreeMap::new();
    members::each(config, |probing| {
        let Probing {
            pool,
            member,
            address,
            target,
        } = probing;
        let is_up = match member.admin_state {
            AdminState::Up => true,
            AdminState::Down => false,
            AdminState::None if health.is_unknown(&target) => return,
            AdminState::None => health.is_up(&target),
        };
        let key = (pool.name.as_str(), &member.target, address, target.probe);
        *found.entry(key).or_insert(true) &= is_up;
    });
    let backend =
        |((pool, member, address, probe), is_up): ((&str, &MemberRef, _, _), _)| Backend {
            pool: pool.to_owned(),
            member: member.clone(),
            address,
            probe,
            is_up,
        };
    found.into_iter().map(backend).collect()
}

fn write(values: &Values, page: &mut Page<'_>) -> fmt::Result {
    let mut lines = page.family(&BACKEND_UP)?;
    for backend in &values.backends {
        let MemberRef {
            instance,
            ip_config,
        } = &backend.member;
        let address = backend.address.to_string();
        let labels = [&backend.pool, instance, ip_config, &address, &backend.probe];
        lines.gauge(labels.map(String::as_str), backend.is_up.into())?;
    }
    Ok(())
}
