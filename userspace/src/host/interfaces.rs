//! Interfaces, addresses and routes, over netlink.

use std::net::IpAddr;

use anyhow::{Context, Result, anyhow};
use forebay_common::wire::Mac;
use futures::TryStreamExt;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteType, RouteVia,
};
use rtnetlink::{Handle, RouteMessageBuilder};

use super::links::{Addresses, Link, choose, mac_of};
use super::metrics::add_metrics;
use super::xdp_features::XdpFeatures;
use crate::control_plane::HostInterface;

/// A connection to the kernel's routing tables. The kernel refuses a list on a connection on which
/// another one is under way, so every task has a connection of its own.
#[derive(Debug)]
pub struct Netlink {
    pub(super) handle: Handle,
    features: XdpFeatures,
}

/// The kernel's answer to "which way?".
enum Found {
    Local,
    /// An interface, and a gateway if there is one.
    Out(u32, Option<IpAddr>),
    None,
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
        let features = XdpFeatures::connect()?;
        Ok(Self { handle, features })
    }

    /// The interfaces of these names that exist, in that order, then the VLAN devices over them.
    pub async fn interfaces(&self, names: &[String]) -> Result<Vec<HostInterface>> {
        let addresses = Addresses::parse(&self.addresses().await?);
        let links: Vec<Link> = self.links().await?.iter().map(Link::parse).collect();
        let mut found = choose(&links, &addresses, names);
        add_metrics(&mut found).await;
        self.features.complete(&mut found).await;
        Ok(found)
    }

    /// Names of all interfaces.
    pub async fn names(&self) -> Result<Vec<String>> {
        Ok(self.links().await?.iter().filter_map(name_of).collect())
    }

    /// The way of a packet from `source` to `destination` that came in on an interface.
    pub async fn way(
        &self,
        source: IpAddr,
        destination: IpAddr,
        inbound: Option<u32>,
    ) -> Result<Way> {
        let (ifindex, neighbor) = match self
            .route(route_query(source, destination, inbound))
            .await?
        {
            Found::Out(ifindex, gateway) => (ifindex, gateway.unwrap_or(destination)),
            Found::Local => return Ok(Way::Local),
            Found::None => return Ok(Way::None),
        };
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

    /// The interface and the neighbour that the host sends to for an address of somebody else.
    pub(super) async fn next_hop(&self, destination: IpAddr) -> Result<Option<(u32, IpAddr)>> {
        let found = self
            .route(route_query(destination, destination, None))
            .await?;
        Ok(match found {
            Found::Out(ifindex, gateway) => Some((ifindex, gateway.unwrap_or(destination))),
            Found::Local | Found::None => None,
        })
    }

    async fn route(&self, query: RouteMessage) -> Result<Found> {
        let mut routes = self.handle.route().get(query).execute();
        let route = match routes.try_next().await {
            Ok(Some(route)) => route,
            Ok(None) => return Ok(Found::None),
            // Unreachable, blackhole and prohibit routes are answered with errors.
            Err(rtnetlink::Error::NetlinkError(_)) => return Ok(Found::None),
            Err(error) => return Err(anyhow!(error)).context("ask for a route"),
        };
        match route.header.kind {
            RouteType::Local => return Ok(Found::Local),
            RouteType::Unicast => {}
            _ => return Ok(Found::None),
        }
        let (mut ifindex, mut gateway) = (0, None);
        for attribute in &route.attributes {
            match attribute {
                RouteAttribute::Oif(index) => ifindex = *index,
                RouteAttribute::Gateway(RouteAddress::Inet(address))
                | RouteAttribute::Via(RouteVia::Inet(address)) => gateway = Some((*address).into()),
                RouteAttribute::Gateway(RouteAddress::Inet6(address))
                | RouteAttribute::Via(RouteVia::Inet6(address)) => {
                    gateway = Some((*address).into())
                }
                _ => {}
            }
        }
        Ok(Found::Out(ifindex, gateway))
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

    async fn links(&self) -> Result<Vec<LinkMessage>> {
        let links = self.handle.link().get().execute();
        links.try_collect().await.context("list interfaces")
    }

    async fn addresses(&self) -> Result<Vec<AddressMessage>> {
        let addresses = self.handle.address().get().execute();
        addresses.try_collect().await.context("list addresses")
    }
}

fn name_of(link: &LinkMessage) -> Option<String> {
    link.attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name.clone()),
            _ => None,
        })
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
