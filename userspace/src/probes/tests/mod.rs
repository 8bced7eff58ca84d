//! Probes against real sockets on the loopback interface.

mod answers;
mod over_tls;
mod runs;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::config::model::Config;
use crate::config::parse_all;

/// A probe with these settings.
fn probe(settings: &str) -> Arc<Probe> {
    let text = format!(
        "[node]\nname = \"lb\"\ninterfaces = [\"eth0\"]\n[[probe]]\nname = \"p\"\n{settings}\n"
    );
    let config: Config = parse_all("f.toml", &text).unwrap().config;
    Arc::new(config.probes[0].clone())
}

fn probed(to: SocketAddr) -> Probed {
    Probed {
        probe: "p".to_owned(),
        address: to.ip(),
        port: to.port(),
    }
}

/// Asks once.
async fn ask(to: SocketAddr, settings: &str) -> Outcome {
    let probe = probe(settings);
    let client = tls::Clients::default().of(&probe).ok();
    let question = Question::new(&probed(to), &probe, client.as_ref());
    let ended = exchange::ask(&question).await;
    let outcome = ended.outcome;
    ended.close().await;
    outcome
}

async fn listen() -> (TcpListener, SocketAddr) {
    listen_on("127.0.0.1:0").await
}

async fn listen_on(address: &str) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// The head of a request, or what came until the end.
async fn read_head(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

/// How a connection ended, as its server sees it: nothing more came, or it was reset.
async fn end_of(stream: &mut TcpStream) -> Result<usize, std::io::ErrorKind> {
    let mut rest = Vec::new();
    let end = stream.read_to_end(&mut rest).await;
    end.map_err(|error| error.kind())
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
