//! What a file is held against besides itself: the host it is for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use ipnet::IpNet;

use super::model::{Config, Frontend};

/// Where programs of a host wait for connections and datagrams.
#[derive(Debug, Clone)]
pub enum Sockets {
    /// At these.
    At(BTreeSet<SocketAddr>),
    /// To be asked for by whom it matters to: the kernel looks at every connection of the machine to tell.
    Ask(fn() -> BTreeSet<SocketAddr>),
}

impl Default for Sockets {
    fn default() -> Self {
        Self::At(BTreeSet::new())
    }
}

impl Sockets {
    fn find(&self) -> BTreeSet<SocketAddr> {
        match self {
            Self::At(sockets) => sockets.clone(),
            Self::Ask(ask) => ask(),
        }
    }
}

/// Facts of a host. None of them needs a privilege.
#[derive(Debug, Clone, Default)]
pub struct Host {
    /// Names of its interfaces.
    pub interfaces: BTreeSet<String>,
    /// Its own addresses, each with an interface that has it.
    pub addresses: BTreeMap<IpAddr, String>,
    /// Ports that its own connections are given (`ip_local_port_range`).
    pub local_ports: Option<RangeInclusive<u16>>,
    /// Ports that they are not given all the same (`ip_local_reserved_ports`).
    pub reserved_ports: Vec<RangeInclusive<u16>>,
    /// Where its programs wait for connections and datagrams.
    pub bound: Sockets,
}

impl Host {
    /// Whether it is the node that a file with these interfaces is for; a file may be checked anywhere.
    pub(super) fn is_node(&self, interfaces: &[String]) -> bool {
        (interfaces.iter()).any(|name| self.interfaces.contains(name))
    }

    /// One of its addresses that lies in a prefix, and the interface that has it.
    pub(super) fn own(&self, net: IpNet) -> Option<(IpAddr, &str)> {
        let mut addresses = self.addresses.range(net.network()..=net.broadcast());
        let (address, interface) = addresses.next()?;
        Some((*address, interface))
    }

    /// Addresses of this host that a frontend has without sharing them, each with its interface.
    pub fn taken(&self, config: &Config) -> BTreeSet<(IpAddr, String)> {
        let frontends = config.frontends.iter().filter(|frontend| !frontend.shared);
        let own = frontends
            .flat_map(|frontend| frontend.every_address())
            .filter_map(|address| {
                let interface = self.addresses.get(&address)?;
                Some((address, interface.clone()))
            });
        own.collect()
    }

    /// Ports that each shared frontend leaves to the host: nobody else could tell whose an answer to one of them is.
    pub(super) fn kept_ports(&self, config: &Config) -> BTreeMap<String, Vec<RangeInclusive<u16>>> {
        let mut shared = (config.frontends.iter().filter(|one| one.shared)).peekable();
        let bound = shared.peek().map(|_| self.bound.find()).unwrap_or_default();
        let ports = |frontend: &Frontend| {
            let sockets = bound.iter().filter(|socket| {
                let address = socket.ip();
                address.is_unspecified() || frontend.has(address)
            });
            let busy: BTreeSet<u16> = sockets.map(SocketAddr::port).collect();
            let mut ports = self.dynamic_ports();
            ports.extend(busy.into_iter().map(|port| port..=port));
            ports
        };
        shared
            .map(|frontend| (frontend.name.clone(), ports(frontend)))
            .filter(|(_, ports)| !ports.is_empty())
            .collect()
    }

    /// All ports that may be given to its connections.
    fn dynamic_ports(&self) -> Vec<RangeInclusive<u16>> {
        let mut ports = Vec::new();
        let Some(local) = &self.local_ports else {
            return ports;
        };
        let last = *local.end();
        let mut next = Some(*local.start());
        while let Some(first) = next.and_then(|next| self.local_port(next..=last)) {
            let reserved = self.reserved_ports.iter().map(|range| *range.start());
            let end = reserved.filter(|start| *start > first).min();
            let end = end.map_or(last, |start| last.min(start - 1));
            ports.push(first..=end);
            next = end.checked_add(1);
        }
        ports
    }

    /// The first of these ports that may be given to a connection of the host.
    pub(super) fn local_port(&self, ports: RangeInclusive<u16>) -> Option<u16> {
        let local = self.local_ports.as_ref()?;
        let mut port = (*ports.start()).max(*local.start());
        let last = (*ports.end()).min(*local.end());
        // A reservation ends in a port that may be free, or in another one.
        while port <= last {
            let reserved = self
                .reserved_ports
                .iter()
                .find(|range| range.contains(&port));
            match reserved {
                None => return Some(port),
                Some(range) => port = range.end().checked_add(1)?,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_ports_are_nobodys_by_chance() {
        let host = Host {
            local_ports: Some(32768..=60999),
            reserved_ports: vec![40000..=40009, 40010..=40010, 60990..=65535],
            ..Host::default()
        };
        assert_eq!(host.local_port(80..=80), None);
        assert_eq!(host.local_port(32767..=32768), Some(32768));
        assert_eq!(host.local_port(40005..=40005), None);
        assert_eq!(host.local_port(40000..=40010), None);
        assert_eq!(host.local_port(40000..=40011), Some(40011));
        assert_eq!(host.local_port(60990..=65535), None);
        assert_eq!(Host::default().local_port(1..=65535), None);
    }

    #[test]
    fn ports_of_the_hosts_connections_come_as_ranges() {
        let host = |reserved: &[RangeInclusive<u16>]| Host {
            local_ports: Some(32768..=60999),
            reserved_ports: reserved.to_vec(),
            ..Host::default()
        };
        assert_eq!(host(&[]).dynamic_ports(), [32768..=60999]);
        let some = [50000..=65535, 40000..=40009, 40005..=40020, 1..=80];
        let expected = [32768..=39999, 40021..=49999];
        assert_eq!(host(&some).dynamic_ports(), expected);
        assert_eq!(host(&[32768..=60999]).dynamic_ports(), []);
        assert_eq!(Host::default().dynamic_ports(), []);
    }

    #[test]
    fn an_address_is_found_within_a_prefix() {
        let host = Host {
            addresses: BTreeMap::from([
                ("203.0.113.66".parse().unwrap(), "eth0".to_owned()),
                ("::1".parse().unwrap(), "lo".to_owned()),
            ]),
            ..Host::default()
        };
        let own = |net: &str| host.own(net.parse().unwrap()).map(|(_, name)| name);
        assert_eq!(own("203.0.113.64/30"), Some("eth0"));
        assert_eq!(own("203.0.113.66/32"), Some("eth0"));
        assert_eq!(own("203.0.113.67/32"), None);
        assert_eq!(own("2001:db8::/64"), None);
    }
}
