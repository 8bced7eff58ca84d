//! `show snat`: who uses how many SNAT ports of which address. Pure.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use crate::api;
use crate::config::model::{Config, MemberRef};
use crate::control_plane::{
    Destinations, PortSet, SnatDestinations, SnatPorts, SnatUse, SnatUser, SnatWay, top,
};
use crate::dataplane::WayCount;
use crate::explain::protocol_name;
use crate::metrics::SnatConnections;

/// Destinations that are listed of each.
const TOP: usize = 5;

/// Whose ports: the position of the instance and its IP configuration, those that are no instance last.
type Owner = (usize, Option<MemberRef>);

/// What the view is made of.
pub(super) struct SnatView<'v> {
    pub config: &'v Config,
    pub ways: &'v [SnatWay],
    pub used: &'v SnatUse,
    pub destinations: &'v SnatDestinations,
    pub counts: &'v [WayCount],
}

/// What belongs to one line.
#[derive(Default)]
struct Line {
    ports: SnatPorts,
    used: PortSet,
    destinations: Destinations,
    failed: u64,
}

/// A line's place: owner, protocol, address.
type Place = (Owner, u32, IpAddr);

impl SnatView<'_> {
    /// The lines of one instance or of all.
    pub(super) fn lines(&self, instance: Option<&str>) -> Vec<api::Snat> {
        let owners = owners(self.config);
        let mut lines = BTreeMap::new();
        self.add_ways(&owners, &mut lines);
        self.add_use(&owners, &mut lines);
        self.add_failures(&owners, &mut lines);
        let is_wanted = |((_, owner), _, _): &Place| match instance {
            None => true,
            Some(name) => owner.as_ref().is_some_and(|owner| owner.instance == name),
        };
        let wanted = lines.iter().filter(|(place, _)| is_wanted(place));
        wanted
            .filter_map(|(place, line)| self.line(place, line))
            .collect()
    }

    /// What each may use. An address with shared ports only counts where there is no other: everybody shares many.
    fn add_ways(&self, owners: &HashMap<IpAddr, Owner>, lines: &mut BTreeMap<Place, Line>) {
        for way in self.ways {
            let owner = match owners.get(&way.source) {
                Some(owner) => owner.clone(),
                None if way.source.is_unspecified() => nobody(),
                // Of whoever has no way of its own and only wants to reach this frontend.
                None => continue,
            };
            let has_own = way.ports.values().any(|ports| ports.allocated() > 0);
            for (address, ports) in &way.ports {
                if ports.allocated() > 0 || !has_own {
                    let line = lines.entry((owner.clone(), way.protocol, *address));
                    line.or_default().ports = ports.clone();
                }
            }
        }
    }

    fn add_use(&self, owners: &HashMap<IpAddr, Owner>, lines: &mut BTreeMap<Place, Line>) {
        let owner = |user: &SnatUser| owners.get(&user.source).cloned().unwrap_or_else(nobody);
        for (user, ports) in &self.used.ports {
            let line = lines.entry((owner(user), user.protocol, user.address));
            line.or_default().used.extend(ports);
        }
        for user in self.destinations.users() {
            let place = (owner(user), user.protocol, user.address);
            let Some(line) = lines.get_mut(&place) else {
                continue;
            };
            for (to, flows) in self.destinations.of(user).into_iter().flatten() {
                *line.destinations.entry(*to).or_default() += flows;
            }
        }
    }

    /// Who was refused found no port on any address, so that each line says it.
    fn add_failures(&self, owners: &HashMap<IpAddr, Owner>, lines: &mut BTreeMap<Place, Line>) {
        let mut failed: HashMap<(Owner, u32, bool), u64> = HashMap::new();
        for count in self.counts {
            let owner = match owners.get(&count.source) {
                Some(owner) => owner.clone(),
                None if count.source.is_unspecified() => nobody(),
                None => continue,
            };
            let key = (owner, count.protocol, count.source.is_ipv6());
            *failed.entry(key).or_default() += count.refused;
        }
        for ((owner, protocol, address), line) in lines {
            let key = (owner.clone(), *protocol, address.is_ipv6());
            line.failed = failed.get(&key).copied().unwrap_or(0);
        }
    }

    /// `None` for an address of no frontend: a public IP's ports are not counted.
    fn line(&self, place: &Place, line: &Line) -> Option<api::Snat> {
        let ((_, owner), protocol, address) = place;
        let frontend = frontend_of(self.config, *address)?;
        let name =
            |part: fn(&MemberRef) -> &String| owner.as_ref().map_or("", |o| part(o).as_str());
        Some(api::Snat {
            instance: name(|owner| &owner.instance).to_owned(),
            ip_config: name(|owner| &owner.ip_config).to_owned(),
            frontend: frontend.to_owned(),
            address: address.to_string(),
            protocol: protocol_name(*protocol),
            allocated: line.ports.allocated(),
            burst: line.ports.burst(),
            used: line.used.len(),
            burst_used: line.used.outside(&line.ports.own),
            failed_total: line.failed,
            top_destinations: listed(&line.destinations),
        })
    }
}

fn owners(config: &Config) -> HashMap<IpAddr, Owner> {
    let mut owners = HashMap::new();
    for (position, instance) in config.instances.iter().enumerate() {
        for ip_config in &instance.ip_configs {
            let owner = MemberRef {
                instance: instance.name.clone(),
                ip_config: ip_config.name.clone(),
            };
            for address in ip_config.addresses() {
                owners.insert(address, (position, Some(owner.clone())));
            }
        }
    }
    owners
}

/// What became of the flows that sources wanted to open.
pub(super) fn connections(config: &Config, counts: &[WayCount]) -> Vec<SnatConnections> {
    let owners = owners(config);
    let of = |count: &WayCount| {
        let owner = match owners.get(&count.source) {
            Some(owner) => owner.clone(),
            None if count.source.is_unspecified() => nobody(),
            None => return None,
        };
        let instance = owner.1.as_ref().map(|owner| owner.instance.clone());
        let told = SnatConnections {
            instance: instance.unwrap_or_default(),
            address: count.source.to_string(),
            protocol: protocol_name(count.protocol),
            successful: count.opened,
            failed: count.refused,
        };
        Some(((owner, count.source, count.protocol), told))
    };
    let ordered: BTreeMap<_, _> = counts.iter().filter_map(of).collect();
    ordered.into_values().collect()
}

fn nobody() -> Owner {
    (usize::MAX, None)
}

/// Name of the frontend that has an address.
pub(super) fn frontend_of(config: &Config, address: IpAddr) -> Option<&str> {
    let mut frontends = config.frontends.iter();
    let frontend = frontends.find(|frontend| frontend.has(address));
    frontend.map(|frontend| frontend.name.as_str())
}

/// The destinations with most flows.
pub(super) fn listed(destinations: &Destinations) -> Vec<api::Destination> {
    let top = top(destinations, TOP).into_iter();
    top.map(|((address, port), used)| api::Destination {
        address: address.to_string(),
        port,
        used,
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use forebay_common::abi::{SnatRange, Way, WayKey};
    use forebay_common::family::V4;
    use forebay_common::flow::{Direction, Flow, FlowKey, FlowKind};

    use super::*;
    use crate::config::parse_all;
    use crate::control_plane::TableState;

    const FILE: &str = r#"
node.interfaces = ["eth0"]
frontend = [{ name = "nat", ipv4 = "203.0.113.64/31" }]
instance = [{ name = "b", ipv4 = "10.0.1.2" }, { name = "a", ipv4 = "10.0.1.1" }]
default_outbound.frontends = ["nat"]
"#;
    const A: [u8; 4] = [10, 0, 1, 1];
    const B: [u8; 4] = [10, 0, 1, 2];
    const ANYBODY: [u8; 4] = [0, 0, 0, 0];

    fn v4(octets: [u8; 4]) -> V4 {
        V4::from(Ipv4Addr::from(octets))
    }

    /// Eight ports of .64 each, sixteen shared ones of .65.
    fn tables() -> TableState {
        let mut tables = TableState::default();
        let range = |last, first, count| SnatRange {
            address: v4([203, 0, 113, last]),
            first,
            count,
            before: 0,
        };
        tables.v4.snat_ranges = BTreeMap::from([
            (1, range(64, 1024, 8)),
            (2, range(64, 1032, 8)),
            (3, range(65, 2000, 16)),
        ]);
        for (source, first, ranges) in [(A, 1, 1), (B, 2, 1), (ANYBODY, 0, 0)] {
            let way = Way {
                first,
                ranges,
                burst_first: 3,
                burst_ranges: 1,
                ..Way::default()
            };
            tables.v4.ways.insert(WayKey::new(v4(source), 6), way);
        }
        tables
    }

    fn flows(of: &[([u8; 4], u8, u16, u8)]) -> (SnatUse, SnatDestinations) {
        let mut found: (SnatUse, SnatDestinations) = Default::default();
        for (source, last, port, to) in of {
            let key = FlowKey {
                source: v4([192, 0, 2, *to]),
                destination: v4([203, 0, 113, *last]),
                ports: FlowKey::<V4>::ports_word(443, *port),
                protocol: 6,
            };
            let flow = Flow {
                destination: v4(*source),
                kind: FlowKind::DefaultOutbound.byte(Direction::ToInstance, true),
                ..Flow::default()
            };
            found.0.add(&key, &flow);
            found.1.add(&key, &flow, |_| true);
        }
        found
    }

    fn refused(source: [u8; 4], refused: u64) -> WayCount {
        WayCount {
            source: source.into(),
            protocol: 6,
            opened: 9,
            refused,
            destination: [192, 0, 2, 1].into(),
            port: 443,
            address: [203, 0, 113, 64].into(),
        }
    }

    fn lines(of: &[([u8; 4], u8, u16, u8)], instance: Option<&str>) -> Vec<api::Snat> {
        let config = parse_all("f", FILE).unwrap_or_else(|refusal| panic!("{refusal}"));
        let (used, destinations) = flows(of);
        let view = SnatView {
            config: &config.config,
            ways: &tables().snat_ways(),
            used: &used,
            destinations: &destinations,
            counts: &[refused(A, 3), refused(ANYBODY, 1)],
        };
        view.lines(instance)
    }

    #[test]
    fn each_line_says_what_one_has_uses_and_was_refused() {
        let found = lines(
            &[
                (A, 64, 1024, 1),
                (A, 64, 1024, 2),
                (A, 64, 1025, 2),
                (A, 65, 2000, 2),
                // Two that are no instances, one port.
                ([10, 9, 9, 9], 65, 2001, 1),
                ([10, 9, 9, 8], 65, 2001, 2),
            ],
            None,
        );
        let told: Vec<_> = found
            .iter()
            .map(|line| {
                let numbers = (
                    line.allocated,
                    line.used,
                    line.burst_used,
                    line.failed_total,
                );
                (line.instance.as_str(), line.address.as_str(), numbers)
            })
            .collect();
        assert_eq!(
            told,
            [
                ("b", "203.0.113.64", (8, 0, 0, 0)),
                ("a", "203.0.113.64", (8, 2, 0, 3)),
                ("a", "203.0.113.65", (0, 1, 1, 3)),
                ("", "203.0.113.65", (0, 1, 1, 1)),
            ]
        );
        assert_eq!(found[1].ip_config, "primary");
        assert_eq!(found[1].frontend, "nat");
        assert_eq!(found[1].protocol, "tcp");
        assert_eq!(found[3].burst, 16);
        let top: Vec<_> = (found[1].top_destinations.iter())
            .map(|to| (to.address.as_str(), to.port, to.used))
            .collect();
        assert_eq!(top, [("192.0.2.2", 443, 2), ("192.0.2.1", 443, 1)]);
    }

    #[test]
    fn an_instance_is_shown_alone() {
        let found = lines(&[(A, 64, 1024, 1), (B, 64, 1032, 1)], Some("b"));
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].instance.as_str(), found[0].used), ("b", 1));
    }

    #[test]
    fn ports_of_a_public_ip_are_not_counted() {
        assert_eq!(lines(&[(A, 99, 1024, 1)], Some("a")).len(), 1);
    }
}
