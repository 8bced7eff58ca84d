//! What instances send without a flow: inside it passes, nothing leaves untranslated.

use forebay_common::reason::Reason;
use forebay_tests::case::{Case, Expect};
use forebay_tests::frame::{ACK, Frame, NeighborMessage, RST};
use forebay_tests::network::plan::{
    CLIENT, DEAF, INSTANCES, NARROW, NARROW_INSTANCE, NORTH, SOUTH,
};
use forebay_tests::network::{Host, IpVersion};
use forebay_tests::world::World;

/// A change of the tables.
type Change = fn(&mut World);

/// The cases.
pub(super) fn cases() -> Vec<Case> {
    IpVersion::BOTH.into_iter().flat_map(of).collect()
}

/// A packet of the first instance.
fn from_instance(version: IpVersion, destination: Host) -> Frame {
    Frame::of(version)
        .from_link(&SOUTH)
        .coming_from(INSTANCES[0].host, 33_000)
        .towards(destination, 80)
}

fn v4(octets: [u8; 4]) -> Host {
    Host::new(octets, CLIENT.v6.segments())
}

fn v6(segments: [u16; 8]) -> Host {
    Host::new(CLIENT.v4.octets(), segments)
}

fn of(version: IpVersion) -> Vec<Case> {
    let mut cases: Vec<Case> = destinations(version)
        .into_iter()
        .map(|(what, host, reason)| {
            Case::new(version, &format!("from an instance to {what}"))
                .step(&from_instance(version, host), Expect::end(reason))
        })
        .collect();
    cases.extend(kinds(version));
    cases.extend(virtual_networks(version));
    if version == IpVersion::V6 {
        cases.extend(solicitations());
    }
    cases
}

fn destinations(version: IpVersion) -> Vec<(&'static str, Host, Reason)> {
    let inside = Reason::InstanceLocal;
    let mut rows = vec![
        ("the internet", CLIENT, Reason::NoOutbound),
        ("another instance", INSTANCES[1].host, inside),
        ("an instance on another link", NARROW_INSTANCE.host, inside),
        (
            "the virtual network",
            Host::new([10, 200, 0, 1], [0xfd12, 3, 0, 0, 0, 0, 0, 1]),
            inside,
        ),
        ("the host on its link", SOUTH.address, inside),
        ("the host on another link", NORTH.address, inside),
    ];
    match version {
        IpVersion::V4 => rows.extend([
            ("everybody", v4([255; 4]), inside),
            ("OSPF routers", v4([224, 0, 0, 5]), inside),
            ("a multicast group", v4([239, 1, 2, 3]), inside),
            ("a link-local address", v4([169, 254, 7, 7]), inside),
            ("loopback", v4([127, 0, 0, 1]), inside),
            (
                "the broadcast address of an outer link",
                v4([192, 0, 2, 255]),
                inside,
            ),
        ]),
        IpVersion::V6 => rows.extend([
            ("all nodes", v6([0xff02, 0, 0, 0, 0, 0, 0, 1]), inside),
            (
                "a global group",
                v6([0xff0e, 0, 0, 0, 0, 0, 0, 0x101]),
                inside,
            ),
            (
                "a link-local address",
                v6([0xfe80, 0, 0, 0, 0, 0, 0, 7]),
                inside,
            ),
            ("loopback", v6([0, 0, 0, 0, 0, 0, 0, 1]), inside),
            (
                "the routers of an outer link",
                v6([0x2001, 0xdb8, 2, 0, 0, 0, 0, 0]),
                inside,
            ),
        ]),
    }
    rows
}

/// Whatever it is, it does not leave.
fn kinds(version: IpVersion) -> Vec<Case> {
    let out = |frame: Frame| Frame {
        source: INSTANCES[0].host,
        destination: CLIENT,
        ..frame.from_link(&SOUTH)
    };
    [
        ("a datagram", out(Frame::datagram(version))),
        ("an ACK", out(Frame::of(version).flagged(ACK))),
        ("a RST", out(Frame::of(version).flagged(RST))),
        (
            "an echo request",
            Frame {
                protocol: if version == IpVersion::V4 { 1 } else { 58 },
                ..out(Frame::of(version))
            },
        ),
        (
            "a packet with one hop left",
            Frame {
                hops: 1,
                ..out(Frame::of(version))
            },
        ),
        (
            "a packet that came in elsewhere",
            out(Frame::of(version)).from_link(&NORTH),
        ),
        (
            "a packet from where nothing is forwarded",
            out(Frame::of(version)).from_link(&DEAF),
        ),
        (
            "a packet from a narrow link",
            out(Frame::of(version).with_payload(1_400)).from_link(&NARROW),
        ),
    ]
    .into_iter()
    .map(|(what, frame)| {
        Case::new(
            version,
            &format!("{what} of an instance does not leave untranslated"),
        )
        .step(&frame, Expect::end(Reason::NoOutbound))
    })
    .collect()
}

fn virtual_networks(version: IpVersion) -> Vec<Case> {
    let nothing: Change = |world| {
        world.v4.virtual_network.clear();
        world.v6.virtual_network.clear();
    };
    let everything: Change = |world| {
        world.v4.virtual_network.insert((CLIENT.raw(), 0));
        world.v6.virtual_network.insert((CLIENT.raw(), 0));
    };
    let one_host: Change = |world| {
        world.v4.virtual_network.insert((CLIENT.raw(), 32));
        world.v6.virtual_network.insert((CLIENT.raw(), 128));
    };
    let inside = Host::new([10, 200, 0, 1], [0xfd12, 3, 0, 0, 0, 0, 0, 1]);
    [
        (
            "without a virtual network private addresses are outside",
            nothing,
            inside,
            Reason::NoOutbound,
        ),
        (
            "without a virtual network instances still reach each other",
            nothing,
            INSTANCES[1].host,
            Reason::InstanceLocal,
        ),
        (
            "a virtual network of everything has no outside",
            everything,
            CLIENT,
            Reason::InstanceLocal,
        ),
        (
            "a virtual network may be one address",
            one_host,
            CLIENT,
            Reason::InstanceLocal,
        ),
    ]
    .into_iter()
    .map(|(name, change, host, reason)| {
        Case::new(version, name)
            .given(change)
            .step(&from_instance(version, host), Expect::end(reason))
    })
    .collect()
}

/// A solicitation is a packet like any other when it is not for the link.
fn solicitations() -> Vec<Case> {
    let instance = &INSTANCES[0];
    let asked = |target: Host, destination: Host| NeighborMessage {
        addresses: [instance.host.v6, destination.v6],
        ..NeighborMessage::solicitation((instance.mac, instance.host.v6), target.v6)
    };
    [
        ("about a stranger", CLIENT),
        ("about an instance", INSTANCES[1].host),
        ("about the host", NORTH.address),
    ]
    .into_iter()
    .map(|(what, target)| {
        Case::new(
            IpVersion::V6,
            &format!("a solicitation {what} does not leave untranslated"),
        )
        .bytes(
            asked(target, CLIENT).build(),
            &SOUTH,
            Expect::end(Reason::NoOutbound),
        )
    })
    .collect()
}
