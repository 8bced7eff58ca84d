//! What a frontend's ports offer, and whose replies an instance's ports send.

use crate::family::{V4, V6};

/// A port of a frontend address.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct PortKey {
    /// [`super::Owner::id`] of the frontend address.
    pub frontend: u32,
    /// Destination port, host byte order, and above it the protocol number.
    pub port_protocol: u32,
}

impl PortKey {
    /// The key for a port (host byte order) of a frontend address.
    #[inline(always)]
    pub const fn new(frontend: u32, protocol: u8, port: u16) -> Self {
        Self {
            frontend,
            port_protocol: (protocol as u32) << 16 | port as u32,
        }
    }

    /// Protocol number.
    pub const fn protocol(self) -> u8 {
        (self.port_protocol >> 16) as u8
    }

    /// Port, host byte order.
    pub const fn port(self) -> u16 {
        self.port_protocol as u16
    }
}

/// Ports of a frontend address that begin with the same bits, as a trie looks them up.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct PortPrefix {
    /// [`super::Owner::id`] of the frontend address.
    pub frontend: u32,
    /// [`PortKey::port_protocol`] in network byte order.
    pub port_protocol: u32,
}

impl PortPrefix {
    /// Bits before those of the port.
    pub const FIXED_BITS: u32 = 48;

    /// What a port is looked up by.
    #[inline(always)]
    pub const fn of(key: PortKey) -> Self {
        Self {
            frontend: key.frontend,
            port_protocol: key.port_protocol.to_be(),
        }
    }

    /// The first of its ports.
    pub const fn key(self) -> PortKey {
        PortKey {
            frontend: self.frontend,
            port_protocol: u32::from_be(self.port_protocol),
        }
    }
}

/// What a port is bound to.
///
/// Two, so that a rule with many ports comes and goes by one write: while the first binding is not active,
/// the second counts.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bound {
    /// Binding id.
    pub first: u32,
    /// Binding id; 0: none.
    pub second: u32,
}

/// A rule or inbound NAT rule as it is bound to its ports. It does not change while it is active.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rule {
    /// Says which rule it is, for the next daemon; no packet asks.
    pub name: u64,
    /// Says which ports it was bound to, for the next daemon; no packet asks.
    pub claim: u64,
    /// Id of the rule, not 0; it stays when the binding changes.
    pub id: u32,
    /// What new flows go to, IPv4 and IPv6, as `way` says; 0: no member takes new flows.
    pub targets: [u32; 2],
    /// Idle timeout of its established TCP flows, jiffies.
    pub tcp_idle: u32,
    /// Idle timeout of its answered UDP flows, jiffies.
    pub udp_idle: u32,
    /// The same for those to port 53.
    pub udp_dns: u32,
    /// Added to the frontend port to get the backend port, modulo 65,536; or with [`Self::FIXED_PORT`] the
    /// backend port.
    pub port_offset: u16,
    /// The first port of a spread.
    pub first_port: u16,
    /// [`crate::balance::Distribution`].
    pub distribution: u8,
    /// Set of the constants below.
    pub flags: u8,
    /// [`Self::RING`], [`Self::BACKEND`] or [`Self::SPREAD`].
    pub way: u8,
    /// Unused.
    pub padding: u8,
}

impl Rule {
    /// The id of no rule, for flows that count for none.
    pub const NONE: u32 = u32::MAX;
    /// In `flags`: RST to both sides when an established flow idles out.
    pub const TCP_RESET: u8 = 1;
    /// In `flags`: an inbound NAT rule.
    pub const INBOUND_NAT: u8 = 2;
    /// In `flags`: every port goes to the same backend port.
    pub const FIXED_PORT: u8 = 4;
    /// In `flags`: the binding counts.
    pub const ACTIVE: u8 = 8;

    /// As `way`: targets are rings.
    pub const RING: u8 = 0;
    /// As `way`: targets are backends.
    pub const BACKEND: u8 = 1;
    /// As `way`: targets are spreads.
    pub const SPREAD: u8 = 2;

    /// Whether the binding counts.
    #[inline(always)]
    pub const fn is_active(&self) -> bool {
        self.flags & Self::ACTIVE != 0
    }
}

/// An instance's TCP port, as it stands in the trie of replies that are known without a flow.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ReverseKey<A> {
    /// Private address, raw.
    pub address: A,
    /// Port, raw.
    pub port: u16,
    /// Zero.
    pub padding: [u16; 3],
}

impl<A> ReverseKey<A> {
    /// Bits of a key that a port (host byte order) is looked up with.
    pub const BITS: u32 = 8 * size_of::<A>() as u32 + u16::BITS;

    /// The key of a port.
    #[inline(always)]
    pub const fn new(address: A, port: u16) -> Self {
        Self {
            address,
            port: port.to_be(),
            padding: [0; 3],
        }
    }
}

/// What replies from an instance's port leave as.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Reverse<A> {
    /// The frontend's address.
    pub frontend: A,
    /// Added to the instance's port to get the frontend's, modulo 65,536.
    pub port_offset: u16,
    /// Zero.
    pub padding: [u16; 3],
}

const _: () = assert!(size_of::<PortKey>() == 8);
const _: () = assert!(size_of::<PortPrefix>() == 8);
const _: () = assert!(size_of::<Bound>() == 8);
const _: () = assert!(size_of::<Rule>() == 48);
const _: () = assert!(size_of::<ReverseKey<V4>>() == 12);
const _: () = assert!(size_of::<ReverseKey<V6>>() == 24);
const _: () = assert!(size_of::<Reverse<V4>>() == 12);
const _: () = assert!(size_of::<Reverse<V6>>() == 24);
