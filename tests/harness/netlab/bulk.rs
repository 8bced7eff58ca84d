//! A service that gives back what it gets, and a client that checks every byte of it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::client::connect_within;
use super::namespace::Namespace;

/// Emulated machines are slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// Gives back every byte of every connection to this address, until the test program ends.
pub fn serve(at: SocketAddr, namespace: &Namespace) -> Result<()> {
    let listener = namespace
        .enter(|| TcpListener::bind(at))
        .with_context(|| format!("listen on {at}"))?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A connection that breaks is seen by the client.
            std::thread::spawn(move || give_back(stream));
        }
    });
    Ok(())
}

fn give_back(mut stream: TcpStream) -> std::io::Result<()> {
    let mut buffer = vec![0; 65536];
    loop {
        match stream.read(&mut buffer)? {
            0 => return stream.shutdown(Shutdown::Write),
            length => stream.write_all(&buffer[..length])?,
        }
    }
}

/// An open connection to such a service.
#[derive(Debug)]
pub struct Echo {
    stream: TcpStream,
}

impl Echo {
    /// Connects.
    pub fn open(from: &Namespace, to: SocketAddr) -> Result<Self> {
        let stream =
            connect_within(from, None, to, PATIENCE).with_context(|| format!("connect to {to}"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream })
    }

    /// Sends so many bytes and compares what comes back, both at the same time.
    pub fn exchange(&mut self, bytes: usize) -> Result<()> {
        let sent = pattern(bytes);
        let mut writer = self.stream.try_clone()?;
        std::thread::scope(|scope| {
            let writing = scope.spawn(|| writer.write_all(&sent));
            let mut received = vec![0; bytes];
            self.stream
                .read_exact(&mut received)
                .context("wait for the bytes to come back")?;
            writing
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            match sent.iter().zip(&received).position(|(a, b)| a != b) {
                Some(at) => bail!("byte {at} of {bytes} came back changed"),
                None => Ok(()),
            }
        })
    }
}

/// Bytes that do not repeat where packets or their halves begin.
fn pattern(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[1]
    };
    (0..bytes).map(|_| next()).collect()
}
