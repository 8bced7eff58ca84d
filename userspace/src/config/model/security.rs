//! Who may talk to whom.

use std::ops::RangeInclusive;

use ipnet::IpNet;

/// `[[security_group]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecurityGroup {
    /// Unique name.
    pub name: String,
    /// By direction and priority, ascending.
    pub rules: Vec<SecurityRule>,
}

/// `[[security_group.rule]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecurityRule {
    /// Unique within the group.
    pub name: String,
    /// 100-4096, unique within the direction.
    pub priority: u16,
    /// Which flows it judges.
    pub direction: SecurityDirection,
    /// Allowed (`true`) or denied.
    pub allow: bool,
    /// Protocol.
    pub protocol: SecurityProtocol,
    /// Sources; empty: any.
    pub source: Vec<Selector>,
    /// Destinations; empty: any.
    pub destination: Vec<Selector>,
    /// Source ports; empty: any.
    pub source_ports: Vec<RangeInclusive<u16>>,
    /// Destination ports; empty: any.
    pub destination_ports: Vec<RangeInclusive<u16>>,
}

/// `security_group.rule.direction`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecurityDirection {
    /// Towards the instance, after translation.
    Inbound,
    /// From the instance, before translation.
    Outbound,
}

/// `security_group.rule.protocol`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecurityProtocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// ICMP and ICMPv6
    Icmp,
    /// Every protocol
    Any,
}

/// An element of `source` or `destination`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selector {
    /// An address or prefix.
    Net(IpNet),
    /// Tag `VirtualNetwork`
    VirtualNetwork,
    /// Tag `LoadBalancer`
    LoadBalancer,
    /// Tag `Internet`
    Internet,
}
