//! Packets above an MTU go no further, and their sender is told: that of the interface and that of the route.

use forebay_common::flow::Direction;
use forebay_tests::case::{Case, Expect};
use forebay_tests::frame::Frame;
use forebay_tests::network::plan::{
    FRONTEND, NARROW, NARROW_INSTANCE, Neighbor, ROUTED, ROUTER, SOUTH, Way,
};
use forebay_tests::network::{Host, IpVersion};
use forebay_tests::world::{NOW, Pair, RULE_WEB};

use super::{answered, reaches_client};

/// The cases.
pub(super) fn cases() -> Vec<Case> {
    IpVersion::BOTH.into_iter().flat_map(of).collect()
}

/// A frame whose IP packet has that many bytes.
fn sized(frame: Frame, length: usize) -> Frame {
    let headers = frame.clone().with_payload(0).ip_length() as usize;
    frame.with_payload(length - headers)
}

struct Target {
    name: &'static str,
    backend: u32,
    host: Host,
    way: Way,
    mtu: usize,
}

fn targets() -> [Target; 3] {
    let instance = &forebay_tests::network::plan::INSTANCES[0];
    let target = |name, backend, host, neighbor: &Neighbor, mtu| Target {
        name,
        backend,
        host,
        way: neighbor.way(),
        mtu,
    };
    [
        target(
            "an ordinary link",
            1,
            instance.host,
            instance,
            SOUTH.mtu as usize,
        ),
        target(
            "a narrow link",
            12,
            NARROW_INSTANCE.host,
            &NARROW_INSTANCE,
            NARROW.mtu as usize,
        ),
        target("a narrow route", 13, ROUTED, &ROUTER, 1_300),
    ]
}

fn of(version: IpVersion) -> Vec<Case> {
    let mut cases = Vec::new();
    for target in targets() {
        let fits = sized(Frame::of(version), target.mtu);
        let above = sized(Frame::of(version), target.mtu + 1);
        let backend = (target.host, 8_080);
        let mut pair = Pair::opened(&fits, RULE_WEB, backend, NOW);
        pair.to = pair.to.with_hop(target.way, NOW).with_packet(&fits, NOW);
        let forwarded = Expect::forward(fits.clone().towards(target.host, 8_080), target.way)
            .flows([pair])
            .opens(RULE_WEB)
            .counts(RULE_WEB, Direction::ToInstance, fits.ip_length());
        let case = |text: &str| {
            Case::new(version, &format!("{text} {}", target.name))
                .given(|world| world.only_backend(target.backend))
        };
        cases.extend([
            case("a packet of just the MTU leaves by").step(&fits, forwarded),
            case("a packet above the MTU is too big for")
                .step(&above, Expect::too_big(&above, FRONTEND, target.mtu as u32)),
        ]);
    }
    cases.extend(known_hop(version));
    cases
}

/// With a next hop that was looked up for a smaller packet.
fn known_hop(version: IpVersion) -> Vec<Case> {
    let pair = Pair::tcp(version);
    let fits = sized(pair.answer(), 1_500);
    let above = sized(pair.answer(), 1_501);
    let larger = sized(pair.answer(), 901);
    let case = |text: &str| Case::new(version, text).with_flows([&pair]);
    vec![
        case("a known next hop takes packets of just the MTU")
            .step(&fits, reaches_client(&fits, answered(&pair, &fits, NOW))),
        case("a known next hop does not make packets smaller")
            .step(&above, Expect::too_big(&above, SOUTH.address, 1_500)),
        case("the MTU that the daemon tells counts")
            .given(|world| {
                for interface in world.interfaces.values_mut() {
                    interface.mtu = 900;
                }
            })
            .step(&larger, Expect::too_big(&larger, SOUTH.address, 900))
            .step(&sized(pair.answer(), 900), {
                let fits = sized(pair.answer(), 900);
                reaches_client(&fits, answered(&pair, &fits, NOW))
            }),
    ]
}
