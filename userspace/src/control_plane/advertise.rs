//! On which link the node answers ARP and NDP for a public address, and whether it does at all.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::net::IpAddr;

use super::ids::{Bits, Ids};
use super::public_ips::pairs;
use super::state::{HostInterface, TableState};
use crate::config::model::{Advertise, Config};

/// An address that the node answers for, and the link on which it does. Another value for an address
/// means that the neighbours on that link have something to learn.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    /// The public address.
    pub address: IpAddr,
    /// Name of the interface on whose link it is claimed.
    pub interface: String,
    /// Number of that interface.
    pub ifindex: u32,
    /// The MAC address that it is claimed with.
    pub mac: [u8; 6],
    /// How often that link has come up.
    pub link_ups: u32,
}

/// Whether the node claims its addresses, given what `forebay advertise` said last.
pub(super) fn is_on(mode: Advertise, said: Option<bool>) -> bool {
    match mode {
        Advertise::Neighbor => said != Some(false),
        Advertise::Standby => said == Some(true),
        Advertise::None => false,
    }
}

/// The one interface on whose link an address is answered for: that of the longest prefix; of several,
/// one whose link is up, then the one that the host itself would send to the address by, then the first
/// of the file. Two answers on one network would let the neighbours waver between two MAC addresses.
pub(super) fn link_of(address: IpAddr, host: &[HostInterface]) -> Option<&HostInterface> {
    let candidates = host.iter().filter_map(|interface| {
        let nets = interface
            .networks
            .iter()
            .filter(|net| net.contains(&address));
        let longest = nets.max_by_key(|net| net.prefix_len())?;
        let metric = interface.metrics.get(longest).copied().unwrap_or(u32::MAX);
        let order = (
            Reverse(longest.prefix_len()),
            interface.link_ups.is_none(),
            metric,
        );
        Some((order, interface))
    });
    // The first of equals.
    let best = candidates.min_by_key(|(order, _)| *order)?;
    Some(best.1)
}

/// What the tables claim now. An address that is only kept for its last flows is not claimed: it may
/// have a new home.
pub(super) fn claims(
    config: &Config,
    tables: &TableState,
    ids: &Ids,
    host: &[HostInterface],
) -> BTreeSet<Claim> {
    let links: Vec<(u64, &HostInterface, u32)> = host
        .iter()
        .filter_map(|interface| {
            let bit = 1 << ids.slots.get(&interface.name)?;
            Some((bit, interface, interface.link_ups?))
        })
        .collect();
    let frontends = config.frontends.iter().flat_map(|f| f.every_address());
    let addresses = frontends.chain(pairs(config).map(|(public, _)| public));
    let claims = addresses.filter_map(|address| {
        let owner = match Bits::from(address) {
            Bits::V4(address) => tables.v4.addresses.get(&address),
            Bits::V6(address) => tables.v6.addresses.get(&address),
        }?;
        let (_, interface, link_ups) = links.iter().find(|link| owner.on_link & link.0 != 0)?;
        Some(Claim {
            address,
            interface: interface.name.clone(),
            ifindex: interface.ifindex,
            mac: interface.mac.octets(),
            link_ups: *link_ups,
        })
    });
    claims.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(name: &str, networks: &[&str]) -> HostInterface {
        HostInterface {
            name: name.to_owned(),
            networks: networks.iter().map(|net| net.parse().unwrap()).collect(),
            link_ups: Some(1),
            ..HostInterface::default()
        }
    }

    fn chosen(host: &[HostInterface]) -> Option<&str> {
        let address = "203.0.113.10".parse().unwrap();
        link_of(address, host).map(|interface| interface.name.as_str())
    }

    #[test]
    fn standby_claims_once_told_to_neighbor_until_told_not_to_and_none_never() {
        use Advertise::{Neighbor, None as Never, Standby};
        let on = |mode| [None, Some(true), Some(false)].map(|said| is_on(mode, said));
        assert_eq!(on(Neighbor), [true, true, false]);
        assert_eq!(on(Standby), [false, true, false]);
        assert_eq!(on(Never), [false, false, false]);
    }

    #[test]
    fn an_address_is_on_the_link_of_the_longest_prefix_alone() {
        let wide = interface("wide", &["203.0.0.0/16", "2001:db8::/32"]);
        let narrow = interface("narrow", &["10.0.0.0/8", "203.0.113.0/24"]);
        let elsewhere = interface("elsewhere", &["198.51.100.0/24"]);
        assert_eq!(
            chosen(&[wide.clone(), narrow, elsewhere.clone()]),
            Some("narrow")
        );
        assert_eq!(chosen(&[wide, elsewhere.clone()]), Some("wide"));
        assert_eq!(chosen(&[elsewhere]), None);
    }

    #[test]
    fn of_two_interfaces_on_one_network_the_one_with_a_link_and_the_better_route_answers() {
        let net = "203.0.113.0/24";
        let routed = |name, metric| {
            let mut interface = interface(name, &[net]);
            interface.metrics.insert(net.parse().unwrap(), metric);
            interface
        };
        let (first, mut second) = (routed("first", 1), routed("second", 0));
        assert_eq!(chosen(&[first.clone(), second.clone()]), Some("second"));
        second.link_ups = None;
        assert_eq!(chosen(&[first, second.clone()]), Some("first"));
        assert_eq!(chosen(&[second]), Some("second"));
    }

    #[test]
    fn equals_are_told_apart_by_their_order() {
        let (a, b) = (
            interface("a", &["203.0.113.0/24"]),
            interface("b", &["203.0.113.0/24"]),
        );
        assert_eq!(chosen(&[a.clone(), b.clone()]), Some("a"));
        assert_eq!(chosen(&[b, a]), Some("b"));
    }
}
