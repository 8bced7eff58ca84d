//! What one probe asks, made once for all its probes.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::http;
use super::tls::server_name;
use crate::config::model::{Probe, ProbeProtocol};
use crate::health::Probed;

/// What is asked of whom.
pub(super) struct Question {
    pub(super) to: SocketAddr,
    pub(super) timeout: Duration,
    pub(super) kind: Kind,
}

pub(super) enum Kind {
    /// A connection is answer enough.
    Connect,
    /// A request.
    Request(Request),
    /// The certificates to verify against are not there.
    CannotVerify,
}

pub(super) struct Request {
    pub(super) text: Vec<u8>,
    pub(super) expected: Vec<RangeInclusive<u16>>,
    /// How to speak TLS and with whom, if it is spoken.
    pub(super) tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Question {
    /// What a probe asks of an address; over TLS with these settings, if there are any.
    pub(super) fn new(probed: &Probed, probe: &Probe, tls: Option<&Arc<ClientConfig>>) -> Self {
        let to = SocketAddr::new(probed.address, probed.port);
        let kind = match probe.protocol {
            ProbeProtocol::Tcp => Kind::Connect,
            ProbeProtocol::Http => Kind::Request(Request {
                text: http::request(&probe.path, &probe.host, to, 80),
                expected: probe.expect_status.clone(),
                tls: None,
            }),
            ProbeProtocol::Https => tls.map_or(Kind::CannotVerify, |tls| {
                Kind::Request(over_tls(to, probe, tls))
            }),
        };
        Self {
            to,
            timeout: probe.timeout,
            kind,
        }
    }

    /// Whether it is asked in the same way as another one, of certificates that were read anew too.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let kinds_are_alike = match (&self.kind, &other.kind) {
            (Kind::Connect, Kind::Connect) | (Kind::CannotVerify, Kind::CannotVerify) => true,
            (Kind::Request(one), Kind::Request(another)) => one.is_like(another),
            _ => false,
        };
        kinds_are_alike && (self.to, self.timeout) == (other.to, other.timeout)
    }
}

impl Request {
    fn is_like(&self, other: &Self) -> bool {
        let tls_is_alike = match (&self.tls, &other.tls) {
            (None, None) => true,
            (Some((one, name)), Some((another, other_name))) => {
                Arc::ptr_eq(one.config(), another.config()) && name == other_name
            }
            _ => false,
        };
        tls_is_alike && (&self.text, &self.expected) == (&other.text, &other.expected)
    }

    /// Whether an answer of this status says that all is well.
    pub(super) fn expects(&self, status: u16) -> bool {
        self.expected.iter().any(|range| range.contains(&status))
    }
}

fn over_tls(to: SocketAddr, probe: &Probe, tls: &Arc<ClientConfig>) -> Request {
    let name = server_name(&probe.host).ok().flatten();
    let name = name.unwrap_or_else(|| ServerName::from(to.ip()));
    Request {
        text: http::request(&probe.path, &probe.host, to, 443),
        expected: probe.expect_status.clone(),
        tls: Some((TlsConnector::from(tls.clone()), name)),
    }
}
