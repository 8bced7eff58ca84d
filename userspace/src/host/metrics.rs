//! Which of several interfaces on one network the host itself prefers: metrics of connected routes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::{Context, Result};
use futures::TryStreamExt;
use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage};
use rtnetlink::Handle;
use rtnetlink::sys::AsyncSocket;

use crate::control_plane::HostInterface;

/// Adds the metrics of routes to networks that two of the interfaces are on. Without them the order of
/// the interfaces decides, so that not being told is no reason to fail.
pub(super) async fn add_metrics(interfaces: &mut [HostInterface]) {
    let doubled = doubled(interfaces);
    if doubled.is_empty() {
        return;
    }
    let concerned = interfaces
        .iter_mut()
        .filter(|interface| interface.networks.iter().any(|net| doubled.contains(net)));
    for interface in concerned {
        match connected(interface.ifindex).await {
            Ok(mut routes) => {
                routes.retain(|net, _| doubled.contains(net));
                interface.metrics = routes;
            }
            Err(error) => log::debug!("metrics of {}: {error:#}", interface.name),
        }
    }
}

/// Networks that more than one interface is on; link-local ones always are.
fn doubled(interfaces: &[HostInterface]) -> BTreeSet<IpNet> {
    let mut seen = BTreeSet::new();
    let mut doubled = BTreeSet::new();
    for interface in interfaces {
        let networks: BTreeSet<&IpNet> = interface.networks.iter().collect();
        for net in networks.into_iter().filter(|net| !is_link_local(net)) {
            if !seen.insert(*net) {
                doubled.insert(*net);
            }
        }
    }
    doubled
}

fn is_link_local(net: &IpNet) -> bool {
    match net.addr() {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// Metrics of an interface's connected routes.
async fn connected(ifindex: u32) -> Result<BTreeMap<IpNet, u32>> {
    let handle = strict()?;
    let mut metrics = BTreeMap::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut query = RouteMessage::default();
        query.header.address_family = family;
        query.header.table = RouteHeader::RT_TABLE_MAIN;
        query.attributes.push(RouteAttribute::Oif(ifindex));
        let mut routes = handle.route().get(query).execute();
        while let Some(route) = routes.try_next().await.context("list routes")? {
            if let Some((net, metric)) = connected_route(&route) {
                let lowest = metrics.entry(net).or_insert(metric);
                *lowest = metric.min(*lowest);
            }
        }
    }
    Ok(metrics)
}

/// A connection on which the kernel honours what a list of routes is limited to: a host may have a
/// million of them.
fn strict() -> Result<Handle> {
    let (mut connection, handle, _) =
        rtnetlink::new_connection().context("open a netlink socket")?;
    let socket = connection.socket_mut().socket_mut();
    (socket.set_netlink_get_strict_chk(true)).context("ask for strict checks")?;
    tokio::spawn(connection);
    Ok(handle)
}

/// Destination and metric of a route without gateway.
fn connected_route(route: &RouteMessage) -> Option<(IpNet, u32)> {
    let (mut destination, mut metric) = (None, 0);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Gateway(_) | RouteAttribute::Via(_) => return None,
            RouteAttribute::Destination(RouteAddress::Inet(address)) => {
                destination = Some(IpAddr::V4(*address));
            }
            RouteAttribute::Destination(RouteAddress::Inet6(address)) => {
                destination = Some(IpAddr::V6(*address));
            }
            RouteAttribute::Priority(priority) => metric = *priority,
            _ => {}
        }
    }
    let net = IpNet::new(destination?, route.header.destination_prefix_length).ok()?;
    Some((net, metric))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(networks: &[&str]) -> HostInterface {
        HostInterface {
            networks: networks.iter().map(|net| net.parse().unwrap()).collect(),
            ..HostInterface::default()
        }
    }

    #[test]
    fn only_networks_of_two_interfaces_need_metrics() {
        let a = interface(&["10.0.0.0/24", "fe80::/64", "fd00::/64", "fd00::/64"]);
        let b = interface(&["10.0.0.0/24", "fe80::/64", "10.0.1.0/24"]);
        let found = doubled(&[a, b]);
        assert_eq!(found, BTreeSet::from(["10.0.0.0/24".parse().unwrap()]));
    }

    #[test]
    fn routes_by_a_gateway_are_not_connected() {
        let mut route = RouteMessage::default();
        route.header.destination_prefix_length = 24;
        let to = RouteAddress::Inet([10, 0, 0, 0].into());
        route.attributes.push(RouteAttribute::Destination(to));
        route.attributes.push(RouteAttribute::Priority(100));
        let net: IpNet = "10.0.0.0/24".parse().unwrap();
        assert_eq!(connected_route(&route), Some((net, 100)));
        let gateway = RouteAddress::Inet([10, 0, 9, 1].into());
        route.attributes.push(RouteAttribute::Gateway(gateway));
        assert_eq!(connected_route(&route), None);
    }
}
