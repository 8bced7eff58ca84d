//! What there is in the test network: interfaces, neighbours, routes, hosts.
//!
//! ```text
//!  CLIENT ── GATEWAY ─┐ NORTH (slot 1)      SOUTH (slot 2) ┌─ INSTANCES, ONE_ARM_CLIENT
//!      LOCAL_CLIENT ──┤          ┌────────┐                ├─ ROUTER ── ROUTED (route MTU 1300)
//!     SILENT_CLIENT ──┘──────────│  node  │────────────────┘─ SILENT (no neighbour entry)
//!                     DEAF ──────│        │── NARROW (slot 3, MTU 1280) ── NARROW_INSTANCE
//!            (slot 4, forwarding └────────┘── APART (not attached) ── APART_INSTANCE
//!                 off)
//! ```
//!
//! VLAN devices: `NORTH_VLAN` (slot 8) ── `VLAN_CLIENT`, `SOUTH_VLAN` (slot 9, MTU 1400) ── `VLAN_INSTANCE`,
//! and `SOUTH_VLANS` (slot 10), with two tags, ── `VLANS_INSTANCE`.

use super::Host;

/// A MAC address.
pub type MacAddress = [u8; 6];

/// An interface of the node.
#[derive(Debug, PartialEq, Eq)]
pub struct Link {
    /// Name in the namespace.
    pub name: &'static str,
    /// Interface number.
    pub ifindex: u32,
    /// Slot in the program's tables; 0: not attached.
    pub slot: u32,
    /// MAC address.
    pub mac: MacAddress,
    /// MTU.
    pub mtu: u32,
    /// The node's own addresses, in networks of 24 and 64 bits.
    pub address: Host,
    /// Whether the kernel forwards what comes in.
    pub forwards: bool,
    /// Number of the NIC that its frames leave by: its own, or that of the NIC under a VLAN device.
    pub nic: u32,
    /// Tags of the frames of a VLAN device, outer first: type and tag control information.
    pub tags: &'static [(u16, u16)],
}

/// A neighbour that the kernel knows.
#[derive(Debug, Clone, Copy)]
pub struct Neighbor {
    /// Its addresses.
    pub host: Host,
    /// Where it is.
    pub link: &'static Link,
    /// Its MAC address.
    pub mac: MacAddress,
}

/// Where a route leads.
#[derive(Debug, Clone, Copy)]
pub enum Target {
    /// To a neighbour, with a route MTU (0: that of the interface).
    Via(Neighbor, u32),
    /// Nowhere; the word that `ip route` has for it.
    Nowhere(&'static str),
}

/// A route besides those to the networks of the interfaces.
#[derive(Debug)]
pub struct Route {
    /// Network of both families.
    pub network: Host,
    /// Prefix lengths, IPv4 and IPv6.
    pub lengths: [u32; 2],
    /// Where it leads.
    pub target: Target,
}

/// A way out of the node: interface and next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// The interface.
    pub link: &'static Link,
    /// The next hop's MAC address.
    pub mac: MacAddress,
}

const fn mac(last: u8) -> MacAddress {
    [0x02, 0, 0, 0, 0, last]
}

const fn link(name: &'static str, number: u8, slot: u32, address: Host) -> Link {
    Link {
        name,
        ifindex: 100 + number as u32,
        slot,
        mac: mac(number),
        mtu: 1500,
        address,
        forwards: true,
        nic: 100 + number as u32,
        tags: &[],
    }
}

/// A VLAN device; its MAC address is that of the NIC.
const fn vlan(
    number: u8,
    slot: u32,
    nic: &Link,
    tags: &'static [(u16, u16)],
    address: Host,
) -> Link {
    Link {
        mac: nic.mac,
        nic: nic.ifindex,
        tags,
        ..link(VLAN_NAMES[number as usize - 10], number, slot, address)
    }
}

const VLAN_NAMES: [&str; 3] = ["north.60", "south.70", "south.70.8"];

/// Towards clients.
pub static NORTH: Link = link(
    "north",
    1,
    1,
    Host::new([192, 0, 2, 1], [0x2001, 0xdb8, 2, 0, 0, 0, 0, 1]),
);
/// Towards instances.
pub static SOUTH: Link = link(
    "south",
    2,
    2,
    Host::new([10, 0, 1, 1], [0xfd00, 1, 0, 0, 0, 0, 0, 1]),
);
/// Towards instances, with the smallest MTU that IPv6 allows.
pub static NARROW: Link = Link {
    mtu: 1280,
    ..link(
        "narrow",
        3,
        3,
        Host::new([10, 0, 3, 1], [0xfd00, 3, 0, 0, 0, 0, 0, 1]),
    )
};
/// An interface that the program is not attached to.
pub static APART: Link = link(
    "apart",
    4,
    0,
    Host::new([10, 0, 5, 1], [0xfd00, 5, 0, 0, 0, 0, 0, 1]),
);
/// An interface from which the kernel forwards nothing.
pub static DEAF: Link = Link {
    forwards: false,
    ..link(
        "deaf",
        5,
        4,
        Host::new([10, 0, 9, 1], [0xfd00, 9, 0, 0, 0, 0, 0, 1]),
    )
};
/// Every NIC.
pub static LINKS: [&Link; 5] = [&NORTH, &SOUTH, &NARROW, &APART, &DEAF];

/// A VLAN device towards clients.
pub static NORTH_VLAN: Link = vlan(
    10,
    8,
    &NORTH,
    &[(0x8100, 60)],
    Host::new([192, 0, 60, 1], [0x2001, 0xdb8, 60, 0, 0, 0, 0, 1]),
);
/// A VLAN device towards instances, with a smaller MTU than its NIC.
pub static SOUTH_VLAN: Link = Link {
    mtu: 1400,
    ..vlan(
        11,
        9,
        &SOUTH,
        &[(0x8100, 70)],
        Host::new([10, 0, 70, 1], [0xfd00, 70, 0, 0, 0, 0, 0, 1]),
    )
};
/// A VLAN device over a VLAN device.
pub static SOUTH_VLANS: Link = Link {
    mtu: 1400,
    ..vlan(
        12,
        10,
        &SOUTH,
        &[(0x8100, 70), (0x8100, 8)],
        Host::new([10, 0, 71, 1], [0xfd00, 71, 0, 0, 0, 0, 0, 1]),
    )
};
/// Every VLAN device; each is over the NIC, or over the one before it.
pub static VLANS: [&Link; 3] = [&NORTH_VLAN, &SOUTH_VLAN, &SOUTH_VLANS];

/// Every interface.
pub fn interfaces() -> impl Iterator<Item = &'static Link> {
    LINKS.into_iter().chain(VLANS)
}

/// The VLAN device that takes frames with these tags on a NIC.
pub fn vlan_of(nic: &Link, tags: &[(u16, u16)]) -> Option<&'static Link> {
    let ids = |tags: &[(u16, u16)]| tags.iter().map(|tag| tag.1 & 0xfff).collect::<Vec<_>>();
    VLANS
        .into_iter()
        .find(|link| link.nic == nic.ifindex && ids(link.tags) == ids(tags))
}

/// An address that the node answers for and no host has.
pub const FRONTEND: Host = Host::new([203, 0, 113, 10], [0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x10]);
/// Another one.
pub const FRONTEND_2: Host = Host::new([203, 0, 113, 11], [0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x11]);
/// Somebody on the internet, behind [`GATEWAY`].
pub const CLIENT: Host = Host::new([198, 51, 100, 7], [0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 7]);
/// Somebody else on the internet.
pub const CLIENT_2: Host = Host::new([198, 51, 100, 8], [0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 8]);
/// A client on the link of [`NORTH`] that the kernel has no neighbour entry for.
pub const SILENT_CLIENT: Host = Host::new([192, 0, 2, 99], [0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x99]);
/// An instance that the kernel has no neighbour entry for.
pub const SILENT: Host = Host::new([10, 0, 1, 99], [0xfd00, 1, 0, 0, 0, 0, 0, 0x99]);
/// An instance behind [`ROUTER`], on a route with an MTU of 1300.
pub const ROUTED: Host = Host::new([10, 0, 4, 11], [0xfd00, 4, 0, 0, 0, 0, 0, 0x11]);
/// An instance on a blackhole route.
pub const BLACKHOLED: Host = Host::new([10, 0, 6, 11], [0xfd00, 6, 0, 0, 0, 0, 0, 0x11]);
/// An instance on an unreachable route.
pub const UNREACHABLE: Host = Host::new([10, 0, 7, 11], [0xfd00, 7, 0, 0, 0, 0, 0, 0x11]);
/// An instance on a prohibit route.
pub const PROHIBITED: Host = Host::new([10, 0, 8, 11], [0xfd00, 8, 0, 0, 0, 0, 0, 0x11]);

const fn neighbor(host: Host, link: &'static Link, number: u8) -> Neighbor {
    Neighbor {
        host,
        link,
        mac: mac(number),
    }
}

/// The default gateway.
pub const GATEWAY: Neighbor = neighbor(
    Host::new([192, 0, 2, 254], [0x2001, 0xdb8, 2, 0, 0, 0, 0, 0xfe]),
    &NORTH,
    0xfe,
);
/// A client on the link of [`NORTH`].
pub const LOCAL_CLIENT: Neighbor = neighbor(
    Host::new([192, 0, 2, 10], [0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x10]),
    &NORTH,
    0x10,
);
/// A client on the link of the instances.
pub const ONE_ARM_CLIENT: Neighbor = neighbor(
    Host::new([10, 0, 1, 200], [0xfd00, 1, 0, 0, 0, 0, 0, 0x200]),
    &SOUTH,
    0x20,
);
/// A router towards [`ROUTED`].
pub const ROUTER: Neighbor = neighbor(
    Host::new([10, 0, 1, 254], [0xfd00, 1, 0, 0, 0, 0, 0, 0xfe]),
    &SOUTH,
    0xfd,
);
/// The instances.
pub const INSTANCES: [Neighbor; 4] = [instance(1), instance(2), instance(3), instance(4)];
/// An instance behind [`NARROW`].
pub const NARROW_INSTANCE: Neighbor = neighbor(
    Host::new([10, 0, 3, 11], [0xfd00, 3, 0, 0, 0, 0, 0, 0x11]),
    &NARROW,
    0x31,
);
/// An instance behind [`APART`].
pub const APART_INSTANCE: Neighbor = neighbor(
    Host::new([10, 0, 5, 11], [0xfd00, 5, 0, 0, 0, 0, 0, 0x11]),
    &APART,
    0x51,
);

const fn instance(number: u8) -> Neighbor {
    neighbor(
        Host::new(
            [10, 0, 1, 10 + number],
            [0xfd00, 1, 0, 0, 0, 0, 0, 0x10 + number as u16],
        ),
        &SOUTH,
        0x40 + number,
    )
}

/// A client behind [`NORTH_VLAN`].
pub const VLAN_CLIENT: Neighbor = neighbor(
    Host::new([192, 0, 60, 10], [0x2001, 0xdb8, 60, 0, 0, 0, 0, 0x10]),
    &NORTH_VLAN,
    0x61,
);
/// An instance behind [`SOUTH_VLAN`].
pub const VLAN_INSTANCE: Neighbor = neighbor(
    Host::new([10, 0, 70, 11], [0xfd00, 70, 0, 0, 0, 0, 0, 0x11]),
    &SOUTH_VLAN,
    0x71,
);
/// An instance behind [`SOUTH_VLANS`].
pub const VLANS_INSTANCE: Neighbor = neighbor(
    Host::new([10, 0, 71, 11], [0xfd00, 71, 0, 0, 0, 0, 0, 0x11]),
    &SOUTH_VLANS,
    0x72,
);

impl Neighbor {
    /// The way to it.
    pub const fn way(&self) -> Way {
        Way {
            link: self.link,
            mac: self.mac,
        }
    }
}

/// Every neighbour.
pub static NEIGHBORS: [Neighbor; 13] = [
    GATEWAY,
    LOCAL_CLIENT,
    ONE_ARM_CLIENT,
    ROUTER,
    INSTANCES[0],
    INSTANCES[1],
    INSTANCES[2],
    INSTANCES[3],
    NARROW_INSTANCE,
    APART_INSTANCE,
    VLAN_CLIENT,
    VLAN_INSTANCE,
    VLANS_INSTANCE,
];

const fn nowhere(word: &'static str, third: u8) -> Route {
    Route {
        network: Host::new([10, 0, third, 0], [0xfd00, third as u16, 0, 0, 0, 0, 0, 0]),
        lengths: [24, 64],
        target: Target::Nowhere(word),
    }
}

/// Every route besides those to the networks of the interfaces.
pub static ROUTES: [Route; 5] = [
    Route {
        network: Host::new([0, 0, 0, 0], [0; 8]),
        lengths: [0, 0],
        target: Target::Via(GATEWAY, 0),
    },
    Route {
        network: Host::new([10, 0, 4, 0], [0xfd00, 4, 0, 0, 0, 0, 0, 0]),
        lengths: [24, 64],
        target: Target::Via(ROUTER, 1300),
    },
    nowhere("blackhole", 6),
    nowhere("unreachable", 7),
    nowhere("prohibit", 8),
];
