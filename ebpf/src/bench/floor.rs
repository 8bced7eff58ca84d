//! Programs that do a part of the work, to subtract and to compare with.

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use forebay_common::family::{V4, V6};
use forebay_common::flow::FlowKey;
use forebay_common::wire::{Ethernet, Frame, Mac, TCP, UDP};

use crate::maps;
use crate::packet::{Udp4, Udp6};
use crate::shared::{Bits, NextHop};

/// Checks the headers and reads the key.
#[inline(always)]
pub(crate) fn parse4<F: Frame>(frame: &F) -> Option<(&Udp4, FlowKey<V4>)> {
    let packet = frame.at::<Udp4>(0)?;
    let ip = &packet.ip;
    let protocol = ip.protocol.get();
    if packet.ethernet.ethertype.get() != 0x0800_u16.to_be()
        || ip.version_ihl.get() != 0x45
        || ip.fragment.get() & 0x3fff_u16.to_be() != 0
        || ip.ttl.get() <= 1
        || (protocol != TCP && protocol != UDP)
    {
        return None;
    }
    let key = FlowKey {
        source: V4(ip.source.get()),
        destination: V4(ip.destination.get()),
        ports: packet.above.ports.get(),
        protocol: u32::from(protocol),
    };
    Some((packet, key))
}

/// Checks the headers and reads the key.
#[inline(always)]
pub(crate) fn parse6<F: Frame>(frame: &F) -> Option<(&Udp6, FlowKey<V6>)> {
    let packet = frame.at::<Udp6>(0)?;
    let ip = &packet.ip;
    let protocol = ip.next_header.get();
    if packet.ethernet.ethertype.get() != 0x86dd_u16.to_be()
        || ip.version.get() & 0xf0 != 0x60
        || ip.hop_limit.get() <= 1
        || (protocol != TCP && protocol != UDP)
    {
        return None;
    }
    let key = FlowKey {
        source: V6(ip.source.get()),
        destination: V6(ip.destination.get()),
        ports: packet.above.ports.get(),
        protocol: u32::from(protocol),
    };
    Some((packet, key))
}

/// Sends a frame back, its MAC addresses exchanged.
#[inline(always)]
pub(crate) fn transmit(ethernet: &Ethernet) -> u32 {
    let from = ethernet.source.get();
    ethernet.source.set(ethernet.destination.get());
    ethernet.destination.set(from);
    XDP_TX
}

/// Looks a key up: found, the frame goes back; missed, it goes to the kernel.
#[inline(always)]
pub(crate) fn look_up4<F: Frame>(frame: &F) -> Option<u32> {
    let (packet, key) = &parse4(frame)?;
    maps::TRANSLATIONS4.get_ptr(key)?;
    Some(transmit(&packet.ethernet))
}

/// Looks a key up: found, the frame goes back; missed, it goes to the kernel.
#[inline(always)]
pub(crate) fn look_up6<F: Frame>(frame: &F) -> Option<u32> {
    let (packet, key) = &parse6(frame)?;
    maps::TRANSLATIONS6.get_ptr(key)?;
    Some(transmit(&packet.ethernet))
}

/// Writes both MAC addresses and redirects.
#[inline(always)]
pub(crate) fn send(ethernet: &Ethernet, hop: &NextHop) -> u32 {
    ethernet.destination.set(Mac {
        head: hop.to_head,
        tail: hop.to_tail,
    });
    ethernet.source.set(Mac {
        head: hop.from_head,
        tail: hop.from_tail,
    });
    maps::TX_PORTS.redirect(hop.slot, 0).unwrap_or(XDP_DROP)
}

/// Redirects towards the backends without looking at the packet.
#[inline(always)]
pub(crate) fn redirect<F: Frame>(frame: &F) -> Option<u32> {
    let ethernet = frame.at::<Ethernet>(0)?;
    let service = maps::MINIMAL4.get(0)?;
    Some(send(ethernet, &service.to_backends))
}

/// Whether a word is as it must be.
#[inline(always)]
fn agree(word: u32, bits: Bits) -> bool {
    word & bits.mask == bits.value
}

/// Counts a frame by whether it goes where it should.
#[inline(always)]
pub(crate) fn arrive<F: Frame>(frame: &F) -> Option<u32> {
    let ethertype = frame.at::<Ethernet>(0)?.ethertype.get();
    let (source, destination) = if ethertype == 0x0800_u16.to_be() {
        let ip = &frame.at::<Udp4>(0)?.ip;
        (ip.source.get(), ip.destination.get())
    } else if ethertype == 0x86dd_u16.to_be() {
        let ip = &frame.at::<Udp6>(0)?.ip;
        let last = |words: [u64; 2]| (words[1] >> 32) as u32;
        (last(ip.source.get()), last(ip.destination.get()))
    } else {
        return Some(XDP_PASS);
    };
    let expectation = maps::EXPECTATION.get(0)?;
    // SAFETY: per-CPU, and the program is not interrupted by itself on one CPU.
    let arrivals = unsafe { &mut *maps::ARRIVALS.get_ptr_mut(0)? };
    if agree(destination, expectation.destination) && agree(source, expectation.source) {
        arrivals.expected = arrivals.expected.wrapping_add(1);
    } else {
        arrivals.others = arrivals.others.wrapping_add(1);
    }
    Some(XDP_DROP)
}
