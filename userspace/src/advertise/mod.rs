//! Makes known what the node claims: announcements to the neighbours, and proxy entries that let NICs
//! hear solicitations. What is claimed is the control plane's decision; answers are the packet path's.

mod frame;
mod schedule;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::control_plane::Claim;
use crate::host::{Netlink, PacketSocket, ProxyEntries};
use schedule::{Difference, Schedule};

/// Announcements that are sent in one go.
const BATCH: usize = 64;
/// Time between two of them, so that thousands of addresses do not flood the link.
const PAUSE: Duration = Duration::from_millis(10);
/// Addresses that are named in the log one by one.
const NAMED: usize = 8;

/// Hands what is claimed to a task that makes it known.
#[derive(Debug)]
pub struct Advertiser {
    orders: mpsc::Sender<Order>,
}

#[derive(Debug)]
struct Order {
    claims: BTreeSet<Claim>,
    again: bool,
    done: oneshot::Sender<()>,
}

impl Advertiser {
    /// Starts the task; what it changes on the host is noted in the state folder.
    ///
    /// # Errors
    /// No netlink socket is to be had.
    pub fn start(state_dir: &Path) -> Result<Self> {
        let (orders, receiver) = mpsc::channel(16);
        let socket = PacketSocket::open().inspect_err(|error| {
            log::warn!("addresses are not announced: {error:#}; neighbours that know another MAC address for them learn the new one late");
        });
        let task = Task {
            schedule: Schedule::default(),
            socket: socket.ok(),
            proxies: ProxyEntries::open(Netlink::connect()?, state_dir),
            started: Instant::now(),
        };
        tokio::spawn(task.work(receiver));
        Ok(Self { orders })
    }

    /// Takes what is claimed from now on: what is new is announced, and all of it if `again`. What comes
    /// back is ready when the host has been set accordingly and announcing has begun.
    pub async fn claim(&self, claims: BTreeSet<Claim>, again: bool) -> oneshot::Receiver<()> {
        let (done, receiver) = oneshot::channel();
        let order = Order {
            claims,
            again,
            done,
        };
        if self.orders.send(order).await.is_err() {
            log::error!("the task that announces addresses has ended; restart the daemon");
        }
        receiver
    }
}

struct Task {
    schedule: Schedule,
    socket: Option<PacketSocket>,
    proxies: ProxyEntries,
    started: Instant,
}

impl Task {
    async fn work(mut self, mut orders: mpsc::Receiver<Order>) {
        loop {
            let next = self.schedule.next().map(|time| self.started + time);
            let due = async {
                match next {
                    Some(time) => tokio::time::sleep_until(time).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.follow(order).await,
                    None => return,
                },
                () = due => {
                    self.announce();
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn follow(&mut self, order: Order) {
        let wanted = order.claims.iter().cloned().collect::<Vec<_>>();
        let now = self.started.elapsed();
        let difference = self.schedule.claim(now, order.claims, order.again);
        tell(&difference);
        // Neighbours first: who takes addresses over is in a hurry.
        self.announce();
        self.proxies.follow(&wanted).await;
        // Who ordered may not wait for it.
        let _ = order.done.send(());
    }

    fn announce(&mut self) {
        for claim in self.schedule.take_due(self.started.elapsed(), BATCH) {
            let Some(socket) = &self.socket else { continue };
            if let Err(error) = socket.send(claim.ifindex, &frame::announcement(&claim)) {
                log::debug!("announce {} on {}: {error}", claim.address, claim.interface);
            }
        }
    }
}

/// Logs what is claimed and what is not any more.
fn tell(difference: &Difference) {
    for (claims, what) in [
        (&difference.gone, "not claimed any more"),
        (&difference.new, "claimed: its neighbours are told"),
    ] {
        let stays = |claim: &Claim| {
            let same = |other: &Claim| {
                (other.address, other.ifindex, other.mac)
                    == (claim.address, claim.ifindex, claim.mac)
            };
            difference.new.iter().any(same) && difference.gone.iter().any(same)
        };
        // A link that went down and came up again within one look is not worth a line for each address.
        let claims: Vec<&Claim> = claims.iter().filter(|claim| !stays(claim)).collect();
        for claim in claims.iter().take(NAMED) {
            log::info!("{} on {}: {what}", claim.address, claim.interface);
        }
        if claims.len() > NAMED {
            log::info!("{} more addresses: {what}", claims.len() - NAMED);
        }
    }
}
