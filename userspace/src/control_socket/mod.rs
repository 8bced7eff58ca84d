//! How commands reach the daemon: one JSON object a line, over a unix socket that only its owner may
//! open.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::stat::Mode;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixSocket, UnixStream};
use tokio::sync::{mpsc, oneshot};

use crate::api::{Request, Response};

/// Longest line that is read: a configuration file inside a `plan` request.
const LONGEST_LINE: u64 = 64 << 20;
/// Clients that may wait to be accepted.
const BACKLOG: u32 = 128;
/// How long a client may take to ask.
const PATIENCE: Duration = Duration::from_secs(10);

/// A request and where its answer goes.
pub struct Call {
    /// What is asked.
    pub request: Request,
    /// Takes the answer.
    pub reply: oneshot::Sender<Response>,
}

/// Listens on `path`, and passes what is asked to the daemon. The socket is the owner's alone.
///
/// # Errors
/// The socket cannot be made; one that nobody listens on any more is replaced.
pub async fn listen(path: &Path) -> Result<mpsc::Receiver<Call>> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    if path.exists() {
        if UnixStream::connect(path).await.is_ok() {
            bail!(
                "another daemon listens on {}; stop it first, or give this one its own [api].socket",
                path.display()
            );
        }
        std::fs::remove_file(path)
            .with_context(|| format!("remove the stale socket {}", path.display()))?;
    }
    let listener = bind(path).with_context(|| format!("listen on {}", path.display()))?;
    let (calls, receiver) = mpsc::channel(64);
    tokio::spawn(accept(listener, calls));
    Ok(receiver)
}

/// A socket that was never anybody else's: Linux makes the file with the mode that the descriptor has
/// (unix(7)), and a mask would be the whole process's.
fn bind(path: &Path) -> Result<UnixListener> {
    let socket = UnixSocket::new_stream()?;
    nix::sys::stat::fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    socket.bind(path)?;
    Ok(socket.listen(BACKLOG)?)
}

async fn accept(listener: UnixListener, calls: mpsc::Sender<Call>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(serve(stream, calls.clone()));
            }
            Err(error) => {
                log::warn!("control socket: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// One connection is one question.
async fn serve(stream: UnixStream, calls: mpsc::Sender<Call>) {
    let (reader, mut writer) = stream.into_split();
    let response = match tokio::time::timeout(PATIENCE, read_request(reader)).await {
        Ok(Ok(request)) => ask(request, &calls).await,
        Ok(Err(error)) => Response::Failed(format!("{error:#}")),
        Err(_) => Response::Failed("no request came in time".to_owned()),
    };
    if let Ok(mut line) = serde_json::to_vec(&response) {
        line.push(b'\n');
        let _ = writer.write_all(&line).await;
    }
}

async fn ask(request: Request, calls: &mpsc::Sender<Call>) -> Response {
    let (reply, answer) = oneshot::channel();
    if calls.send(Call { request, reply }).await.is_err() {
        return Response::Failed("the daemon is stopping".to_owned());
    }
    answer
        .await
        .unwrap_or_else(|_| Response::Failed("the daemon is stopping".to_owned()))
}

async fn read_request(reader: tokio::net::unix::OwnedReadHalf) -> Result<Request> {
    use tokio::io::AsyncReadExt;
    let mut line = String::new();
    BufReader::new(reader)
        .take(LONGEST_LINE)
        .read_line(&mut line)
        .await
        .context("read the request")?;
    serde_json::from_str(&line)
        .map_err(|error| anyhow!("the daemon does not understand the request ({error}); are command and daemon of one version?"))
}

/// Asks the daemon behind `path`.
///
/// # Errors
/// Nobody listens there, or the daemon refuses; the message says what to do.
pub async fn call(path: &Path, request: &Request) -> Result<serde_json::Value> {
    let stream = UnixStream::connect(path)
        .await
        .map_err(|error| unreachable_daemon(path, &error))?;
    let (reader, mut writer) = stream.into_split();
    let mut line = serde_json::to_vec(request).context("write the request")?;
    line.push(b'\n');
    writer.write_all(&line).await.context("send the request")?;
    let mut answer = String::new();
    BufReader::new(reader)
        .read_line(&mut answer)
        .await
        .context("read the answer")?;
    if answer.is_empty() {
        bail!("the daemon closed the connection without an answer; see its log");
    }
    match serde_json::from_str(&answer).context("understand the answer")? {
        Response::Ok(value) => Ok(value),
        Response::Failed(message) => Err(anyhow!(message)),
    }
}

fn unreachable_daemon(path: &Path, error: &std::io::Error) -> anyhow::Error {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            anyhow!("no permission to open {}: run as root", path.display())
        }
        std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => {
            anyhow!(
                "no daemon listens on {}: start `forebay run`, or name its socket with --socket or its file with --config",
                path.display()
            )
        }
        _ => anyhow!("connect to {}: {error}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn a_question_gets_its_answer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/forebay.sock");
        let mut calls = listen(&path).await.unwrap();
        tokio::spawn(async move {
            while let Some(call) = calls.recv().await {
                let answer = match call.request {
                    Request::Drops => Response::Ok(serde_json::json!({"no-rule": 3})),
                    _ => Response::Failed("not that".to_owned()),
                };
                let _ = call.reply.send(answer);
            }
        });
        assert_eq!(
            call(&path, &Request::Drops).await.unwrap(),
            serde_json::json!({"no-rule": 3})
        );
        assert_eq!(
            call(&path, &Request::Status).await.unwrap_err().to_string(),
            "not that"
        );
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let second = listen(&path).await.unwrap_err().to_string();
        assert!(second.contains("another daemon listens"), "{second}");
    }

    #[tokio::test]
    async fn nobody_there_is_said_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let error = call(&folder.path().join("none.sock"), &Request::Status)
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("start `forebay run`"), "{error}");
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_nonsense_is_answered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("forebay.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let _calls = listen(&path).await.unwrap();
        let mut stream = UnixStream::connect(&path).await.unwrap();
        stream.write_all(b"nonsense\n").await.unwrap();
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).await.unwrap();
        assert!(answer.contains("does not understand"), "{answer}");
    }
}
