//! How health is found out.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// `[[probe]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Unique name.
    pub name: String,
    /// What is sent.
    pub protocol: ProbeProtocol,
    /// Probed port; `None`: the rule's backend port.
    pub port: Option<u16>,
    /// Path of the request.
    pub path: String,
    /// Host header and SNI; empty: the member's address.
    pub host: String,
    /// Accepted status codes.
    pub expect_status: Vec<RangeInclusive<u16>>,
    /// Time between probes.
    pub interval: Duration,
    /// Time until a probe has failed.
    pub timeout: Duration,
    /// Consecutive successes until up.
    pub rise: u32,
    /// Consecutive failures until down.
    pub fall: u32,
    /// Whether a flapping member is held out.
    pub flap_damping: bool,
    /// Which addresses are probed.
    pub family: ProbeFamily,
    /// Whether the certificate is verified.
    pub tls_verify: bool,
    /// Certificates to verify against.
    pub ca_file: Option<PathBuf>,
}

/// `probe.protocol`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeProtocol {
    /// Three-way handshake.
    Tcp,
    /// GET.
    Http,
    /// GET over TLS.
    Https,
}

/// `probe.family`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeFamily {
    /// Every address by itself.
    Each,
    /// IPv4 judges both.
    Ipv4,
    /// IPv6 judges both.
    Ipv6,
}
