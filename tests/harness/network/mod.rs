//! The network that packets of the packet and differential suites are routed in.
//!
//! [`plan`] says what there is, as constants; [`fib`] answers routing questions from the plan alone,
//! for the model; [`namespace`] makes the same network in the kernel, for the live program.

pub mod fib;
pub mod namespace;
pub mod plan;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use forebay_common::family::{Family, V4, V6};
use forebay_common::model::ModelFamily;

/// The version of a packet's IP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpVersion {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

impl IpVersion {
    /// Both versions, for what holds in each.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];
}

impl std::fmt::Display for IpVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// Somebody with an address of each family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host {
    /// IPv4 address.
    pub v4: Ipv4Addr,
    /// IPv6 address.
    pub v6: Ipv6Addr,
}

impl Host {
    /// A host by its two addresses.
    pub const fn new(v4: [u8; 4], v6: [u16; 8]) -> Self {
        let [a, b, c, d, e, f, g, h] = v6;
        Self {
            v4: Ipv4Addr::new(v4[0], v4[1], v4[2], v4[3]),
            v6: Ipv6Addr::new(a, b, c, d, e, f, g, h),
        }
    }

    /// Its address of a version.
    pub const fn address(&self, version: IpVersion) -> IpAddr {
        match version {
            IpVersion::V4 => IpAddr::V4(self.v4),
            IpVersion::V6 => IpAddr::V6(self.v6),
        }
    }

    /// Its address as the packet path keeps it.
    pub fn raw<A: Side>(&self) -> A {
        A::of_host(self)
    }
}

/// An address family as the harness sees it: something that hosts have.
pub trait Side: Family + ModelFamily + Ord + Into<IpAddr> {
    /// The version in packets.
    const VERSION: IpVersion;
    /// Bits of an address.
    const BITS: u32;
    /// A host's address.
    fn of_host(host: &Host) -> Self;
}

impl Side for V4 {
    const VERSION: IpVersion = IpVersion::V4;
    const BITS: u32 = 32;

    fn of_host(host: &Host) -> Self {
        host.v4.into()
    }
}

impl Side for V6 {
    const VERSION: IpVersion = IpVersion::V6;
    const BITS: u32 = 128;

    fn of_host(host: &Host) -> Self {
        host.v6.into()
    }
}
