//! Which of the host's interfaces the node works with, and what is known of each. Pure: from what the
//! kernel told.
//!
//! The node is attached to the interfaces that the file names. VLAN devices over them are interfaces of
//! the node too: their frames come and go by the attached interface, with tags.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use forebay_common::wire::Mac;
use ipnet::IpNet;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp, Prop,
    XdpAttached,
};

use crate::control_plane::{HostInterface, VlanDevice, XdpState};

/// Tags that a frame may have.
const MOST_TAGS: usize = 2;

/// The tag that a VLAN device adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tag {
    protocol: u16,
    id: u16,
}

impl Tag {
    /// As it stands in the frame.
    fn raw(self) -> u32 {
        let [[p0, p1], [i0, i1]] = [self.protocol, self.id].map(u16::to_be_bytes);
        u32::from_ne_bytes([p0, p1, i0, i1])
    }
}

/// An interface as the kernel describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) ifindex: u32,
    pub(super) name: String,
    other_names: Vec<String>,
    mtu: u32,
    mac: Mac,
    is_up: bool,
    /// The interface under it, if that is in this network namespace.
    under: Option<u32>,
    tag: Option<Tag>,
    /// Whether what comes in on the interface under it is handed to it.
    is_fed: bool,
    /// The bridge or the like that it is a port of.
    master: Option<u32>,
    xdp: XdpState,
    has_carrier: bool,
    carrier_ups: u32,
}

impl Link {
    pub(super) fn parse(message: &LinkMessage) -> Self {
        let mut link = Self {
            ifindex: message.header.index,
            mtu: 1500,
            is_up: message.header.flags.contains(LinkFlags::Up),
            has_carrier: (message.header.flags).contains(LinkFlags::Up | LinkFlags::Running),
            ..Self::default()
        };
        let mut is_elsewhere = false;
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::PropList(properties) => {
                    let names = properties.iter().filter_map(|property| match property {
                        Prop::AltIfName(name) => Some(name.clone()),
                        _ => None,
                    });
                    link.other_names.extend(names);
                }
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Address(octets) => link.mac = mac_of(octets).unwrap_or_default(),
                LinkAttribute::Link(under) => link.under = Some(*under),
                LinkAttribute::LinkNetNsId(_) => is_elsewhere = true,
                LinkAttribute::LinkInfo(infos) => {
                    link.tag = tag_of(infos);
                    link.is_fed = infos.iter().any(|info| {
                        let kind = |known| *info == LinkInfo::Kind(known);
                        kind(InfoKind::Vlan) || kind(InfoKind::MacVlan)
                    });
                }
                LinkAttribute::Controller(master) => link.master = Some(*master),
                LinkAttribute::Xdp(items) => link.xdp = xdp_of(items),
                LinkAttribute::CarrierUpCount(count) => link.carrier_ups = *count,
                _ => {}
            }
        }
        if is_elsewhere {
            link.under = None;
        }
        link
    }

    fn is_called(&self, name: &str) -> bool {
        self.name == name || self.other_names.iter().any(|other| other == name)
    }
}

fn tag_of(infos: &[LinkInfo]) -> Option<Tag> {
    let data = infos.iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Vlan(data)) => Some(data),
        _ => None,
    })?;
    let mut tag = Tag {
        protocol: 0x8100,
        id: 0,
    };
    for info in data {
        match info {
            InfoVlan::Id(id) => tag.id = *id,
            InfoVlan::Protocol(protocol) => tag.protocol = (*protocol).into(),
            _ => {}
        }
    }
    // 0 is no VLAN, only a priority.
    (tag.id != 0).then_some(tag)
}

fn xdp_of(items: &[LinkXdp]) -> XdpState {
    let attached = items.iter().find_map(|item| match item {
        LinkXdp::Attached(mode) => Some(*mode),
        _ => None,
    });
    match attached {
        Some(XdpAttached::Driver) => XdpState::Native,
        Some(XdpAttached::SocketBuffer) => XdpState::Generic,
        Some(XdpAttached::Hardware) => XdpState::Offloaded,
        Some(XdpAttached::Multiple) => XdpState::Multiple,
        _ => XdpState::None,
    }
}

pub(super) fn mac_of(octets: &[u8]) -> Option<Mac> {
    Some(Mac::from_octets(octets.try_into().ok()?))
}

/// The addresses of an interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Addresses {
    /// Networks on its link.
    networks: Vec<IpNet>,
    /// The best IPv4 and IPv6 address so far, each with its rank.
    primary: [Option<(u8, IpAddr)>; 2],
}

impl Addresses {
    /// The addresses of all interfaces, by number.
    pub(super) fn parse(messages: &[AddressMessage]) -> BTreeMap<u32, Self> {
        let mut all: BTreeMap<u32, Self> = BTreeMap::new();
        for message in messages {
            all.entry(message.header.index).or_default().add(message);
        }
        all
    }

    fn add(&mut self, message: &AddressMessage) {
        // On a point-to-point link `Address` is the peer's and `Local` ours; else they are the same.
        let (mut link, mut local) = (None, None);
        let mut flags = AddressFlags::from_bits_retain(message.header.flags.bits().into());
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Address(address) => link = Some(*address),
                AddressAttribute::Local(address) => local = Some(*address),
                AddressAttribute::Flags(all) => flags = *all,
                _ => {}
            }
        }
        if let Some(address) = link
            && let Ok(net) = IpNet::new(address, message.header.prefix_len)
            && net.prefix_len() < net.max_prefix_len()
        {
            self.networks.push(net.trunc());
        }
        let Some(own) = local.or(link) else {
            return;
        };
        let rank = rank(message.header.scope, flags);
        let best = &mut self.primary[usize::from(own.is_ipv6())];
        if best.is_none_or(|(former, _)| rank < former) {
            *best = Some((rank, own));
        }
    }
}

/// How unfit an address is to speak for the node. Of equal ones the kernel lists the primary first.
fn rank(scope: AddressScope, flags: AddressFlags) -> u8 {
    let unusable = AddressFlags::Tentative | AddressFlags::Dadfailed;
    let second = AddressFlags::Secondary | AddressFlags::Deprecated;
    let is_optimistic = flags.contains(AddressFlags::Optimistic);
    u8::from(scope != AddressScope::Universe) << 1
        | u8::from(flags.intersects(second))
        | u8::from(flags.intersects(unusable) && !is_optimistic) << 2
}

/// The interfaces of these names that exist, in that order, then the VLAN devices over them that are up.
pub(super) fn choose(
    links: &[Link],
    addresses: &BTreeMap<u32, Addresses>,
    names: &[String],
) -> Vec<HostInterface> {
    let mut chosen = Vec::new();
    let mut attached = BTreeSet::new();
    for name in names {
        if let Some(link) = links.iter().find(|link| link.is_called(name))
            && attached.insert(link.ifindex)
        {
            let mut attached = describe(link, name, addresses, None);
            attached.feeders = feeders(link, links);
            chosen.push(attached);
        }
    }
    let by_index: BTreeMap<u32, &Link> = links.iter().map(|link| (link.ifindex, link)).collect();
    let mut ids = BTreeSet::new();
    for link in by_index.values() {
        if let Some(vlan) = vlan_device(link, &by_index, &attached)
            && ids.insert(vlan.key())
        {
            chosen.push(describe(link, &link.name, addresses, Some(vlan)));
        }
    }
    chosen
}

/// What a VLAN device puts on its frames and where, if it is up and stands on an attached interface.
fn vlan_device(
    link: &Link,
    by_index: &BTreeMap<u32, &Link>,
    attached: &BTreeSet<u32>,
) -> Option<VlanDevice> {
    let mut tags = Vec::new();
    let mut at = link;
    while !attached.contains(&at.ifindex) {
        if !at.is_up || tags.len() == MOST_TAGS {
            return None;
        }
        tags.insert(0, at.tag?.raw());
        at = by_index.get(&at.under?)?;
    }
    let outer = *tags.first()?;
    Some(VlanDevice {
        nic: at.ifindex,
        tags: [outer, tags.get(1).copied().unwrap_or(0)],
    })
}

/// Interfaces whose frames come on to this one: those under it, and its ports.
fn feeders(link: &Link, links: &[Link]) -> Vec<String> {
    let mut found: Vec<&Link> = vec![link];
    let mut next = 0;
    while let Some(at) = found.get(next).copied() {
        next += 1;
        let is_under = |other: &&Link| at.is_fed && at.under == Some(other.ifindex);
        let is_port = |other: &&Link| other.master == Some(at.ifindex);
        for other in links.iter().filter(|one| is_under(one) || is_port(one)) {
            if !found.iter().any(|one| one.ifindex == other.ifindex) {
                found.push(other);
            }
        }
    }
    found.iter().skip(1).map(|one| one.name.clone()).collect()
}

fn describe(
    link: &Link,
    name: &str,
    addresses: &BTreeMap<u32, Addresses>,
    vlan: Option<VlanDevice>,
) -> HostInterface {
    let addresses = addresses.get(&link.ifindex).cloned().unwrap_or_default();
    let [address4, address6] = addresses.primary;
    HostInterface {
        name: name.to_owned(),
        ifindex: link.ifindex,
        mtu: link.mtu,
        mac: link.mac,
        networks: addresses.networks,
        metrics: BTreeMap::new(),
        link_ups: link.has_carrier.then_some(link.carrier_ups),
        vlan,
        xdp: link.xdp,
        takes_redirects: false,
        feeders: Vec::new(),
        address4: match address4 {
            Some((_, IpAddr::V4(address))) => Some(address),
            _ => None,
        },
        address6: match address6 {
            Some((_, IpAddr::V6(address))) => Some(address),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests;
