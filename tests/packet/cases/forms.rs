//! Every way of writing a rule: which rule counts for a port, who gets the flow, and at which port (B9-15,
//! B9-18, B9-19).

use forebay_common::abi::{PortKey, Rule};
use forebay_common::flow::{Direction, FlowKind};
use forebay_common::reason::Reason;
use forebay_tests::case::{Case, Expect};
use forebay_tests::frame::{Frame, TCP};
use forebay_tests::network::IpVersion;
use forebay_tests::network::plan::{FRONTEND, INSTANCES};
use forebay_tests::world::{
    NOW, Pair, RULE_EVERY, RULE_NAT, RULE_NAT_POOL, RULE_NAT_RANGE, RULE_RANGE, RULE_SINGLE_ALL,
    RULE_WEB, frontend_id,
};

/// The cases.
pub(super) fn cases() -> Vec<Case> {
    IpVersion::BOTH.into_iter().flat_map(of).collect()
}

/// Who gets a flow by which rule.
struct Goes {
    rule: u32,
    kind: FlowKind,
    instance: usize,
    port: u16,
}

const fn by_rule(rule: u32, instance: usize, port: u16) -> Goes {
    Goes {
        rule,
        kind: FlowKind::Rule,
        instance,
        port,
    }
}

const fn by_nat(rule: u32, instance: usize, port: u16) -> Goes {
    Goes {
        kind: FlowKind::InboundNat,
        ..by_rule(rule, instance, port)
    }
}

fn of(version: IpVersion) -> Vec<Case> {
    let tcp = |port| Frame::of(version).towards(FRONTEND, port);
    let udp = |port| Frame::datagram(version).towards(FRONTEND, port);
    let reached = [
        (
            "a port of no other rule is for port 0",
            tcp(9),
            by_rule(RULE_EVERY, 3, 9),
        ),
        (
            "port 0 takes UDP as well",
            udp(65_535),
            by_rule(RULE_EVERY, 3, 65_535),
        ),
        (
            "port 0 takes the port number 0",
            tcp(0),
            by_rule(RULE_EVERY, 3, 0),
        ),
        (
            "a single port wins over port 0",
            tcp(80),
            by_rule(RULE_WEB, 0, 8_080),
        ),
        (
            "a range wins over port 0",
            tcp(8_001),
            by_rule(RULE_RANGE, 1, 9_001),
        ),
        (
            "the first of a range",
            tcp(8_000),
            by_rule(RULE_RANGE, 1, 9_000),
        ),
        (
            "the last of a range",
            tcp(8_007),
            by_rule(RULE_RANGE, 1, 9_007),
        ),
        ("before a range", tcp(7_999), by_rule(RULE_EVERY, 3, 7_999)),
        ("after a range", tcp(8_008), by_rule(RULE_EVERY, 3, 8_008)),
        (
            "a range of another protocol",
            udp(8_001),
            by_rule(RULE_EVERY, 3, 8_001),
        ),
        (
            "a single port wins over a range, TCP",
            tcp(8_005),
            by_rule(RULE_SINGLE_ALL, 0, 8_005),
        ),
        (
            "protocol all takes UDP as well",
            udp(8_005),
            by_rule(RULE_SINGLE_ALL, 0, 8_005),
        ),
        (
            "an inbound NAT rule in a range",
            tcp(8_003),
            by_nat(RULE_NAT, 2, 22),
        ),
        (
            "the first port over a pool",
            tcp(2_200),
            by_nat(RULE_NAT_POOL, 0, 22),
        ),
        (
            "a later port over a pool",
            tcp(2_203),
            by_nat(RULE_NAT_POOL, 2, 22),
        ),
        (
            "over a pool, the port kept",
            udp(2_202),
            by_nat(RULE_NAT_RANGE, 1, 2_202),
        ),
    ];
    let mut cases: Vec<Case> = reached
        .into_iter()
        .map(|(name, frame, goes)| {
            Case::new(version, name)
                .given(|world| world.add_forms())
                .step(&frame, opens(&frame, &goes))
        })
        .collect();
    for (name, port) in [
        ("a port over a pool that no member has", 2_201),
        ("a port over a pool beyond all members", 2_206),
    ] {
        cases.push(
            Case::new(version, name)
                .given(|world| world.add_forms())
                .step(&tcp(port), Expect::end(Reason::NoBackend)),
        );
    }
    cases.extend([
        idle_timeouts(version),
        instance_is_gone(version),
        beneath_counts(version),
        nothing_is_active(version),
    ]);
    cases
}

fn opens(frame: &Frame, goes: &Goes) -> Expect {
    let instance = &INSTANCES[goes.instance];
    let mut pair = Pair::opened(frame, goes.rule, (instance.host, goes.port), NOW);
    pair.kind = goes.kind;
    pair.to = pair
        .to
        .with_hop(instance.way(), NOW)
        .with_packet(frame, NOW);
    Expect::forward(
        frame.clone().towards(instance.host, goes.port),
        instance.way(),
    )
    .flows([pair])
    .opens(goes.rule)
    .counts(goes.rule, Direction::ToInstance, frame.ip_length())
}

/// One rule for every port has three idle timeouts: TCP, UDP, and UDP port 53.
fn idle_timeouts(version: IpVersion) -> Case {
    let instance = &INSTANCES[3];
    let mut case =
        Case::new(version, "the idle timeout is that of protocol and port").given(|world| {
            world.rules.clear();
            world.add_forms();
            for rule in world.ranges.values_mut() {
                (rule.tcp_idle, rule.udp_idle, rule.udp_dns) = (100, 200, 300);
            }
        });
    let mut pairs = Vec::new();
    for (frame, idle) in [
        (Frame::of(version).towards(FRONTEND, 53), 100),
        (Frame::datagram(version).towards(FRONTEND, 9), 200),
        (Frame::datagram(version).towards(FRONTEND, 53), 300),
    ] {
        let port = frame.destination_port;
        let mut pair = Pair::opened(&frame, RULE_EVERY, (instance.host, port), NOW);
        pair.idle_timeout = idle;
        pair.to = pair
            .to
            .with_hop(instance.way(), NOW)
            .with_packet(&frame, NOW);
        pairs.push(pair);
        let expect = Expect::forward(frame.clone().towards(instance.host, port), instance.way())
            .flows(pairs.clone())
            .opens(RULE_EVERY)
            .counts(RULE_EVERY, Direction::ToInstance, frame.ip_length());
        case = case.step(&frame, expect);
    }
    case
}

fn instance_is_gone(version: IpVersion) -> Case {
    let frame = Frame::of(version).towards(FRONTEND, 8_003);
    Case::new(
        version,
        "an inbound NAT rule whose instance has no address of the family",
    )
    .given(move |world| {
        world.add_forms();
        let key = PortKey::new(frontend_id(version, 1), TCP, 8_003);
        if let Some(rule) = world.rules.get_mut(&key) {
            rule.targets = [0; 2];
        }
    })
    .step(&frame, Expect::end(Reason::NoBackend))
}

fn beneath_counts(version: IpVersion) -> Case {
    let single = Frame::of(version).towards(FRONTEND, 80);
    let mut case = Case::new(version, "what is beneath counts while a rule is not active");
    case = case.given(|world| {
        world.add_forms();
        let every = world.ranges[&(PortKey::new(frontend_id(version, 1), TCP, 0), 0)];
        world.each_rule(|rule| rule.flags &= !Rule::ACTIVE);
        world.beneath = Some(every);
    });
    case.step(&single, opens(&single, &by_rule(RULE_EVERY, 3, 80)))
}

fn nothing_is_active(version: IpVersion) -> Case {
    let frame = Frame::of(version).towards(FRONTEND, 8_001);
    Case::new(version, "a rule that is not active is none")
        .given(|world| {
            world.add_forms();
            world.each_rule(|rule| rule.flags &= !Rule::ACTIVE);
        })
        .step(&frame, Expect::end(Reason::NoRule))
}
