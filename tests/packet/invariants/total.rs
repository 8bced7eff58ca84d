//! Any bytes get a verdict: the program never gives up, the pipeline never panics.

use forebay_common::reason::Fate;
use forebay_tests::chance::Chance;
use forebay_tests::engine::{Action, Engine, Model, SHORTEST};
use forebay_tests::frame::Frame;
use forebay_tests::network::IpVersion;
use forebay_tests::network::plan::{LINKS, NORTH};
use forebay_tests::random;
use forebay_tests::world::World;

use super::{on_both, random_frames};

#[test]
fn total_random_bytes_get_a_verdict() {
    on_both(8_000, |engine, rounds| {
        engine.load(&World::default());
        let mut chance = Chance::new(9);
        for _ in 0..rounds {
            let frame = random::bytes(&mut chance);
            let link = LINKS[chance.below(LINKS.len() as u64) as usize];
            let outcome = engine.run(&frame, link);
            assert_ne!(outcome.action, Action::Aborted);
        }
    });
}

#[test]
fn total_damaged_frames_get_a_verdict() {
    on_both(60, |engine, sequences| {
        random_frames(
            engine,
            sequences,
            |_| {},
            |event| {
                assert_ne!(
                    event.outcome.action,
                    Action::Aborted,
                    "{}",
                    event.ingress.name
                );
                let (before, after) = (event.frame.len(), event.outcome.frame.len());
                let may_change = match event.outcome.reason().fate() {
                    Fate::Answer => true,
                    // Tags.
                    Fate::Forward => matches!(before.abs_diff(after), 0 | 4 | 8),
                    Fate::Pass | Fate::Drop | Fate::Own => before == after,
                };
                assert!(may_change, "{before} to {after} bytes");
            },
        );
    });
}

#[test]
fn total_any_cut_of_a_frame_gets_a_verdict() {
    on_both(4, |engine, _| {
        engine.load(&World::default());
        for version in IpVersion::BOTH {
            for frame in [
                Frame::of(version).with_payload(9),
                Frame::datagram(version),
                Frame {
                    tags: vec![(0x8100, 1), (0x88a8, 2)],
                    ..Frame::of(version)
                },
            ] {
                let bytes = frame.build();
                for length in SHORTEST..=bytes.len() {
                    let outcome = engine.run(&bytes[..length], frame.ingress);
                    assert_ne!(outcome.action, Action::Aborted, "{length} bytes");
                }
            }
        }
    });
}

#[test]
fn total_frames_too_short_for_the_kernel_get_a_verdict() {
    let mut model = Model::of(&World::default());
    let bytes = Frame::default().build();
    for length in 0..=SHORTEST {
        let outcome = model.run(&bytes[..length], &NORTH);
        assert_eq!(outcome.action, Action::Pass, "{length} bytes");
        assert_eq!(outcome.reason(), forebay_common::reason::Reason::Runt);
    }
}

#[test]
fn total_every_value_of_every_header_byte_gets_a_verdict() {
    on_both(4, |engine, rounds| {
        engine.load(&World::default());
        // All 256 values in the model, every fifth and the last in the kernel.
        let step = if rounds == 4 { 1 } else { 5 };
        for version in IpVersion::BOTH {
            let frame = Frame::of(version);
            let bytes = frame.build();
            for at in 12..bytes.len() {
                for value in (0..=255_u8).step_by(step) {
                    let mut changed = bytes.clone();
                    changed[at] = value;
                    let outcome = engine.run(&changed, frame.ingress);
                    assert_ne!(outcome.action, Action::Aborted, "byte {at} is {value:#04x}");
                }
            }
        }
    });
}
