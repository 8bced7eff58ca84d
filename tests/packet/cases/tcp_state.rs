//! What a TCP flow has been through decides how long it lives.

use forebay_common::flow::Seen;
use forebay_tests::case::Case;
use forebay_tests::frame::{ACK, FIN, Frame, SYN};
use forebay_tests::network::IpVersion;
use forebay_tests::network::plan::GATEWAY;
use forebay_tests::world::{NOW, Pair, RULE_WEB};

use super::{answered, opened_pair, opens, reaches_client, reaches_instance, requested};

const NONE: Seen = Seen(0);

/// The cases.
pub(super) fn cases() -> Vec<Case> {
    IpVersion::BOTH.into_iter().flat_map(of).collect()
}

fn of(version: IpVersion) -> Vec<Case> {
    let mut cases = vec![
        handshake(version),
        mid_connection(version),
        closing(version),
        late_packets(version),
        retransmitted_syn(version),
        simultaneous_open(version),
    ];
    cases.extend(single_events(version));
    cases
}

fn seen(pair: Pair, to: Seen, from: Seen) -> Pair {
    Pair {
        seen_to: to,
        seen_from: from,
        ..pair
    }
}

fn handshake(version: IpVersion) -> Case {
    let syn = Frame::of(version);
    let opened = opened_pair(&syn, RULE_WEB, 8_080, NOW);
    let syn_ack = opened.answer().flagged(SYN | ACK);
    let mut second = answered(&opened, &syn_ack, NOW + 1);
    second.from = second.from.with_hop(GATEWAY.way(), NOW + 1);
    let second = seen(second, Seen::SYN, Seen::SYN);
    let ack = opened.request().flagged(ACK);
    let third = seen(
        requested(&second, &ack, NOW + 2),
        Seen::SYN.with(Seen::ACK),
        Seen::SYN,
    );
    let data = opened.answer();
    let fourth = seen(
        answered(&third, &data, NOW + 3),
        Seen::SYN.with(Seen::ACK),
        Seen::SYN.with(Seen::ACK),
    );
    Case::new(version, "a handshake establishes a flow")
        .step(&syn, opens(&syn, RULE_WEB, 8_080, NOW))
        .later(1, &syn_ack, reaches_client(&syn_ack, second))
        .later(1, &ack, reaches_instance(&ack, third))
        .later(1, &data, reaches_client(&data, fourth))
}

fn mid_connection(version: IpVersion) -> Case {
    let data = Frame::of(version).flagged(ACK).with_payload(10);
    let opened = opened_pair(&data, RULE_WEB, 8_080, NOW);
    let answer = opened.answer();
    let mut second = answered(&opened, &answer, NOW);
    second.from = second.from.with_hop(GATEWAY.way(), NOW);
    let second = seen(second, Seen::ACK, Seen::ACK);
    Case::new(
        version,
        "a connection met in its middle is established by an answer",
    )
    .step(&data, opens(&data, RULE_WEB, 8_080, NOW))
    .step(&answer, reaches_client(&answer, second))
}

/// One packet, and what the flow remembers of it.
fn single_events(version: IpVersion) -> Vec<Case> {
    let bare = Seen::SYN;
    let talked = Seen::SYN.with(Seen::ACK);
    let rows = [
        ("an ACK of the client", true, ACK, bare, bare, talked, bare),
        (
            "an ACK of the instance",
            false,
            ACK,
            bare,
            bare,
            bare,
            talked,
        ),
        (
            "a FIN of the client",
            true,
            FIN | ACK,
            talked,
            talked,
            talked.with(Seen::FIN),
            talked,
        ),
        (
            "a FIN of the instance",
            false,
            FIN | ACK,
            talked,
            talked,
            talked,
            talked.with(Seen::FIN),
        ),
        (
            "a bare FIN",
            true,
            FIN,
            bare,
            bare,
            bare.with(Seen::FIN),
            bare,
        ),
        (
            "a SYN that was seen already",
            true,
            SYN,
            talked,
            talked,
            talked,
            talked,
        ),
        ("an answering SYN", false, SYN | ACK, bare, NONE, bare, bare),
        ("a packet without flags", true, 0, bare, bare, bare, bare),
    ];
    rows.into_iter()
        .map(
            |(name, is_request, flags, to, from, to_after, from_after)| {
                let pair = seen(Pair::tcp(version), to, from);
                let after = seen(pair.clone(), to_after, from_after);
                let case = Case::new(version, &format!("{name} is remembered on both sides"))
                    .with_flows([&pair]);
                if is_request {
                    let frame = pair.request().flagged(flags);
                    let after = requested(&after, &frame, NOW);
                    case.step(&frame, reaches_instance(&frame, after))
                } else {
                    let frame = pair.answer().flagged(flags);
                    let after = answered(&after, &frame, NOW);
                    case.step(&frame, reaches_client(&frame, after))
                }
            },
        )
        .collect()
}

fn closing(version: IpVersion) -> Case {
    let pair = Pair::tcp(version);
    let talked = Seen::SYN.with(Seen::ACK);
    let ended = talked.with(Seen::FIN);
    let fin = pair.request().flagged(FIN | ACK);
    let first = seen(requested(&pair, &fin, NOW + 10), ended, talked);
    let other = pair.answer().flagged(FIN | ACK);
    let mut second = seen(answered(&first, &other, NOW + 30), ended, ended);
    // The end is one for both sides.
    second.to.last_seen = NOW + 30;
    Case::new(version, "FINs of both sides close a flow")
        .with_flows([&pair])
        .later(10, &fin, reaches_instance(&fin, first))
        .later(20, &other, reaches_client(&other, second))
}

fn late_packets(version: IpVersion) -> Case {
    let ended = Seen::SYN.with(Seen::ACK).with(Seen::FIN);
    let pair = seen(Pair::tcp(version), ended, ended);
    let ack = pair.request().flagged(ACK);
    let first = requested(&pair, &ack, NOW);
    let data = pair.answer();
    let second = answered(&first, &data, NOW);
    Case::new(
        version,
        "late packets of a closed flow pass and do not prolong it",
    )
    .with_flows([&pair])
    .later(40, &ack, reaches_instance(&ack, first))
    .later(10, &data, reaches_client(&data, second))
}

fn retransmitted_syn(version: IpVersion) -> Case {
    let syn = Frame::of(version);
    let opened = opened_pair(&syn, RULE_WEB, 8_080, NOW);
    let again = requested(&opened, &syn, NOW + 3);
    Case::new(
        version,
        "a retransmitted SYN belongs to the flow of the first",
    )
    .step(&syn, opens(&syn, RULE_WEB, 8_080, NOW))
    .later(3, &syn, reaches_instance(&syn, again))
}

fn simultaneous_open(version: IpVersion) -> Case {
    let pair = seen(Pair::tcp(version), Seen::SYN, NONE);
    let syn = pair.answer().flagged(SYN);
    let after = seen(answered(&pair, &syn, NOW), Seen::SYN, Seen::SYN);
    Case::new(
        version,
        "a SYN of the instance in an opening flow reaches the client",
    )
    .with_flows([&pair])
    .step(&syn, reaches_client(&syn, after))
}
