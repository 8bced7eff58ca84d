//! What goes out, and the names kept in DNS.

use std::path::PathBuf;
use std::time::Duration;

use super::Protocol;

/// `[[outbound_rule]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboundRule {
    /// Unique name.
    pub name: String,
    /// Name of the pool.
    pub pool: String,
    /// Names of the frontends.
    pub frontends: Vec<String>,
    /// What may go out.
    pub protocol: Protocol,
    /// Guaranteed SNAT ports.
    pub ports_per_instance: PortsPerInstance,
    /// Whether unreserved ports may be used too.
    pub burst: bool,
    /// How TCP ports are mapped.
    pub tcp_mapping: Mapping,
    /// How UDP ports are mapped.
    pub udp_mapping: Mapping,
    /// Who may send to an endpoint-independent mapping.
    pub filtering: Filtering,
    /// Which frontend is used.
    pub frontend_selection: FrontendSelection,
    /// Which port is used.
    pub port_selection: PortSelection,
    /// Overrides `tcp_idle` and `udp_idle`.
    pub idle_timeout: Option<Duration>,
    /// RST to both sides of an established flow that idles out.
    pub tcp_reset: bool,
    /// What the instance is told when ports run out.
    pub on_exhaustion: OnExhaustion,
}

/// `ports_per_instance`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortsPerInstance {
    /// Table by pool size.
    Auto,
    /// A multiple of 8.
    Fixed(u32),
}

/// `mapping`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mapping {
    /// A port is reused towards other destinations.
    PerDestination,
    /// RFC 4787 REQ-1.
    EndpointIndependent,
}

/// `filtering` (RFC 4787 section 5)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filtering {
    /// Anyone.
    EndpointIndependent,
    /// Addresses contacted before.
    AddressDependent,
    /// Addresses and ports contacted before.
    AddressAndPortDependent,
}

/// `frontend_selection`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrontendSelection {
    /// Stable per instance and destination.
    Spread,
    /// The next one when the first is full.
    Fill,
    /// Random.
    Random,
}

/// `port_selection`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortSelection {
    /// Random start.
    Random,
    /// Lowest free.
    Lowest,
}

/// `on_exhaustion`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExhaustion {
    /// TCP RST or ICMP unreachable.
    Reject,
    /// Silence.
    Drop,
}

/// `[default_outbound]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefaultOutbound {
    /// Names of the frontends.
    pub frontends: Vec<String>,
    /// Guaranteed SNAT ports.
    pub ports_per_instance: PortsPerInstance,
}

/// `[dns]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// Zone that is kept.
    pub zone: String,
    /// Authoritative server.
    pub server: std::net::SocketAddr,
    /// TSIG key.
    pub tsig_key_file: Option<PathBuf>,
    /// TTL of the records.
    pub ttl: Duration,
    /// Whether PTR records are kept too.
    pub reverse: bool,
}
