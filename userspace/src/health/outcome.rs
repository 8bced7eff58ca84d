//! What one probe found.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What one probe found, and how long that took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Whether the member is well, and why not.
    pub result: Result<(), Failure>,
    /// From the start of the probe to the answer.
    pub duration: Duration,
}

/// Why a probe failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// Nobody listens on the port.
    ConnectionRefused,
    /// Nothing answered the handshake of TCP in time.
    ConnectTimeout,
    /// The handshake of TLS was not complete in time.
    TlsTimeout,
    /// The head of the answer was not there in time.
    AnswerTimeout,
    /// The connection was reset after it was made.
    Reset,
    /// The connection was closed without an answer.
    Closed,
    /// The connection was closed in the middle of the answer.
    IncompleteAnswer,
    /// The answer has a status that was not expected.
    UnexpectedStatus(u16),
    /// What came is no answer of HTTP/1.
    MalformedAnswer,
    /// The handshake of TLS failed.
    TlsHandshake,
    /// The certificate is not one to trust, or is somebody else's.
    Certificate,
    /// This node has no route to the address.
    NoRoute,
    /// A router, or the neighbour table of this node, says that nobody is there.
    HostUnreachable,
    /// A packet filter, here or on the way, refuses the connection.
    Prohibited,
    /// Anything else that the network says.
    Network,
    /// This node has no file descriptor, port or memory for the probe.
    NoResources,
    /// The certificates to verify against cannot be used.
    CaFile,
}

impl Failure {
    /// Each of them; those with a number in them with any.
    pub const ALL: [Self; 17] = [
        Self::ConnectionRefused,
        Self::ConnectTimeout,
        Self::HostUnreachable,
        Self::NoRoute,
        Self::Prohibited,
        Self::Network,
        Self::Reset,
        Self::TlsTimeout,
        Self::TlsHandshake,
        Self::Certificate,
        Self::AnswerTimeout,
        Self::Closed,
        Self::IncompleteAnswer,
        Self::MalformedAnswer,
        Self::UnexpectedStatus(0),
        Self::NoResources,
        Self::CaFile,
    ];

    /// The word for it in output.
    pub const fn label(self) -> &'static str {
        match self {
            Self::ConnectionRefused => "connection-refused",
            Self::ConnectTimeout => "connect-timeout",
            Self::TlsTimeout => "tls-timeout",
            Self::AnswerTimeout => "answer-timeout",
            Self::Reset => "reset",
            Self::Closed => "closed",
            Self::IncompleteAnswer => "incomplete-answer",
            Self::UnexpectedStatus(_) => "unexpected-status",
            Self::MalformedAnswer => "malformed-answer",
            Self::TlsHandshake => "tls-handshake",
            Self::Certificate => "certificate",
            Self::NoRoute => "no-route",
            Self::HostUnreachable => "host-unreachable",
            Self::Prohibited => "prohibited",
            Self::Network => "network-error",
            Self::NoResources => "no-resources",
            Self::CaFile => "ca-file",
        }
    }

    /// Whether it says nothing of the member: the probe could not be sent for want of something here.
    pub const fn is_ours(self) -> bool {
        matches!(self, Self::NoResources | Self::CaFile)
    }
}

/// The word, with the status where there is one.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnexpectedStatus(status) => write!(f, "{} {status}", self.label()),
            _ => f.write_str(self.label()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_failure_has_a_word_of_its_own() {
        let words: BTreeSet<_> = Failure::ALL.map(Failure::label).into();
        assert_eq!(words.len(), Failure::ALL.len());
        let status = Failure::UnexpectedStatus(503).to_string();
        assert_eq!(status, "unexpected-status 503");
    }
}
