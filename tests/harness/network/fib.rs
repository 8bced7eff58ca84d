//! Routing as the kernel does it in the planned network, for the model.

use forebay_common::flow::Hop;
use forebay_common::tables::Route;
use forebay_common::wire::Mac;

use super::plan::{Link, MacAddress, NEIGHBORS, ROUTES, Target, interfaces};
use super::{Host, IpVersion, Side};

/// What the longest matching prefix says.
enum Entry {
    /// To the node itself, or to everybody on a link.
    Local,
    /// To a neighbour, known or not.
    Neighbor {
        link: &'static Link,
        mtu: u32,
        mac: Option<MacAddress>,
    },
    Nowhere,
}

/// The answer for a packet of `length` bytes with these addresses that came in on `ingress`. `slot_of`
/// tells the slot of an interface, and the MTU that the program's tables have for it.
pub fn route<A: Side>(
    source: A,
    destination: A,
    length: u32,
    ingress: u32,
    slot_of: impl Fn(u32) -> Option<(u32, u32)>,
) -> Route {
    if is_never_forwarded(source) || is_never_forwarded(destination) {
        return Route::Local;
    }
    let Some(ingress) = interfaces().find(|link| link.ifindex == ingress) else {
        return Route::Kernel;
    };
    if !ingress.forwards {
        return Route::Kernel;
    }
    match longest(destination) {
        Entry::Local => Route::Local,
        Entry::Nowhere => Route::None,
        Entry::Neighbor { mtu, .. } if length > mtu => Route::TooBig(mtu),
        Entry::Neighbor {
            mac: None, link, ..
        } => Route::NoNeighbor(link.ifindex),
        Entry::Neighbor {
            link,
            mac: Some(mac),
            mtu,
        } => match slot_of(link.ifindex) {
            Some((slot, known_mtu)) => Route::Hop(Hop {
                mac: Mac::from_octets(mac),
                slot: slot as u16,
                is_narrow: length != 0 && mtu < known_mtu,
            }),
            None => Route::Kernel,
        },
    }
}

fn longest<A: Side>(destination: A) -> Entry {
    if is_local(destination) {
        return Entry::Local;
    }
    for link in interfaces() {
        if destination.is_in(link.address.raw(), network_bits::<A>()) {
            return Entry::Neighbor {
                link,
                mtu: link.mtu,
                mac: mac_of(destination),
            };
        }
    }
    let best = ROUTES
        .iter()
        .filter(|route| destination.is_in(route.network.raw(), bits::<A>(route.lengths)))
        .max_by_key(|route| bits::<A>(route.lengths));
    match best.map(|route| route.target) {
        Some(Target::Via(neighbor, mtu)) => Entry::Neighbor {
            link: neighbor.link,
            mtu: if mtu == 0 { neighbor.link.mtu } else { mtu },
            mac: Some(neighbor.mac),
        },
        Some(Target::Nowhere(_)) => Entry::Nowhere,
        None => Entry::Local,
    }
}

fn bits<A: Side>(lengths: [u32; 2]) -> u32 {
    match A::VERSION {
        IpVersion::V4 => lengths[0],
        IpVersion::V6 => lengths[1],
    }
}

fn network_bits<A: Side>() -> u32 {
    bits::<A>([24, 64])
}

fn mac_of<A: Side>(destination: A) -> Option<MacAddress> {
    NEIGHBORS
        .iter()
        .find(|neighbor| neighbor.host.raw::<A>() == destination)
        .map(|neighbor| neighbor.mac)
}

/// Addresses from and to which the kernel forwards no IPv6 packet, whatever its routes.
fn is_never_forwarded<A: Side>(address: A) -> bool {
    let within = |prefix: [u16; 8], length| address.is_in(Host::new([0; 4], prefix).raw(), length);
    A::VERSION == IpVersion::V6
        && (within([0xff00, 0, 0, 0, 0, 0, 0, 0], 8)
            || within([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10)
            || within([0, 0, 0, 0, 0, 0, 0, 1], 128))
}

/// Own addresses, IPv4 loopback, and what the kernel puts beside them: broadcast addresses of the
/// networks, anycast addresses of a router.
fn is_local<A: Side>(destination: A) -> bool {
    let loopback = Host::new([127, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 1]);
    let of_a_link = interfaces().any(|link| {
        let [a, b, c, _] = link.address.v4.octets();
        let mut segments = link.address.v6.segments();
        segments[7] = 0;
        let beside = Host::new([a, b, c, 255], segments);
        destination == link.address.raw() || destination == beside.raw()
    });
    destination.is_in(loopback.raw(), bits::<A>([8, 128])) || of_a_link
}
