//! Changes of interfaces, addresses, routes and neighbours, as the kernel tells them.

use std::time::Duration;

use anyhow::{Context, Result};
use futures::StreamExt;
use futures::channel::mpsc::UnboundedReceiver;
use netlink_packet_route::RouteNetlinkMessage;
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
        while let Some(change) = next(&mut notices).await {
            if change != HostChange::default() && changes.send(change).await.is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

/// Waits for the next notice, and for the burst that it belongs to. `None` when the subscription has
/// ended.
async fn next(notices: &mut UnboundedReceiver<Notice>) -> Option<HostChange> {
    let (first, _) = notices.next().await?;
    let mut change = classify(&first);
    let end = Instant::now() + LONGEST;
    while Instant::now() < end {
        let Ok(Some((more, _))) = tokio::time::timeout(QUIET, notices.next()).await else {
            break;
        };
        let more = classify(&more);
        change.interfaces |= more.interfaces;
        change.hops |= more.hops;
    }
    Some(change)
}

fn classify(message: &NetlinkMessage<RouteNetlinkMessage>) -> HostChange {
    let inner = match &message.payload {
        NetlinkPayload::InnerMessage(inner) => inner,
        // Some notices were lost: anything may have changed.
        NetlinkPayload::Overrun(_) => {
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
        | RouteNetlinkMessage::DelRule(_)
        | RouteNetlinkMessage::NewNeighbour(_)
        | RouteNetlinkMessage::DelNeighbour(_) => HostChange {
            interfaces: false,
            hops: true,
        },
        _ => HostChange::default(),
    }
}
