//! Packets while flows move from one table to another.

use forebay_common::abi::Reverse;
use forebay_common::flow::{FlowKind, Seen};
use forebay_common::reason::Reason;
use forebay_tests::engine::{Action, Engine, Keys, Live, Retire};
use forebay_tests::frame::{ACK, Fragment, Frame, SYN};
use forebay_tests::network::IpVersion;
use forebay_tests::network::plan::{FRONTEND, INSTANCES};
use forebay_tests::world::{Flows, IDLE, NOW, Outward, Pair, World};

/// The live program with flows in the former tables; `None` after saying why not.
fn moving(pairs: &[Pair]) -> Option<Live> {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: loading programs and making networks needs root");
        return None;
    }
    let mut live = Live::start_moving().unwrap();
    let mut world = World::default();
    pairs.iter().for_each(|pair| world.add(pair));
    live.load(&world);
    live.set_now(NOW);
    Some(live)
}

fn assert_forwarded(live: &mut Live, frame: &Frame) {
    let outcome = live.run(&frame.build(), frame.ingress);
    assert_eq!(outcome.reason(), Reason::Forwarded, "{frame:?}");
    assert_eq!(outcome.action, Action::Redirect);
}

#[test]
fn a_flow_is_used_where_it_is_until_it_has_moved_as_it_stands() {
    let pairs = IpVersion::BOTH.map(Pair::tcp);
    let Some(mut live) = moving(&pairs) else {
        return;
    };
    // Before and after new flows go to the new tables.
    let mut used = pairs.clone();
    for is_moving in [false, true] {
        live.set_moving(is_moving);
        for pair in &mut used {
            let (request, answer) = (pair.request(), pair.answer());
            assert_forwarded(&mut live, &request);
            assert_forwarded(&mut live, &answer);
            pair.to = pair.to.with_packet(&request, NOW);
            pair.from = pair.from.with_packet(&answer, NOW);
        }
        assert_eq!(live.flows(), Flows::exactly(&used), "moving: {is_moving}");
        assert_eq!(live.new_flows(), Flows::default());
    }
    let keys = Keys::of(&live.flows());
    assert_eq!(
        live.retire(Retire::Carry, &keys),
        [true, false, true, false]
    );
    assert_eq!(live.flows(), Flows::default(), "nothing stays");
    assert_eq!(live.new_flows(), Flows::exactly(&used));
    assert_eq!(live.occupied(), [2, 2], "as many as before");
    for pair in &used {
        assert_forwarded(&mut live, &pair.request());
        assert_forwarded(&mut live, &pair.answer());
    }
    assert_eq!(live.flows(), Flows::default());
    assert_eq!(live.retire(Retire::Carry, &keys), [false; 4]);
}

#[test]
fn a_syn_begins_a_connection_anew_where_the_one_that_has_ended_is() {
    let ended = IpVersion::BOTH.map(|version| {
        let pair = Pair::tcp(version);
        let fin = pair.seen_to.with(Seen::FIN);
        Pair {
            seen_to: fin,
            seen_from: fin,
            ..pair
        }
    });
    let Some(mut live) = moving(&ended) else {
        return;
    };
    for is_moving in [false, true] {
        live.load(&{
            let mut world = World::default();
            ended.iter().for_each(|pair| world.add(pair));
            world
        });
        live.set_moving(is_moving);
        for pair in &ended {
            assert_forwarded(&mut live, &pair.request().flagged(SYN));
            assert_forwarded(&mut live, &pair.answer().flagged(SYN | ACK));
        }
        let flows = live.flows();
        let states: Vec<_> = flows
            .v4
            .values()
            .map(|flow| (flow.seen_to_instance, flow.seen_from_instance))
            .chain(
                flows
                    .v6
                    .values()
                    .map(|flow| (flow.seen_to_instance, flow.seen_from_instance)),
            )
            .collect();
        assert_eq!(states, [(Seen::SYN.0, Seen::SYN.0); 4]);
        assert_eq!(live.new_flows(), Flows::default());
    }
}

#[test]
fn fragments_find_their_flow_before_it_has_moved() {
    let pairs = IpVersion::BOTH.map(Pair::udp);
    let Some(mut live) = moving(&pairs) else {
        return;
    };
    live.set_moving(true);
    for pair in &pairs {
        let whole = pair.request().with_payload(64);
        let content = whole.transport();
        for (offset, part) in [(0, &content[..40]), (5, &content[40..])] {
            let piece = Frame {
                raw: Some(part.to_vec()),
                identification: 7,
                fragment: Some(Fragment {
                    offset,
                    more: offset == 0,
                }),
                ..whole.clone()
            };
            assert_forwarded(&mut live, &piece);
        }
    }
    assert_eq!(live.new_flows(), Flows::default());
    assert_eq!(Keys::of(&live.flows()).v4.len(), 2, "where they were");
}

#[test]
fn a_stale_reply_does_not_take_a_connection_from_the_flow_that_is_yet_to_move() {
    // The connections are with the second instance; the first one sends what it knows of older ones.
    let pairs = IpVersion::BOTH.map(|version| Pair {
        backend: (INSTANCES[1].host, 8_080),
        ..Pair::tcp(version)
    });
    let Some(mut live) = moving(&pairs) else {
        return;
    };
    let mut world = World::default();
    pairs.iter().for_each(|pair| world.add(pair));
    let port_offset = 80_u16.wrapping_sub(8_080);
    let padding = [0; 3];
    let frontend = FRONTEND.raw();
    world.v4.reverse.insert(
        (INSTANCES[0].host.raw(), 8_080, 8_080),
        Reverse {
            frontend,
            port_offset,
            padding,
        },
    );
    let frontend = FRONTEND.raw();
    world.v6.reverse.insert(
        (INSTANCES[0].host.raw(), 8_080, 8_080),
        Reverse {
            frontend,
            port_offset,
            padding,
        },
    );
    live.load(&world);
    live.set_now(NOW);
    for is_moving in [false, true] {
        live.set_moving(is_moving);
        for pair in &pairs {
            let stale = Pair {
                backend: (INSTANCES[0].host, 8_080),
                ..pair.clone()
            };
            let answer = stale.answer();
            let outcome = live.run(&answer.build(), answer.ingress);
            assert_eq!(outcome.reason(), Reason::NoFlow);
            assert_forwarded(&mut live, &pair.answer());
        }
    }
}

/// Flows that instances have opened, of which nothing was heard for so long.
fn opened_by_instances(quiet: u64) -> [Pair; 2] {
    IpVersion::BOTH.map(|version| Pair {
        kind: FlowKind::OutboundRule,
        ..Pair::udp(version).last_used(NOW - quiet)
    })
}

#[test]
fn a_flow_outlives_its_instance_before_it_has_moved() {
    let pairs = opened_by_instances(0);
    let Some(mut live) = moving(&pairs) else {
        return;
    };
    let mut world = World::default();
    pairs.iter().for_each(|pair| world.add(pair));
    world.each_owner(pairs[0].backend.0, |owner| owner.roles = 0);
    live.load(&world);
    live.set_now(NOW);
    live.set_moving(true);
    for pair in &pairs {
        assert_forwarded(&mut live, &pair.answer());
    }
}

#[test]
fn nobody_revives_a_flow_of_an_instance_before_it_has_moved() {
    let pairs = opened_by_instances(u64::from(IDLE) + 1_000);
    let Some(mut live) = moving(&pairs) else {
        return;
    };
    let mut world = World::default();
    pairs.iter().for_each(|pair| world.add(pair));
    world.add_way(
        pairs[0].backend.0,
        &Outward::by(FRONTEND, 2_000..=2_007).flagged(0),
    );
    live.load(&world);
    live.set_now(NOW);
    live.set_moving(true);
    let before = live.flows();
    for pair in &pairs {
        let stale = pair.request();
        let outcome = live.run(&stale.build(), stale.ingress);
        assert_eq!(outcome.action, Action::Drop, "{:?}", outcome.reason());
        // No port is asked for that the flow could not have.
        let again = pair.answer();
        let outcome = live.run(&again.build(), again.ingress);
        assert_eq!(outcome.reason(), Reason::FlowEnding);
    }
    assert_eq!(live.flows(), before);
    assert_eq!(live.new_flows(), Flows::default());
}
