//! What comes in: load-balancing rules and inbound NAT rules.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::MemberRef;

/// Transport protocol of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// Every protocol the rule can carry.
    All,
}

impl Protocol {
    /// Whether a packet can be of both.
    pub fn overlaps(self, other: Protocol) -> bool {
        self == other || self == Protocol::All || other == Protocol::All
    }
}

/// Port of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ports {
    /// One port.
    Single(u16),
    /// First and last port.
    Range(RangeInclusive<u16>),
    /// Port 0: every port.
    Every,
}

impl Ports {
    /// First and last port.
    pub fn range(&self) -> RangeInclusive<u16> {
        match self {
            Ports::Single(port) => *port..=*port,
            Ports::Range(range) => range.clone(),
            Ports::Every => 1..=u16::MAX,
        }
    }

    /// The ports of a backend that these ports arrive at; the offset within a range is kept.
    pub fn backend_range(&self, backend_port: Option<u16>) -> RangeInclusive<u16> {
        let range = self.range();
        match backend_port {
            None => range,
            Some(first) => first..=first.saturating_add(range.end() - range.start()),
        }
    }
}

/// `[[rule]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Unique name.
    pub name: String,
    /// Name of the frontend.
    pub frontend: String,
    /// What it balances.
    pub protocol: Protocol,
    /// Frontend port or ports.
    pub port: Ports,
    /// Name of the pool.
    pub pool: String,
    /// Backend port of the (first) frontend port; `None`: the same port.
    pub backend_port: Option<u16>,
    /// Name of the probe; `None`: every member is up.
    pub probe: Option<String>,
    /// What is hashed.
    pub distribution: Distribution,
    /// How packets are forwarded.
    pub forwarding: Forwarding,
    /// Overrides `tcp_idle` and `udp_idle`.
    pub idle_timeout: Option<Duration>,
    /// RST to both sides of an established flow that idles out.
    pub tcp_reset: bool,
    /// What happens to new flows when every member is down.
    pub no_healthy_backends: NoHealthyBackends,
    /// Whether members may use this frontend to reach the outside.
    pub outbound_snat: bool,
}

/// `rule.distribution`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Distribution {
    /// 5-tuple
    FiveTuple,
    /// 2-tuple: addresses
    SourceIp,
    /// 3-tuple: addresses and protocol
    SourceIpProtocol,
}

/// `rule.forwarding`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Forwarding {
    /// Destination translated, client address kept.
    Nat,
    /// Both translated.
    FullNat,
    /// Nothing translated.
    Dsr,
}

/// `rule.no_healthy_backends`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NoHealthyBackends {
    /// No new flows.
    Down,
    /// All members take new flows.
    Up,
}

/// `[[inbound_nat_rule]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboundNatRule {
    /// Unique name, also among rules.
    pub name: String,
    /// Name of the frontend.
    pub frontend: String,
    /// What it translates.
    pub protocol: Protocol,
    /// Single form: one port; pool form: the range.
    pub port: Ports,
    /// Where it goes.
    pub target: NatTarget,
    /// Backend port; `None`: the frontend port.
    pub backend_port: Option<u16>,
}

/// Where an inbound NAT rule sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NatTarget {
    /// One IP configuration.
    Instance(MemberRef),
    /// One port of the range for each member of this pool.
    Pool(String),
}
