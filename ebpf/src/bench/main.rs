//! Programs for `cargo xtask bench`: what writes the packets, what the product is compared with, and
//! what receives.
//!
//! A driver writes the next packet of the plan over the frame and tail-calls the program in slot 0 of
//! `TARGET`; its own cost is that of the driver with [`bounce`] there. All programs accept
//! multi-buffer frames, as the product does: the kernel wants programs of one array to agree on that.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod driver;
mod floor;
#[path = "../frame.rs"]
mod frame;
mod maps;
mod minimal;
mod packet;
mod shared;

use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;

use crate::frame::XdpFrame;

macro_rules! drivers {
    ($($(#[$doc:meta])* $name:ident, $write:path;)*) => {$(
        $(#[$doc])*
        #[xdp(frags)]
        pub(crate) fn $name(ctx: XdpContext) -> u32 {
            let Some(plan) = driver::plan() else {
                return XDP_ABORTED;
            };
            if $write(&XdpFrame::free(&ctx), plan).is_some() {
                // SAFETY: nothing here needs dropping.
                unsafe { maps::TARGET.tail_call(&ctx, 0) };
            }
            XDP_ABORTED
        }
    )*};
}

drivers! {
    /// Drives IPv4 and TCP.
    drive_tcp4, driver::tcp4;
    /// Drives IPv4 and UDP.
    drive_udp4, driver::udp4;
    /// Drives IPv6 and TCP.
    drive_tcp6, driver::tcp6;
    /// Drives IPv6 and UDP.
    drive_udp6, driver::udp6;
    /// Drives IPv4 and TCP connections that begin.
    drive_syn4, driver::syn4;
    /// Drives IPv6 and TCP connections that begin.
    drive_syn6, driver::syn6;
    /// Drives ARP requests.
    drive_arp, driver::arp;
    /// Drives neighbour solicitations.
    drive_ndp, driver::solicitation;
}

macro_rules! generators {
    ($($(#[$doc:meta])* $name:ident, $write:path;)*) => {$(
        $(#[$doc])*
        #[xdp(frags)]
        pub(crate) fn $name(ctx: XdpContext) -> u32 {
            let Some(plan) = driver::plan() else {
                return XDP_ABORTED;
            };
            if $write(&XdpFrame::free(&ctx), plan).is_none() {
                return XDP_ABORTED;
            }
            maps::TX_PORTS.redirect(GENERATOR_SLOT, 0).unwrap_or(XDP_ABORTED)
        }
    )*};
}

/// Slot of the device that generators send by.
const GENERATOR_SLOT: u32 = 0;

generators! {
    /// Sends the plan's packets, IPv4 and UDP.
    generate_udp4, driver::udp4;
    /// Sends the plan's packets, IPv6 and UDP.
    generate_udp6, driver::udp6;
}

macro_rules! targets {
    ($($(#[$doc:meta])* $name:ident, $run:path, $otherwise:expr;)*) => {$(
        $(#[$doc])*
        #[xdp(frags)]
        pub(crate) fn $name(ctx: XdpContext) -> u32 {
            $run(&XdpFrame::free(&ctx)).unwrap_or($otherwise)
        }
    )*};
}

targets! {
    /// Parses and sends back.
    parse4, parsed4, XDP_PASS;
    /// Parses and sends back.
    parse6, parsed6, XDP_PASS;
    /// Parses, looks up and sends back.
    lookup4, floor::look_up4, XDP_PASS;
    /// Parses, looks up and sends back.
    lookup6, floor::look_up6, XDP_PASS;
    /// The yardstick.
    minimal4, minimal::translate4, XDP_PASS;
    /// The yardstick.
    minimal6, minimal::translate6, XDP_PASS;
    /// Redirects and nothing else.
    redirect, floor::redirect, XDP_DROP;
    /// Counts and drops: the far end of the path.
    arrive, floor::arrive, XDP_DROP;
}

#[inline(always)]
fn parsed4(frame: &XdpFrame<'_, false>) -> Option<u32> {
    let (packet, key) = floor::parse4(frame)?;
    // The key is read for nothing unless something hangs on it.
    (key.ports != 0).then(|| floor::transmit(&packet.ethernet))
}

#[inline(always)]
fn parsed6(frame: &XdpFrame<'_, false>) -> Option<u32> {
    let (packet, key) = floor::parse6(frame)?;
    (key.ports != 0).then(|| floor::transmit(&packet.ethernet))
}

/// Does nothing: what is left of a measurement is the driver.
#[xdp(frags)]
pub(crate) fn bounce(_: XdpContext) -> u32 {
    XDP_TX
}

/// Does nothing, and no driver drives it: what is left is the loop around it.
#[xdp(frags)]
pub(crate) fn idle(_: XdpContext) -> u32 {
    XDP_DROP
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses a reachable panic, so this is never linked in.
    loop {}
}

/// The helpers used are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
