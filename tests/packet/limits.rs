//! What anybody outside can make the node send, or keep, is bounded.

use forebay_common::abi::Owner;
use forebay_common::reason::Reason;
use forebay_tests::engine::{Engine, Model, with_live};
use forebay_tests::frame::{Fragment, Frame, IcmpMessage};
use forebay_tests::network::IpVersion;
use forebay_tests::network::plan::{FRONTEND, LOCAL_CLIENT, Link, NORTH, SOUTH};
use forebay_tests::world::{NOW, Pair, SECOND, World};

fn on_both(test: impl Fn(&mut dyn Engine)) {
    test(&mut Model::default());
    with_live(|live| test(live));
}

fn reason(engine: &mut dyn Engine, frame: &[u8], ingress: &Link) -> Reason {
    engine.run(frame, ingress).reason()
}

#[test]
fn icmp_errors_are_limited_to_100_a_second() {
    on_both(|engine| {
        for version in IpVersion::BOTH {
            let pair = Pair::tcp(version);
            let mut world = World::default();
            world.add(&pair);
            engine.load(&world);
            let spent = |frame: Frame| Frame { hops: 1, ..frame };
            let request = spent(pair.request()).build();
            let long = pair.request().with_payload(1_600).build();
            let answer = spent(pair.answer()).build();
            let other = spent(Frame::of(version).coming_from(LOCAL_CLIENT.host, 1_000)).build();
            for round in 0..3 {
                engine.set_now(NOW + round * u64::from(SECOND));
                for number in 0..50 {
                    let reasons = [&request, &long].map(|frame| reason(engine, frame, &NORTH));
                    let told = [Reason::TimeExceededSent, Reason::TooBigSent];
                    assert_eq!(reasons, told, "pair {number} of round {round}");
                }
                for _ in 0..3 {
                    let outcome = engine.run(&request, &NORTH);
                    assert_eq!(outcome.reason(), Reason::HopsExceeded);
                    assert_eq!(outcome.frame, request, "it is dropped as it was");
                    assert_eq!(reason(engine, &long, &NORTH), Reason::TooBig);
                }
                // Others are told all the same, and pings answered.
                assert_eq!(reason(engine, &answer, &SOUTH), Reason::TimeExceededSent);
                assert_eq!(reason(engine, &other, &NORTH), Reason::TimeExceededSent);
            }
        }
    });
}

#[test]
fn echo_replies_are_limited_to_10_000_a_second() {
    on_both(|engine| {
        for version in IpVersion::BOTH {
            let mut world = World::default();
            world.each_owner(FRONTEND, |owner| owner.roles |= Owner::ECHO);
            engine.load(&world);
            let request = IcmpMessage::echo(version, b"ping");
            let other = request.clone().between(LOCAL_CLIENT.host, FRONTEND).build();
            let request = request.build();
            for number in 0..10_000 {
                let answered = reason(engine, &request, &NORTH);
                assert_eq!(answered, Reason::EchoAnswered, "request {number}");
            }
            assert_eq!(reason(engine, &request, &NORTH), Reason::AnswerLimit);
            assert_eq!(reason(engine, &other, &NORTH), Reason::EchoAnswered);
            engine.set_now(NOW + u64::from(SECOND) - 1);
            assert_eq!(reason(engine, &request, &NORTH), Reason::AnswerLimit);
            engine.set_now(NOW + u64::from(SECOND));
            assert_eq!(reason(engine, &request, &NORTH), Reason::EchoAnswered);
        }
    });
}

/// More packets under way than the table keeps: the latest are the ones that get through.
#[test]
fn fragments_of_the_latest_packets_are_kept() {
    on_both(|engine| {
        for version in IpVersion::BOTH {
            let pair = Pair::udp(version);
            let mut world = World::default();
            world.add(&pair);
            engine.load(&world);
            let piece = |identification: u16, offset: u16, more: bool| {
                Frame {
                    identification,
                    fragment: Some(Fragment { offset, more }),
                    ..pair.request().with_payload(24)
                }
                .build()
            };
            for identification in 0..9_000 {
                let first = reason(engine, &piece(identification, 0, true), &NORTH);
                assert_eq!(first, Reason::Forwarded, "packet {identification}");
            }
            let later = reason(engine, &piece(8_999, 4, false), &NORTH);
            assert_eq!(later, Reason::Forwarded);
        }
    });
}
