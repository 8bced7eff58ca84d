//! One probe: a connection of its own, a question, an answer, and an orderly end.

use std::io::{self, ErrorKind};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls;

use super::http;
use super::question::{Kind, Question, Request};
use crate::health::{Failure, Outcome};

/// The peer may take this long to close its side.
const FAREWELL: Duration = Duration::from_millis(250);
/// What is read of a body, so that the connection ends without a reset.
const MOST_OF_A_BODY: usize = 64 * 1024;

/// What a probe found, and the connection that is left to be closed.
pub(super) struct Ended {
    pub(super) outcome: Outcome,
    left: Option<Left>,
}

/// A connection that still works.
enum Left {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// How far a probe has come: says what it waits for.
#[derive(Clone, Copy)]
enum Stage {
    Connect,
    Handshake,
    Answer,
}

impl Stage {
    const fn out_of_time(self) -> Failure {
        match self {
            Self::Connect => Failure::ConnectTimeout,
            Self::Handshake => Failure::TlsTimeout,
            Self::Answer => Failure::AnswerTimeout,
        }
    }
}

/// Asks once. The timeout is for all of it together, but not for the end of the connection.
pub(super) async fn ask(question: &Question) -> Ended {
    let start = Instant::now();
    let mut stage = Stage::Connect;
    let exchange = timeout(question.timeout, exchange(question, &mut stage)).await;
    let duration = start.elapsed();
    let (mut result, mut left) = match exchange {
        Ok(ended) => ended,
        Err(_) => (Err(stage.out_of_time()), None),
    };
    if matches!(question.kind, Kind::Connect)
        && let Some(Left::Plain(stream)) = &mut left
    {
        result = part(stream).await;
        left = None;
    }
    let outcome = Outcome { result, duration };
    Ended { outcome, left }
}

impl Ended {
    /// Ends the connection in an orderly way, if the peer does its part soon.
    pub(super) async fn close(self) {
        let end = async {
            match self.left {
                None => Ok(()),
                Some(Left::Plain(mut stream)) => discard(&mut stream).await,
                Some(Left::Tls(mut stream)) => {
                    stream.shutdown().await?;
                    discard(stream.get_mut().0).await
                }
            }
        };
        let _ = timeout(FAREWELL, end).await;
    }
}

type Exchanged = (Result<(), Failure>, Option<Left>);

async fn exchange(question: &Question, stage: &mut Stage) -> Exchanged {
    let request = match &question.kind {
        Kind::CannotVerify => return (Err(Failure::CaFile), None),
        Kind::Connect => None,
        Kind::Request(request) => Some(request),
    };
    let mut stream = match TcpStream::connect(question.to).await {
        Ok(stream) => stream,
        Err(error) => return (Err(failure_of(&error)), None),
    };
    match request.map(|request| (request, &request.tls)) {
        None => (Ok(()), Some(Left::Plain(stream))),
        Some((request, None)) => {
            *stage = Stage::Answer;
            let result = converse(&mut stream, request).await;
            (result, Some(Left::Plain(stream)))
        }
        Some((request, Some((connector, name)))) => {
            *stage = Stage::Handshake;
            let mut stream = match connector.connect(name.clone(), stream).await {
                Ok(stream) => Box::new(stream),
                Err(error) => return (Err(failure_of(&error)), None),
            };
            *stage = Stage::Answer;
            let result = converse(&mut stream, request).await;
            (result, Some(Left::Tls(stream)))
        }
    }
}

/// Sends a request, and reads until the status is known. What comes before the request was read counts as well.
async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    request: &Request,
) -> Result<(), Failure> {
    let sent = match stream.write_all(&request.text).await {
        Ok(()) => stream.flush().await,
        failed => failed,
    };
    let mut answer = Vec::with_capacity(1024);
    loop {
        let room = http::LONGEST_HEAD.saturating_sub(answer.len()) as u64;
        match (&mut *stream).take(room).read_buf(&mut answer).await {
            Ok(0) => return Err(end_of(&answer)),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Err(end_of(&answer)),
            Err(error) => return Err(failure_of(&sent.err().unwrap_or(error))),
            Ok(_) => {}
        }
        match http::status(&answer)? {
            Some(status) if request.expects(status) => return Ok(()),
            Some(status) => return Err(Failure::UnexpectedStatus(status)),
            None => {}
        }
    }
}

const fn end_of(answer: &[u8]) -> Failure {
    match answer {
        [] => Failure::Closed,
        _ => Failure::IncompleteAnswer,
    }
}

/// Closes this side and waits for the other one: a reset is a failure, slowness is not.
async fn part(stream: &mut TcpStream) -> Result<(), Failure> {
    let end = async {
        stream.shutdown().await?;
        discard(stream).await
    };
    match timeout(FAREWELL, end).await {
        Ok(Err(error)) => Err(failure_of(&error)),
        Ok(Ok(())) | Err(_) => Ok(()),
    }
}

/// Reads to the end, or as much as is bearable.
async fn discard(stream: &mut TcpStream) -> io::Result<()> {
    let mut bytes = [0; 4096];
    let mut left = MOST_OF_A_BODY;
    while left > 0 {
        match stream.read(&mut bytes).await? {
            0 => break,
            length => left = left.saturating_sub(length),
        }
    }
    Ok(())
}

fn failure_of(error: &io::Error) -> Failure {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    if let Some(error) = inner {
        return match error {
            rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => {
                Failure::Certificate
            }
            _ => Failure::TlsHandshake,
        };
    }
    match error.raw_os_error() {
        Some(libc::ECONNREFUSED) => Failure::ConnectionRefused,
        Some(libc::ETIMEDOUT) => Failure::ConnectTimeout,
        Some(libc::ECONNRESET | libc::EPIPE | libc::ECONNABORTED | libc::ENOTCONN) => {
            Failure::Reset
        }
        Some(libc::ENETUNREACH | libc::ENETDOWN) => Failure::NoRoute,
        Some(libc::EHOSTUNREACH | libc::EHOSTDOWN) => Failure::HostUnreachable,
        Some(libc::EACCES | libc::EPERM) => Failure::Prohibited,
        Some(
            libc::EMFILE
            | libc::ENFILE
            | libc::ENOBUFS
            | libc::ENOMEM
            | libc::EADDRNOTAVAIL
            | libc::EAGAIN,
        ) => Failure::NoResources,
        None if error.kind() == ErrorKind::UnexpectedEof => Failure::Closed,
        _ => Failure::Network,
    }
}
