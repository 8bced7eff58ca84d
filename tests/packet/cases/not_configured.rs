//! Before the daemon has written settings everything passes.

use forebay_common::reason::Reason;
use forebay_tests::case::{Case, Expect};
use forebay_tests::frame::{ArpMessage, Frame, NeighborMessage};
use forebay_tests::network::IpVersion;
use forebay_tests::network::plan::{CLIENT_2, FRONTEND, LOCAL_CLIENT};
use forebay_tests::world::World;

/// The cases.
pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = IpVersion::BOTH.into_iter().flat_map(of).collect();
    let client = &LOCAL_CLIENT;
    let arp = ArpMessage::request((client.mac, client.host.v4), FRONTEND.v4);
    let solicitation = NeighborMessage::solicitation((client.mac, client.host.v6), FRONTEND.v6);
    for (version, bytes) in [
        (IpVersion::V4, arp.build()),
        (IpVersion::V6, solicitation.build()),
    ] {
        cases.push(
            Case::new(version, "not configured: neighbour requests pass")
                .given(without_settings)
                .raw(bytes, Expect::end(Reason::NotConfigured)),
        );
    }
    cases
}

/// Everything else may be there already.
fn without_settings(world: &mut World) {
    world.settings = None;
}

fn of(version: IpVersion) -> Vec<Case> {
    [
        ("packets to frontends", Frame::of(version)),
        ("datagrams", Frame::datagram(version)),
        (
            "packets of others",
            Frame::of(version).towards(CLIENT_2, 80),
        ),
    ]
    .into_iter()
    .flat_map(|(what, frame)| {
        let bare = Case::new(version, &format!("empty tables: {what} pass"))
            .given(|world| *world = World::unconfigured())
            .step(&frame, Expect::end(Reason::NotConfigured));
        let half = Case::new(version, &format!("not configured: {what} pass"))
            .given(without_settings)
            .step(&frame, Expect::end(Reason::NotConfigured));
        [bare, half]
    })
    .collect()
}
