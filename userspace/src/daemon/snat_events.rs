//! What operators are told of SNAT ports, in words. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::config::model::Config;
use crate::control_plane::{Destinations, PortSet, SnatDestinations, SnatUse, SnatUser, SnatWay};
use crate::dataplane::WayCount;
use crate::events::{EventKind, Happening};
use crate::explain::protocol_name;

use super::snat_views::{frontend_of, listed};

/// Who uses SNAT ports over a protocol: what an event is about.
pub(super) type Source = (IpAddr, u32);

/// The name of an event's subject.
pub(super) fn about((source, protocol): Source) -> String {
    format!("{source} {}", protocol_name(protocol))
}

/// The name of the subject of what concerns one address.
pub(super) fn about_address(source: Source, address: IpAddr) -> String {
    format!("{} {address}", about(source))
}

/// New flows of a source are refused. `is_its` says which sources it stands for.
pub(super) fn exhaustion(
    config: &Config,
    count: &WayCount,
    way: Option<&SnatWay>,
    (used, destinations): &(SnatUse, SnatDestinations),
    is_its: impl Fn(IpAddr) -> bool,
) -> Happening {
    let ports = way.into_iter().flat_map(|way| way.ports.values());
    let (allocated, burst) = ports.fold((0, 0), |(allocated, burst), ports| {
        (allocated + ports.allocated(), burst + ports.burst())
    });
    let is_mine = |user: &&SnatUser| user.protocol == count.protocol && is_its(user.source);
    let mut by_address: BTreeMap<IpAddr, PortSet> = BTreeMap::new();
    for (user, ports) in used.ports.iter().filter(|(user, _)| is_mine(user)) {
        by_address.entry(user.address).or_default().extend(ports);
    }
    let in_use: u32 = by_address.values().map(PortSet::len).sum();
    let mut towards = Destinations::new();
    for user in destinations.users().filter(is_mine) {
        for (to, flows) in destinations.of(user).into_iter().flatten() {
            *towards.entry(*to).or_default() += flows;
        }
    }
    let protocol = protocol_name(count.protocol);
    let frontend = frontend_of(config, count.address).unwrap_or_default();
    let message = format!(
        "{} was refused a {protocol} flow to {} from {}: no SNAT port is free for it ({in_use} in use, {allocated} allocated)",
        who(config, count.source),
        endpoint(count.destination, count.port),
        count.address,
    );
    named(EventKind::SnatPortExhaustion, message, config, count.source)
        .with("protocol", protocol)
        .with("frontend", frontend)
        .with("address", count.address)
        .with("destination", count.destination)
        .with("destination_port", count.port)
        .with("allocated", allocated)
        .with("burst", burst)
        .with("used", in_use)
        .with("failed_total", count.refused)
        .with("top_destinations", listed(&towards))
}

/// A source uses most of its ports of an address.
pub(super) fn high_usage(
    config: &Config,
    (source, protocol): Source,
    address: IpAddr,
    [used, ports]: [u32; 2],
) -> Happening {
    let protocol = protocol_name(protocol);
    let frontend = frontend_of(config, address).unwrap_or_default();
    let message = format!(
        "{} uses {used} of its {ports} {protocol} SNAT ports of {address}",
        who(config, source)
    );
    named(EventKind::HighSnatPortUsage, message, config, source)
        .with("protocol", protocol)
        .with("frontend", frontend)
        .with("address", address)
        .with("allocated", ports)
        .with("used", used)
}

fn named(kind: EventKind, message: String, config: &Config, source: IpAddr) -> Happening {
    let owner = config.owner_of(source);
    let (instance, ip_config) =
        owner.map_or_else(Default::default, |owner| (owner.instance, owner.ip_config));
    Happening::new(kind, message)
        .with("instance", instance)
        .with("ip_config", ip_config)
}

fn who(config: &Config, source: IpAddr) -> String {
    match config.owner_of(source) {
        Some(owner) => owner.to_string(),
        None if source.is_unspecified() => "a source that is no instance".to_owned(),
        None => format!("an instance without a way out, towards {source},"),
    }
}

fn endpoint(address: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(address, port).to_string()
}

/// Of a source's ports, above this part it is told of.
const HIGH_PERCENT: u32 = 75;
/// At or below this part it is over.
const LOW_PERCENT: u32 = 70;

/// How a number of used ports compares to what there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Usage {
    /// Operators should know.
    High,
    /// Neither.
    Between,
    /// Nothing to tell.
    Low,
}

/// Judges how many of some ports are used.
pub(super) fn usage(used: u32, ports: u32) -> Usage {
    let percent = u64::from(used) * 100;
    if ports > 0 && percent > u64::from(ports) * u64::from(HIGH_PERCENT) {
        Usage::High
    } else if percent <= u64::from(ports) * u64::from(LOW_PERCENT) {
        Usage::Low
    } else {
        Usage::Between
    }
}

#[cfg(test)]
mod tests {
    use forebay_common::family::V4;
    use forebay_common::flow::{Direction, Flow, FlowKey, FlowKind};
    use serde_json::json;

    use super::*;
    use crate::config::parse_all;
    use crate::control_plane::SnatPorts;
    use crate::events::{Events, Moment};

    fn config() -> Config {
        let file = "node.interfaces = [\"eth0\"]\n\
            frontend = [{ name = \"nat\", ipv4 = \"203.0.113.64\" }]\n\
            instance = [{ name = \"web-1\", ipv4 = \"10.0.1.11\" }]\n";
        let loaded = parse_all("f", file).unwrap_or_else(|refusal| panic!("{refusal}"));
        loaded.config
    }

    fn told(happening: Happening) -> serde_json::Value {
        let mut events = Events::default();
        let now = Moment {
            wall: std::time::SystemTime::UNIX_EPOCH,
            uptime: std::time::Duration::ZERO,
        };
        events.tell(now, happening);
        serde_json::to_value(&events.after(0)[0]).unwrap()
    }

    #[test]
    fn exhaustion_names_who_was_refused_and_what_it_has() {
        let source = IpAddr::from([10, 0, 1, 11]);
        let address = IpAddr::from([203, 0, 113, 64]);
        let count = WayCount {
            source,
            protocol: 6,
            opened: 2,
            refused: 7,
            destination: IpAddr::from([192, 0, 2, 1]),
            port: 443,
            address,
        };
        let ports = SnatPorts {
            own: vec![1024..=1025],
            shared: Vec::new(),
        };
        let way = SnatWay {
            source,
            protocol: 6,
            ports: BTreeMap::from([(address, ports)]),
        };
        let mut use_now: (SnatUse, SnatDestinations) = Default::default();
        for port in [1024, 1025] {
            let v4 = |address: [u8; 4]| V4::from(std::net::Ipv4Addr::from(address));
            let key = FlowKey {
                source: v4([192, 0, 2, 1]),
                destination: v4([203, 0, 113, 64]),
                ports: FlowKey::<V4>::ports_word(443, port),
                protocol: 6,
            };
            let flow = Flow {
                destination: v4([10, 0, 1, 11]),
                kind: FlowKind::RuleImplied.byte(Direction::ToInstance, true),
                ..Flow::default()
            };
            use_now.0.add(&key, &flow);
            use_now.1.add(&key, &flow, |_| true);
        }
        let event = told(exhaustion(&config(), &count, Some(&way), &use_now, |s| {
            s == source
        }));
        for (field, value) in [
            ("event", json!("SnatPortExhaustion")),
            ("severity", json!("critical")),
            ("instance", json!("web-1")),
            ("ip_config", json!("primary")),
            ("protocol", json!("tcp")),
            ("frontend", json!("nat")),
            ("address", json!("203.0.113.64")),
            ("destination", json!("192.0.2.1")),
            ("destination_port", json!(443)),
            ("allocated", json!(2)),
            ("used", json!(2)),
            (
                "top_destinations",
                json!([{"address": "192.0.2.1", "port": 443, "used": 2}]),
            ),
        ] {
            assert_eq!(event[field], value, "{field} of {event}");
        }
    }

    #[test]
    fn high_usage_names_the_address() {
        let source = (IpAddr::from([10, 0, 1, 11]), 17);
        let address = IpAddr::from([203, 0, 113, 64]);
        let event = told(high_usage(&config(), source, address, [800, 1024]));
        assert_eq!(
            event["message"],
            "web-1/primary uses 800 of its 1024 udp SNAT ports of 203.0.113.64"
        );
        assert_eq!(
            (&event["used"], &event["allocated"]),
            (&json!(800), &json!(1024))
        );
        assert_eq!(event["frontend"], "nat");
    }

    #[test]
    fn above_three_quarters_is_high_and_a_little_less_is_not_over() {
        for (used, expected) in [
            (0, Usage::Low),
            (70, Usage::Low),
            (71, Usage::Between),
            (75, Usage::Between),
            (76, Usage::High),
            (200, Usage::High),
        ] {
            assert_eq!(usage(used, 100), expected, "{used}");
        }
        assert_eq!(usage(0, 0), Usage::Low);
        assert_eq!(usage(5, 0), Usage::Between, "all its ports were taken away");
    }
}
