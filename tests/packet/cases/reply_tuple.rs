//! One client port towards two frontends with one backend port: the answers would be the same.

use std::sync::Arc;

use forebay_common::abi::{PortKey, RING_SIZE, Settings};
use forebay_common::balance::{Distribution, flow_hash, slot_of};
use forebay_common::family::{V4, V6};
use forebay_common::flow::{Direction, FlowKey, Seen, marks};
use forebay_common::reason::Reason;
use forebay_tests::case::{Case, Expect};
use forebay_tests::frame::Frame;
use forebay_tests::network::plan::{FRONTEND_2, INSTANCES};
use forebay_tests::network::{IpVersion, Side};
use forebay_tests::world::{GRACE, NOW, Pair, RING_ONE, RULE_WEB, World, frontend_id};

/// The cases.
pub(super) fn cases() -> Vec<Case> {
    IpVersion::BOTH.into_iter().flat_map(of).collect()
}

/// The second connection: same client port, another frontend.
fn second(version: IpVersion) -> Frame {
    Frame::of(version).towards(FRONTEND_2, 80)
}

/// Where the ring is first asked about a frame.
fn first_slot(frame: &Frame, settings: &Settings) -> u32 {
    fn slot<A: Side>(frame: &Frame, settings: &Settings) -> u32 {
        let key = FlowKey::<A> {
            source: frame.source.raw(),
            destination: frame.destination.raw(),
            ports: FlowKey::<A>::ports_word(frame.source_port, frame.destination_port),
            protocol: frame.protocol.into(),
        };
        let hash = flow_hash(settings.hash_key, &key, Distribution::FiveTuple as u8);
        slot_of(hash, 0)
    }
    match frame.version {
        IpVersion::V4 => slot::<V4>(frame, settings),
        IpVersion::V6 => slot::<V6>(frame, settings),
    }
}

/// A ring that has `members` from the slot on that the second connection asks first, and the first
/// instance everywhere else.
fn place(world: &mut World, version: IpVersion, members: &[u32]) {
    let settings = *world.settings_mut();
    let start = first_slot(&second(version), &settings);
    let mut ring = vec![1; RING_SIZE as usize];
    for (number, member) in members.iter().enumerate() {
        ring[(start as usize + number) % RING_SIZE as usize] = *member;
    }
    world.rings.insert(RING_ONE, Arc::from(ring));
}

/// The second connection goes to an instance, beside `others`.
fn goes_to(frame: &Frame, number: usize, others: &[&Pair], now: u64) -> Expect {
    let instance = &INSTANCES[number];
    let mut pair = Pair::opened(frame, RULE_WEB, (instance.host, 8_080), now);
    pair.to = pair
        .to
        .with_hop(instance.way(), now)
        .with_packet(frame, now);
    let others = others.iter().map(|pair| (*pair).clone());
    Expect::forward(frame.clone().towards(instance.host, 8_080), instance.way())
        .flows(others.chain([pair]))
        .opens(RULE_WEB)
        .counts(RULE_WEB, Direction::ToInstance, frame.ip_length())
}

fn of(version: IpVersion) -> Vec<Case> {
    let mut cases = alternatives(version);
    cases.extend(holders(version));
    cases.extend(other_ports(version));
    cases.push(expired_alternative(version));
    cases
}

/// The tuple towards the first instance is taken; what stands in the slots decides.
fn alternatives(version: IpVersion) -> Vec<Case> {
    let holder = Pair::tcp(version);
    let syn = second(version);
    let rows: [(&str, &[u32], Option<usize>); 6] = [
        ("the next slot's member takes the flow", &[1, 2], Some(1)),
        (
            "the last alternative is the fourth",
            &[1, 1, 1, 1, 3],
            Some(2),
        ),
        ("the first free alternative counts", &[1, 1, 2, 3], Some(1)),
        ("a free first slot needs no alternative", &[2, 3], Some(1)),
        (
            "a fifth alternative is not tried",
            &[1, 1, 1, 1, 1, 2],
            None,
        ),
        ("one member alone has no alternative", &[], None),
    ];
    let mut cases: Vec<Case> = rows
        .into_iter()
        .map(|(name, members, number)| {
            let expect = match number {
                Some(number) => goes_to(&syn, number, &[&holder], NOW),
                None => Expect::end(Reason::ReplyTupleTaken),
            };
            Case::new(version, &format!("reply tuple taken: {name}"))
                .with_flows([&holder])
                .given(|world| place(world, version, members))
                .step(&syn, expect)
        })
        .collect();
    cases.push(
        Case::new(version, "reply tuple taken: an empty slot ends the search")
            .with_flows([&holder])
            .given(|world| place(world, version, &[1, 0, 2]))
            .step(&syn, Expect::end(Reason::NoBackend)),
    );
    let busy = Pair {
        backend: (INSTANCES[1].host, 8_080),
        frontend: (holder.frontend.0, 81),
        ..holder.clone()
    };
    cases.push(
        Case::new(
            version,
            "reply tuple taken: a taken alternative is passed over",
        )
        .with_flows([&holder, &busy])
        .given(|world| place(world, version, &[1, 2, 3]))
        .step(&syn, goes_to(&syn, 2, &[&holder, &busy], NOW)),
    );
    cases
}

/// How the holder of the tuple stands decides.
fn holders(version: IpVersion) -> Vec<Case> {
    let syn = second(version);
    let holder = Pair::tcp(version);
    let over = u64::from(holder.idle_timeout) + 1;
    let gone = over + u64::from(GRACE);
    let fin = holder.seen_to.with(Seen::FIN);
    let closed = Pair {
        seen_to: fin,
        seen_from: fin,
        ..holder.clone()
    };
    let retiring = Pair {
        marks: marks::RETIRING,
        ..holder.clone()
    };
    let case = |name: &str, pair: &Pair| Case::new(version, name).with_flows([pair]);
    vec![
        case(
            "the tuple of an expired flow is free after the grace time",
            &holder,
        )
        .later(gone, &syn, goes_to(&syn, 0, &[], NOW + gone)),
        case(
            "the tuple of an expired flow is taken for the grace time",
            &holder,
        )
        .later(gone - 1, &syn, Expect::end(Reason::FlowEnding)),
        case("the tuple of a closed flow of others is taken", &closed)
            .step(&syn, Expect::end(Reason::ReplyTupleTaken)),
        case(
            "the tuple of a retiring flow is taken until the sweep removes it",
            &retiring,
        )
        .later(
            100 * u64::from(GRACE),
            &syn,
            Expect::end(Reason::FlowEnding),
        ),
    ]
}

/// Tuples that differ are no conflict.
fn other_ports(version: IpVersion) -> Vec<Case> {
    let holder = Pair::tcp(version);
    let other_client_port = Frame {
        source_port: 40_001,
        ..second(version)
    };
    let datagram = Frame {
        protocol: forebay_tests::frame::UDP,
        flags: 0,
        ..second(version)
    };
    let web = |world: &mut World| {
        let id = frontend_id(version, 2);
        let rule = world.rules[&PortKey::new(id, forebay_tests::frame::TCP, 80)];
        world.add_rule(id, forebay_tests::frame::UDP, 80, rule);
    };
    [
        ("another client port is no conflict", other_client_port),
        ("another protocol is no conflict", datagram),
    ]
    .into_iter()
    .map(|(name, frame)| {
        Case::new(version, name)
            .with_flows([&holder])
            .given(web)
            .step(&frame, goes_to(&frame, 0, &[&holder], NOW))
    })
    .collect()
}

/// The alternative is held by a flow that is over, which is dead to a claim.
fn expired_alternative(version: IpVersion) -> Case {
    let holder = Pair::tcp(version);
    let long_ago = NOW - u64::from(holder.idle_timeout) - u64::from(GRACE) - 1;
    let expired = Pair {
        backend: (INSTANCES[1].host, 8_080),
        frontend: (holder.frontend.0, 81),
        ..holder.clone()
    }
    .last_used(long_ago);
    let syn = second(version);
    Case::new(
        version,
        "reply tuple taken: an alternative held by an expired flow is free",
    )
    .with_flows([&holder, &expired])
    .given(|world| place(world, version, &[1, 2, 1]))
    .step(&syn, goes_to(&syn, 1, &[&holder], NOW))
}
