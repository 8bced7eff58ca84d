//! What members answer, and what a probe calls it.

use super::*;

/// What a member does with a connection.
#[derive(Clone, Copy)]
enum Manner {
    /// Reads the request, answers and closes.
    Answers(&'static [u8]),
    /// The same, bit by bit.
    Trickles(&'static [u8]),
    /// Answers before it has read anything, and closes.
    Blurts(&'static [u8]),
    /// Accepts, and does nothing.
    IsSilent,
    /// Reads the request and closes its side, without a word.
    ClosesItsSide,
    /// Reads the request, answers this much, and resets the connection.
    Resets(&'static [u8]),
    /// Resets the connection as soon as it is there.
    ResetsAtOnce,
}

/// A member that does so with one connection.
async fn member(manner: Manner) -> SocketAddr {
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        match manner {
            Manner::Answers(answer) => {
                read_head(&mut stream).await;
                stream.write_all(answer).await.unwrap();
            }
            Manner::Trickles(answer) => {
                read_head(&mut stream).await;
                for byte in answer {
                    if stream.write_all(&[*byte]).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            Manner::Blurts(answer) => stream.write_all(answer).await.unwrap(),
            Manner::IsSilent => tokio::time::sleep(Duration::from_secs(5)).await,
            Manner::ClosesItsSide => {
                read_head(&mut stream).await;
                stream.shutdown().await.unwrap();
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
            Manner::Resets(answer) => {
                read_head(&mut stream).await;
                stream.write_all(answer).await.unwrap();
                // What is sent before a reset may be read or not.
                tokio::time::sleep(Duration::from_millis(20)).await;
                stream.set_zero_linger().unwrap();
            }
            Manner::ResetsAtOnce => stream.set_zero_linger().unwrap(),
        }
    });
    address
}

const HTTP: &str = "protocol = \"http\"\ntimeout = \"400ms\"";
const TCP: &str = "protocol = \"tcp\"\ntimeout = \"400ms\"";

#[tokio::test]
async fn each_kind_of_answer_has_its_own_word() {
    let cases: [(Manner, Result<(), Failure>); 14] = [
        (Manner::Answers(OK), Ok(())),
        (Manner::Trickles(OK), Ok(())),
        (Manner::Answers(b"HTTP/1.0 200 OK\r\n\r\n"), Ok(())),
        (
            Manner::Answers(b"HTTP/1.1 503 No\r\n\r\n"),
            Err(Failure::UnexpectedStatus(503)),
        ),
        (
            Manner::Answers(b"HTTP/1.1 301 Moved\r\nLocation: /\r\n\r\n"),
            Err(Failure::UnexpectedStatus(301)),
        ),
        (
            Manner::Blurts(b"HTTP/1.1 500 Full\r\n\r\n"),
            Err(Failure::UnexpectedStatus(500)),
        ),
        (
            Manner::Answers(b"\x16\x03\x01 garbage"),
            Err(Failure::MalformedAnswer),
        ),
        (
            Manner::Answers(b"HTTP/1.1 200 OK\r\nA: b\r\n"),
            Err(Failure::IncompleteAnswer),
        ),
        (Manner::Answers(b""), Err(Failure::Closed)),
        (Manner::ClosesItsSide, Err(Failure::Closed)),
        (Manner::Resets(b""), Err(Failure::Reset)),
        (Manner::Resets(b"HTTP/1.1 200"), Err(Failure::Reset)),
        (Manner::ResetsAtOnce, Err(Failure::Reset)),
        (Manner::IsSilent, Err(Failure::AnswerTimeout)),
    ];
    for (n, (manner, expected)) in cases.into_iter().enumerate() {
        let outcome = ask(member(manner).await, HTTP).await;
        assert_eq!(outcome.result, expected, "case {n}");
    }
}

#[tokio::test]
async fn tcp_probe_is_content_with_a_connection() {
    for (manner, expected) in [
        (Manner::IsSilent, Ok(())),
        (Manner::ClosesItsSide, Ok(())),
        (Manner::Blurts(b"SSH-2.0-x\r\n"), Ok(())),
        (Manner::ResetsAtOnce, Err(Failure::Reset)),
    ] {
        let outcome = ask(member(manner).await, TCP).await;
        assert_eq!(outcome.result, expected);
        assert!(outcome.duration < Duration::from_millis(200));
    }
}

#[tokio::test]
async fn nobody_there_is_told_from_nobody_answering() {
    let (listener, address) = listen().await;
    drop(listener);
    let outcome = ask(address, TCP).await;
    assert_eq!(outcome.result, Err(Failure::ConnectionRefused));
    // With one connection that nobody takes, there is no place for another: its SYN is dropped.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = socket.listen(0).unwrap();
    let address = full.local_addr().unwrap();
    let _waits = TcpStream::connect(address).await.unwrap();
    let outcome = ask(address, TCP).await;
    assert_eq!(outcome.result, Err(Failure::ConnectTimeout));
    assert!(outcome.duration >= Duration::from_millis(400));
    assert!(outcome.duration < Duration::from_millis(600));
}

#[tokio::test]
async fn timeout_is_for_all_of_a_probe_together() {
    let settings = "protocol = \"http\"\ntimeout = \"200ms\"";
    // Some byte comes every millisecond, and the head never ends.
    let endless: &[u8] = Box::leak(vec![b'a'; 2000].into_boxed_slice());
    let answer = Box::leak(
        [b"HTTP/1.1 200 OK\r\nA: ", endless]
            .concat()
            .into_boxed_slice(),
    );
    let outcome = ask(member(Manner::Trickles(answer)).await, settings).await;
    assert_eq!(outcome.result, Err(Failure::AnswerTimeout));
    assert!(outcome.duration < Duration::from_millis(350));
}

#[tokio::test]
async fn more_than_one_status_may_be_expected() {
    let settings = format!("{HTTP}\nexpect_status = [204, \"300-399\"]");
    let no_content = Manner::Answers(b"HTTP/1.1 204 No Content\r\n\r\n");
    assert_eq!(
        ask(member(no_content).await, &settings).await.result,
        Ok(())
    );
    let moved = Manner::Answers(b"HTTP/1.1 302 Found\r\n\r\n");
    assert_eq!(ask(member(moved).await, &settings).await.result, Ok(()));
    assert_eq!(
        ask(member(Manner::Answers(OK)).await, &settings)
            .await
            .result,
        Err(Failure::UnexpectedStatus(200))
    );
}

#[tokio::test]
async fn request_reaches_members_of_both_families() {
    for (local, settings, host) in [
        ("127.0.0.1:0", "", "127.0.0.1:PORT"),
        ("[::1]:0", "", "[::1]:PORT"),
        ("[::1]:0", "host = \"www.example.org\"", "www.example.org"),
    ] {
        let (listener, address) = listen_on(local).await;
        let settings = format!("{HTTP}\npath = \"/up?x=1\"\n{settings}");
        let served = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let head = read_head(&mut stream).await;
            stream.write_all(OK).await.unwrap();
            head
        };
        let (head, outcome) = tokio::join!(served, ask(address, &settings));
        assert_eq!(outcome.result, Ok(()));
        let host = host.replace("PORT", &address.port().to_string());
        assert!(head.starts_with("GET /up?x=1 HTTP/1.1\r\n"), "{head}");
        assert!(head.contains(&format!("\r\nHost: {host}\r\n")), "{head}");
        assert!(head.contains("\r\nConnection: close\r\n"), "{head}");
    }
}

#[tokio::test]
async fn connections_end_without_a_reset() {
    let (listener, address) = listen().await;
    let served = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"SSH-2.0-banner\r\n").await.unwrap();
        end_of(&mut stream).await
    };
    let (end, outcome) = tokio::join!(served, ask(address, TCP));
    assert_eq!((end, outcome.result), (Ok(0), Ok(())), "tcp");
    for status in ["200 OK", "500 Broken"] {
        let served = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_head(&mut stream).await;
            let answer = format!("HTTP/1.1 {status}\r\n\r\n{}", "x".repeat(20_000));
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            end_of(&mut stream).await
        };
        let (end, _) = tokio::join!(served, ask(address, HTTP));
        assert_eq!(end, Ok(0), "{status}");
    }
}
