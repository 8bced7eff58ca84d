//! The programs that end flows for the daemon's sweep: mark, then remove.

use forebay_common::flow::{Seen, marks};
use forebay_common::reason::Reason;
use forebay_tests::engine::{Action, Engine, Keys, Model, Retire, with_live};
use forebay_tests::frame::{Frame, SYN};
use forebay_tests::network::IpVersion;
use forebay_tests::world::{Flows, GRACE, IDLE, NOW, Pair, SECOND, World};

/// Runs a test on the model and on the live program.
fn on_both(test: fn(&mut dyn Engine)) {
    test(&mut Model::default());
    with_live(|live| test(live));
}

fn world(pairs: &[Pair]) -> World {
    let mut world = World::default();
    pairs.iter().for_each(|pair| world.add(pair));
    world
}

/// A flow of each family, and the time from which on a sweep may mark it.
fn pairs() -> ([Pair; 2], u64) {
    let pairs = IpVersion::BOTH.map(Pair::tcp);
    (pairs, NOW + u64::from(IDLE) + u64::from(GRACE) + 1)
}

#[test]
fn a_flow_is_marked_only_when_it_is_over_beyond_the_grace_time() {
    on_both(|engine| {
        let (pairs, when) = pairs();
        engine.load(&world(&pairs));
        let keys = Keys::of(&engine.flows());
        engine.set_now(when - 1);
        assert_eq!(engine.retire(Retire::Mark, &keys), [false; 4]);
        assert_eq!(engine.flows(), Flows::exactly(&pairs));

        engine.set_now(when);
        // Each flow is named by both of its keys; the first of them does it.
        assert_eq!(
            engine.retire(Retire::Mark, &keys),
            [true, false, true, false]
        );
        let marked = pairs.map(|pair| Pair {
            marks: marks::RETIRING,
            ..pair.last_used(when)
        });
        assert_eq!(engine.flows(), Flows::exactly(&marked));
    });
}

#[test]
fn a_flow_that_either_direction_keeps_alive_is_not_marked() {
    on_both(|engine| {
        let (mut pairs, when) = pairs();
        pairs[0].to.last_seen = NOW + 1;
        pairs[1].from.last_seen = NOW + 1;
        engine.load(&world(&pairs));
        engine.set_now(when);
        let keys = Keys::of(&engine.flows());
        assert_eq!(engine.retire(Retire::Mark, &keys), [false; 4]);
        assert_eq!(engine.flows(), Flows::exactly(&pairs));
    });
}

#[test]
fn every_state_is_marked_after_its_own_lifetime() {
    let lifetimes = [
        (Seen::SYN, Seen::default(), 30_000),
        (
            Seen::SYN.with(Seen::ACK).with(Seen::FIN),
            Seen::ACK.with(Seen::FIN),
            65_000,
        ),
        (Seen::SYN.with(Seen::ACK), Seen::ACK.with(Seen::RST), 16_000),
    ];
    for (to, from, lifetime) in lifetimes {
        let test = |engine: &mut dyn Engine| {
            let pairs = IpVersion::BOTH.map(|version| Pair {
                seen_to: to,
                seen_from: from,
                ..Pair::tcp(version)
            });
            engine.load(&world(&pairs));
            let keys = Keys::of(&engine.flows());
            engine.set_now(NOW + lifetime + u64::from(GRACE));
            assert_eq!(
                engine.retire(Retire::Mark, &keys),
                [false; 4],
                "{to:?} {from:?}"
            );
            engine.set_now(NOW + lifetime + u64::from(GRACE) + 1);
            let marked = engine.retire(Retire::Mark, &keys);
            assert_eq!(marked, [true, false, true, false], "{to:?} {from:?}");
        };
        test(&mut Model::default());
        with_live(|live| test(live));
    }
}

#[test]
fn only_what_was_marked_long_enough_ago_is_removed() {
    on_both(|engine| {
        let (pairs, when) = pairs();
        engine.load(&world(&pairs));
        let keys = Keys::of(&engine.flows());
        engine.set_now(when);
        assert_eq!(
            engine.retire(Retire::Remove, &keys),
            [false; 4],
            "not marked"
        );
        engine.retire(Retire::Mark, &keys);
        engine.set_now(when + u64::from(GRACE));
        assert_eq!(
            engine.retire(Retire::Remove, &keys),
            [false; 4],
            "too early"
        );
        engine.set_now(when + u64::from(GRACE) + 1);
        let removed = engine.retire(Retire::Remove, &keys);
        assert_eq!(removed, [true, false, true, false]);
        assert_eq!(engine.flows(), Flows::default());
    });
}

#[test]
fn a_removed_flow_makes_room_for_its_successor() {
    on_both(|engine| {
        let (pairs, when) = pairs();
        engine.load(&world(&pairs));
        let keys = Keys::of(&engine.flows());
        engine.set_now(when);
        engine.retire(Retire::Mark, &keys);
        for pair in &pairs {
            let syn = pair.request().flagged(SYN);
            let outcome = engine.run(&syn.build(), syn.ingress);
            assert_eq!(outcome.reason(), Reason::FlowEnding, "{}", engine.name());
        }
        engine.set_now(when + u64::from(GRACE) + 1);
        engine.retire(Retire::Remove, &keys);
        for pair in &pairs {
            let syn = pair.request().flagged(SYN);
            let outcome = engine.run(&syn.build(), syn.ingress);
            assert_eq!(outcome.reason(), Reason::Forwarded, "{}", engine.name());
            assert_eq!(outcome.action, Action::Redirect);
        }
    });
}

#[test]
fn what_a_daemon_has_marked_before_it_died_makes_room_after_a_second() {
    on_both(|engine| {
        let (pairs, when) = pairs();
        engine.load(&world(&pairs));
        engine.set_now(when);
        engine.retire(Retire::Mark, &Keys::of(&engine.flows()));
        for (now, expected) in [
            (when + u64::from(SECOND), Reason::FlowEnding),
            (when + u64::from(SECOND) + 1, Reason::Forwarded),
        ] {
            engine.set_now(now);
            for pair in &pairs {
                let syn = pair.request().flagged(SYN);
                let outcome = engine.run(&syn.build(), syn.ingress);
                assert_eq!(outcome.reason(), expected, "{}", engine.name());
            }
        }
    });
}

#[test]
fn keys_of_no_flow_are_passed_over() {
    on_both(|engine| {
        let (pairs, when) = pairs();
        engine.load(&world(&pairs));
        let strangers = pairs.clone().map(|pair| Pair {
            client: (pair.client.0, 1),
            ..pair
        });
        engine.set_now(when);
        let keys = Keys::of(&Flows::exactly(&strangers));
        assert_eq!(engine.retire(Retire::Mark, &keys), [false; 4]);
        assert_eq!(engine.retire(Retire::Remove, &keys), [false; 4]);
        assert_eq!(
            engine.retire(Retire::Mark, &Keys::default()),
            [] as [bool; 0]
        );
        assert_eq!(engine.flows(), Flows::exactly(&pairs));
    });
}

#[test]
fn a_flushed_connection_is_marked_alive_and_goes_a_second_later() {
    on_both(|engine| {
        let (pairs, _) = pairs();
        engine.load(&world(&pairs));
        let keys = Keys::of(&engine.flows());
        engine.set_now(NOW);
        assert_eq!(
            engine.retire(Retire::Flush, &keys),
            [true, false, true, false]
        );
        let until = NOW + u64::from(SECOND);
        let marked = pairs.clone().map(|pair| Pair {
            marks: marks::RETIRING,
            ..pair.last_used(until)
        });
        assert_eq!(engine.flows(), Flows::exactly(&marked));
        // What its sides have received is what the RSTs to them go by.
        let heard = marked.map(|mut pair| {
            let frames = [pair.request(), pair.answer()];
            for (frame, half) in frames.into_iter().zip([&mut pair.to, &mut pair.from]) {
                half.last_ack = 77_000;
                drop_it(engine, frame, 77_000);
            }
            pair
        });
        let flows = Flows::exactly(&heard);
        assert_eq!(engine.flows(), flows, "nothing revives it");
        engine.set_now(until + 1);
        for pair in &pairs {
            drop_it(engine, pair.request(), 88_000);
        }
        assert_eq!(engine.flows(), flows, "too late");
        engine.set_now(until + u64::from(GRACE));
        assert_eq!(engine.retire(Retire::Remove, &keys), [false; 4]);
        engine.set_now(until + u64::from(GRACE) + 1);
        let removed = engine.retire(Retire::Remove, &keys);
        assert_eq!(removed, [true, false, true, false]);
        assert_eq!(engine.flows(), Flows::default());
    });
}

fn drop_it(engine: &mut dyn Engine, frame: Frame, acknowledgement: u32) {
    let frame = Frame {
        acknowledgement,
        ..frame
    };
    let outcome = engine.run(&frame.build(), frame.ingress);
    assert_eq!(outcome.action, Action::Drop, "{}", engine.name());
}
