use std::net::{Ipv4Addr, Ipv6Addr};

use netlink_packet_core::Parseable;
use netlink_packet_route::link::{LinkHeader, LinkMessageBuffer, VlanProtocol};

use super::*;

fn link(ifindex: u32, name: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header = LinkHeader {
        index: ifindex,
        flags: LinkFlags::Up,
        ..LinkHeader::default()
    };
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::Mtu(1500),
        LinkAttribute::Address(vec![2, 0, 0, 0, 0, ifindex as u8]),
    ];
    message
}

fn vlan(ifindex: u32, name: &str, under: u32, protocol: VlanProtocol, id: u16) -> LinkMessage {
    let mut message = link(ifindex, name);
    message.attributes.push(LinkAttribute::Link(under));
    let data = InfoData::Vlan(vec![InfoVlan::Protocol(protocol), InfoVlan::Id(id)]);
    message
        .attributes
        .push(LinkAttribute::LinkInfo(vec![LinkInfo::Data(data)]));
    message
}

fn chosen(links: &[LinkMessage], names: &[&str]) -> Vec<HostInterface> {
    let links: Vec<Link> = links.iter().map(Link::parse).collect();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    choose(&links, &BTreeMap::new(), &names)
}

fn names(chosen: &[HostInterface]) -> Vec<&str> {
    chosen.iter().map(|one| one.name.as_str()).collect()
}

/// A tag as it stands in the frame.
fn tag(octets: [u8; 4]) -> u32 {
    u32::from_ne_bytes(octets)
}

#[test]
fn vlan_devices_over_attached_interfaces_are_found_with_their_tags() {
    let links = [
        link(2, "eth0"),
        link(3, "eth1"),
        vlan(7, "eth0.5", 2, VlanProtocol::Ieee8021Q, 5),
        vlan(8, "service", 2, VlanProtocol::Ieee8021Ad, 0x123),
        vlan(9, "customer", 8, VlanProtocol::Ieee8021Q, 7),
        vlan(10, "deeper", 9, VlanProtocol::Ieee8021Q, 7),
        vlan(11, "eth1.5", 3, VlanProtocol::Ieee8021Q, 5),
    ];
    let found = chosen(&links, &["eth0"]);
    assert_eq!(names(&found), ["eth0", "eth0.5", "service", "customer"]);
    assert!(found[0].is_attached());
    assert_eq!((found[0].nic(), found[0].tags()), (2, [0, 0]));
    assert!(!found[1].is_attached());
    assert_eq!(
        (found[1].nic(), found[1].tags()),
        (2, [tag([0x81, 0x00, 0, 5]), 0])
    );
    assert_eq!(found[2].tags(), [tag([0x88, 0xa8, 0x01, 0x23]), 0]);
    assert_eq!(
        found[3].tags(),
        [tag([0x88, 0xa8, 0x01, 0x23]), tag([0x81, 0x00, 0, 7])],
        "outer first"
    );
    let key = found[3].vlan.unwrap().key();
    assert_eq!((key.nic, key.outer, key.inner), (2, 0x123, 7));
}

/// An attribute as it stands in a message.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = 4 + value.len();
    let mut bytes = (length as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(length.next_multiple_of(4), 0);
    bytes
}

#[test]
fn the_kernel_s_own_description_of_a_vlan_device_is_understood() {
    // As Linux writes it (vlan_fill_info): the kind first, then protocol, id and flags.
    let data = [
        attribute(5, &[0x88, 0xa8]),
        attribute(1, &300_u16.to_ne_bytes()),
        attribute(2, &[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]),
    ];
    let info = [attribute(1, b"vlan\0"), attribute(2, &data.concat())];
    let mut bytes = vec![0, 0, 1, 0];
    bytes.extend(7_u32.to_ne_bytes());
    bytes.extend((libc::IFF_UP as u32).to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(attribute(3, b"eth0.300\0"));
    bytes.extend(attribute(5, &2_u32.to_ne_bytes()));
    bytes.extend(attribute(18, &info.concat()));
    let buffer = LinkMessageBuffer::new_checked(&bytes).unwrap();
    let message = LinkMessage::parse(&buffer).unwrap();
    let found = chosen(&[link(2, "eth0"), message], &["eth0"]);
    assert_eq!(names(&found), ["eth0", "eth0.300"]);
    assert_eq!((found[1].ifindex, found[1].nic()), (7, 2));
    assert_eq!(found[1].tags(), [tag([0x88, 0xa8, 0x01, 0x2c]), 0]);
}

#[test]
fn a_vlan_device_that_the_file_names_is_attached_and_carries_those_above_it() {
    let links = [
        link(2, "eth0"),
        vlan(7, "eth0.5", 2, VlanProtocol::Ieee8021Q, 5),
        vlan(8, "eth0.5.6", 7, VlanProtocol::Ieee8021Q, 6),
    ];
    let found = chosen(&links, &["eth0", "eth0.5"]);
    assert_eq!(names(&found), ["eth0", "eth0.5", "eth0.5.6"]);
    assert!(found[1].is_attached());
    assert_eq!((found[1].nic(), found[1].tags()), (7, [0, 0]));
    assert_eq!(
        (found[2].nic(), found[2].tags()),
        (7, [tag([0x81, 0x00, 0, 6]), 0])
    );
}

#[test]
fn devices_that_are_down_or_elsewhere_or_no_vlans_are_not_taken() {
    let mut down = vlan(7, "down", 2, VlanProtocol::Ieee8021Q, 5);
    down.header.flags = LinkFlags::empty();
    let above_down = vlan(8, "above", 7, VlanProtocol::Ieee8021Q, 6);
    let mut elsewhere = vlan(9, "elsewhere", 2, VlanProtocol::Ieee8021Q, 7);
    elsewhere.attributes.push(LinkAttribute::LinkNetNsId(0));
    let mut macvlan = link(10, "macvlan");
    macvlan.attributes.push(LinkAttribute::Link(2));
    let priority = vlan(11, "priority", 2, VlanProtocol::Ieee8021Q, 0);
    let links = [
        link(2, "eth0"),
        down,
        above_down,
        elsewhere,
        macvlan,
        priority,
    ];
    assert_eq!(names(&chosen(&links, &["eth0"])), ["eth0"]);
}

#[test]
fn two_devices_for_the_same_frames_are_one() {
    let links = [
        link(2, "eth0"),
        vlan(7, "first", 2, VlanProtocol::Ieee8021Q, 5),
        vlan(8, "second", 2, VlanProtocol::Ieee8021Ad, 5),
    ];
    assert_eq!(names(&chosen(&links, &["eth0"])), ["eth0", "first"]);
}

#[test]
fn an_interface_is_known_by_its_other_names_too_and_taken_once() {
    let mut nic = link(2, "eth0");
    nic.attributes
        .push(LinkAttribute::PropList(vec![Prop::AltIfName(
            "enp1s0".to_owned(),
        )]));
    assert_eq!(names(&chosen(&[nic], &["enp1s0", "eth0"])), ["enp1s0"]);
}

fn address(text: &str, scope: AddressScope, flags: AddressFlags) -> AddressMessage {
    let net: IpNet = text.parse().unwrap();
    let mut message = AddressMessage::default();
    message.header.index = 2;
    message.header.prefix_len = net.prefix_len();
    message.header.scope = scope;
    message.attributes = vec![
        AddressAttribute::Address(net.addr()),
        AddressAttribute::Flags(flags),
    ];
    message
}

#[test]
fn the_address_that_speaks_for_the_node_is_the_primary_and_global_one() {
    let (universe, link) = (AddressScope::Universe, AddressScope::Link);
    let (permanent, none) = (AddressFlags::Permanent, AddressFlags::empty());
    let messages = [
        address("169.254.1.1/16", link, permanent),
        address("203.0.113.1/24", universe, permanent),
        address("203.0.113.2/24", universe, AddressFlags::Secondary),
        address("fe80::1/64", link, permanent),
        address("2001:db8::1/64", universe, AddressFlags::Deprecated),
        address("2001:db8::2/64", universe, AddressFlags::Tentative),
        address("2001:db8::3/64", universe, none),
    ];
    let addresses = Addresses::parse(&messages);
    let links = [Link {
        ifindex: 2,
        name: "eth0".to_owned(),
        ..Link::default()
    }];
    let found = choose(&links, &addresses, &["eth0".to_owned()]);
    assert_eq!(found[0].address4, Some(Ipv4Addr::new(203, 0, 113, 1)));
    assert_eq!(
        found[0].address6,
        Some("2001:db8::3".parse::<Ipv6Addr>().unwrap())
    );
    assert_eq!(found[0].networks.len(), 7);
}

#[test]
fn a_link_local_address_speaks_where_there_is_no_other() {
    let messages = [address(
        "fe80::1/64",
        AddressScope::Link,
        AddressFlags::Permanent,
    )];
    let addresses = Addresses::parse(&messages);
    assert_eq!(
        addresses[&2].primary[1],
        Some((2, "fe80::1".parse().unwrap()))
    );
}

#[test]
fn our_end_of_a_point_to_point_link_speaks_and_the_other_end_is_on_link() {
    let mut message = address(
        "10.0.0.2/32",
        AddressScope::Universe,
        AddressFlags::Permanent,
    );
    message
        .attributes
        .push(AddressAttribute::Local("10.0.0.1".parse().unwrap()));
    let addresses = Addresses::parse(&[message]);
    assert_eq!(
        addresses[&2].primary[0],
        Some((0, "10.0.0.1".parse().unwrap()))
    );
    assert!(addresses[&2].networks.is_empty(), "no network, one address");
}

#[test]
fn frames_come_to_a_bridge_by_its_ports_and_to_a_macvlan_by_what_is_under_it() {
    let port = |ifindex, name: &str, of| {
        let mut port = link(ifindex, name);
        port.attributes.push(LinkAttribute::Controller(of));
        port
    };
    let on = |ifindex, name: &str, under, kind| {
        let mut device = link(ifindex, name);
        device.attributes.push(LinkAttribute::Link(under));
        let info = LinkInfo::Kind(kind);
        device.attributes.push(LinkAttribute::LinkInfo(vec![info]));
        device
    };
    let links = [
        link(2, "eth0"),
        port(3, "eth1", 5),
        on(4, "mac0", 5, InfoKind::MacVlan),
        link(5, "bridge0"),
        on(6, "veth0", 2, InfoKind::Veth),
    ];
    let found = chosen(&links, &["mac0", "veth0", "eth0"]);
    let feeders = |at: usize| found[at].feeders.clone();
    assert_eq!(feeders(0), ["bridge0", "eth1"]);
    assert!(feeders(1).is_empty(), "its other end hands it nothing else");
    assert!(feeders(2).is_empty());
}
