//! The request of a probe, and the head of its answer.

use std::net::{IpAddr, SocketAddr};

use crate::health::Failure;

/// No head of an answer is longer than this.
pub(super) const LONGEST_HEAD: usize = 16 * 1024;
const MOST_FIELDS: usize = 128;

/// A GET that has the connection closed. `host` is as configured: empty means the address, with the port unless it
/// is the usual one.
pub(super) fn request(path: &str, host: &str, to: SocketAddr, usual_port: u16) -> Vec<u8> {
    let address = match to.ip() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    let host = match (host, to.port()) {
        ("", port) if port == usual_port => address,
        ("", port) => format!("{address}:{port}"),
        (host, _) => host.to_owned(),
    };
    let version = env!("CARGO_PKG_VERSION");
    let text = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: forebay/{version}\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    text.into_bytes()
}

/// The status of an answer, of which this much has come; `None`: more has to come. Interim answers are passed over.
pub(super) fn status(mut answer: &[u8]) -> Result<Option<u16>, Failure> {
    loop {
        let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
        let mut head = httparse::Response::new(&mut fields);
        let length = match head.parse(answer) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if answer.len() < LONGEST_HEAD => return Ok(None),
            Ok(httparse::Status::Partial) | Err(_) => return Err(Failure::MalformedAnswer),
        };
        match head.code {
            Some(100 | 102..=199) => answer = answer.get(length..).unwrap_or_default(),
            code => return Ok(code),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head_of(host: &str, to: &str) -> String {
        let request = request("/healthz?a=b", host, to.parse().unwrap(), 80);
        String::from_utf8(request).unwrap()
    }

    #[test]
    fn request_names_the_host_or_the_address() {
        let request = head_of("", "10.0.1.11:8080");
        assert!(request.starts_with("GET /healthz?a=b HTTP/1.1\r\nHost: 10.0.1.11:8080\r\n"));
        assert!(request.contains("\r\nConnection: close\r\n"));
        assert!(request.ends_with("\r\n\r\n"));
        for (host, to, field) in [
            ("", "10.0.1.11:80", "10.0.1.11"),
            ("", "[fd00::1]:80", "[fd00::1]"),
            ("", "[fd00::1]:443", "[fd00::1]:443"),
            ("www.example.org", "10.0.1.11:8080", "www.example.org"),
        ] {
            let request = head_of(host, to);
            assert!(
                request.contains(&format!("\r\nHost: {field}\r\n")),
                "{request}"
            );
        }
    }

    #[test]
    fn status_is_told_once_the_head_is_complete() {
        let answer = b"HTTP/1.1 503 Service Unavailable\r\nA: b\r\n\r\nbody";
        for length in 0..answer.len() {
            let expected = (length >= answer.len() - 4).then_some(503);
            assert_eq!(status(&answer[..length]), Ok(expected), "{length}");
        }
        assert_eq!(status(b"HTTP/1.0 200 OK\r\n\r\n"), Ok(Some(200)));
        assert_eq!(status(b"HTTP/1.1 204\r\n\r\n"), Ok(Some(204)));
    }

    #[test]
    fn interim_answers_are_passed_over() {
        let answer = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n\r\n";
        assert_eq!(status(answer), Ok(Some(200)));
        assert_eq!(status(&answer[..45]), Ok(None));
        let upgrade = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";
        assert_eq!(status(upgrade), Ok(Some(101)), "nothing follows it");
    }

    #[test]
    fn what_is_no_answer_is_malformed() {
        let endless = [b"HTTP/1.1 200 OK\r\nA: ".to_vec(), vec![b'x'; LONGEST_HEAD]].concat();
        for answer in [
            &b"SSH-2.0-OpenSSH_9.2\r\n"[..],
            b"HTTP/2 200\r\n\r\n",
            b"HTTP/1.1 abc\r\n\r\n",
            b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x80",
            &endless,
        ] {
            assert_eq!(status(answer), Err(Failure::MalformedAnswer));
        }
    }
}
