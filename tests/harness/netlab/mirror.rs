//! A server in the outside world that tells whoever asks by which address and port it was asked.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};

use super::client::{connect_within, udp_socket};
use super::namespace::Namespace;

/// How often the server looks whether it is to end.
const PAUSE: Duration = Duration::from_millis(20);
/// How long an asker waits.
const PATIENCE: Duration = Duration::from_secs(3);

/// The server; ends when dropped.
#[derive(Debug)]
pub struct Mirror {
    ends: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Mirror {
    /// Answers TCP connections and datagrams at these addresses.
    ///
    /// # Errors
    /// A port is taken.
    pub fn start(host: &Namespace, at: &[SocketAddr]) -> Result<Self> {
        let ends = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for address in at {
            let opened = host.enter(|| -> std::io::Result<_> {
                Ok((TcpListener::bind(address)?, UdpSocket::bind(address)?))
            });
            let (listener, socket) = opened.with_context(|| format!("listen at {address}"))?;
            listener.set_nonblocking(true)?;
            socket.set_read_timeout(Some(PAUSE))?;
            let (end, other) = (Arc::clone(&ends), Arc::clone(&ends));
            threads.push(std::thread::spawn(move || accept(&listener, &end)));
            threads.push(std::thread::spawn(move || reply(&socket, &other)));
        }
        Ok(Self { ends, threads })
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // What a thread said when it panicked is on the error output already.
            let _ = thread.join();
        }
    }
}

/// One thread serves all connections, line by line: there may be thousands.
fn accept(listener: &TcpListener, ends: &AtomicBool) {
    let mut open: Vec<(TcpStream, SocketAddr)> = Vec::new();
    while !ends.load(Ordering::Relaxed) {
        let mut was_idle = true;
        while let Ok((mut stream, peer)) = listener.accept() {
            was_idle = false;
            let _ = stream.set_nonblocking(true);
            let _ = writeln!(stream, "{peer}");
            open.push((stream, peer));
        }
        open.retain_mut(|(stream, peer)| serve(stream, *peer));
        if was_idle {
            std::thread::sleep(PAUSE / 4);
        }
    }
}

/// Answers every line; false when the connection has ended.
fn serve(stream: &mut TcpStream, peer: SocketAddr) -> bool {
    let mut bytes = [0; 256];
    match std::io::Read::read(stream, &mut bytes) {
        Ok(0) => false,
        Ok(_) => writeln!(stream, "{peer}").is_ok(),
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}

fn reply(socket: &UdpSocket, ends: &AtomicBool) {
    let mut bytes = [0; 256];
    while !ends.load(Ordering::Relaxed) {
        if let Ok((_, peer)) = socket.recv_from(&mut bytes) {
            let _ = socket.send_to(format!("{peer}\n").as_bytes(), peer);
        }
    }
}

/// A connection to a mirror.
#[derive(Debug)]
pub struct Reflection {
    stream: BufReader<TcpStream>,
    /// As whom the mirror sees this side.
    pub seen: SocketAddr,
}

impl Reflection {
    /// Connects, optionally from a chosen source, and hears as whom.
    ///
    /// # Errors
    /// The connection fails, or nothing is said.
    pub fn open(
        from: &Namespace,
        source: Option<SocketAddr>,
        to: SocketAddr,
    ) -> std::io::Result<Self> {
        let stream = connect_within(from, source, to, PATIENCE)?;
        let mut stream = BufReader::new(stream);
        let seen = heard(&mut stream)?;
        Ok(Self { stream, seen })
    }

    /// Says something, and hears as whom.
    ///
    /// # Errors
    /// The connection has ended.
    pub fn ask(&mut self) -> std::io::Result<SocketAddr> {
        self.stream.get_mut().write_all(b"?\n")?;
        heard(&mut self.stream)
    }

    /// The socket.
    pub fn stream(&self) -> &TcpStream {
        self.stream.get_ref()
    }
}

fn heard(stream: &mut BufReader<TcpStream>) -> std::io::Result<SocketAddr> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    line.trim().parse().map_err(std::io::Error::other)
}

/// Asks a mirror by a datagram, from a socket of its own.
///
/// # Errors
/// Nothing comes back.
pub fn reflect_udp(
    from: &Namespace,
    source: SocketAddr,
    to: SocketAddr,
) -> std::io::Result<SocketAddr> {
    reflect_by(&udp_socket(from, source)?, to)
}

/// Asks a mirror by a datagram from this socket.
///
/// # Errors
/// Nothing comes back.
pub fn reflect_by(socket: &UdpSocket, to: SocketAddr) -> std::io::Result<SocketAddr> {
    socket.send_to(b"?", to)?;
    let mut bytes = [0; 256];
    let (length, _) = socket.recv_from(&mut bytes)?;
    let text = std::str::from_utf8(&bytes[..length]).map_err(std::io::Error::other)?;
    text.trim().parse().map_err(std::io::Error::other)
}
