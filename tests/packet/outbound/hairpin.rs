//! Instances that talk to public addresses of their own node.

use forebay_tests::frame::{ACK, Frame, SYN, TCP, UDP};
use forebay_tests::network::plan::{FRONTEND, INSTANCES};
use forebay_tests::world::Outward;

use super::{NAT, PUBLIC, PUBLIC_2, address, from_instance, leaves, on_both, world};

#[test]
fn an_instance_reaches_frontends_of_its_own_and_of_others() {
    on_both(|engine, version| {
        let instance = address(INSTANCES[0].host, version);
        for protocol in [TCP, UDP] {
            let port = if protocol == TCP { 80 } else { 53 };
            let mut world = world(&Outward::by(NAT, 2_000..=2_999));
            // The only member is the instance itself.
            world.only_backend(1);
            engine.load(&world);
            let request = from_instance(version, 0, 33_000, (FRONTEND, port), protocol);
            let inside = leaves(engine, &request);
            assert_eq!(inside.source.0, address(NAT, version));
            assert_eq!(inside.destination.0, instance);
            let backend = inside.destination.1;
            let back = Frame {
                acknowledgement: 1_001,
                ..from_instance(version, 0, backend, (NAT, inside.source.1), protocol)
            };
            let back = back.flagged(if protocol == TCP { SYN | ACK } else { 0 });
            let answered = leaves(engine, &back);
            assert_eq!(answered.source, (address(FRONTEND, version), port));
            assert_eq!(answered.destination, (instance, 33_000));
        }
    });
}

#[test]
fn an_instance_reaches_the_public_ip_of_another() {
    on_both(|engine, version| {
        let addresses = [0, 1].map(|n| address(INSTANCES[n].host, version));
        for protocol in [TCP, UDP] {
            for has_own in [false, true] {
                let mut world = world(&Outward::by(NAT, 2_000..=2_999));
                world.add_public_ip(INSTANCES[1].host, PUBLIC_2);
                if has_own {
                    world.add_public_ip(INSTANCES[0].host, PUBLIC);
                }
                engine.load(&world);
                let request = from_instance(version, 0, 33_000, (PUBLIC_2, 22), protocol);
                let inside = leaves(engine, &request);
                assert_eq!(inside.destination, (addresses[1], 22));
                let outer = if has_own { PUBLIC } else { NAT };
                assert_eq!(inside.source.0, address(outer, version));
                let back = from_instance(version, 1, 22, (outer, inside.source.1), protocol);
                let back = back.flagged(if protocol == TCP { SYN | ACK } else { 0 });
                let answered = leaves(engine, &back);
                assert_eq!(answered.source, (address(PUBLIC_2, version), 22));
                assert_eq!(answered.destination, (addresses[0], 33_000));
            }
        }
    });
}
