//! A flow is trusted when both sides have proven to talk, and works before.

use forebay_common::abi::Reverse;
use forebay_common::flow::{Direction, Seen};
use forebay_common::reason::Reason;
use forebay_tests::case::{Case, Expect};
use forebay_tests::frame::{ACK, Frame, SYN};
use forebay_tests::network::plan::{CLIENT_2, FRONTEND, GATEWAY, INSTANCES, SOUTH};
use forebay_tests::network::{Host, IpVersion, Side};
use forebay_tests::world::{
    FamilyWorld, Half, NOW, Pair, RULE_NAMES, RULE_SPREAD, RULE_WEB, World,
};

use super::{answered, opened_pair, opens, reaches_client, reaches_instance, requested};

/// Sequence number of the instance's SYN.
const BEGIN: u32 = 7_000;
/// The same, where numbers are about to wrap.
const WRAPS: u32 = u32::MAX;

/// The cases.
pub(super) fn cases() -> Vec<Case> {
    IpVersion::BOTH.into_iter().flat_map(of).collect()
}

fn of(version: IpVersion) -> Vec<Case> {
    let mut cases = Vec::new();
    for begin in [BEGIN, WRAPS] {
        for (what, heard, trusted) in [
            ("the right acknowledgement", 1, 1),
            ("an acknowledgement of one less", 0, 0),
            ("an acknowledgement of one more", 2, 0),
        ] {
            let name = format!("{what} of SYN {begin} leaves {trusted} trusted flows");
            let handshake = Handshake::new(version, &name, |_| {}, begin);
            cases.push(
                handshake
                    .acknowledged(begin.wrapping_add(heard), trusted)
                    .case,
            );
        }
    }
    cases.extend([
        data_moves_the_proof(version),
        without_an_answer(version),
        datagrams(version),
        retransmission(version),
    ]);
    cases.extend(full(version));
    cases.extend(reverse(version));
    cases
}

/// A SYN and its answer.
struct Handshake {
    case: Case,
    pair: Pair,
}

impl Handshake {
    fn new(version: IpVersion, name: &str, change: fn(&mut World), begin: u32) -> Self {
        let syn = Frame::of(version);
        let opened = opened_pair(&syn, RULE_WEB, 8_080, NOW);
        let case = Case::new(version, name)
            .given(change)
            .step(&syn, opens(&syn, RULE_WEB, 8_080, NOW).trusted(0));
        let mut handshake = Self { case, pair: opened };
        let answer = Frame {
            sequence: begin,
            ..handshake.pair.answer().flagged(SYN | ACK).with_payload(0)
        };
        handshake.pair.from = handshake.pair.from.with_hop(GATEWAY.way(), NOW);
        handshake.pair.seen_from = Seen::SYN;
        handshake.answers(&answer)
    }

    /// The instance sends something, which proves nothing.
    fn answers(mut self, answer: &Frame) -> Self {
        self.pair = answered(&self.pair, answer, NOW);
        let expect = reaches_client(answer, self.pair.clone()).trusted(0);
        self.case = self.case.step(answer, expect);
        self
    }

    /// The client acknowledges something.
    fn acknowledged(mut self, acknowledgement: u32, trusted: usize) -> Self {
        let ack = Frame {
            acknowledgement,
            ..self.pair.request().flagged(ACK).with_payload(0)
        };
        self.pair = requested(&self.pair, &ack, NOW);
        self.pair.seen_to = Seen::SYN.with(Seen::ACK);
        let expect = reaches_instance(&ack, self.pair.clone()).trusted(trusted);
        self.case = self.case.step(&ack, expect);
        self
    }
}

fn data_moves_the_proof(version: IpVersion) -> Case {
    let name = "what the instance has sent since may be acknowledged, and no more";
    let mut handshake = Handshake::new(version, name, |_| {}, BEGIN);
    let data = Frame {
        sequence: BEGIN + 1,
        ..handshake.pair.answer().with_payload(100)
    };
    handshake.pair.seen_from = Seen::SYN.with(Seen::ACK);
    handshake
        .answers(&data)
        .acknowledged(BEGIN + 102, 0)
        .acknowledged(BEGIN, 0)
        .acknowledged(BEGIN + 101, 1)
        .case
}

/// A client that nobody answers proves nothing, whatever it acknowledges.
fn without_an_answer(version: IpVersion) -> Case {
    let syn = Frame::of(version);
    let opened = opened_pair(&syn, RULE_WEB, 8_080, NOW);
    let mut case = Case::new(version, "without an answer nothing is trusted")
        .step(&syn, opens(&syn, RULE_WEB, 8_080, NOW).trusted(0));
    let mut pair = opened;
    pair.seen_to = Seen::SYN.with(Seen::ACK);
    for acknowledgement in [0, 1, BEGIN] {
        let ack = Frame {
            acknowledgement,
            ..pair.request()
        };
        pair = requested(&pair, &ack, NOW);
        case = case.step(&ack, reaches_instance(&ack, pair.clone()).trusted(0));
    }
    case
}

fn datagrams(version: IpVersion) -> Case {
    let question = Frame::datagram(version);
    let mut pair = opened_pair(&question, RULE_NAMES, 5_353, NOW);
    let expect = opens(&question, RULE_NAMES, 5_353, NOW).trusted(0);
    let mut case = Case::new(
        version,
        "datagrams are trusted after three each way, and not before",
    )
    .step(&question, expect);
    let questions = |case: Case, pair: &mut Pair, trusted| {
        let frame = pair.request();
        *pair = requested(pair, &frame, NOW);
        case.step(
            &frame,
            reaches_instance(&frame, pair.clone()).trusted(trusted),
        )
    };
    let answers = |case: Case, pair: &mut Pair, trusted| {
        let frame = pair.answer();
        *pair = answered(pair, &frame, NOW);
        case.step(
            &frame,
            reaches_client(&frame, pair.clone()).trusted(trusted),
        )
    };
    for _ in 0..4 {
        case = questions(case, &mut pair, 0);
    }
    pair.from = pair.from.with_hop(GATEWAY.way(), NOW);
    pair.seen_from = Seen::PACKET;
    for trusted in [0, 0, 1, 1] {
        case = answers(case, &mut pair, trusted);
    }
    questions(case, &mut pair, 1)
}

/// Where the table is as full as it may get, a flow that has proven itself goes on untrusted.
fn full(version: IpVersion) -> [Case; 2] {
    let of = |name, change, trusted| {
        let handshake = Handshake::new(version, name, change, BEGIN);
        let handshake = handshake.acknowledged(BEGIN + 1, trusted);
        handshake.acknowledged(BEGIN + 1, trusted).case
    };
    let full: fn(&mut World) = |world| world.settings_mut().promote_below = 0;
    let empty: fn(&mut World) = |world| world.settings_mut().promote_below = 1;
    [
        of("above the mark nothing becomes trusted", full, 0),
        of("below the mark what has proven itself does", empty, 1),
    ]
}

fn retransmission(version: IpVersion) -> Case {
    let syn = Frame::of(version).towards(FRONTEND, 443);
    let member = INSTANCES[0];
    let mut pair = Pair::opened(&syn, RULE_SPREAD, (member.host, 443), NOW);
    pair.to = pair.to.with_hop(member.way(), NOW).with_packet(&syn, NOW);
    let again = requested(&pair, &syn, NOW + 3);
    let name = "a SYN that is sent again keeps its member after the pool has changed";
    let mut case = Case::new(version, name)
        .given(|world| world.only_backend(1))
        .step(
            &syn,
            reaches_instance(&syn, pair).opens(RULE_SPREAD).trusted(0),
        )
        .reconfigured(
            |world| world.only_backend(2),
            &syn,
            reaches_instance(&syn, again).trusted(0),
        );
    case.steps[1].after = 3;
    case
}

/// The ports 8,080 and 8,081 of the first instance are those of the frontend's ports 80 and 81, and nobody else's.
fn alone(world: &mut World) {
    alone_in(&mut world.v4);
    alone_in(&mut world.v6);
}

fn alone_in<A: Side>(part: &mut FamilyWorld<A>) {
    let reverse = Reverse {
        frontend: FRONTEND.raw(),
        port_offset: 0_u16.wrapping_sub(8_000),
        padding: [0; 3],
    };
    let ports = (INSTANCES[0].host.raw(), 8_080, 8_081);
    part.reverse.insert(ports, reverse);
}

/// A packet of the first instance to somebody, from a port.
fn reply(version: IpVersion, to: Host, port: u16) -> Frame {
    Frame {
        sequence: BEGIN,
        ..Frame::of(version)
            .flagged(ACK)
            .from_link(&SOUTH)
            .coming_from(INSTANCES[0].host, port)
            .towards(to, 40_000)
    }
}

/// The flow that such a packet takes up.
fn taken_up(version: IpVersion, answer: &Frame, seen: Seen) -> Pair {
    let mut pair = Pair::opened(
        &Frame::of(version),
        RULE_WEB,
        (INSTANCES[0].host, 8_080),
        NOW,
    );
    pair.client = (answer.destination, answer.destination_port);
    pair.seen_to = Seen::default();
    pair.seen_from = seen;
    let half = Half {
        last_seen: NOW,
        ..Half::default()
    };
    pair.to = half;
    pair.from = half.with_hop(GATEWAY.way(), NOW).with_packet(answer, NOW);
    pair
}

fn reverse(version: IpVersion) -> Vec<Case> {
    let case = |name: &str| Case::new(version, name).given(alone);
    let refused = Expect::end(Reason::NoOutbound);
    let mut cases = Vec::new();
    for (name, flags, seen) in [
        ("a reply whose flow is lost is taken up", ACK, Seen::ACK),
        (
            "an answering SYN whose flow is lost is taken up",
            SYN | ACK,
            Seen::SYN,
        ),
    ] {
        let answer = reply(version, CLIENT_2, 8_080).flagged(flags);
        let pair = taken_up(version, &answer, seen);
        let frontend = answer.clone().coming_from(FRONTEND, 80);
        let expect = Expect::forward(frontend, GATEWAY.way())
            .counts(RULE_WEB, Direction::FromInstance, answer.ip_length())
            .opens(RULE_WEB)
            .flows([pair])
            .trusted(0);
        cases.push(case(name).step(&answer, expect));
    }
    let syn = reply(version, CLIENT_2, 8_080).flagged(SYN);
    let answer = reply(version, CLIENT_2, 8_080);
    let elsewhere = reply(version, CLIENT_2, 8_082);
    let ruleless = reply(version, CLIENT_2, 8_081);
    let inside = Host::new([10, 200, 0, 1], [0xfd12, 3, 0, 0, 0, 0, 0, 1]);
    let to_inside = reply(version, inside, 8_080);
    cases.extend([
        case("what opens a connection is no reply").step(&syn, refused.clone()),
        case("another port's reply is none").step(&elsewhere, refused.clone()),
        case("a reply of a port that has no rule any more is none")
            .step(&ruleless, refused.clone()),
        case("a reply to the virtual network stays as it is")
            .step(&to_inside, Expect::end(Reason::InstanceLocal)),
        Case::new(version, "without an entry a reply without a flow is none")
            .step(&answer, refused),
    ]);
    cases
}
