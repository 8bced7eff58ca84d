//! Neighbours that the kernel is asked to keep resolved (*managed*, Linux 5.16): instances on the links
//! of the node, and the gateways on the way to instances and clients. A first packet then finds its next
//! hop known, and a neighbour that changes its MAC address is noticed without being talked to.
//!
//! A task of its own does it. What was asked is noted in the state folder, so that it can be taken back.

mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::neighbour::{
    NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourState,
};
use netlink_packet_route::route::RouteMessage;
use rtnetlink::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::Netlink;
use super::sysctl::{PROBE_INTERVAL, probe_interval};
use plan::{Entry, Neighbor};

/// File in the state folder with the neighbours that are kept.
const STORE: &str = "neighbors.json";
/// Changes of routes come in bursts.
const QUIET: Duration = Duration::from_millis(50);
/// Before another attempt, when the kernel could not be asked.
const RETRY: Duration = Duration::from_secs(2);
/// Requests to the kernel under way at once.
const AT_ONCE: usize = 32;
/// For each neighbour, what asking for it once more may take of a second.
const PRICE: Duration = Duration::from_millis(1);
/// Reading all routes may take this part of the time: there may be a million of them.
const REST_PER_READ: u32 = 20;

/// What the neighbours to keep depend on, besides the host's routes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NeighborTerms {
    /// Private addresses.
    pub instances: BTreeSet<IpAddr>,
    /// Interfaces of the node, by number.
    pub interfaces: BTreeMap<u32, String>,
    /// Whether the daemon asks again and again, where the kernel does so too seldom.
    pub asks_again: bool,
}

/// The task that keeps neighbours resolved. It ends when this is dropped; the kernel goes on.
#[derive(Debug)]
pub struct Neighbors {
    terms: watch::Sender<NeighborTerms>,
    changed: Arc<Notify>,
    asked: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

impl Neighbors {
    /// Starts the task, which waits for its first terms.
    ///
    /// # Errors
    /// No netlink socket is to be had.
    pub fn start(state_dir: &Path) -> Result<Self> {
        let (terms, receiver) = watch::channel(NeighborTerms::default());
        let (asks, asked) = watch::channel(false);
        let changed = Arc::new(Notify::new());
        let keeper = Keeper {
            netlink: Netlink::connect()?,
            asks,
            store: Store::open(state_dir),
            gateways: Vec::new(),
            next_read: Instant::now(),
            is_outdated: true,
        };
        let task = tokio::spawn(keeper.work(receiver, changed.clone()));
        Ok(Self {
            terms,
            changed,
            asked,
            task,
        })
    }

    /// Waits until the kernel was asked for the first time, but not for long.
    pub async fn begun(&self) {
        let mut asked = self.asked.clone();
        let _ = tokio::time::timeout(RETRY, asked.wait_for(|asked| *asked)).await;
    }

    /// Goes by these terms from now on.
    pub fn follow(&self, terms: NeighborTerms) {
        self.terms.send_if_modified(|old| {
            let is_new = *old != terms;
            *old = terms;
            is_new
        });
    }

    /// Routes or neighbours are others now.
    pub fn look_again(&self) {
        self.changed.notify_one();
    }
}

impl Drop for Neighbors {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Leaves the neighbours that a daemon kept to themselves again; says which.
pub async fn release(state_dir: &Path) -> Vec<String> {
    let store = Store::open(state_dir);
    if store.kept.is_empty() {
        return Vec::new();
    }
    let mut released = Vec::new();
    match Netlink::connect() {
        Ok(netlink) => {
            let ours = store.neighbors();
            if let Err(error) = release_all(&netlink.handle, ours.into_iter().collect()).await {
                log::warn!("cannot leave neighbours to themselves: {error:#}");
            }
            released.extend(
                store
                    .kept
                    .iter()
                    .map(|(name, address)| format!("{address} dev {name}")),
            );
        }
        Err(error) => log::warn!("cannot leave neighbours to themselves: {error:#}"),
    }
    let _ = std::fs::remove_file(&store.path);
    released
}

/// The neighbours that are kept, with the names of their interfaces: numbers are others after a boot.
#[derive(Debug)]
struct Store {
    path: PathBuf,
    kept: BTreeSet<(String, IpAddr)>,
}

impl Store {
    fn open(state_dir: &Path) -> Self {
        let path = state_dir.join(STORE);
        let kept = std::fs::read(&path)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        Self { path, kept }
    }

    /// Those whose interfaces are there.
    fn neighbors(&self) -> BTreeSet<Neighbor> {
        let numbered = self.kept.iter().filter_map(|(name, address)| {
            Some(Neighbor {
                ifindex: nix::net::if_::if_nametoindex(name.as_str()).ok()?,
                address: *address,
            })
        });
        numbered.collect()
    }

    fn replace(&mut self, kept: BTreeSet<(String, IpAddr)>) -> Result<()> {
        if kept == self.kept {
            return Ok(());
        }
        self.kept = kept;
        let text = serde_json::to_vec_pretty(&self.kept).context("write down neighbours")?;
        super::write_file(&self.path, &text)
    }
}

struct Keeper {
    netlink: Netlink,
    /// Whether the kernel was asked once.
    asks: watch::Sender<bool>,
    store: Store,
    /// Gateways as last read.
    gateways: Vec<Neighbor>,
    /// All routes are not read again before this.
    next_read: Instant,
    /// Whether routes have changed since.
    is_outdated: bool,
}

impl Keeper {
    async fn work(mut self, mut terms: watch::Receiver<NeighborTerms>, changed: Arc<Notify>) {
        if terms.changed().await.is_err() {
            return;
        }
        loop {
            let current = terms.borrow_and_update().clone();
            let kept = match self.reconcile(&current).await {
                Ok(kept) => kept,
                Err(error) => {
                    log::warn!("keeping neighbours resolved: {error:#}");
                    (self.is_outdated, self.next_read) = (true, Instant::now() + RETRY);
                    Vec::new()
                }
            };
            self.asks.send_replace(true);
            let mut again = tokio::time::interval(pause(kept.len()));
            let asks_again = current.asks_again && !kernel_asks_again();
            let (is_outdated, next_read) = (self.is_outdated, self.next_read);
            loop {
                tokio::select! {
                    ended = terms.changed() => {
                        if ended.is_err() {
                            return;
                        }
                        break;
                    }
                    () = changed.notified() => {
                        tokio::time::sleep(QUIET).await;
                        self.is_outdated = true;
                        break;
                    }
                    () = tokio::time::sleep_until(next_read), if is_outdated => break,
                    _ = again.tick(), if asks_again => keep_all(&self.netlink.handle, &kept).await,
                }
            }
        }
    }

    /// Makes the kernel keep what is wanted now, and returns it.
    async fn reconcile(&mut self, terms: &NeighborTerms) -> Result<Vec<Neighbor>> {
        self.read_gateways().await?;
        let mut ways = self.gateways.clone();
        for instance in &terms.instances {
            let way = self.netlink.next_hop(*instance).await?;
            ways.extend(way.map(|(ifindex, address)| Neighbor { ifindex, address }));
        }
        let wanted = plan::wanted(&terms.interfaces, ways);
        let ours = self.store.neighbors();
        let kernel = entries(&self.netlink.handle).await?;
        let steps = plan::steps(&wanted, &ours, &kernel);
        let kept: BTreeSet<Neighbor> = wanted
            .iter()
            .filter(|neighbor| ours.contains(neighbor) || steps.keep.contains(neighbor))
            .copied()
            .collect();
        let named = |neighbor: &Neighbor| {
            let name = terms.interfaces.get(&neighbor.ifindex)?;
            Some((name.clone(), neighbor.address))
        };
        let noted: Vec<_> = kept.iter().filter_map(named).collect();
        let leaving = steps.release.iter().filter_map(named);
        // Noted before it is done, and as long as it is: what is not noted would never be taken back.
        self.store
            .replace(noted.iter().cloned().chain(leaving).collect())?;
        keep_all(&self.netlink.handle, &steps.keep).await;
        release_all(&self.netlink.handle, steps.release).await?;
        self.store.replace(noted.into_iter().collect())?;
        Ok(kept.into_iter().collect())
    }

    async fn read_gateways(&mut self) -> Result<()> {
        let begun = Instant::now();
        if !self.is_outdated || begun < self.next_read {
            return Ok(());
        }
        let mut gateways = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut query = RouteMessage::default();
            query.header.address_family = family;
            let mut routes = self.netlink.handle.route().get(query).execute();
            while let Some(route) = routes.try_next().await.context("list routes")? {
                gateways.extend(plan::gateways(&route));
            }
        }
        self.is_outdated = false;
        self.gateways = gateways;
        self.next_read = Instant::now() + begun.elapsed() * REST_PER_READ;
        Ok(())
    }
}

/// Between two rounds of asking for so many neighbours.
fn pause(neighbors: usize) -> Duration {
    PROBE_INTERVAL.max(PRICE * neighbors as u32)
}

/// Whether the kernel itself asks often enough. The setting is the machine's; a network namespace other
/// than the first has none.
fn kernel_asks_again() -> bool {
    probe_interval().is_some_and(|interval| interval <= PROBE_INTERVAL)
}

/// What the kernel has of all neighbours.
async fn entries(handle: &Handle) -> Result<BTreeMap<Neighbor, Entry>> {
    let messages = handle.neighbours().get().execute();
    messages
        .try_filter_map(async |message| Ok(plan::entry(&message)))
        .try_collect()
        .await
        .context("list neighbours")
}

/// Asks the kernel to keep neighbours resolved; for those that it keeps already, to look now.
async fn keep_all(handle: &Handle, neighbors: &[Neighbor]) {
    let keep = async |neighbor: &Neighbor| {
        let mut request = handle
            .neighbours()
            .add(neighbor.ifindex, neighbor.address)
            .state(NeighbourState::None)
            .replace();
        let managed = NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed);
        request.message_mut().attributes.push(managed);
        if let Err(error) = request.execute().await {
            let Neighbor { ifindex, address } = neighbor;
            log::debug!("keep {address} on interface {ifindex} resolved: {error}");
        }
    };
    futures::stream::iter(neighbors)
        .for_each_concurrent(AT_ONCE, keep)
        .await;
}

/// Leaves neighbours to themselves again; what is known of them stays known.
async fn release_all(handle: &Handle, neighbors: Vec<Neighbor>) -> Result<()> {
    if neighbors.is_empty() {
        return Ok(());
    }
    let there = entries(handle).await?;
    for neighbor in neighbors {
        if !there.get(&neighbor).is_some_and(|entry| entry.is_managed) {
            continue;
        }
        let request = handle
            .neighbours()
            .add(neighbor.ifindex, neighbor.address)
            .state(NeighbourState::None)
            .flags(NeighbourFlags::Use)
            .replace();
        if let Err(error) = request.execute().await {
            let Neighbor { ifindex, address } = neighbor;
            log::debug!("leave {address} on interface {ifindex} to itself: {error}");
        }
    }
    Ok(())
}
