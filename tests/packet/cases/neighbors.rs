//! ARP and neighbour solicitation for public addresses, which no host has.

use std::net::{Ipv4Addr, Ipv6Addr};

use forebay_common::abi::Owner;
use forebay_common::reason::Reason;
use forebay_tests::case::{Case, Expect};
use forebay_tests::frame::{ArpMessage, NeighborMessage, SERVICE_TAG, TAG};
use forebay_tests::network::IpVersion;
use forebay_tests::network::plan::{
    APART, CLIENT, FRONTEND, FRONTEND_2, INSTANCES, LOCAL_CLIENT, Link, NARROW, NORTH,
    ONE_ARM_CLIENT, SOUTH,
};
use forebay_tests::world::World;

/// The cases.
pub(super) fn cases() -> Vec<Case> {
    let mut cases = arp_answered();
    cases.extend(arp_not_ours());
    cases.extend(solicitation_answered());
    cases.extend(solicitation_not_ours());
    cases.extend(other_forms());
    cases.extend(unanswerable());
    cases
}

/// VLAN devices for the tags of the cases.
fn with_vlans(world: &mut World) {
    world.add_vlan(5, &NORTH, [(TAG, 42), (0, 0)]);
    world.add_vlan(6, &NORTH, [(SERVICE_TAG, 7), (TAG, 42)]);
}

fn arp() -> ArpMessage {
    ArpMessage::request((LOCAL_CLIENT.mac, LOCAL_CLIENT.host.v4), FRONTEND.v4)
}

fn solicitation() -> NeighborMessage {
    NeighborMessage::solicitation((LOCAL_CLIENT.mac, LOCAL_CLIENT.host.v6), FRONTEND.v6)
}

fn arp_answered() -> Vec<Case> {
    let unicast = ArpMessage {
        macs: [LOCAL_CLIENT.mac, NORTH.mac],
        target: (NORTH.mac, FRONTEND.v4),
        ..arp()
    };
    let probe = ArpMessage::request((LOCAL_CLIENT.mac, Ipv4Addr::UNSPECIFIED), FRONTEND.v4);
    let tagged = ArpMessage {
        tags: vec![(TAG, 42)],
        ..arp()
    };
    let twice = ArpMessage {
        tags: vec![(SERVICE_TAG, 7), (TAG, 42)],
        ..arp()
    };
    let other = ArpMessage::request((LOCAL_CLIENT.mac, LOCAL_CLIENT.host.v4), FRONTEND_2.v4);
    let south = ArpMessage::request((ONE_ARM_CLIENT.mac, ONE_ARM_CLIENT.host.v4), FRONTEND.v4);
    [
        ("a broadcast request", &NORTH, arp()),
        ("a unicast request", &NORTH, unicast),
        ("a probe", &NORTH, probe),
        ("a tagged request", &NORTH, tagged),
        ("a request with two tags", &NORTH, twice),
        ("a request for another frontend", &NORTH, other),
        ("a request on another link", &SOUTH, south),
    ]
    .into_iter()
    .map(|(what, link, request): (&str, &'static Link, ArpMessage)| {
        let answer = request.answered_by(link.mac).build();
        Case::new(IpVersion::V4, &format!("{what} is answered"))
            .given(with_vlans)
            .bytes(request.build(), link, Expect::answer(answer))
    })
    .collect()
}

fn arp_not_ours() -> Vec<Case> {
    let target =
        |address: Ipv4Addr| ArpMessage::request((LOCAL_CLIENT.mac, LOCAL_CLIENT.host.v4), address);
    let reply = ArpMessage {
        operation: 2,
        ..arp()
    };
    let hardware = ArpMessage {
        hardware: 6,
        ..arp()
    };
    let tagged = ArpMessage {
        tags: vec![(TAG, 43)],
        ..arp()
    };
    let lengths = ArpMessage {
        lengths: [8, 4],
        ..arp()
    };
    let mut cut = arp().build();
    cut.truncate(14 + 27);
    let mut protocol = arp().build();
    protocol[16] = 0x86;
    let pass = || Expect::end(Reason::NeighborNotOurs);
    let mut cases: Vec<Case> = [
        (
            "a request for a stranger",
            &NORTH,
            target(CLIENT.v4).build(),
        ),
        (
            "a request for the host",
            &NORTH,
            target(NORTH.address.v4).build(),
        ),
        (
            "a request for an instance",
            &SOUTH,
            target(INSTANCES[0].host.v4).build(),
        ),
        (
            "a request where the frontend is not on the link",
            &NARROW,
            arp().build(),
        ),
        ("a request where we are not attached", &APART, arp().build()),
        ("a reply", &NORTH, reply.build()),
        ("a request with a tag of nobody", &NORTH, tagged.build()),
        (
            "a request of another hardware type",
            &NORTH,
            hardware.build(),
        ),
        ("a request with other lengths", &NORTH, lengths.build()),
        ("a request of another protocol", &NORTH, protocol),
        ("a cut request", &NORTH, cut),
    ]
    .into_iter()
    .map(|(what, link, bytes): (&str, &'static Link, Vec<u8>)| {
        Case::new(IpVersion::V4, &format!("{what} passes")).bytes(bytes, link, pass())
    })
    .collect();
    cases.push(
        Case::new(
            IpVersion::V4,
            "a frontend that is routed to us is not answered for",
        )
        .given(|world| world.each_owner(FRONTEND, |owner| owner.on_link = 0))
        .raw(arp().build(), pass()),
    );
    cases.push(
        Case::new(IpVersion::V4, "an instance's address is never answered for")
            .given(|world| {
                world.each_owner(INSTANCES[0].host, |owner| owner.on_link = u64::MAX);
            })
            .raw(target(INSTANCES[0].host.v4).build(), pass()),
    );
    cases.push(
        Case::new(
            IpVersion::V4,
            "a frontend that is an instance too is answered for",
        )
        .given(|world| {
            world.each_owner(FRONTEND, |owner| owner.roles |= Owner::INSTANCE);
        })
        .raw(
            arp().build(),
            Expect::answer(arp().answered_by(NORTH.mac).build()),
        ),
    );
    cases
}

fn solicitation_answered() -> Vec<Case> {
    let unicast = NeighborMessage {
        macs: [LOCAL_CLIENT.mac, NORTH.mac],
        addresses: [LOCAL_CLIENT.host.v6, FRONTEND.v6],
        ..solicitation()
    };
    let link_local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x10);
    let tagged = NeighborMessage {
        tags: vec![(TAG, 42)],
        ..solicitation()
    };
    let twice = NeighborMessage {
        tags: vec![(SERVICE_TAG, 7), (TAG, 42)],
        ..solicitation()
    };
    let from = |mac, address: Ipv6Addr, target: Ipv6Addr| {
        NeighborMessage::solicitation((mac, address), target)
    };
    [
        ("a multicast solicitation", &NORTH, solicitation()),
        ("a unicast solicitation", &NORTH, unicast),
        (
            "a solicitation from a link-local address",
            &NORTH,
            from(LOCAL_CLIENT.mac, link_local, FRONTEND.v6),
        ),
        ("a tagged solicitation", &NORTH, tagged),
        ("a solicitation with two tags", &NORTH, twice),
        (
            "a solicitation for another frontend",
            &NORTH,
            from(LOCAL_CLIENT.mac, LOCAL_CLIENT.host.v6, FRONTEND_2.v6),
        ),
        (
            "a solicitation on another link",
            &SOUTH,
            from(ONE_ARM_CLIENT.mac, ONE_ARM_CLIENT.host.v6, FRONTEND.v6),
        ),
    ]
    .into_iter()
    .map(
        |(what, link, request): (&str, &'static Link, NeighborMessage)| {
            let answer = request.answered_by(link.mac).build();
            Case::new(IpVersion::V6, &format!("{what} is answered"))
                .given(with_vlans)
                .bytes(request.build(), link, Expect::answer(answer))
        },
    )
    .collect()
}

fn solicitation_not_ours() -> Vec<Case> {
    let target = |address: Ipv6Addr| {
        NeighborMessage::solicitation((LOCAL_CLIENT.mac, LOCAL_CLIENT.host.v6), address)
    };
    let advertisement = NeighborMessage {
        kind: 136,
        ..solicitation()
    };
    let mut cases: Vec<Case> = [
        ("a solicitation for a stranger", &NORTH, target(CLIENT.v6)),
        (
            "a solicitation for the host",
            &NORTH,
            target(NORTH.address.v6),
        ),
        (
            "a solicitation where the frontend is not on the link",
            &NARROW,
            solicitation(),
        ),
        (
            "a solicitation where we are not attached",
            &APART,
            solicitation(),
        ),
        ("an advertisement", &NORTH, advertisement),
    ]
    .into_iter()
    .map(
        |(what, link, message): (&str, &'static Link, NeighborMessage)| {
            Case::new(IpVersion::V6, &format!("{what} passes")).bytes(
                message.build(),
                link,
                Expect::end(Reason::NotOurs),
            )
        },
    )
    .collect();
    cases.push(
        Case::new(
            IpVersion::V6,
            "a frontend that is routed to us is not answered for",
        )
        .given(|world| world.each_owner(FRONTEND, |owner| owner.on_link = 0))
        .raw(solicitation().build(), Expect::end(Reason::NotOurs)),
    );
    let within = NeighborMessage::solicitation(
        (INSTANCES[0].mac, INSTANCES[0].host.v6),
        INSTANCES[1].host.v6,
    );
    cases.push(
        Case::new(IpVersion::V6, "a solicitation between instances passes").bytes(
            within.build(),
            &SOUTH,
            Expect::end(Reason::InstanceLocal),
        ),
    );
    let about_a_stranger = NeighborMessage {
        addresses: [LOCAL_CLIENT.host.v6, FRONTEND.v6],
        ..target(CLIENT.v6)
    };
    cases.push(
        Case::new(
            IpVersion::V6,
            "a solicitation to a frontend about a stranger ends here",
        )
        .raw(about_a_stranger.build(), Expect::end(Reason::Protocol)),
    );
    cases
}

/// Whoever asks without saying its MAC address, or to learn whether the address is taken.
fn other_forms() -> Vec<Case> {
    let without_option = NeighborMessage {
        options: Vec::new(),
        ..solicitation()
    };
    let nonce = NeighborMessage {
        options: vec![14, 1, 1, 2, 3, 4, 5, 6],
        ..solicitation()
    };
    let mut more = solicitation();
    more.options.extend([14, 1, 1, 2, 3, 4, 5, 6]);
    let detection = |options: Vec<u8>| NeighborMessage {
        addresses: [Ipv6Addr::UNSPECIFIED, solicitation().addresses[1]],
        options,
        ..solicitation()
    };
    let mut padded = without_option.build();
    padded.resize(14 + 40 + 40, 0);
    [
        ("without an option", without_option.build(), &without_option),
        ("without an option, padded", padded, &without_option),
        ("with another option", nonce.build(), &nonce),
        ("with a second option", more.build(), &more),
        (
            "of duplicate address detection",
            detection(Vec::new()).build(),
            &detection(Vec::new()),
        ),
        (
            "of enhanced duplicate address detection",
            detection(vec![14, 1, 1, 2, 3, 4, 5, 6]).build(),
            &detection(Vec::new()),
        ),
    ]
    .into_iter()
    .map(|(what, bytes, asked)| {
        let answer = asked.answered_by(NORTH.mac).build();
        Case::new(IpVersion::V6, &format!("a solicitation {what} is answered"))
            .raw(bytes, Expect::answer(answer))
    })
    .collect()
}

/// What is no valid solicitation (RFC 4861 section 7.1.1).
fn unanswerable() -> Vec<Case> {
    let far = NeighborMessage {
        hops: 254,
        ..solicitation()
    };
    let mut broken = solicitation().build();
    broken[14 + 40 + 2] ^= 1;
    let mut odd = solicitation();
    odd.options.extend([14, 1, 1, 2]);
    let long = NeighborMessage {
        options: [14, 10, 0, 0, 0, 0, 0, 0].repeat(10),
        ..solicitation()
    };
    let nobody_to_one = NeighborMessage {
        addresses: [Ipv6Addr::UNSPECIFIED, FRONTEND.v6],
        ..solicitation()
    };
    [
        ("from beyond the link", far.build()),
        ("with a wrong checksum", broken),
        ("with half an option", odd.build()),
        ("with ten options", long.build()),
        ("from nobody to one address", nobody_to_one.build()),
    ]
    .into_iter()
    .map(|(what, bytes)| {
        Case::new(
            IpVersion::V6,
            &format!("a solicitation {what} is not answered"),
        )
        .raw(bytes, Expect::end(Reason::NeighborUnanswerable))
    })
    .collect()
}
