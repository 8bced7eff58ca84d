//! Changes of interfaces, addresses, routes and neighbours, as the kernel tells them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::StreamExt;
use futures::channel::mpsc::UnboundedReceiver;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::sys::SocketAddr;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// A notice and who sent it.
type Notice = (NetlinkMessage<RouteNetlinkMessage>, SocketAddr);

/// Changes come in bursts; they are taken together.
const QUIET: Duration = Duration::from_millis(20);

/// A burst without end is taken in parts.
const LONGEST: Duration = Duration::from_millis(200);

/// What has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HostChange {
    /// Interfaces or their addresses.
    pub interfaces: bool,
    /// Routes or neighbours: next hops may be others now.
    pub hops: bool,
}

/// Subscribes to the kernel's notices. A task of its own takes them, so that none is lost while the
/// receiver is busy; bursts arrive as one change.
pub fn follow_host() -> Result<mpsc::Receiver<HostChange>> {
    let groups = [
        MulticastGroup::Link,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv6Route,
        MulticastGroup::Ipv4Rule,
        MulticastGroup::Ipv6Rule,
        MulticastGroup::Neigh,
    ];
    let (connection, _, mut notices) =
        rtnetlink::new_multicast_connection(&groups).context("watch netlink")?;
    tokio::spawn(connection);
    let (changes, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut known = Known::default();
        while let Some(change) = next(&mut notices, &mut known).await {
            if change != HostChange::default() && changes.send(change).await.is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

/// The MAC addresses of neighbours, as last told; `None`: not known to the kernel. Neighbours that are
/// looked after change their state all the time, which is nobody's business here.
#[derive(Debug, Default)]
struct Known(HashMap<(u32, IpAddr), Option<Vec<u8>>>);

impl Known {
    /// Takes a notice; says whether a next hop may be another now.
    fn learn(&mut self, message: &NeighbourMessage) -> bool {
        if message.header.flags.contains(NeighbourFlags::Proxy) {
            return false;
        }
        let (mut address, mut mac) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                NeighbourAttribute::Destination(found) => address = ip_address(found),
                NeighbourAttribute::LinkLayerAddress(octets) => mac = Some(octets.clone()),
                _ => {}
            }
        }
        // Without one it is an entry of a bridge.
        let Some(address) = address else {
            return false;
        };
        let is_valid = !matches!(
            message.header.state,
            NeighbourState::None | NeighbourState::Incomplete | NeighbourState::Failed
        );
        let mac = mac.filter(|_| is_valid);
        let former = self
            .0
            .insert((message.header.ifindex, address), mac.clone());
        former != Some(mac)
    }

    fn forget(&mut self, message: &NeighbourMessage) -> bool {
        let address = message
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                NeighbourAttribute::Destination(found) => ip_address(found),
                _ => None,
            });
        let Some(address) = address else {
            return false;
        };
        // One that was not known may have been valid.
        self.0.remove(&(message.header.ifindex, address)) != Some(None)
    }
}

fn ip_address(address: &NeighbourAddress) -> Option<IpAddr> {
    match address {
        NeighbourAddress::Inet(address) => Some((*address).into()),
        NeighbourAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

/// Waits for the next notice, and for the burst that it belongs to. `None` when the subscription has
/// ended.
async fn next(notices: &mut UnboundedReceiver<Notice>, known: &mut Known) -> Option<HostChange> {
    let (first, _) = notices.next().await?;
    let mut change = classify(&first, known);
    let end = Instant::now() + LONGEST;
    while Instant::now() < end {
        let Ok(Some((more, _))) = tokio::time::timeout(QUIET, notices.next()).await else {
            break;
        };
        let more = classify(&more, known);
        change.interfaces |= more.interfaces;
        change.hops |= more.hops;
    }
    Some(change)
}

fn classify(message: &NetlinkMessage<RouteNetlinkMessage>, known: &mut Known) -> HostChange {
    let inner = match &message.payload {
        NetlinkPayload::InnerMessage(inner) => inner,
        // Some notices were lost: anything may have changed.
        NetlinkPayload::Overrun(_) => {
            known.0.clear();
            return HostChange {
                interfaces: true,
                hops: true,
            };
        }
        _ => return HostChange::default(),
    };
    match inner {
        RouteNetlinkMessage::NewLink(_)
        | RouteNetlinkMessage::DelLink(_)
        | RouteNetlinkMessage::NewAddress(_)
        | RouteNetlinkMessage::DelAddress(_) => HostChange {
            interfaces: true,
            hops: true,
        },
        RouteNetlinkMessage::NewRoute(_)
        | RouteNetlinkMessage::DelRoute(_)
        | RouteNetlinkMessage::NewRule(_)
        | RouteNetlinkMessage::DelRule(_) => HostChange {
            interfaces: false,
            hops: true,
        },
        RouteNetlinkMessage::NewNeighbour(message) => HostChange {
            interfaces: false,
            hops: known.learn(message),
        },
        RouteNetlinkMessage::DelNeighbour(message) => HostChange {
            interfaces: false,
            hops: known.forget(message),
        },
        _ => HostChange::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(state: NeighbourState, mac: Option<u8>) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        message.header.ifindex = 2;
        message.header.state = state;
        let address = NeighbourAddress::Inet([10, 0, 0, 1].into());
        message.attributes = vec![NeighbourAttribute::Destination(address)];
        message.attributes.extend(
            mac.map(|last| NeighbourAttribute::LinkLayerAddress(vec![2, 0, 0, 0, 0, last])),
        );
        message
    }

    #[test]
    fn a_neighbour_counts_when_its_mac_address_comes_changes_or_goes() {
        use NeighbourState::{Failed, Incomplete, Probe, Reachable, Stale};
        let mut known = Known::default();
        for (state, mac, counts) in [
            (Incomplete, None, true),
            (Reachable, Some(1), true),
            (Stale, Some(1), false),
            (Probe, Some(1), false),
            (Reachable, Some(1), false),
            (Reachable, Some(2), true),
            (Failed, Some(2), true),
            (Incomplete, None, false),
            (Failed, None, false),
        ] {
            let told = known.learn(&notice(state, mac));
            assert_eq!(told, counts, "{state:?} {mac:?}");
        }
        assert!(!known.forget(&notice(Failed, None)));
        assert!(known.forget(&notice(Stale, Some(1))), "it was not known");
    }

    #[test]
    fn proxies_and_entries_of_bridges_do_not_count() {
        let mut known = Known::default();
        let mut proxy = notice(NeighbourState::Permanent, None);
        proxy.header.flags = NeighbourFlags::Proxy;
        assert!(!known.learn(&proxy));
        let mut bridge = notice(NeighbourState::Permanent, Some(1));
        bridge.attributes.remove(0);
        assert!(!known.learn(&bridge));
    }
}
