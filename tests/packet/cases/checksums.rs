//! Checksums at the corners; every other case compares with checksums recomputed in full as well.

use forebay_tests::case::Case;
use forebay_tests::frame::{Checksum, Frame};
use forebay_tests::network::IpVersion;
use forebay_tests::world::{NOW, Pair};

use super::{answered, inward, outward, reaches_client, reaches_instance, requested};

/// The cases.
pub(super) fn cases() -> Vec<Case> {
    IpVersion::BOTH.into_iter().flat_map(of).collect()
}

fn of(version: IpVersion) -> Vec<Case> {
    let mut cases = Vec::new();
    let udp = Pair::udp(version);
    let bare = |frame: Frame| Frame {
        checksum: Checksum::Value(0),
        ..frame
    };
    cases.extend(both(version, "a UDP checksum of zero stays", &udp, bare));
    for (what, pair) in [("UDP", udp), ("TCP", Pair::tcp(version))] {
        let before = |frame: Frame| summing_to_zero(&frame, |frame| frame.clone());
        let name = format!("a {what} checksum that adds up to zero before translation");
        cases.extend(both(version, &name, &pair, before));
        let inside = pair.clone();
        let after = move |frame: Frame| {
            summing_to_zero(&frame, |frame| {
                if frame.source == inside.client.0 {
                    inward(&inside, frame)
                } else {
                    outward(&inside, frame)
                }
            })
        };
        let name = format!("a {what} checksum that adds up to zero after translation");
        cases.extend(both(version, &name, &pair, after));
        let ones = |frame: Frame| Frame {
            payload: vec![0xff; 51],
            ..frame
        };
        cases.extend(both(
            version,
            &format!("{what} data of all ones"),
            &pair,
            ones,
        ));
        let zeros = |frame: Frame| Frame {
            payload: vec![0; 51],
            ..frame
        };
        cases.extend(both(
            version,
            &format!("{what} data of all zeros"),
            &pair,
            zeros,
        ));
    }
    if version == IpVersion::V4 {
        cases.extend(options(&Pair::tcp(version)));
        cases.extend(options(&Pair::udp(version)));
    }
    cases
}

/// A request and an answer that were changed alike.
fn both(version: IpVersion, name: &str, pair: &Pair, change: impl Fn(Frame) -> Frame) -> [Case; 2] {
    let (request, answer) = (change(pair.request()), change(pair.answer()));
    [
        Case::new(version, &format!("{name}, request"))
            .with_flows([pair])
            .step(
                &request,
                reaches_instance(&request, requested(pair, &request, NOW)),
            ),
        Case::new(version, &format!("{name}, answer"))
            .with_flows([pair])
            .step(
                &answer,
                reaches_client(&answer, answered(pair, &answer, NOW)),
            ),
    ]
}

/// The frame with two bytes of payload that make the checksum of `seen(frame)` add up to zero.
fn summing_to_zero(frame: &Frame, seen: impl Fn(&Frame) -> Frame) -> Frame {
    let with = |payload: [u8; 2]| Frame {
        payload: payload.to_vec(),
        ..frame.clone()
    };
    let bytes = seen(&with([0, 0])).build();
    let at = match frame.protocol {
        forebay_tests::frame::UDP => bytes.len() - 4,
        _ => bytes.len() - 6,
    };
    let checksum = [bytes[at], bytes[at + 1]];
    let changed = with(checksum);
    let bytes = seen(&changed).build();
    let sum = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    assert!(sum == 0 || sum == 0xffff, "{sum:#06x}");
    changed
}

/// IPv4 options belong to the header checksum and move the transport header.
fn options(pair: &Pair) -> Vec<Case> {
    [1, 5, 10]
        .into_iter()
        .flat_map(|option_words| {
            let with = |frame: Frame| Frame {
                option_words,
                ..frame
            };
            let name = format!(
                "protocol {} after {} bytes of options",
                pair.protocol,
                4 * option_words
            );
            both(IpVersion::V4, &name, pair, with)
        })
        .collect()
}
