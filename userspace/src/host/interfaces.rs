//! Interfaces, addresses and routes, over netlink.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context, Result, anyhow};
use forebay_common::wire::Mac;
use futures::TryStreamExt;
use ipnet::IpNet;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage, LinkXdp, XdpAttached};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use rtnetlink::{Handle, RouteMessageBuilder};

use super::metrics::add_metrics;
use crate::control_plane::HostInterface;

/// A connection to the kernel's routing tables.
#[derive(Debug, Clone)]
pub struct Netlink {
    handle: Handle,
}

/// What the host's routing says of a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// It is an address of the host.
    Local,
    /// Out of an interface, to a gateway or to the destination itself.
    Out {
        /// Number of the interface.
        ifindex: u32,
        /// Name of the interface.
        interface: String,
        /// Who is asked to take the packet.
        neighbor: IpAddr,
        /// Its MAC address, when the host knows it.
        mac: Option<Mac>,
    },
    /// No route, or one that refuses.
    None,
}

impl Netlink {
    /// Connects; the connection's own work runs as a task.
    pub fn connect() -> Result<Self> {
        let (connection, handle, _) =
            rtnetlink::new_connection().context("open a netlink socket")?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// The interfaces of these names that exist, in that order.
    pub async fn interfaces(&self, names: &[String]) -> Result<Vec<HostInterface>> {
        let networks = self.networks().await?;
        let mut found = Vec::new();
        for name in names {
            let Some(link) = self.link(name).await? else {
                continue;
            };
            let ifindex = link.header.index;
            let (mut mtu, mut mac) = (1500, Mac::default());
            for attribute in &link.attributes {
                match attribute {
                    LinkAttribute::Mtu(value) => mtu = *value,
                    LinkAttribute::Address(octets) => mac = mac_of(octets).unwrap_or_default(),
                    _ => {}
                }
            }
            let networks = networks.get(&ifindex).cloned().unwrap_or_default();
            found.push(HostInterface {
                name: name.clone(),
                ifindex,
                mtu,
                mac,
                networks,
                metrics: BTreeMap::new(),
                link_ups: link_ups(&link),
            });
        }
        add_metrics(&mut found).await;
        Ok(found)
    }

    /// How XDP is attached to an interface now, as the kernel says: `native`, `generic` or `none`.
    pub async fn xdp_mode(&self, name: &str) -> Result<&'static str> {
        let Some(link) = self.link(name).await? else {
            return Ok("none");
        };
        let xdp = link
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                LinkAttribute::Xdp(xdp) => xdp.iter().find_map(|item| match item {
                    LinkXdp::Attached(mode) => Some(*mode),
                    _ => None,
                }),
                _ => None,
            });
        Ok(match xdp {
            Some(XdpAttached::Driver) => "native",
            Some(XdpAttached::SocketBuffer) => "generic",
            Some(XdpAttached::Hardware) => "offloaded",
            Some(XdpAttached::Multiple) => "native and generic",
            _ => "none",
        })
    }

    /// Names of all interfaces.
    pub async fn names(&self) -> Result<Vec<String>> {
        let links: Vec<LinkMessage> = self
            .handle
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .context("list interfaces")?;
        Ok(links.iter().filter_map(name_of).collect())
    }

    /// The way of a packet from `source` to `destination` that came in on an interface.
    pub async fn way(
        &self,
        source: IpAddr,
        destination: IpAddr,
        inbound: Option<u32>,
    ) -> Result<Way> {
        let mut routes = self
            .handle
            .route()
            .get(route_query(source, destination, inbound))
            .execute();
        let route = match routes.try_next().await {
            Ok(Some(route)) => route,
            Ok(None) => return Ok(Way::None),
            // Unreachable, blackhole and prohibit routes are answered with errors.
            Err(rtnetlink::Error::NetlinkError(_)) => return Ok(Way::None),
            Err(error) => return Err(anyhow!(error)).context("ask for a route"),
        };
        match route.header.kind {
            RouteType::Local => return Ok(Way::Local),
            RouteType::Unicast => {}
            _ => return Ok(Way::None),
        }
        let (mut ifindex, mut neighbor) = (0, destination);
        for attribute in &route.attributes {
            match attribute {
                RouteAttribute::Oif(index) => ifindex = *index,
                RouteAttribute::Gateway(RouteAddress::Inet(gateway)) => {
                    neighbor = (*gateway).into()
                }
                RouteAttribute::Gateway(RouteAddress::Inet6(gateway)) => {
                    neighbor = (*gateway).into()
                }
                _ => {}
            }
        }
        let interface = self
            .name_of(ifindex)
            .await?
            .unwrap_or_else(|| ifindex.to_string());
        let mac = self.neighbor(ifindex, neighbor).await?;
        Ok(Way::Out {
            ifindex,
            interface,
            neighbor,
            mac,
        })
    }

    /// The MAC address of a neighbour, when the host knows it.
    async fn neighbor(&self, ifindex: u32, address: IpAddr) -> Result<Option<Mac>> {
        let messages: Vec<NeighbourMessage> = self
            .handle
            .neighbours()
            .get()
            .execute()
            .try_collect()
            .await
            .context("list neighbours")?;
        let is_it = |message: &&NeighbourMessage| {
            message.header.ifindex == ifindex
                && message.attributes.iter().any(|attribute| match attribute {
                    NeighbourAttribute::Destination(NeighbourAddress::Inet(found)) => {
                        IpAddr::from(*found) == address
                    }
                    NeighbourAttribute::Destination(NeighbourAddress::Inet6(found)) => {
                        IpAddr::from(*found) == address
                    }
                    _ => false,
                })
        };
        let mac = messages.iter().find(is_it).and_then(|message| {
            message
                .attributes
                .iter()
                .find_map(|attribute| match attribute {
                    NeighbourAttribute::LinkLayerAddress(octets) => mac_of(octets),
                    _ => None,
                })
        });
        Ok(mac)
    }

    async fn name_of(&self, ifindex: u32) -> Result<Option<String>> {
        let mut links = self.handle.link().get().match_index(ifindex).execute();
        let link = links.try_next().await.context("ask for an interface")?;
        Ok(link.as_ref().and_then(name_of))
    }

    async fn link(&self, name: &str) -> Result<Option<LinkMessage>> {
        let mut links = self
            .handle
            .link()
            .get()
            .match_name(name.to_owned())
            .execute();
        match links.try_next().await {
            Ok(link) => Ok(link),
            Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -libc::ENODEV => {
                Ok(None)
            }
            Err(error) => Err(anyhow!(error)).with_context(|| format!("ask for interface {name}")),
        }
    }

    /// Networks on the links of interfaces, by interface number.
    async fn networks(&self) -> Result<BTreeMap<u32, Vec<IpNet>>> {
        let messages: Vec<AddressMessage> = self
            .handle
            .address()
            .get()
            .execute()
            .try_collect()
            .await
            .context("list addresses")?;
        let mut networks: BTreeMap<u32, Vec<IpNet>> = BTreeMap::new();
        for message in &messages {
            if let Some(net) = address_of(message)
                && net.prefix_len() < net.max_prefix_len()
            {
                networks
                    .entry(message.header.index)
                    .or_default()
                    .push(net.trunc());
            }
        }
        Ok(networks)
    }
}

fn address_of(message: &AddressMessage) -> Option<IpNet> {
    // On a point-to-point link `Address` is the peer's and `Local` ours; else they are the same.
    let address = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })?;
    IpNet::new(address, message.header.prefix_len).ok()
}

fn name_of(link: &LinkMessage) -> Option<String> {
    link.attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name.clone()),
            _ => None,
        })
}

/// How often the link has come up; `None` when it is down.
fn link_ups(link: &LinkMessage) -> Option<u32> {
    if !link
        .header
        .flags
        .contains(LinkFlags::Up | LinkFlags::Running)
    {
        return None;
    }
    let count = link
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::CarrierUpCount(count) => Some(*count),
            _ => None,
        });
    Some(count.unwrap_or(0))
}

fn mac_of(octets: &[u8]) -> Option<Mac> {
    Some(Mac::from_octets(octets.try_into().ok()?))
}

fn route_query(source: IpAddr, destination: IpAddr, inbound: Option<u32>) -> RouteMessage {
    // With an inbound interface the kernel answers as for a packet that it forwards.
    let mut query = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let query = RouteMessageBuilder::<std::net::Ipv4Addr>::new()
                .destination_prefix(destination, 32);
            if inbound.is_some() {
                query.source_prefix(source, 32).build()
            } else {
                query.build()
            }
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let query = RouteMessageBuilder::<std::net::Ipv6Addr>::new()
                .destination_prefix(destination, 128);
            if inbound.is_some() {
                query.source_prefix(source, 128).build()
            } else {
                query.build()
            }
        }
        _ => RouteMessage::default(),
    };
    if let Some(ifindex) = inbound {
        query.attributes.push(RouteAttribute::Iif(ifindex));
    }
    query
}
