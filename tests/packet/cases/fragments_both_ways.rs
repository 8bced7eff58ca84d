//! Packets in fragments: the first decides, later ones follow, and what does not fit together is lost.

use forebay_common::flow::Direction;
use forebay_common::reason::Reason;
use forebay_tests::case::{Case, Expect};
use forebay_tests::frame::{Fragment, Frame, IcmpMessage};
use forebay_tests::network::IpVersion;
use forebay_tests::network::plan::{CLIENT_2, FRONTEND, GATEWAY, INSTANCES, SOUTH};
use forebay_tests::world::{NOW, Pair, RULE_NAMES, SECOND};

use super::echo::answering;
use super::{answered, inward, opened_pair, outward, requested};

/// The cases.
pub(super) fn cases() -> Vec<Case> {
    IpVersion::BOTH.into_iter().flat_map(of).collect()
}

/// A datagram in pieces of these many octets, all but the last multiples of eight.
pub(super) fn pieces(whole: &Frame, identification: u16, lengths: &[usize]) -> Vec<Frame> {
    let content = whole.transport();
    let mut at = 0;
    lengths
        .iter()
        .enumerate()
        .map(|(number, length)| {
            let piece = Frame {
                raw: Some(content[at..at + length].to_vec()),
                identification,
                fragment: Some(Fragment {
                    offset: (at / 8) as u16,
                    more: number + 1 < lengths.len(),
                }),
                ..whole.clone()
            };
            at += length;
            piece
        })
        .collect()
}

/// A case that is told as a conversation.
struct Talk {
    case: Case,
    pair: Pair,
}

impl Talk {
    fn new(pair: &Pair, text: &str) -> Self {
        Self {
            case: Case::new(pair.version, text).with_flows([pair]),
            pair: pair.clone(),
        }
    }

    /// A piece of the client reaches the instance.
    fn to(mut self, original: &Frame, translated: &Frame, after: u64, now: u64) -> Self {
        self.pair = requested(&self.pair, original, now);
        let expect = Expect::forward(translated.clone(), INSTANCES[0].way())
            .counts(self.pair.rule, Direction::ToInstance, original.ip_length())
            .flows([self.pair.clone()]);
        self.case = self.case.later(after, original, expect);
        self
    }

    /// A piece of the instance reaches the client.
    fn from(mut self, original: &Frame, translated: &Frame) -> Self {
        self.pair = answered(&self.pair, original, NOW);
        let expect = Expect::forward(translated.clone(), GATEWAY.way())
            .counts(
                self.pair.rule,
                Direction::FromInstance,
                original.ip_length(),
            )
            .flows([self.pair.clone()]);
        self.case = self.case.step(original, expect);
        self
    }

    fn lost(mut self, after: u64, frame: &Frame, reason: Reason) -> Self {
        self.case = self.case.later(after, frame, Expect::end(reason));
        self
    }
}

fn of(version: IpVersion) -> Vec<Case> {
    let mut cases = both_ways(version);
    cases.extend(orders(version));
    cases.extend(misfits(version));
    cases.extend(ends(version));
    cases.extend(of_others(version));
    cases.extend(echoes(version));
    if version == IpVersion::V6 {
        cases.extend(behind_headers());
    }
    cases
}

const LENGTHS: [usize; 3] = [1_448, 1_440, 121];

fn total() -> usize {
    LENGTHS.iter().sum()
}

/// The pieces of a request and what the instance gets.
fn request(pair: &Pair, id: u16) -> (Vec<Frame>, Vec<Frame>) {
    let whole = pair.request().with_payload(total() - header(pair));
    (
        pieces(&whole, id, &LENGTHS),
        pieces(&inward(pair, &whole), id, &LENGTHS),
    )
}

fn answer(pair: &Pair, id: u16) -> (Vec<Frame>, Vec<Frame>) {
    let whole = pair.answer().with_payload(total() - header(pair));
    (
        pieces(&whole, id, &LENGTHS),
        pieces(&outward(pair, &whole), id, &LENGTHS),
    )
}

fn header(pair: &Pair) -> usize {
    if pair.protocol == 17 { 8 } else { 20 }
}

/// The sum is over all of the datagram, so it is right only if the pieces together are.
fn both_ways(version: IpVersion) -> Vec<Case> {
    let mut cases = Vec::new();
    for pair in [Pair::udp(version), Pair::tcp(version)] {
        let (sent, becomes) = request(&pair, 0x77);
        let mut talk = Talk::new(
            &pair,
            &format!("a request of protocol {} in fragments", pair.protocol),
        );
        for (sent, becomes) in sent.iter().zip(&becomes) {
            talk = talk.to(sent, becomes, 0, NOW);
        }
        let (sent, becomes) = answer(&pair, 0x77);
        for (sent, becomes) in sent.iter().zip(&becomes) {
            talk = talk.from(sent, becomes);
        }
        cases.push(talk.case);
    }
    let whole = Frame::datagram(version).with_payload(total() - 8);
    let sent = pieces(&whole, 9, &LENGTHS);
    let mut pair = opened_pair(&sent[0], RULE_NAMES, 5_353, NOW);
    let becomes = pieces(&inward(&pair, &whole), 9, &LENGTHS);
    let first = Expect::forward(becomes[0].clone(), INSTANCES[0].way())
        .flows([pair.clone()])
        .opens(RULE_NAMES)
        .counts(RULE_NAMES, Direction::ToInstance, sent[0].ip_length());
    pair = requested(&pair, &sent[1], NOW);
    let second = Expect::forward(becomes[1].clone(), INSTANCES[0].way())
        .flows([pair])
        .counts(RULE_NAMES, Direction::ToInstance, sent[1].ip_length());
    cases.push(
        Case::new(
            version,
            "a first fragment opens a flow, and later ones follow",
        )
        .step(&sent[0], first)
        .step(&sent[1], second),
    );
    cases
}

fn orders(version: IpVersion) -> Vec<Case> {
    let pair = Pair::udp(version);
    let (sent, becomes) = request(&pair, 1);
    let (other, other_becomes) = request(&pair, 2);
    let patience = u64::from(2 * SECOND);
    vec![
        Talk::new(&pair, "later fragments in another order")
            .to(&sent[0], &becomes[0], 0, NOW)
            .to(&sent[2], &becomes[2], 0, NOW)
            .to(&sent[1], &becomes[1], 0, NOW)
            .case,
        Talk::new(&pair, "a later fragment before the first is lost")
            .lost(0, &sent[1], Reason::FragmentWithoutFirst)
            .to(&sent[0], &becomes[0], 0, NOW)
            .to(&sent[1], &becomes[1], 0, NOW)
            .case,
        Talk::new(&pair, "two packets at once, by their identification")
            .to(&sent[0], &becomes[0], 0, NOW)
            .lost(0, &other[1], Reason::FragmentWithoutFirst)
            .to(&other[0], &other_becomes[0], 0, NOW)
            .to(&sent[1], &becomes[1], 0, NOW)
            .to(&other[1], &other_becomes[1], 0, NOW)
            .to(&other[2], &other_becomes[2], 0, NOW)
            .to(&sent[2], &becomes[2], 0, NOW)
            .case,
        Talk::new(&pair, "a first fragment may come again")
            .to(&sent[0], &becomes[0], 0, NOW)
            .to(&sent[1], &becomes[1], 0, NOW)
            .to(&sent[0], &becomes[0], 0, NOW)
            .to(&sent[1], &becomes[1], 0, NOW)
            .case,
        Talk::new(&pair, "a later fragment in time")
            .to(&sent[0], &becomes[0], 0, NOW)
            .to(&sent[1], &becomes[1], patience, NOW + patience)
            .case
            .given(long_lived_hops),
        Talk::new(&pair, "a later fragment too late")
            .to(&sent[0], &becomes[0], 0, NOW)
            .lost(patience + 1, &sent[1], Reason::FragmentWithoutFirst)
            .case,
    ]
}

fn long_lived_hops(world: &mut forebay_tests::world::World) {
    world.settings_mut().hop_lifetime = 10 * SECOND;
}

fn misfits(version: IpVersion) -> Vec<Case> {
    let pair = Pair::udp(version);
    let (sent, becomes) = request(&pair, 1);
    let moved = |frame: &Frame, offset: u16| Frame {
        fragment: Some(Fragment { offset, more: true }),
        ..frame.clone()
    };
    let began = |text: &str| Talk::new(&pair, text).to(&sent[0], &becomes[0], 0, NOW);
    let overlap = Reason::FragmentOverlap;
    let shorter = Frame {
        raw: sent[0].raw.as_ref().map(|raw| raw[..800].to_vec()),
        ..sent[0].clone()
    };
    let cut = |length: usize| Frame {
        raw: sent[0].raw.as_ref().map(|raw| raw[..length].to_vec()),
        ..sent[0].clone()
    };
    let tcp = Pair::tcp(version);
    let (tcp_sent, _) = request(&tcp, 1);
    let tiny = |length: usize| Frame {
        raw: tcp_sent[0].raw.as_ref().map(|raw| raw[..length].to_vec()),
        ..tcp_sent[0].clone()
    };
    let odd = Frame {
        raw: sent[1].raw.as_ref().map(|raw| raw[..1_437].to_vec()),
        ..sent[1].clone()
    };
    let empty = Frame {
        raw: Some(vec![]),
        ..sent[1].clone()
    };
    vec![
        began("a fragment inside the first gives the packet up")
            .lost(0, &moved(&sent[1], 1), overlap)
            .lost(0, &sent[1], overlap)
            .lost(0, &sent[2], overlap)
            .case,
        began("a fragment over the end of the first gives the packet up")
            .lost(0, &moved(&sent[1], 180), overlap)
            .lost(0, &sent[1], overlap)
            .case,
        began("a fragment twice gives the packet up")
            .to(&sent[1], &becomes[1], 0, NOW)
            .lost(0, &sent[1], overlap)
            .lost(0, &sent[2], overlap)
            .case,
        began("another first fragment gives the packet up")
            .lost(0, &shorter, overlap)
            .case,
        Talk::new(&tcp, "a first fragment without a whole TCP header")
            .lost(0, &tiny(8), Reason::FragmentTiny)
            .lost(0, &tiny(16), Reason::FragmentTiny)
            .lost(0, &tcp_sent[1], Reason::FragmentWithoutFirst)
            .case,
        Talk::new(
            &pair,
            "a first fragment of a length that is no multiple of eight",
        )
        .lost(0, &cut(4), Reason::BadLength)
        .lost(0, &cut(1_447), Reason::BadLength)
        .case,
        began("a middle fragment of odd length")
            .lost(0, &odd, Reason::BadLength)
            .case,
        began("a fragment of nothing")
            .lost(0, &empty, Reason::BadLength)
            .case,
    ]
}

/// When the flow, or the packet, goes nowhere.
fn ends(version: IpVersion) -> Vec<Case> {
    let pair = Pair::udp(version);
    let (sent, _) = request(&pair, 1);
    let unruled = Frame {
        destination_port: 54,
        ..sent[0].clone()
    };
    let mut unruled_content = unruled.raw.clone().unwrap_or_default();
    unruled_content[2..4].copy_from_slice(&54_u16.to_be_bytes());
    let unruled = Frame {
        raw: Some(unruled_content),
        ..unruled
    };
    vec![
        Case::new(version, "fragments to a port without a rule")
            .step(&unruled, Expect::end(Reason::NoRule))
            .step(&sent[1], Expect::end(Reason::FragmentWithoutFirst)),
        Case::new(version, "fragments of a first packet without a member")
            .given(|world| world.each_rule(|rule| rule.targets = [0; 2]))
            .step(&sent[0], Expect::end(Reason::NoBackend))
            .step(&sent[1], Expect::end(Reason::FragmentWithoutFirst)),
        ended(version),
    ]
}

/// A flow that is over when the second fragment comes.
fn ended(version: IpVersion) -> Case {
    let mut pair = Pair::udp(version);
    pair.idle_timeout = 100;
    let (sent, becomes) = request(&pair, 1);
    Talk::new(&pair, "a later fragment of a flow that is over")
        .to(&sent[0], &becomes[0], 0, NOW)
        .lost(101, &sent[1], Reason::FragmentWithoutFirst)
        .case
}

fn of_others(version: IpVersion) -> Vec<Case> {
    let pair = Pair::udp(version);
    let (sent, _) = request(&pair, 1);
    let routed = |number: usize| sent[number].clone().towards(CLIENT_2, 53);
    let out = |number: usize| {
        sent[number]
            .clone()
            .from_link(&SOUTH)
            .coming_from(INSTANCES[1].host, 40_000)
            .towards(CLIENT_2, 53)
    };
    let inside = |number: usize| out(number).towards(INSTANCES[2].host, 53);
    let case = |text: &str| Case::new(version, text);
    vec![
        case("fragments between others pass")
            .step(&routed(0), Expect::end(Reason::NotOurs))
            .step(&routed(1), Expect::end(Reason::NotOurs))
            .step(&routed(2), Expect::end(Reason::NotOurs)),
        case("fragments of an instance to the outside do not leave")
            .step(&out(0), Expect::end(Reason::NoOutbound))
            .step(&out(1), Expect::end(Reason::FragmentWithoutFirst)),
        case("fragments between instances pass")
            .step(&inside(0), Expect::end(Reason::InstanceLocal))
            .step(&inside(1), Expect::end(Reason::InstanceLocal)),
    ]
}

/// Each fragment of an echo request is turned around; together they are the reply.
fn echoes(version: IpVersion) -> Vec<Case> {
    let body: Vec<u8> = (0..3_000).map(|n| (n * 3) as u8).collect();
    let request = IcmpMessage::echo(version, &body);
    let pieces = |message: &IcmpMessage| -> Vec<Vec<u8>> {
        let lengths = [1_480, 1_480, 48];
        (0..3)
            .map(|number| message.piece(&lengths, number).build())
            .collect()
    };
    let (sent, replies) = (pieces(&request), pieces(&request.echoed()));
    let turned = |number: usize| Expect {
        frame: Some(replies[number].clone()),
        ..Expect::end(Reason::EchoAnswered)
    };
    let without_first = || Expect::end(Reason::FragmentWithoutFirst);
    let kind = if version == IpVersion::V4 {
        (3, 1)
    } else {
        (1, 3)
    };
    let error = IcmpMessage::about(&sent[0], version, kind, 0)
        .between(FRONTEND, forebay_tests::network::plan::CLIENT);
    let told = Expect {
        frame: Some(error.build()),
        ..Expect::end(Reason::UnreachableSent)
    };
    vec![
        Case::new(
            version,
            "an echo request in fragments is answered in fragments",
        )
        .given(answering)
        .raw(sent[0].clone(), turned(0))
        .raw(sent[2].clone(), turned(2))
        .raw(sent[1].clone(), turned(1)),
        Case::new(version, "an echo request in fragments that is not answered")
            .raw(sent[0].clone(), Expect::end(Reason::EchoUnanswered))
            .raw(sent[1].clone(), without_first()),
        Case::new(version, "an echo request in fragments to nobody")
            .given(|world| {
                world.each_owner(FRONTEND, |owner| {
                    owner.roles |= forebay_common::abi::Owner::ECHO_UNREACHABLE;
                });
            })
            .raw(sent[0].clone(), told)
            .raw(sent[1].clone(), without_first()),
    ]
}

/// The fragment header may be the last of several.
fn behind_headers() -> Vec<Case> {
    let pair = Pair::udp(IpVersion::V6);
    [vec![0], vec![60], vec![0, 60]]
        .into_iter()
        .map(|extensions| {
            let whole = Frame {
                extensions: extensions.clone(),
                ..pair.request().with_payload(total() - 8)
            };
            let sent = pieces(&whole, 3, &[1_400, 1_400, 209]);
            let becomes = pieces(&inward(&pair, &whole), 3, &[1_400, 1_400, 209]);
            let mut talk = Talk::new(&pair, &format!("fragments behind headers {extensions:?}"));
            for (sent, becomes) in sent.iter().zip(&becomes) {
                talk = talk.to(sent, becomes, 0, NOW);
            }
            talk.case
        })
        .collect()
}
