//! A RST ends a flow only if its receiver would believe it.

use forebay_common::flow::Seen;
use forebay_common::reason::Reason;
use forebay_tests::case::{Case, Expect};
use forebay_tests::frame::{ACK, Frame, RST};
use forebay_tests::network::IpVersion;
use forebay_tests::world::{NOW, Pair};

use super::{answered, reaches_client, reaches_instance, requested};

/// How far beyond the last acknowledgement a RST may lie.
const WINDOW: u32 = 1 << 22;

/// The cases.
pub(super) fn cases() -> Vec<Case> {
    IpVersion::BOTH.into_iter().flat_map(of).collect()
}

fn of(version: IpVersion) -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, ahead, believed) in [
        ("exactly what is expected", 0, true),
        ("inside the window", 1_000, true),
        ("at the end of the window", WINDOW, true),
        ("beyond the window", WINDOW + 1, false),
        ("before what was acknowledged", 0_u32.wrapping_sub(1), false),
        ("far away", 1 << 31, false),
    ] {
        cases.push(of_client(version, name, ahead, believed));
        cases.push(of_instance(version, name, ahead, believed));
    }
    cases.extend([
        refused(version),
        without_flow(version, RST),
        without_flow(version, RST | ACK),
        twice(version),
        after_fins(version),
    ]);
    cases
}

fn verdict(believed: bool) -> &'static str {
    if believed {
        "ends the flow"
    } else {
        "passes and ends nothing"
    }
}

fn of_client(version: IpVersion, name: &str, ahead: u32, believed: bool) -> Case {
    let mut pair = Pair::tcp(version).last_used(NOW - 100);
    // Just below the wrap of sequence numbers.
    pair.from.last_ack = 0xffff_fff0;
    let rst = Frame {
        sequence: pair.from.last_ack.wrapping_add(ahead),
        ..pair.request().flagged(RST)
    };
    let mut after = requested(&pair, &rst, NOW);
    if believed {
        after.seen_to = after.seen_to.with(Seen::RST);
        after.from.last_seen = NOW;
    }
    let name = format!("a RST of the client {name} {}", verdict(believed));
    Case::new(version, &name)
        .with_flows([&pair])
        .step(&rst, reaches_instance(&rst, after))
}

fn of_instance(version: IpVersion, name: &str, ahead: u32, believed: bool) -> Case {
    let mut pair = Pair::tcp(version).last_used(NOW - 100);
    pair.to.last_ack = 0xffff_fff0;
    let rst = Frame {
        sequence: pair.to.last_ack.wrapping_add(ahead),
        ..pair.answer().flagged(RST | ACK)
    };
    let mut after = answered(&pair, &rst, NOW);
    if believed {
        after.seen_from = after.seen_from.with(Seen::RST);
        after.to.last_seen = NOW;
    }
    let name = format!("a RST of the instance {name} {}", verdict(believed));
    Case::new(version, &name)
        .with_flows([&pair])
        .step(&rst, reaches_client(&rst, after))
}

fn refused(version: IpVersion) -> Case {
    let mut pair = Pair::tcp(version).last_used(NOW - 100);
    pair.seen_to = Seen::SYN;
    pair.seen_from = Seen::default();
    pair.to.last_ack = 0;
    let rst = Frame {
        sequence: 0,
        ..pair.answer().flagged(RST | ACK)
    };
    let mut after = answered(&pair, &rst, NOW);
    after.seen_from = Seen::RST.with(Seen::ACK);
    after.to.last_seen = NOW;
    Case::new(version, "a RST in answer to a SYN is believed")
        .with_flows([&pair])
        .step(&rst, reaches_client(&rst, after))
}

fn without_flow(version: IpVersion, flags: u8) -> Case {
    Case::new(
        version,
        &format!("a RST with flags {flags:#04x} opens no flow"),
    )
    .step(
        &Frame::of(version).flagged(flags),
        Expect::end(Reason::NoFlow),
    )
}

fn twice(version: IpVersion) -> Case {
    let mut pair = Pair::tcp(version);
    pair.seen_from = pair.seen_from.with(Seen::RST);
    let rst = Frame {
        sequence: pair.to.last_ack,
        ..pair.answer().flagged(RST)
    };
    let after = answered(&pair, &rst, NOW);
    Case::new(version, "a second RST does not prolong the flow")
        .with_flows([&pair])
        .later(100, &rst, reaches_client(&rst, after))
}

/// The flow is kept for `tcp_rst` from the RST on, not from the FINs.
fn after_fins(version: IpVersion) -> Case {
    let mut pair = Pair::tcp(version);
    pair.seen_to = pair.seen_to.with(Seen::FIN);
    pair.seen_from = pair.seen_from.with(Seen::FIN);
    let rst = Frame {
        sequence: pair.to.last_ack,
        ..pair.answer().flagged(RST)
    };
    let mut after = answered(&pair, &rst, NOW + 100);
    after.seen_from = after.seen_from.with(Seen::RST);
    after.to.last_seen = NOW + 100;
    Case::new(
        version,
        "a RST after both FINs starts the time of a reset flow",
    )
    .with_flows([&pair])
    .later(100, &rst, reaches_client(&rst, after))
}
