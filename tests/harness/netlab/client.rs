//! What clients do: requests by curl, connections kept open, datagrams, failed attempts.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect as connect_socket,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use super::namespace::Namespace;
use super::process::feed;

/// How long a client waits for anything.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// What an instance says about a request that reached it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Which instance answered.
    pub instance: String,
    /// The source address that it saw.
    pub client: IpAddr,
    /// The address of its own that was asked.
    pub server: IpAddr,
    /// The port of its own that was asked.
    pub server_port: u16,
}

impl Answer {
    fn parse(line: &str) -> Result<Self> {
        let mut words = line.split_whitespace();
        let mut next = || {
            words
                .next()
                .with_context(|| format!("strange answer: {line:?}"))
        };
        Ok(Self {
            instance: next()?.to_owned(),
            client: next()?.parse()?,
            server: next()?.parse()?,
            server_port: next()?.parse()?,
        })
    }
}

/// Makes `count` HTTP requests, each on a new connection, with one curl.
pub fn curl(from: &Namespace, to: SocketAddr, count: usize) -> Result<Vec<Answer>> {
    let mut command = from.command("curl");
    command.args([
        "--silent",
        "--show-error",
        "--globoff",
        "--fail",
        "--fail-early",
        "--config",
        "-",
    ]);
    command.args([
        "--connect-timeout",
        "3",
        "--max-time",
        "5",
        "--header",
        "Connection: close",
    ]);
    let text = feed(
        &mut command,
        &format!("url = \"http://{to}/\"\n").repeat(count),
    )?;
    let answers: Vec<Answer> = text.lines().map(Answer::parse).collect::<Result<_>>()?;
    if answers.len() != count {
        bail!("{count} requests to {to} brought {} answers", answers.len());
    }
    Ok(answers)
}

/// How many answers each instance gave.
pub fn spread(answers: &[Answer]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for answer in answers {
        *counts.entry(answer.instance.as_str()).or_insert(0) += 1;
    }
    counts
}

/// A TCP connection, optionally from a chosen source; both directions time out.
pub fn connect(
    from: &Namespace,
    source: Option<SocketAddr>,
    to: SocketAddr,
) -> io::Result<TcpStream> {
    connect_within(from, source, to, PATIENCE)
}

/// The same with another time-out for the handshake.
pub fn connect_within(
    from: &Namespace,
    source: Option<SocketAddr>,
    to: SocketAddr,
    patience: Duration,
) -> io::Result<TcpStream> {
    from.enter(|| open(source, to, patience))
}

fn open(source: Option<SocketAddr>, to: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
    let family = if to.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let descriptor = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    // The send time-out bounds connect as well.
    let micros = i64::try_from(patience.as_micros()).map_err(io::Error::other)?;
    let limit = TimeVal::new(micros / 1_000_000, micros % 1_000_000);
    setsockopt(&descriptor, sockopt::SendTimeout, &limit)?;
    if let Some(source) = source {
        setsockopt(&descriptor, sockopt::ReuseAddr, &true)?;
        bind(descriptor.as_raw_fd(), &SockaddrStorage::from(source))?;
    }
    match connect_socket(descriptor.as_raw_fd(), &SockaddrStorage::from(to)) {
        Ok(()) => {}
        Err(Errno::EINPROGRESS) => return Err(io::ErrorKind::TimedOut.into()),
        Err(error) => return Err(error.into()),
    }
    let stream = TcpStream::from(descriptor);
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// One HTTP request on a connection of its own, from the namespace that the thread is in.
pub fn request(source: Option<SocketAddr>, to: SocketAddr) -> Result<Answer> {
    let stream = open(source, to, PATIENCE).with_context(|| format!("connect to {to}"))?;
    Conversation { stream }.ask()
}

/// An HTTP connection that is kept open between requests.
#[derive(Debug)]
pub struct Conversation {
    stream: TcpStream,
}

impl Conversation {
    /// Opens the connection and makes a first request on it.
    pub fn open(
        from: &Namespace,
        source: Option<SocketAddr>,
        to: SocketAddr,
    ) -> Result<(Self, Answer)> {
        let stream = connect(from, source, to).with_context(|| format!("connect to {to}"))?;
        let mut conversation = Self { stream };
        let answer = conversation.ask()?;
        Ok((conversation, answer))
    }

    /// One more request on the same connection.
    pub fn ask(&mut self) -> Result<Answer> {
        self.stream
            .write_all(b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n")
            .context("send a request")?;
        let mut received = Vec::new();
        let mut buffer = [0; 2048];
        loop {
            let length = self
                .stream
                .read(&mut buffer)
                .context("wait for the answer")?;
            if length == 0 {
                bail!("the connection ended before the answer");
            }
            received.extend_from_slice(&buffer[..length]);
            let text = String::from_utf8_lossy(&received);
            if let Some((_, body)) = text.split_once("\r\n\r\n")
                && body.ends_with('\n')
            {
                return Answer::parse(body);
            }
        }
    }

    /// The client's end.
    pub fn source(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }

    /// The connection itself.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }
}

/// What an instance says about a datagram that reached it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpAnswer {
    /// Which instance answered.
    pub instance: String,
    /// The source that it saw.
    pub client: SocketAddr,
    /// Where the answer came from, as the client saw it.
    pub from: SocketAddr,
    /// What was sent.
    pub payload: String,
}

/// A UDP socket of the client.
pub fn udp_socket(from: &Namespace, source: SocketAddr) -> io::Result<UdpSocket> {
    let socket = from.enter(|| UdpSocket::bind(source))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Sends a datagram and waits for the answer.
pub fn udp_ask(socket: &UdpSocket, to: SocketAddr, payload: &str) -> Result<UdpAnswer> {
    socket
        .send_to(payload.as_bytes(), to)
        .with_context(|| format!("send a datagram to {to}"))?;
    let mut buffer = [0; 2048];
    let (length, from) = socket
        .recv_from(&mut buffer)
        .with_context(|| format!("wait for a datagram from {to}"))?;
    let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
    let mut words = text.splitn(4, ' ');
    let mut next = || {
        words
            .next()
            .with_context(|| format!("strange datagram: {text:?}"))
    };
    let instance = next()?.to_owned();
    let address: IpAddr = next()?.parse()?;
    let client = SocketAddr::new(address, next()?.parse()?);
    Ok(UdpAnswer {
        instance,
        client,
        from,
        payload: next()?.to_owned(),
    })
}

/// Whether an address answers a ping, or one of some more.
pub fn answers_ping(from: &Namespace, to: IpAddr) -> bool {
    let to = to.to_string();
    from.run("ping", &["-n", "-c", "1", "-i", "0.2", "-w", "3", &to])
        .is_ok()
}
