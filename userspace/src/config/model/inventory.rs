//! Public identities, machines behind the node, and sets of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// `[[frontend]]`: at least one family is present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frontend {
    /// Unique name.
    pub name: String,
    /// Address, or prefix (outbound only).
    pub ipv4: Option<Ipv4Net>,
    /// Address, or prefix (outbound only).
    pub ipv6: Option<Ipv6Net>,
    /// The address is the host's own.
    pub shared: bool,
    /// Echo requests are answered by the node.
    pub ping: bool,
}

impl Frontend {
    /// Whether one of its families is a prefix of several addresses: outbound only.
    pub fn has_prefix(&self) -> bool {
        self.ipv4.is_some_and(|net| net.prefix_len() < 32)
            || self.ipv6.is_some_and(|net| net.prefix_len() < 128)
    }

    /// All addresses of this frontend, each of a prefix too.
    pub fn every_address(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let v4 = self.ipv4.into_iter().flat_map(|net| {
            let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
            (first..=last).map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits)))
        });
        let v6 = self.ipv6.into_iter().flat_map(|net| {
            let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
            (first..=last).map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits)))
        });
        v4.chain(v6)
    }

    /// Whether an address is one of this frontend's.
    pub fn has(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.ipv4.is_some_and(|net| net.contains(&address)),
            IpAddr::V6(address) => self.ipv6.is_some_and(|net| net.contains(&address)),
        }
    }

    /// The single addresses of this frontend; prefixes are left out.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let v4 = self
            .ipv4
            .filter(|net| net.prefix_len() == 32)
            .map(|net| IpAddr::V4(net.addr()));
        let v6 = self
            .ipv6
            .filter(|net| net.prefix_len() == 128)
            .map(|net| IpAddr::V6(net.addr()));
        v4.into_iter().chain(v6)
    }
}

/// `[[public_ip]]`: at least one family is present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicIp {
    /// Unique name.
    pub name: String,
    /// IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
    /// Label in the zone.
    pub dns_label: Option<String>,
}

/// `[[instance]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Unique name.
    pub name: String,
    /// Group of every IP configuration that names none itself.
    pub security_group: Option<String>,
    /// Never empty; the short form gives one called "primary".
    pub ip_configs: Vec<IpConfig>,
}

/// One private address pair of an instance: at least one family is present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpConfig {
    /// Unique within the instance.
    pub name: String,
    /// Private IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// Private IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
    /// Name of its public IP.
    pub public_ip: Option<String>,
    /// Overrides the instance's group.
    pub security_group: Option<String>,
}

impl IpConfig {
    /// The private addresses.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.ipv4
            .map(IpAddr::V4)
            .into_iter()
            .chain(self.ipv6.map(IpAddr::V6))
    }
}

/// Names one IP configuration: `instance/ip_config`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberRef {
    /// Name of the instance.
    pub instance: String,
    /// Name of the IP configuration.
    pub ip_config: String,
}

impl MemberRef {
    /// The IP configuration that `instance` or `instance/ip_config` names.
    pub fn of(text: &str) -> Self {
        let (instance, ip_config) = text.split_once('/').unwrap_or((text, Self::PRIMARY));
        Self {
            instance: instance.to_owned(),
            ip_config: ip_config.to_owned(),
        }
    }

    /// The IP configuration that is meant when none is named.
    pub const PRIMARY: &'static str = "primary";
}

impl std::fmt::Display for MemberRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.instance, self.ip_config)
    }
}

/// `[[pool]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Unique name.
    pub name: String,
    /// In file order, no duplicates; may be empty.
    pub members: Vec<Member>,
}

/// A member of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The IP configuration.
    pub target: MemberRef,
    /// 1-256.
    pub weight: u16,
    /// Operator's override of health.
    pub admin_state: AdminState,
    /// Pinned port of a pool-form inbound NAT rule.
    pub nat_port: Option<u16>,
}

/// `admin_state` of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdminState {
    /// The probe decides.
    None,
    /// Takes new flows whatever the probe says.
    Up,
    /// Takes no new flows.
    Down,
}
