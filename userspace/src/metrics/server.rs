//! The listener: `/metrics`, `/healthz`, `/readyz`.
//!
//! What has to be asked of the daemon is asked of its main loop, so that a loop that hangs is neither ready nor, after
//! a while, alive.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hyper::header::ACCEPT;
use hyper::{Method, StatusCode};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::{Format, Values, text};
use crate::http_server::{
    Answer, HttpServer, Limits, Question, answer, holding, is_read, with_allow,
};

/// A scrape may be large, and whoever reads it slow.
const LIMITS: Limits = Limits {
    connections: 32,
    question: Duration::from_secs(2),
    whole: Duration::from_secs(10),
};
/// Scrapes at a time; more wait.
const SCRAPES: usize = 4;
/// How long the main loop may take to answer: a reload of a large configuration takes seconds.
const PATIENCE: Duration = Duration::from_millis(if cfg!(test) { 200 } else { 5000 });
/// A main loop that has not turned for so long hangs.
const HANGS: Duration = Duration::from_secs(30);

const TEXT: &str = "text/plain; charset=utf-8";

/// Reads what the main loop has handed over; takes a while, elsewhere.
pub type Gather = Box<dyn FnOnce() -> anyhow::Result<Values> + Send>;

/// What is asked of the main loop.
pub enum Asked {
    /// Why the node is not ready, if it is not.
    Readiness(oneshot::Sender<Option<String>>),
    /// The values.
    Values(oneshot::Sender<Gather>),
}

/// Signs of life of the main loop.
#[derive(Debug)]
pub struct Pulse {
    begin: Instant,
    last: AtomicU64,
    is_running: AtomicBool,
    is_stopping: AtomicBool,
}

impl Default for Pulse {
    fn default() -> Self {
        Self {
            begin: Instant::now(),
            last: AtomicU64::new(0),
            is_running: AtomicBool::new(false),
            is_stopping: AtomicBool::new(false),
        }
    }
}

impl Pulse {
    /// The loop begins.
    pub fn start(&self) {
        self.beat();
        self.is_running.store(true, Ordering::Relaxed);
    }

    /// The loop turns.
    pub fn beat(&self) {
        let now = self.begin.elapsed().as_millis() as u64;
        self.last.store(now, Ordering::Relaxed);
    }

    /// The loop has ended, and the daemon is about to.
    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }

    fn age(&self) -> Duration {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        self.begin.elapsed().saturating_sub(last)
    }
}

/// The server; it ends when this is dropped.
#[derive(Debug)]
pub struct MetricsServer(HttpServer);

#[derive(Clone)]
struct Daemon {
    asked: mpsc::Sender<Asked>,
    pulse: Arc<Pulse>,
    /// So many scrapes may be in memory.
    room: Arc<Semaphore>,
}

impl MetricsServer {
    /// Listens on an address.
    ///
    /// # Errors
    /// The host has no such address, or somebody else has the port.
    pub async fn listen(
        address: SocketAddr,
        asked: mpsc::Sender<Asked>,
        pulse: Arc<Pulse>,
    ) -> io::Result<Self> {
        let daemon = Daemon {
            asked,
            pulse,
            room: Arc::new(Semaphore::new(SCRAPES)),
        };
        let respond = move |question| {
            let daemon = daemon.clone();
            async move { daemon.respond(&question).await }
        };
        let server = HttpServer::listen(address, "metrics", LIMITS, respond).await?;
        Ok(Self(server))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// Ends it; its port is free then.
    pub async fn close(self) {
        self.0.close().await;
    }
}

impl Daemon {
    async fn respond(&self, question: &Question) -> Answer {
        let path = question.request.uri().path();
        if !["/metrics", "/healthz", "/readyz"].contains(&path) {
            return line(
                StatusCode::NOT_FOUND,
                "Here are /metrics, /healthz and /readyz.",
            );
        }
        if !is_read(question.request.method()) {
            let refused = line(StatusCode::METHOD_NOT_ALLOWED, "Only GET is answered.");
            return with_allow(refused);
        }
        match path {
            "/metrics" => self.metrics(question).await,
            "/readyz" => self.readiness().await,
            _ => self.liveness(),
        }
    }

    fn liveness(&self) -> Answer {
        let age = self.pulse.age();
        if age < HANGS || !self.pulse.is_running.load(Ordering::Relaxed) {
            return line(StatusCode::OK, "alive");
        }
        let seconds = age.as_secs();
        let message = format!("The main loop has not turned for {seconds} seconds.");
        line(StatusCode::SERVICE_UNAVAILABLE, &message)
    }

    async fn readiness(&self) -> Answer {
        let reason = match self.ask(Asked::Readiness).await {
            Ok(None) => return line(StatusCode::OK, "ready"),
            Ok(Some(reason)) => reason,
            Err(reason) => reason.to_owned(),
        };
        line(StatusCode::SERVICE_UNAVAILABLE, &reason)
    }

    async fn metrics(&self, question: &Question) -> Answer {
        let accept = question.request.headers().get(ACCEPT);
        let format = Format::accepted(accept.and_then(|accept| accept.to_str().ok()));
        if question.request.method() == Method::HEAD {
            return answer(StatusCode::OK, format.content_type(), "");
        }
        // Held until the text was read: it can be large, and its reader slow.
        let Ok(room) = self.room.clone().acquire_owned().await else {
            return failure("there is no room");
        };
        let begun = Instant::now();
        let gather = match self.ask(Asked::Values).await {
            Ok(gather) => gather,
            Err(reason) => return line(StatusCode::SERVICE_UNAVAILABLE, reason),
        };
        let waited = begun.elapsed();
        let written = tokio::task::spawn_blocking(move || -> anyhow::Result<String> {
            Ok(text(Arc::new(gather()?), format)?)
        });
        match written.await {
            Ok(Ok(text)) => {
                let (bytes, took) = (text.len(), begun.elapsed());
                log::debug!(
                    "metrics: {bytes} bytes in {took:?}, {waited:?} of it for the main loop"
                );
                let answer = answer(StatusCode::OK, format.content_type(), text);
                holding(answer, room)
            }
            Ok(Err(error)) => failure(&format!("{error:#}")),
            Err(error) => failure(&error.to_string()),
        }
    }

    async fn ask<T>(&self, what: fn(oneshot::Sender<T>) -> Asked) -> Result<T, &'static str> {
        const STOPPING: &str = "The daemon is stopping.";
        if self.pulse.is_stopping.load(Ordering::Relaxed) {
            return Err(STOPPING);
        }
        if !self.pulse.is_running.load(Ordering::Relaxed) {
            return Err("The daemon is starting.");
        }
        let asked = async {
            let (reply, answer) = oneshot::channel();
            self.asked.send(what(reply)).await.ok()?;
            answer.await.ok()
        };
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(STOPPING),
            Err(_) => Err("The main loop does not answer."),
        }
    }
}

fn failure(message: &str) -> Answer {
    log::warn!("metrics: {message}");
    line(StatusCode::INTERNAL_SERVER_ERROR, message)
}

fn line(status: StatusCode, message: &str) -> Answer {
    answer(status, TEXT, format!("{message}\n"))
}

#[cfg(test)]
mod tests {
    use anyhow::bail;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn server() -> (MetricsServer, mpsc::Receiver<Asked>, Arc<Pulse>) {
        let (asked, receiver) = mpsc::channel(4);
        let pulse = Arc::new(Pulse::default());
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = MetricsServer::listen(any, asked, pulse.clone()).await;
        (server.unwrap(), receiver, pulse)
    }

    async fn ask(server: &MetricsServer, request: &str) -> String {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        let request = format!("{request}\r\nHost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn readiness(server: &MetricsServer) -> String {
        let answer = ask(server, "GET /readyz HTTP/1.1").await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        format!("{} {}", &head[9..12], body.trim_end())
    }

    #[tokio::test]
    async fn a_node_is_ready_only_while_its_main_loop_says_so() {
        let (server, mut asked, pulse) = server().await;
        assert_eq!(readiness(&server).await, "503 The daemon is starting.");
        let alive = ask(&server, "GET /healthz HTTP/1.1").await;
        assert!(alive.starts_with("HTTP/1.1 200 "), "{alive}");
        pulse.start();
        let hangs = "503 The main loop does not answer.";
        assert_eq!(readiness(&server).await, hangs);
        let mut words = [None, Some("It is not.".to_owned())].into_iter();
        tokio::spawn(async move {
            while let Some(asked) = asked.recv().await {
                if let Asked::Readiness(reply) = asked
                    && !reply.is_closed()
                {
                    let _ = reply.send(words.next().unwrap());
                }
            }
        });
        assert_eq!(readiness(&server).await, "200 ready");
        assert_eq!(readiness(&server).await, "503 It is not.");
        pulse.stop();
        assert_eq!(readiness(&server).await, "503 The daemon is stopping.");
    }

    #[tokio::test]
    async fn values_are_written_as_the_reader_likes_and_failures_are_told() {
        let (server, mut asked, pulse) = server().await;
        pulse.start();
        tokio::spawn(async move {
            let mut works = [true, true, false].into_iter();
            while let Some(asked) = asked.recv().await {
                if let Asked::Values(reply) = asked {
                    let works = works.next().unwrap();
                    let _ = reply.send(Box::new(move || match works {
                        true => Ok(Values::default()),
                        false => bail!("no table"),
                    }));
                }
            }
        });
        let plain = ask(&server, "GET /metrics HTTP/1.1").await;
        assert!(plain.contains("content-type: text/plain; version=0.0.4"));
        assert!(plain.contains("\nforebay_build_info{version="), "{plain}");
        let accept = "GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text;version=1.0.0";
        let open = ask(&server, accept).await;
        assert!(open.contains("content-type: application/openmetrics-text"));
        // The last chunk, of no length, follows.
        assert!(open.ends_with("# EOF\n\r\n0\r\n\r\n"), "{open}");
        let failed = ask(&server, "GET /metrics HTTP/1.1").await;
        assert!(
            failed.starts_with("HTTP/1.1 500 ") && failed.contains("no table"),
            "{failed}"
        );
        let head = ask(&server, "HEAD /metrics HTTP/1.1").await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        for (request, status) in [("GET /whoami", 404), ("POST /metrics", 405)] {
            let told = ask(&server, &format!("{request} HTTP/1.1")).await;
            assert!(told.starts_with(&format!("HTTP/1.1 {status} ")), "{told}");
        }
    }

    #[tokio::test]
    async fn who_never_asks_is_cut_off() {
        let (server, _asked, _pulse) = server().await;
        let mut silent = TcpStream::connect(server.address()).await.unwrap();
        let begun = Instant::now();
        let mut rest = Vec::new();
        let _ = silent.read_to_end(&mut rest).await;
        assert!(begun.elapsed() < LIMITS.whole / 2, "{:?}", begun.elapsed());
    }
}
