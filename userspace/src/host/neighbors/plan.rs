//! Which neighbours the host should keep resolved. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage,
    NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteType, RouteVia,
};

/// Somebody on the link of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Neighbor {
    /// Number of the interface.
    pub(super) ifindex: u32,
    pub(super) address: IpAddr,
}

/// What the kernel has of a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Entry {
    /// Somebody has written its MAC address down, or its link needs none.
    pub(super) is_fixed: bool,
    /// The kernel keeps it resolved.
    pub(super) is_managed: bool,
}

/// What is to be asked of the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Steps {
    /// To be kept resolved from now on.
    pub(super) keep: Vec<Neighbor>,
    /// To be left to themselves again.
    pub(super) release: Vec<Neighbor>,
}

/// The neighbours to keep: those on the ways to instances, and gateways, as far as they are on the link
/// of an interface of the node.
pub(super) fn wanted(
    interfaces: &BTreeMap<u32, String>,
    ways: impl IntoIterator<Item = Neighbor>,
) -> BTreeSet<Neighbor> {
    ways.into_iter()
        .filter(|neighbor| interfaces.contains_key(&neighbor.ifindex))
        .filter(|neighbor| !neighbor.address.is_unspecified() && !neighbor.address.is_multicast())
        .collect()
}

/// What leads from what the kernel has to what is wanted. Only what is in `ours` is ever released, and
/// what somebody else keeps or has written down stays theirs.
pub(super) fn steps(
    wanted: &BTreeSet<Neighbor>,
    ours: &BTreeSet<Neighbor>,
    kernel: &BTreeMap<Neighbor, Entry>,
) -> Steps {
    let lacks = |neighbor: &&Neighbor| {
        let entry = kernel.get(neighbor).copied().unwrap_or_default();
        !entry.is_fixed && !entry.is_managed
    };
    Steps {
        keep: wanted.iter().filter(lacks).copied().collect(),
        release: ours.difference(wanted).copied().collect(),
    }
}

/// A neighbour and what the kernel has of it.
pub(super) fn entry(message: &NeighbourMessage) -> Option<(Neighbor, Entry)> {
    let mut entry = Entry {
        is_fixed: matches!(
            message.header.state,
            NeighbourState::Permanent | NeighbourState::Noarp
        ),
        is_managed: false,
    };
    if message.header.flags.contains(NeighbourFlags::Proxy) {
        return None;
    }
    let mut address = None;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(found)) => {
                address = Some(IpAddr::V4(*found));
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(found)) => {
                address = Some(IpAddr::V6(*found));
            }
            NeighbourAttribute::ExtFlags(flags) => {
                entry.is_managed = flags.contains(NeighbourExtFlags::Managed);
            }
            _ => {}
        }
    }
    let neighbor = Neighbor {
        ifindex: message.header.ifindex,
        address: address?,
    };
    Some((neighbor, entry))
}

/// The gateways of a route, if it is a default route of whichever table.
pub(super) fn gateways(route: &RouteMessage) -> Vec<Neighbor> {
    let is_default =
        route.header.destination_prefix_length == 0 && route.header.kind == RouteType::Unicast;
    if !is_default {
        return Vec::new();
    }
    let mut found: Vec<Neighbor> = next_hop(&route.attributes, None).into_iter().collect();
    for attribute in &route.attributes {
        if let RouteAttribute::MultiPath(hops) = attribute {
            let hops = hops.iter();
            found.extend(
                hops.filter_map(|hop| next_hop(&hop.attributes, Some(hop.interface_index))),
            );
        }
    }
    found
}

fn next_hop(attributes: &[RouteAttribute], ifindex: Option<u32>) -> Option<Neighbor> {
    let (mut ifindex, mut address) = (ifindex, None);
    for attribute in attributes {
        match attribute {
            RouteAttribute::Oif(index) => ifindex = Some(*index),
            RouteAttribute::Gateway(RouteAddress::Inet(gateway))
            | RouteAttribute::Via(RouteVia::Inet(gateway)) => address = Some((*gateway).into()),
            RouteAttribute::Gateway(RouteAddress::Inet6(gateway))
            | RouteAttribute::Via(RouteVia::Inet6(gateway)) => address = Some((*gateway).into()),
            _ => {}
        }
    }
    Some(Neighbor {
        ifindex: ifindex?,
        address: address?,
    })
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::route::RouteNextHop;

    use super::*;

    fn neighbor(ifindex: u32, address: &str) -> Neighbor {
        Neighbor {
            ifindex,
            address: address.parse().unwrap(),
        }
    }

    #[test]
    fn only_neighbours_on_the_links_of_the_node_are_wanted() {
        let interfaces = BTreeMap::from([(2, "eth0".to_owned())]);
        let ways = [
            neighbor(2, "10.0.0.1"),
            neighbor(2, "10.0.0.1"),
            neighbor(3, "10.0.1.1"),
            neighbor(2, "0.0.0.0"),
        ];
        assert_eq!(
            wanted(&interfaces, ways),
            BTreeSet::from([neighbor(2, "10.0.0.1")])
        );
    }

    #[test]
    fn what_others_keep_or_wrote_down_is_left_alone() {
        let all = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::4"].map(|text| neighbor(2, text));
        let entry = |is_fixed, is_managed| Entry {
            is_fixed,
            is_managed,
        };
        let kernel = BTreeMap::from([
            (all[0], entry(true, false)),
            (all[1], entry(false, true)),
            (all[2], entry(false, false)),
        ]);
        let steps = steps(&BTreeSet::from(all), &BTreeSet::new(), &kernel);
        assert_eq!(steps.keep, [all[2], all[3]]);
        assert_eq!(steps.release, []);
    }

    #[test]
    fn what_is_no_longer_wanted_is_released_and_what_was_flushed_is_kept_anew() {
        let (gone, flushed) = (neighbor(2, "10.0.0.1"), neighbor(2, "10.0.0.2"));
        let ours = BTreeSet::from([gone, flushed]);
        let steps = steps(&BTreeSet::from([flushed]), &ours, &BTreeMap::new());
        assert_eq!(steps.keep, [flushed]);
        assert_eq!(steps.release, [gone]);
    }

    #[test]
    fn gateways_are_those_of_default_routes_of_every_kind() {
        let gateway = |text: &str| match text.parse().unwrap() {
            IpAddr::V4(address) => RouteAttribute::Gateway(RouteAddress::Inet(address)),
            IpAddr::V6(address) => RouteAttribute::Gateway(RouteAddress::Inet6(address)),
        };
        let mut route = RouteMessage::default();
        route.header.kind = RouteType::Unicast;
        route.attributes = vec![RouteAttribute::Oif(2), gateway("203.0.113.1")];
        assert_eq!(gateways(&route), [neighbor(2, "203.0.113.1")]);
        route.header.destination_prefix_length = 8;
        assert_eq!(gateways(&route), []);

        route.header.destination_prefix_length = 0;
        let hop = |ifindex, text: &str| {
            let mut hop = RouteNextHop::default();
            hop.interface_index = ifindex;
            hop.attributes = vec![gateway(text)];
            hop
        };
        route.attributes = vec![RouteAttribute::MultiPath(vec![
            hop(2, "203.0.113.1"),
            hop(3, "fe80::1"),
        ])];
        assert_eq!(
            gateways(&route),
            [neighbor(2, "203.0.113.1"), neighbor(3, "fe80::1")]
        );
        route.attributes = vec![RouteAttribute::Oif(2)];
        assert_eq!(gateways(&route), [], "on the link itself");
    }

    #[test]
    fn a_route_over_the_other_family_has_a_gateway_too() {
        let mut route = RouteMessage::default();
        route.header.kind = RouteType::Unicast;
        let via = RouteVia::Inet6("fe80::1".parse().unwrap());
        route.attributes = vec![RouteAttribute::Oif(2), RouteAttribute::Via(via)];
        assert_eq!(gateways(&route), [neighbor(2, "fe80::1")]);
    }

    #[test]
    fn entries_are_read_with_what_matters_of_them() {
        let mut message = NeighbourMessage::default();
        message.header.ifindex = 2;
        message.header.state = NeighbourState::Stale;
        message.attributes = vec![
            NeighbourAttribute::Destination(NeighbourAddress::Inet([10, 0, 0, 1].into())),
            NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed),
        ];
        let managed = Entry {
            is_fixed: false,
            is_managed: true,
        };
        assert_eq!(entry(&message), Some((neighbor(2, "10.0.0.1"), managed)));
        message.header.flags = NeighbourFlags::Proxy;
        assert_eq!(entry(&message), None);
    }
}
