//! TCP RSTs to instances: to a SYN for which no port is free, and to a segment of a connection that the node does
//! not know (RFC 9293 section 3.10.7.1). Built in place of the segment.

use super::{Outcome, Step, by_family, conclude, limit, vlan};
use crate::abi::Settings;
use crate::family::{V4, V6};
use crate::reason::Reason;
use crate::tables::{AnswerKind, Tables};
use crate::wire::{
    Ethernet, Frame, IpHeader, LinkLayer, Network, TCP, Tcp, checksum, tcp_flags, upper,
};

/// Length of a TCP header without options, in the upper half of its field.
const NO_OPTIONS: u8 = 5 << 4;

/// The stage of RSTs.
#[inline(always)]
pub fn refuse<F: Frame, T: Tables<V4> + Tables<V6>>(frame: &mut F, tables: &T) -> Outcome {
    let step = by_family(frame, tables, reset::<V4, F, T>, reset::<V6, F, T>);
    conclude(tables, step)
}

/// What a RST says about a segment: sequence and acknowledgement number, raw, and flags.
#[derive(Clone, Copy)]
struct Answer {
    sequence: u32,
    acknowledgement: u32,
    flags: u8,
}

/// The answer to a segment with `content` bytes.
#[inline(always)]
fn answer(tcp: &Tcp, content: u32) -> Answer {
    let flags = tcp.flags.get();
    if flags & tcp_flags::ACK != 0 {
        return Answer {
            sequence: tcp.acknowledgement.get(),
            acknowledgement: 0,
            flags: tcp_flags::RST,
        };
    }
    let phantom = u32::from(flags >> 1 & 1) + u32::from(flags & 1);
    let end = u32::from_be(tcp.sequence.get())
        .wrapping_add(content)
        .wrapping_add(phantom);
    Answer {
        sequence: 0,
        acknowledgement: end.to_be(),
        flags: tcp_flags::RST | tcp_flags::ACK,
    }
}

#[inline(always)]
fn reset<A: Network, F: Frame, T: Tables<A>>(
    frame: &mut F,
    tables: &T,
    link: LinkLayer,
    settings: &Settings,
) -> Result<Step, Reason> {
    let cause = tables.per_cpu(|cpu| cpu.complaint).unwrap_or(0);
    let (cause, told) = if cause == Reason::SnatExhausted as u32 {
        (Reason::SnatExhausted, Reason::SnatRefused)
    } else if cause == Reason::Trial as u32 {
        (Reason::Trial, Reason::Trial)
    } else {
        (Reason::UnknownConnection, Reason::ResetSent)
    };
    let ip = frame.at::<A::Header>(link.offset).ok_or(cause)?;
    let upper = upper::<A, F>(frame, ip, link.offset).map_err(|_| cause)?;
    let tcp = frame.at::<Tcp>(upper.start).ok_or(cause)?;
    let (from, to) = (ip.source(), ip.destination());
    let headers = (upper.start - link.offset) as u32 + u32::from(tcp.offset.get() >> 4) * 4;
    let answer = answer(tcp, ip.length().saturating_sub(headers));
    let ports = tcp.ports.get().rotate_left(16);
    let ethernet = frame.at::<Ethernet>(0).ok_or(cause)?;
    let macs = [ethernet.source.get(), ethernet.destination.get()];
    let is_for_many = macs[0].is_group() || macs[1].is_group();
    if is_for_many
        || upper.piece.is_part()
        || !limit::admits(tables, settings, AnswerKind::Reset, from)
    {
        return Err(cause);
    }
    let own = vlan::own_mac(frame, tables).unwrap_or(macs[1]);
    let length = size_of::<A::Header>() + size_of::<Tcp>();
    let surplus = frame.length() as i32 - (link.offset + length) as i32;
    if surplus != 0 && !frame.extend_back(-surplus) {
        return Err(cause);
    }
    let ethernet = frame.at::<Ethernet>(0).ok_or(cause)?;
    ethernet.destination.set(macs[0]);
    ethernet.source.set(own);
    let ip = frame.at::<A::Header>(link.offset).ok_or(cause)?;
    ip.begin(to, from, TCP, size_of::<Tcp>() as u16);
    let start = link.offset + size_of::<A::Header>();
    let tcp = frame.at::<Tcp>(start).ok_or(cause)?;
    write(tcp, answer, ports);
    let length = u64::from((size_of::<Tcp>() as u32).to_be());
    let pseudo = to.sum() + from.sum() + u64::from(u32::from(TCP).to_be()) + length;
    let offset_flags = u16::from_ne_bytes([NO_OPTIONS, answer.flags]);
    let sum = pseudo
        + u64::from(ports)
        + u64::from(answer.sequence)
        + u64::from(answer.acknowledgement)
        + u64::from(offset_flags);
    tcp.checksum.set(!checksum::fold(sum));
    Ok(Step::transmit(told))
}

#[inline(always)]
fn write(tcp: &Tcp, answer: Answer, ports: u32) {
    tcp.ports.set(ports);
    tcp.sequence.set(answer.sequence);
    tcp.acknowledgement.set(answer.acknowledgement);
    tcp.offset.set(NO_OPTIONS);
    tcp.flags.set(answer.flags);
    tcp.window.set(0);
    tcp.urgent.set(0);
    tcp.checksum.set(0);
}
