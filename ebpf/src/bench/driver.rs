//! Writing the next packet of the plan: everything that a target may have changed.
//!
//! Fields are written in the widths in which targets read them, so that a load is served by the
//! store before it.

use forebay_common::wire::{Ethernet, Field16, Field32, Frame, Mac, Tcp, checksum, tcp_flags};

use crate::maps;
use crate::packet::{ArpPacket, Solicitation, Tcp4, Tcp6, Udp4, Udp6};
use crate::shared::{Plan, client_of, flow_of};

/// TTL and hop limit of packets.
const HOPS: u8 = 64;

/// The plan, which only one CPU uses at a time.
#[inline(always)]
pub(crate) fn plan() -> Option<&'static mut Plan> {
    // SAFETY: the only entry, and one program at a time works by it.
    maps::PLAN.get_ptr_mut(0).map(|plan| unsafe { &mut *plan })
}

/// Client of the plan's next packet: low word of its address, raw, and port, raw.
#[inline(always)]
fn next_client(plan: &mut Plan) -> (u32, u16) {
    let number = plan.counter;
    plan.counter = number.wrapping_add(1);
    let (host, port) = client_of(flow_of(number, plan.mask, plan.shift));
    (plan.first_client.wrapping_add(host).to_be(), port.to_be())
}

#[inline(always)]
fn write_link(ethernet: &Ethernet, plan: &Plan) {
    ethernet.destination.set(Mac {
        head: plan.to_head,
        tail: plan.to_tail,
    });
    ethernet.source.set(Mac {
        head: plan.from_head,
        tail: plan.from_tail,
    });
}

#[inline(always)]
fn write_ports(ports: &Field32, checksum: &Field16, plan: &Plan, port: u16, addresses: u64) {
    let (client, peer) = (u32::from(port), plan.peer_port);
    let word = if plan.is_reply == 0 {
        client | peer << 16
    } else {
        peer | client << 16
    };
    ports.set(word);
    let sum = plan.transport_sum + addresses + u64::from(word);
    checksum.set(!checksum::fold(sum));
}

macro_rules! write4 {
    ($name:ident, $packet:ty) => {
        /// Writes the next packet of the plan.
        #[inline(always)]
        pub(crate) fn $name<F: Frame>(frame: &F, plan: &mut Plan) -> Option<()> {
            let packet = frame.at::<$packet>(0)?;
            let (client, port) = next_client(plan);
            write_link(&packet.ethernet, plan);
            let peer = plan.peer[0] as u32;
            if plan.is_reply == 0 {
                packet.ip.source.set(client);
                packet.ip.destination.set(peer);
            } else {
                packet.ip.source.set(peer);
                packet.ip.destination.set(client);
            }
            packet.ip.ttl.set(HOPS);
            packet
                .ip
                .checksum
                .set(!checksum::fold(plan.ip_sum + u64::from(client)));
            let above = &packet.above;
            write_ports(&above.ports, &above.checksum, plan, port, u64::from(client));
            Some(())
        }
    };
}

macro_rules! write6 {
    ($name:ident, $packet:ty) => {
        /// Writes the next packet of the plan.
        #[inline(always)]
        pub(crate) fn $name<F: Frame>(frame: &F, plan: &mut Plan) -> Option<()> {
            let packet = frame.at::<$packet>(0)?;
            let (word, port) = next_client(plan);
            write_link(&packet.ethernet, plan);
            let client = [plan.client_prefix, u64::from(word) << 32];
            if plan.is_reply == 0 {
                packet.ip.source.set(client);
                packet.ip.destination.set(plan.peer);
            } else {
                packet.ip.source.set(plan.peer);
                packet.ip.destination.set(client);
            }
            packet.ip.hop_limit.set(HOPS);
            let above = &packet.above;
            write_ports(&above.ports, &above.checksum, plan, port, u64::from(word));
            Some(())
        }
    };
}

write4!(tcp4, Tcp4);
write4!(udp4, Udp4);
write6!(tcp6, Tcp6);
write6!(udp6, Udp6);

/// Sequence and acknowledgement number of a segment that begins a connection, raw.
const ONE: u32 = 1_u32.to_be();

/// Writes what a RST in place of the last segment has changed.
#[inline(always)]
fn write_beginning(tcp: &Tcp) {
    tcp.sequence.set(ONE);
    tcp.acknowledgement.set(ONE);
    tcp.offset.set(5 << 4);
    tcp.flags.set(tcp_flags::SYN);
    tcp.window.set(u16::MAX);
    tcp.urgent.set(0);
}

/// Writes the next segment of the plan, which begins a connection. The last one may have been answered in place.
#[inline(always)]
pub(crate) fn syn4<F: Frame>(frame: &F, plan: &mut Plan) -> Option<()> {
    let packet = frame.at::<Tcp4>(0)?;
    packet.ip.tos.set(0);
    packet.ip.fragment.set(0x4000_u16.to_be());
    write_beginning(&packet.above);
    tcp4(frame, plan)
}

/// Writes the next segment of the plan, which begins a connection. The last one may have been answered in place.
#[inline(always)]
pub(crate) fn syn6<F: Frame>(frame: &F, plan: &mut Plan) -> Option<()> {
    let packet = frame.at::<Tcp6>(0)?;
    packet.ip.version.set(0x6000_0000_u32.to_be());
    write_beginning(&packet.above);
    tcp6(frame, plan)
}

/// Writes an ARP request for the peer's address.
#[inline(always)]
pub(crate) fn arp<F: Frame>(frame: &F, plan: &mut Plan) -> Option<()> {
    let packet = frame.at::<ArpPacket>(0)?;
    write_link(&packet.ethernet, plan);
    packet.arp.operation.set(1_u16.to_be());
    packet.arp.sender_mac.set(packet.ethernet.source.get());
    packet.arp.sender.set(plan.first_client.to_be());
    packet.arp.target_mac.set(Mac::default());
    packet.arp.target.set(plan.peer[0] as u32);
    Some(())
}

/// Writes a neighbour solicitation for the peer's address.
#[inline(always)]
pub(crate) fn solicitation<F: Frame>(frame: &F, plan: &mut Plan) -> Option<()> {
    let packet = frame.at::<Solicitation>(0)?;
    write_link(&packet.ethernet, plan);
    let client = u64::from(plan.first_client.to_be()) << 32;
    packet.ip.source.set([plan.client_prefix, client]);
    packet.ip.destination.set(plan.peer);
    let message = &packet.above;
    message.kind.set((135_u16 << 8).to_be());
    message.checksum.set(!checksum::fold(plan.transport_sum));
    message.flags.set(0);
    message.option.set(0x0101);
    message.mac.set(packet.ethernet.source.get());
    Some(())
}
