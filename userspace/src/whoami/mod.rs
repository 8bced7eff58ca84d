//! `GET /whoami`: tells an instance how it goes out. It is the one thing that instances may ask the node, so a
//! connection is one short question, and they are few at a time.

mod answers;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use hyper::{Method, StatusCode};
use tokio::sync::watch;

pub use answers::{Answer, Answers, Ports};

use crate::http_server::{self, HttpServer, Limits, is_read, with_allow};

/// Instances ask seldom, and little.
const LIMITS: Limits = Limits {
    connections: 64,
    question: Duration::from_secs(5),
    whole: Duration::from_secs(5),
};

/// A server; it ends when this is dropped.
pub struct Whoami(HttpServer);

impl Whoami {
    /// Listens on an address.
    ///
    /// # Errors
    /// The host has no such address, or somebody else has the port.
    pub async fn listen(
        address: SocketAddr,
        answers: watch::Receiver<Arc<Answers>>,
    ) -> Result<Self> {
        let respond = move |question: http_server::Question| {
            let answers = answers.borrow().clone();
            async move {
                let (method, path) = (question.request.method(), question.request.uri().path());
                respond(method, path, question.source, &answers)
            }
        };
        let server = HttpServer::listen(address, "whoami", LIMITS, respond).await;
        let server = server.with_context(|| format!("listen on {address} ([api].whoami)"))?;
        Ok(Self(server))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }
}

fn respond(method: &Method, path: &str, source: IpAddr, answers: &Answers) -> http_server::Answer {
    if path != "/whoami" {
        return refusal(StatusCode::NOT_FOUND, "only /whoami is here");
    }
    if !is_read(method) {
        return with_allow(refusal(
            StatusCode::METHOD_NOT_ALLOWED,
            "only GET is answered",
        ));
    }
    match answers
        .for_source(source)
        .map(|answer| serde_json::to_vec(&answer))
    {
        Some(Ok(body)) => json(StatusCode::OK, body),
        Some(Err(_)) => refusal(StatusCode::INTERNAL_SERVER_ERROR, "the answer is no JSON"),
        None => {
            let message = format!("{source} is no address of an instance");
            refusal(StatusCode::NOT_FOUND, &message)
        }
    }
}

fn refusal(status: StatusCode, message: &str) -> http_server::Answer {
    let body = serde_json::json!({ "error": message });
    json(status, body.to_string().into_bytes())
}

fn json(status: StatusCode, mut body: Vec<u8>) -> http_server::Answer {
    body.push(b'\n');
    http_server::answer(status, "application/json", body)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn server() -> (Whoami, watch::Sender<Arc<Answers>>) {
        let source = IpAddr::from([127, 0, 0, 1]);
        let answer = Answer {
            source,
            instance: "me".to_owned(),
            ip_config: "primary".to_owned(),
            method: "none",
            address: None,
            addresses: Vec::new(),
            ports: Vec::new(),
        };
        let mut known = Answers::default();
        known.by_source.insert(source, answer);
        let (sender, answers) = watch::channel(Arc::new(known));
        // Dual stack: IPv4 comes mapped.
        let any = "[::]:0".parse().unwrap();
        (Whoami::listen(any, answers).await.unwrap(), sender)
    }

    #[tokio::test]
    async fn an_instance_is_told_who_it_is_and_nothing_else_is_served() {
        let (whoami, answers) = server().await;
        let address = SocketAddr::from(([127, 0, 0, 1], whoami.address().port()));
        let told = ask(address, "GET /whoami HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(told.starts_with("HTTP/1.1 200 OK\r\n"), "{told}");
        assert!(told.contains("\"instance\":\"me\""), "{told}");
        for (request, status) in [
            ("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
            (
                "POST /whoami HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
                "405",
            ),
            ("nonsense\r\n\r\n", "400"),
        ] {
            let told = ask(address, request).await;
            assert!(told.starts_with(&format!("HTTP/1.1 {status}")), "{told}");
        }
        answers.send_replace(Arc::new(Answers::default()));
        let told = ask(address, "GET /whoami HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(
            told.starts_with("HTTP/1.1 404") && told.contains("127.0.0.1"),
            "{told}"
        );
    }

    #[tokio::test]
    async fn a_server_that_is_dropped_listens_no_more() {
        let (whoami, _answers) = server().await;
        let address = SocketAddr::from(([127, 0, 0, 1], whoami.address().port()));
        drop(whoami);
        for _ in 0..50 {
            if TcpStream::connect(address).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("it still listens");
    }
}
