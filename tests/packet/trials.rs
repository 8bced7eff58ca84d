//! The node's own trials go the way of a client's SYN, their answers are caught, and nobody else can use them.

use etherparse::{SlicedPacket, TransportSlice};
use forebay_common::abi::Trial;
use forebay_common::reason::Reason;
use forebay_common::wire::Mac;
use forebay_tests::engine::{Action, Engine, Keys, Model, Retire, with_live};
use forebay_tests::frame::{ACK, Frame, IcmpMessage, RST, SYN, UDP, decode, verify};
use forebay_tests::network::plan::{CLIENT, FRONTEND, INSTANCES, NORTH, SOUTH};
use forebay_tests::network::{Host, IpVersion};
use forebay_tests::world::World;

/// The reserved source.
const TRIALS: Host = Host::new([192, 0, 0, 8], [0x100, 0, 0, 0, 0, 0, 0, 8]);
const PORT: u16 = 40_123;
const SECRET: [u8; 6] = [2, 7, 1, 8, 2, 8];
const SEQUENCE: u32 = 0xffff_ffff;
/// What its answer acknowledges: numbers wrap.
const ACKNOWLEDGED: u32 = 0;

fn on_both(test: fn(&mut dyn Engine, IpVersion)) {
    for version in IpVersion::BOTH {
        test(&mut Model::default(), version);
    }
    with_live(|live| {
        for version in IpVersion::BOTH {
            test(live, version);
        }
    });
}

/// A world with a trial that has begun.
fn world() -> World {
    let mac = Mac::from_octets(SECRET);
    let trial = Trial {
        port: PORT.into(),
        mac_head: mac.head,
        mac_tail: mac.tail.into(),
        acknowledged: ACKNOWLEDGED,
        ..Trial::default()
    };
    let mut world = World::default();
    world.trials.insert(Trial::place(PORT), trial);
    world
}

fn syn(version: IpVersion) -> Frame {
    Frame {
        macs: [SECRET, NORTH.mac],
        sequence: SEQUENCE,
        ..Frame::of(version).coming_from(TRIALS, PORT)
    }
}

/// What the first instance says to whoever a trial seems to be.
fn answer(version: IpVersion, flags: u8) -> Frame {
    Frame {
        macs: [INSTANCES[0].mac, SOUTH.mac],
        ingress: &SOUTH,
        sequence: 7_000,
        acknowledgement: ACKNOWLEDGED,
        ..Frame::of(version)
            .coming_from(INSTANCES[0].host, 8_080)
            .towards(TRIALS, PORT)
            .flagged(flags)
    }
}

/// The same with the right acknowledgement.
fn right(version: IpVersion, flags: u8) -> Frame {
    Frame {
        acknowledgement: ACKNOWLEDGED,
        ..answer(version, flags)
    }
}

/// Runs a frame: where it goes, and what it is counted under.
fn run(engine: &mut dyn Engine, frame: &Frame) -> (Action, Reason, Vec<u8>) {
    let outcome = engine.run(&frame.build(), frame.ingress);
    (outcome.action, outcome.reason(), outcome.frame)
}

/// Runs a trial that leaves.
fn begin(engine: &mut dyn Engine, version: IpVersion) {
    engine.load(&world());
    let (action, reason, _) = run(engine, &syn(version));
    assert_eq!((action, reason), (Action::Redirect, Reason::Trial));
}

fn trial(engine: &dyn Engine) -> Trial {
    engine.trials()[&Trial::place(PORT)]
}

#[test]
fn a_trial_goes_where_a_client_would_and_counts_for_nothing() {
    on_both(|engine, version| {
        engine.load(&world());
        let (action, reason, frame) = run(engine, &syn(version));
        let expected = syn(version)
            .towards(INSTANCES[0].host, 8_080)
            .leaving(INSTANCES[0].way())
            .build();
        assert_eq!(
            (action, reason),
            (Action::Redirect, Reason::Trial),
            "{}",
            engine.name()
        );
        assert!(frame == expected, "{}", decode(&frame));
        assert_eq!(trial(engine).reason(), Some(Reason::Forwarded as u32));
        assert!(!trial(engine).is_answered());
        assert!(engine.rule_counters().is_empty());
        assert_eq!(engine.flows().trusted(), [0, 0]);
    });
}

#[test]
fn its_answer_is_caught_and_the_instance_gets_a_reset() {
    on_both(|engine, version| {
        begin(engine, version);
        let answered = right(version, SYN | ACK);
        for _ in 0..2 {
            let (action, reason, frame) = run(engine, &answered);
            assert_eq!((action, reason), (Action::Transmit, Reason::Trial));
            let text = decode(&frame).to_string();
            verify(&frame).unwrap();
            let found = SlicedPacket::from_ethernet(&frame).unwrap();
            let Some(TransportSlice::Tcp(tcp)) = found.transport else {
                panic!("no TCP: {text}")
            };
            assert!(tcp.rst() && !tcp.syn() && !tcp.ack(), "{text}");
            assert_eq!(tcp.sequence_number(), ACKNOWLEDGED, "{text}");
            assert_eq!(
                (tcp.source_port(), tcp.destination_port()),
                (PORT, 8_080),
                "{text}"
            );
            assert_eq!(frame[..6], INSTANCES[0].mac);
        }
        assert!(trial(engine).is_answered());
        assert!(engine.rule_counters().is_empty());
        assert_eq!(engine.flows().trusted(), [0, 0]);
    });
}

#[test]
fn a_reset_is_an_answer_too_and_has_none() {
    on_both(|engine, version| {
        begin(engine, version);
        let (action, reason, _) = run(engine, &right(version, RST | ACK));
        assert_eq!((action, reason), (Action::Drop, Reason::Trial));
        assert!(trial(engine).is_answered());
    });
}

#[test]
fn an_answer_that_acknowledges_something_else_is_none() {
    on_both(|engine, version| {
        begin(engine, version);
        let wrong = Frame {
            acknowledgement: ACKNOWLEDGED + 1,
            ..right(version, SYN | ACK)
        };
        let (action, reason, _) = run(engine, &wrong);
        assert_eq!((action, reason), (Action::Transmit, Reason::ResetSent));
        let silent = right(version, RST);
        assert_eq!(run(engine, &silent).1, Reason::NoFlow);
        let other = INSTANCES[1];
        let stranger = Frame {
            macs: [other.mac, SOUTH.mac],
            ..right(version, SYN | ACK).coming_from(other.host, 8_080)
        };
        let (action, reason, _) = run(engine, &stranger);
        assert_eq!((action, reason), (Action::Drop, Reason::NoOutbound));
        assert!(!trial(engine).is_answered());
    });
}

#[test]
fn once_its_flow_is_forgotten_nothing_leaves() {
    on_both(|engine, version| {
        begin(engine, version);
        let keys = Keys::of(&engine.flows());
        engine.retire(Retire::Forget, &keys);
        let (action, reason, _) = run(engine, &right(version, SYN | ACK));
        assert_eq!((action, reason), (Action::Drop, Reason::NoOutbound));
        assert!(!trial(engine).is_answered());
        // Nor does what an instance begins by itself.
        assert_eq!(run(engine, &answer(version, SYN)).1, Reason::NoOutbound);
    });
}

#[test]
fn nobody_outside_sends_trials() {
    on_both(|engine, version| {
        engine.load(&world());
        let forged = Frame {
            macs: [[2, 7, 1, 8, 2, 9], NORTH.mac],
            ..syn(version)
        };
        let elsewhere = syn(version).coming_from(TRIALS, PORT + 1);
        let datagram = Frame {
            macs: [CLIENT_MAC, NORTH.mac],
            ..Frame::datagram(version).coming_from(TRIALS, PORT)
        };
        assert_eq!(datagram.protocol, UDP);
        for frame in [forged, elsewhere, datagram] {
            let (action, reason, _) = run(engine, &frame);
            assert_eq!((action, reason), (Action::Drop, Reason::BadSource));
        }
        assert_eq!(trial(engine).verdict, 0);
        assert!(Keys::of(&engine.flows()).v4.is_empty());
        assert!(Keys::of(&engine.flows()).v6.is_empty());
    });
}

const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 9, 9];

#[test]
fn a_trial_that_does_not_leave_says_why_and_tells_nobody() {
    on_both(|engine, version| {
        let told = |engine: &mut dyn Engine, world: &World, frame: &Frame| {
            engine.load(world);
            let before = frame.build();
            let (action, reason, after) = run(engine, frame);
            assert_eq!((action, reason), (Action::Drop, Reason::Trial));
            assert!(before == after);
            trial(engine).reason()
        };
        let mut empty = world();
        empty.only_backend(99);
        let reason = told(engine, &empty, &syn(version));
        assert_eq!(reason, Some(Reason::NoBackend as u32));
        let reason = told(engine, &world(), &syn(version).towards(FRONTEND, 81));
        assert_eq!(reason, Some(Reason::NoRule as u32));
        // A client would be told.
        let mut expired = syn(version);
        expired.hops = 1;
        let reason = told(engine, &world(), &expired);
        assert_eq!(reason, Some(Reason::HopsExceeded as u32));
    });
}

#[test]
fn trials_are_not_limited_as_the_flows_of_a_client_are() {
    on_both(|engine, version| {
        let mut world = world();
        world.settings_mut().new_flow_cost = forebay_common::abi::Settings::COSTS * 1_000;
        engine.load(&world);
        for _ in 0..3 {
            let (action, reason, _) = run(engine, &syn(version));
            assert_eq!((action, reason), (Action::Redirect, Reason::Trial));
            let keys = Keys::of(&engine.flows());
            engine.retire(Retire::Forget, &keys);
        }
        let mut opened = |port| run(engine, &Frame::of(version).coming_from(CLIENT, port)).1;
        assert_eq!(opened(41_000), Reason::Forwarded);
        assert_eq!(opened(41_001), Reason::NewFlowLimit);
    });
}

#[test]
fn what_takes_it_back_reaches_the_same_instance() {
    on_both(|engine, version| {
        begin(engine, version);
        let reset = Frame {
            sequence: ACKNOWLEDGED,
            ..syn(version).flagged(RST)
        };
        let (action, reason, frame) = run(engine, &reset);
        assert_eq!((action, reason), (Action::Redirect, Reason::Trial));
        let expected = reset.towards(INSTANCES[0].host, 8_080);
        assert!(frame == expected.leaving(INSTANCES[0].way()).build());
    });
}

#[test]
fn an_error_about_a_trial_goes_no_further() {
    on_both(|engine, version| {
        begin(engine, version);
        let sent = syn(version).towards(INSTANCES[0].host, 8_080);
        let prohibited = match version {
            IpVersion::V4 => (3, 13),
            IpVersion::V6 => (1, 1),
        };
        let error = IcmpMessage::error(INSTANCES[0].host, &sent, prohibited, 0)
            .from_link(INSTANCES[0].mac, &SOUTH);
        let outcome = engine.run(&error.build(), &SOUTH);
        assert_eq!(
            (outcome.action, outcome.reason()),
            (Action::Drop, Reason::Trial)
        );
        assert!(!trial(engine).is_answered());
    });
}
