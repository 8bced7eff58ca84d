//! Changes of interfaces, addresses, routes and neighbours, as the kernel tells them.

use std::time::Duration;

use anyhow::{Context, Result};
use futures::StreamExt;
use futures::channel::mpsc::UnboundedReceiver;
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::sys::SocketAddr;
use tokio::time::Instant;

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

/// A subscription to the kernel's notices.
pub struct Watch {
    notices: UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>,
    /// Seen and not reported yet: whoever waits may give up in the middle of a burst.
    pending: HostChange,
}

impl Watch {
    /// Subscribes.
    pub fn open() -> Result<Self> {
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
        let (connection, _, notices) =
            rtnetlink::new_multicast_connection(&groups).context("watch netlink")?;
        tokio::spawn(connection);
        Ok(Self {
            notices,
            pending: HostChange::default(),
        })
    }

    /// Waits for the next change, and for the burst that it belongs to. `None` when the subscription
    /// has ended.
    pub async fn next(&mut self) -> Option<HostChange> {
        loop {
            if self.pending == HostChange::default() {
                let (first, _) = self.notices.next().await?;
                self.note(&first);
            }
            let end = Instant::now() + LONGEST;
            while let Ok(Some((more, _))) =
                tokio::time::timeout_at(end.min(Instant::now() + QUIET), self.notices.next()).await
            {
                self.note(&more);
            }
            if self.pending != HostChange::default() {
                return Some(std::mem::take(&mut self.pending));
            }
        }
    }

    fn note(&mut self, notice: &NetlinkMessage<RouteNetlinkMessage>) {
        let change = classify(notice);
        self.pending.interfaces |= change.interfaces;
        self.pending.hops |= change.hops;
    }
}

fn classify(message: &NetlinkMessage<RouteNetlinkMessage>) -> HostChange {
    let NetlinkPayload::InnerMessage(inner) = &message.payload else {
        return HostChange::default();
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
