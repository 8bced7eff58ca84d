//! No timeout fires early, and an expired flow is dead to whoever meets it.

use forebay_common::flow::{FlowState, Seen};
use forebay_common::reason::Reason;
use forebay_tests::chance::Chance;
use forebay_tests::engine::{Engine, Keys, Retire};
use forebay_tests::frame::TCP;
use forebay_tests::network::IpVersion;
use forebay_tests::world::{Flows, Pair, World};

use super::on_both;

/// What is written about a flow's life: after its last packet in either direction, by its state.
fn lifetime(pair: &Pair, world: &World) -> u32 {
    let timeouts = world.settings.unwrap().timeouts;
    let state = pair.entries::<forebay_common::family::V4>()[0]
        .1
        .state(u32::from(pair.protocol));
    match state {
        FlowState::Established => pair.idle_timeout,
        FlowState::Closing => timeouts.tcp_fin,
        FlowState::Closed => timeouts.tcp_rst,
        FlowState::Opening if pair.protocol == TCP => timeouts.tcp_half_open,
        FlowState::Opening => timeouts.udp_unreplied.min(pair.idle_timeout),
    }
}

/// A flow in a random state, used at random times, and the first jiffy in which it is over.
fn random_flow(chance: &mut Chance) -> (World, Pair, u64) {
    let mut world = World::default();
    let settings = world.settings_mut();
    settings.grace = chance.below(20) as u32;
    for timeout in [
        &mut settings.timeouts.tcp_half_open,
        &mut settings.timeouts.tcp_fin,
        &mut settings.timeouts.tcp_rst,
        &mut settings.timeouts.udp_unreplied,
    ] {
        *timeout = chance.within(1, 500) as u32;
    }
    let version = *chance.pick(&IpVersion::BOTH);
    let mut flow = if chance.one_in(2) {
        Pair::tcp(version)
    } else {
        Pair::udp(version)
    };
    flow.idle_timeout = chance.within(1, 500) as u32;
    flow.seen_to = Seen(chance.bits() as u8 & 0x1f);
    flow.seen_from = Seen(chance.bits() as u8 & 0x1f);
    flow.to.last_seen = world.now() - chance.below(400);
    flow.from.last_seen = world.now() - chance.below(400);
    world.add(&flow);
    let last = flow.to.last_seen.max(flow.from.last_seen);
    let over = last + u64::from(lifetime(&flow, &world)) + 1;
    (world, flow, over)
}

/// A packet of either side, at a time around the end of a flow: it is forwarded if and only if the
/// flow is not over.
fn met(engine: &mut dyn Engine, chance: &mut Chance) {
    let (mut world, pair, over) = random_flow(chance);
    let now = match chance.below(4) {
        0 => over - 1,
        1 => over,
        2 => over + chance.below(1_000),
        _ => over.saturating_sub(chance.below(100)),
    };
    world.settings_mut().test_now = now.max(world.now());
    let is_over = world.now() >= over;
    engine.load(&world);
    // Without flags nothing new is to be remembered, and nothing ends or begins.
    let answer = pair.answer().flagged(0);
    let outcome = engine.run(&answer.build(), answer.ingress);
    let expected = if is_over {
        Reason::NoOutbound
    } else {
        Reason::Forwarded
    };
    assert_eq!(
        outcome.reason(),
        expected,
        "{} at {now}, over at {over}: {pair:?}",
        engine.name()
    );

    engine.load(&world);
    let request = pair.request().flagged(0);
    let outcome = engine.run(&request.build(), request.ingress);
    let grace = u64::from(world.settings.unwrap().grace);
    let expected = if is_over && world.now() < over + grace {
        Reason::FlowEnding
    } else {
        Reason::Forwarded
    };
    assert_eq!(
        outcome.reason(),
        expected,
        "{} at {now}, over at {over}: {pair:?}",
        engine.name()
    );
    let counted = engine.rule_counters();
    let began = counted
        .get(&pair.rule)
        .is_some_and(|rule| rule.new_flows == 1);
    assert_eq!(began, world.now() >= over + grace, "{pair:?}");
}

#[test]
fn on_time_a_flow_is_met_if_and_only_if_it_is_not_over() {
    on_both(4_000, |engine, rounds| {
        let mut chance = Chance::new(8);
        for _ in 0..rounds {
            met(engine, &mut chance);
        }
    });
}

#[test]
fn on_time_the_sweep_ends_nothing_early() {
    on_both(2_000, |engine, rounds| {
        let mut chance = Chance::new(81);
        for _ in 0..rounds {
            let (mut world, pair, over) = random_flow(&mut chance);
            let ripe = over + u64::from(world.settings.unwrap().grace);
            let now = (ripe + chance.below(3)).saturating_sub(1).max(world.now());
            world.settings_mut().test_now = now;
            engine.load(&world);
            let keys = Keys::of(&engine.flows());
            let marked = engine.retire(Retire::Mark, &keys).contains(&true);
            assert_eq!(marked, now >= ripe, "at {now}, ripe at {ripe}: {pair:?}");
            if !marked {
                assert_eq!(engine.flows(), Flows::exactly(&[pair]));
            }
        }
    });
}
