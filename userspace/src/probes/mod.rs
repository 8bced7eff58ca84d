//! Runs the probes: one task for each probed address, all on one thread of their own, where nothing else delays them.
//! What they find is told through a channel; what follows from it is decided in [`crate::health`].

mod exchange;
mod http;
mod question;
mod room;
mod tls;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::rustls::ClientConfig;

use self::question::Question;
use self::room::Room;
pub use self::tls::{TlsFault, tls_fault};
use crate::config::model::{Probe, ProbeProtocol};
use crate::health::{Failure, Outcome, Probed, Schedule};

/// Outcomes that wait to be taken. When there are more, probes wait.
const WAITING: usize = 4096;
/// Probes of one address that may be under way at once, when they take longer than their interval.
const MOST_AT_ONCE: u32 = 32;

/// What a probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What was probed.
    pub by: Probed,
    /// What was found.
    pub outcome: Outcome,
    /// When the probe ended.
    pub at: std::time::Instant,
}

/// Everything that is probed. Nothing is, once this is dropped.
#[derive(Debug)]
pub struct Prober {
    thread: Handle,
    /// Dropped: the thread ends.
    _end: oneshot::Sender<()>,
    found: mpsc::Sender<Found>,
    room: Arc<Room>,
    clients: tls::Clients,
    running: BTreeMap<Probed, Running>,
}

/// The probes of one address.
struct Running {
    question: Arc<Question>,
    interval: Duration,
    at_once: usize,
    task: AbortHandle,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} each {:?}", self.question.to, self.interval)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Prober {
    /// One that probes nothing yet, and what its probes will find. Raises the limit of open files of this process as
    /// far as that is allowed.
    ///
    /// # Errors
    /// There is no room for another thread.
    pub fn new() -> io::Result<(Self, mpsc::Receiver<Found>)> {
        let (found, receiver) = mpsc::channel(WAITING);
        let (end, ended) = oneshot::channel::<()>();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let thread = runtime.handle().clone();
        std::thread::Builder::new()
            .name("probes".to_owned())
            .spawn(move || runtime.block_on(ended))?;
        let prober = Self {
            thread,
            _end: end,
            found,
            room: Arc::new(Room::find()),
            clients: tls::Clients::default(),
            running: BTreeMap::new(),
        };
        Ok((prober, receiver))
    }

    /// Probes these from now on. What is probed already and asked in the same way goes on
    /// undisturbed; files of certificates are read anew.
    pub fn configure(&mut self, probed: &BTreeMap<Probed, Arc<Probe>>) {
        if let Some(shortage) = self.room.shortage(probed.len()) {
            log::warn!("{shortage}");
        }
        let clients = self.clients_of(probed);
        self.running.retain(|by, _| probed.contains_key(by));
        for (by, probe) in probed {
            let client = clients.get(probe.name.as_str()).and_then(Option::as_ref);
            let question = Question::new(by, probe, client);
            let at_once = (probe.fall.saturating_add(1)).clamp(2, MOST_AT_ONCE) as usize;
            let goes_on = self.running.get_mut(by).is_some_and(|running| {
                running.question.is_like(&question)
                    && (running.interval, running.at_once) == (probe.interval, at_once)
            });
            if !goes_on {
                let running = self.start(by, Arc::new(question), probe.interval, at_once);
                self.running.insert(by.clone(), running);
            }
        }
    }

    /// The settings of TLS by probe; `None`: there are none, which is logged.
    fn clients_of<'p>(
        &mut self,
        probed: &'p BTreeMap<Probed, Arc<Probe>>,
    ) -> BTreeMap<&'p str, Option<Arc<ClientConfig>>> {
        let mut clients = BTreeMap::new();
        let https = |probe: &&Arc<Probe>| probe.protocol == ProbeProtocol::Https;
        for probe in probed.values().filter(https) {
            clients.entry(probe.name.as_str()).or_insert_with(|| {
                let client = self.clients.of(probe);
                let tell = |fault: &TlsFault| {
                    log::warn!("probe \"{}\" asks nobody: {}", probe.name, fault.message);
                };
                client.inspect_err(tell).ok()
            });
        }
        clients
    }

    fn start(
        &self,
        by: &Probed,
        question: Arc<Question>,
        interval: Duration,
        at_once: usize,
    ) -> Running {
        let probing = Probing {
            by: by.clone(),
            question: question.clone(),
            found: self.found.clone(),
            room: self.room.clone(),
        };
        let task = self
            .thread
            .spawn(probing.run(interval, at_once))
            .abort_handle();
        Running {
            question,
            interval,
            at_once,
            task,
        }
    }
}

/// What the task of one address knows.
struct Probing {
    by: Probed,
    question: Arc<Question>,
    found: mpsc::Sender<Found>,
    room: Arc<Room>,
}

impl Probing {
    /// Probes until nobody takes what is found.
    async fn run(self, interval: Duration, at_once: usize) {
        let start = Instant::now();
        let mut schedule = Schedule::new(Duration::ZERO, interval, rand::random());
        let mut under_way = FuturesUnordered::new();
        let due = sleep_until(start + schedule.due());
        tokio::pin!(due);
        loop {
            tokio::select! {
                () = &mut due, if under_way.len() < at_once => {
                    schedule.take(start.elapsed());
                    due.as_mut().reset(start + schedule.due());
                    under_way.push(self.probe());
                }
                Some(is_taken) = under_way.next() => {
                    if !is_taken {
                        return;
                    }
                }
            }
        }
    }

    /// Probes once; says whether what was found was taken.
    async fn probe(&self) -> bool {
        let start = Instant::now();
        let Ok(Some(place)) = timeout(self.question.timeout, self.room.take()).await else {
            let (result, duration) = (Err(Failure::NoResources), start.elapsed());
            return self.tell(Outcome { result, duration }).await;
        };
        let ended = exchange::ask(&self.question).await;
        let is_taken = self.tell(ended.outcome).await;
        ended.close().await;
        drop(place);
        is_taken
    }

    async fn tell(&self, outcome: Outcome) -> bool {
        if outcome.result == Err(Failure::NoResources) {
            self.room.tell_that_it_is_full();
        }
        let found = Found {
            by: self.by.clone(),
            outcome,
            at: std::time::Instant::now(),
        };
        self.found.send(found).await.is_ok()
    }
}
