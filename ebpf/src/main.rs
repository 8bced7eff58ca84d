//! The XDP program: a frame's bytes and the tables behind [`forebay_common::pipeline`].
//!
//! Nothing is decided here. `frame` reaches bytes, `tables` reaches maps, `kernel` wraps helpers;
//! those three files hold all `unsafe` of this crate.
#![no_std]
#![no_main]

mod frame;
mod kernel;
mod maps;
mod tables;

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use forebay_common::pipeline::{Exit, process};

use crate::frame::XdpFrame;
use crate::tables::KernelTables;

/// Balances and translates every frame of an attached interface.
#[xdp(frags)]
pub fn forebay(ctx: XdpContext) -> u32 {
    match process(&XdpFrame::new(&ctx), &KernelTables::new(&ctx)).exit {
        Exit::Pass => xdp_action::XDP_PASS,
        Exit::Transmit => xdp_action::XDP_TX,
        Exit::Redirect(slot) => maps::TX_PORTS
            .redirect(slot, 0)
            .unwrap_or(xdp_action::XDP_DROP),
        Exit::Drop => xdp_action::XDP_DROP,
    }
}

/// Reads jiffies and the boot clock together; the daemon runs it to learn the tick rate and to tell
/// the time as [`forebay`] does.
#[xdp]
pub fn clocks(_: XdpContext) -> u32 {
    maps::set_clocks(kernel::jiffies(), kernel::boot_nanoseconds());
    xdp_action::XDP_DROP
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The build refuses an object with a reachable panic, so this is never linked in.
    loop {}
}

/// `bpf_fib_lookup` is for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
