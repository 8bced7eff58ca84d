//! A small HTTP server for short questions: few connections at a time, none of which may take long, so that whoever
//! reads slowly, or never asks, holds up nobody but others like it.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// An answer: all of it is there before the first byte is sent.
pub type Answer = Response<BoxBody<Bytes, Infallible>>;

/// What a server allows.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at a time; more wait.
    pub connections: usize,
    /// How long the question may take.
    pub question: Duration,
    /// How long question and answer may take together.
    pub whole: Duration,
}

/// A question, and whose.
#[derive(Debug)]
pub struct Question {
    /// Its head.
    pub request: Request<Incoming>,
    /// Who asks.
    pub source: IpAddr,
}

/// A server; it takes no more questions once it is dropped.
#[derive(Debug)]
pub struct HttpServer {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl HttpServer {
    /// Listens on an address; `name` is for the log.
    ///
    /// # Errors
    /// The host has no such address, or somebody else has the port.
    pub async fn listen<A, F>(
        address: SocketAddr,
        name: &'static str,
        limits: Limits,
        answer: A,
    ) -> io::Result<Self>
    where
        A: Fn(Question) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Answer> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(accept(listener, name, limits, answer));
        Ok(Self { address, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it; its port is free then.
    pub async fn close(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept<A, F>(listener: TcpListener, name: &'static str, limits: Limits, answer: A)
where
    A: Fn(Question) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(limits.connections));
    loop {
        // Never closed.
        let Ok(permit) = room.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let answer = answer.clone();
                tokio::spawn(async move {
                    let source = peer.ip().to_canonical();
                    let served = serve(stream, source, name, limits, answer);
                    let _ = tokio::time::timeout(limits.whole, served).await;
                    drop(permit);
                });
            }
            Err(error) => {
                log::warn!("{name}: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve<A, F>(stream: TcpStream, source: IpAddr, name: &str, limits: Limits, answer: A)
where
    A: Fn(Question) -> F + Send,
    F: Future<Output = Answer> + Send,
{
    let respond = |request| {
        let answer = answer(Question { request, source });
        async move { Ok::<_, Infallible>(answer.await) }
    };
    let connection = http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(limits.question)
        .serve_connection(TokioIo::new(stream), service_fn(respond));
    if let Err(error) = connection.await {
        log::debug!("{name}: {source}: {error}");
    }
}

/// An answer with a body of a type.
pub fn answer(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(body.into()).boxed());
    *response.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// The same, holding on to something until the answer was read, or its reader is gone.
pub fn holding<T: Send + Sync + 'static>(answer: Answer, held: T) -> Answer {
    answer.map(|body| {
        let whole = body.map_frame(move |frame| {
            let _ = &held;
            frame
        });
        whole.boxed()
    })
}

/// Whether the method is one that is answered.
pub fn is_read(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

/// Says which methods are answered.
pub fn with_allow(mut refused: Answer) -> Answer {
    let allowed = HeaderValue::from_static("GET, HEAD");
    refused.headers_mut().insert(ALLOW, allowed);
    refused
}
