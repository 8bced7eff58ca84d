//! What surrounds TCP and UDP: ICMP errors that quote flows, echo requests, fragments, VLAN tags.

use super::grammar::{anybody, host_of, link};
use crate::chance::Chance;
use crate::frame::{Fragment, Frame, IcmpMessage, SERVICE_TAG, TAG, TCP, UDP};
use crate::network::plan::{
    CLIENT, DEAF, FRONTEND, FRONTEND_2, GATEWAY, INSTANCES, LOCAL_CLIENT, Link, NORTH, ROUTER,
    SOUTH,
};
use crate::network::{IpVersion, Side};
use crate::world::Flows;
use forebay_common::flow::{Flow, FlowKey};
use std::collections::BTreeMap;

/// Tags that the host has devices for, and some that it has none for.
pub(super) fn tags(chance: &mut Chance) -> Vec<(u16, u16)> {
    let mut tags = match chance.below(20) {
        0 => vec![(TAG, 42)],
        1 => vec![(SERVICE_TAG, 7), (TAG, 42)],
        2 => vec![(TAG, 60)],
        3 => vec![(TAG, 70)],
        4 => vec![(TAG, 70), (TAG, 8)],
        5 => vec![(TAG, 0)],
        6 => vec![(SERVICE_TAG, 0), (TAG, 60)],
        _ => Vec::new(),
    };
    if let Some(outer) = tags.first_mut() {
        outer.1 |= *chance.pick(&[0, 0, 0x6000, 0xf000]);
    }
    tags
}

/// An ICMP message: an error about a packet of a flow, most often, or an echo request.
pub(super) fn icmp(chance: &mut Chance, flows: &Flows) -> (Vec<u8>, &'static Link) {
    let quoted = if chance.one_in(2) {
        quoted(&flows.v4, chance)
    } else {
        quoted(&flows.v6, chance)
    };
    let ingress = link(chance, &[&NORTH, &NORTH, &SOUTH, &SOUTH, &DEAF]);
    let mut message = match quoted {
        Some(packet) if !chance.one_in(4) => error(&packet, chance),
        _ => echo(chance),
    }
    .from_link(GATEWAY.mac, ingress);
    if chance.one_in(20) {
        message.macs[1] = [0xff; 6];
    }
    message.tags = tags(chance);
    message.hops = *chance.pick(&[64, 64, 64, 64, 255, 2, 1, 0]);
    match message.version {
        IpVersion::V4 if chance.one_in(6) => message.option_words = chance.within(1, 10) as u8,
        IpVersion::V6 if chance.one_in(6) => {
            message.extensions = (0..chance.within(1, 3))
                .map(|_| *chance.pick(&[0, 60, 60, 51]))
                .collect();
        }
        _ => {}
    }
    (message.build(), ingress)
}

/// A packet of a flow as the node has sent it on; or, about no flow, as it came.
fn quoted<A: Side>(table: &BTreeMap<FlowKey<A>, Flow<A>>, chance: &mut Chance) -> Option<Frame> {
    if table.is_empty() {
        return None;
    }
    let number = chance.below(table.len() as u64) as usize;
    let (key, flow) = table.iter().nth(number)?;
    let base = Frame {
        protocol: key.protocol as u8,
        sequence: chance.bits() as u32,
        hops: *chance.pick(&[1, 60, 255]),
        ..Frame::of(A::VERSION).with_payload(*chance.pick(&[0, 0, 1, 40, 600, 1_500]))
    };
    let after = FlowKey::<A> {
        source: flow.source,
        destination: flow.destination,
        ports: flow.ports,
        protocol: key.protocol,
    };
    let as_sent = (
        (host_of(after.source), after.source_port()),
        (host_of(after.destination), after.destination_port()),
    );
    let as_come = (
        (host_of(key.source), key.source_port()),
        (host_of(key.destination), key.destination_port()),
    );
    let (from, to) = if chance.one_in(8) { as_come } else { as_sent };
    let mut packet = base.coming_from(from.0, from.1).towards(to.0, to.1);
    match A::VERSION {
        IpVersion::V4 if chance.one_in(6) => packet.option_words = chance.within(1, 10) as u8,
        IpVersion::V6 if chance.one_in(6) => {
            packet.extensions = vec![*chance.pick(&[0, 43, 51, 60])]
        }
        _ => {}
    }
    if chance.one_in(10) {
        packet.fragment = Some(Fragment {
            offset: *chance.pick(&[0, 0, 7]),
            more: chance.one_in(2),
        });
    }
    Some(packet)
}

fn error(packet: &Frame, chance: &mut Chance) -> IcmpMessage {
    let kinds: &[u8] = match packet.version {
        IpVersion::V4 => &[3, 3, 3, 11, 12, 4, 5, 13],
        IpVersion::V6 => &[1, 2, 3, 4, 0, 5, 137, 133],
    };
    let reporters = [
        packet.destination,
        packet.destination,
        CLIENT,
        ROUTER.host,
        INSTANCES[0].host,
        anybody(chance),
    ];
    let kind = (*chance.pick(kinds), chance.below(6) as u8);
    let rest = *chance.pick(&[0, 1_400, 32 << 16, 16 << 24]);
    let mut message = IcmpMessage::error(*chance.pick(&reporters), packet, kind, rest);
    if chance.one_in(12) {
        message.addresses[1] = anybody(chance);
    }
    let header = if packet.version == IpVersion::V4 {
        20
    } else {
        40
    };
    match chance.below(5) {
        0 => message.body.truncate(header + 8),
        1 => message.body.truncate(chance.below(80) as usize),
        2 => message.body.truncate(548),
        3 => {
            message.body.truncate(120);
            message.body.resize(128, 0);
            message
                .body
                .extend([0x20, 0, 0xdf, 0xff, 0, 8, 1, 1, 0x12, 0x34, 0x51, 0x40]);
        }
        _ => {}
    }
    message
}

fn echo(chance: &mut Chance) -> IcmpMessage {
    let version = *chance.pick(&IpVersion::BOTH);
    let body: Vec<u8> = (0..*chance.pick(&[0, 1, 56, 1_400, 1_800]))
        .map(|_| chance.bits() as u8)
        .collect();
    let mut message = IcmpMessage::echo(version, &body);
    message.rest = chance.bits() as u32;
    let others = [anybody(chance), anybody(chance)];
    message.addresses = [
        *chance.pick(&[CLIENT, CLIENT, LOCAL_CLIENT.host, others[0]]),
        *chance.pick(&[FRONTEND, FRONTEND, FRONTEND_2, others[1]]),
    ];
    if chance.one_in(3) {
        // An instance asks somebody outside; few identifiers, so that flows meet again.
        message.addresses = [
            chance.pick(&INSTANCES).host,
            *chance.pick(&[
                CLIENT,
                CLIENT,
                LOCAL_CLIENT.host,
                FRONTEND,
                super::scenes::PUBLIC_IP,
            ]),
        ];
        message.rest = 0x2a00_0001 + (chance.below(3) as u32) * 0x10_0000;
    } else if chance.one_in(4) {
        let reply = if version == IpVersion::V4 { 0 } else { 129 };
        message.kind = (reply, 0);
        message.rest = u32::from(*chance.pick(&[2_000_u16, 2_001, 50_000])) << 16 | 1;
    }
    message
}

/// A packet in fragments, in any order, one of them perhaps twice or not at all.
pub(super) fn fragments(whole: &Frame, chance: &mut Chance) -> Vec<Frame> {
    let whole = Frame {
        protocol: *chance.pick(&[UDP, UDP, TCP]),
        identification: 1 + chance.below(3) as u16,
        ..whole.clone()
    }
    .with_payload(chance.within(40, 3_000) as usize);
    let content = whole.transport();
    let first = *chance.pick(&[8, 16, 24, 512, 1_400]);
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < content.len() {
        let length = if at == 0 {
            first
        } else {
            *chance.pick(&[24, 1_200])
        };
        let end = content.len().min(at + length);
        pieces.push(Frame {
            raw: Some(content[at..end].to_vec()),
            fragment: Some(Fragment {
                offset: (at / 8) as u16,
                more: end < content.len(),
            }),
            ..whole.clone()
        });
        at = end;
        if pieces.len() == 4 {
            break;
        }
    }
    if chance.one_in(3) {
        let (a, b) = (
            chance.below(pieces.len() as u64) as usize,
            chance.below(pieces.len() as u64) as usize,
        );
        pieces.swap(a, b);
    }
    if chance.one_in(5) {
        let again = chance.pick(&pieces).clone();
        pieces.push(again);
    }
    if chance.one_in(8)
        && let Some(fragment) = pieces.last_mut().and_then(|piece| piece.fragment.as_mut())
    {
        fragment.offset = fragment.offset.wrapping_sub(1) & 0x1fff;
    }
    pieces.reverse();
    pieces
}
