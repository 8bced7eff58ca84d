//! Keeps the server of `GET /whoami` as the file wants it.

use std::net::IpAddr;
use std::sync::Arc;

use forebay_common::family::{Family, V4, V6};
use forebay_common::wire::{TCP, UDP};

use super::Daemon;
use crate::control_plane::TableState;
use crate::whoami::{Answers, Ports, Whoami};

impl Daemon {
    /// Has instances told what is in force now.
    pub(super) async fn keep_whoami(&mut self) {
        let answers = match self.control_plane.config() {
            Some(config) if config.api.whoami.is_some() => {
                let tables = self.control_plane.applied();
                Answers::of(config, |source| own_ports(tables, source))
            }
            _ => Answers::default(),
        };
        self.answers.send_replace(Arc::new(answers));
        self.listen_for_whoami().await;
    }

    /// Listens where the file says. An address that the host does not have yet is tried again later.
    pub(super) async fn listen_for_whoami(&mut self) {
        let config = self.control_plane.config();
        let wanted = config.and_then(|config| config.api.whoami);
        if self.whoami.as_ref().map(Whoami::address) == wanted {
            return;
        }
        self.whoami = None;
        let Some(address) = wanted else { return };
        match Whoami::listen(address, self.answers.subscribe()).await {
            Ok(whoami) => self.whoami = Some(whoami),
            Err(error) => log::warn!("{error:#}; it is tried again in half a minute"),
        }
    }
}

/// The SNAT ports that are a source's own.
fn own_ports(tables: &TableState, source: IpAddr) -> Vec<Ports> {
    let icmp = match source {
        IpAddr::V4(_) => V4::ICMP,
        IpAddr::V6(_) => V6::ICMP,
    };
    let protocols = [("tcp", TCP), ("udp", UDP), ("icmp", icmp)];
    let mut own = Vec::new();
    for (name, protocol) in protocols {
        let way = tables.snat_way(source, protocol.into());
        for (address, ports) in way.into_iter().flat_map(|way| way.ports) {
            own.extend(ports.own.into_iter().map(|range| Ports {
                address: address.to_string(),
                protocol: name,
                first: *range.start(),
                last: *range.end(),
            }));
        }
    }
    own
}
