//! The XDP program: a frame's bytes and the tables behind [`forebay_common::pipeline`].
//!
//! Nothing is decided here. `frame` reaches bytes, `maps` and `tables` reach maps, `kernel` wraps
//! helpers; those files hold all `unsafe` of this crate.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![allow(
    missing_docs,
    unreachable_pub,
    reason = "the macro around each program makes a public function without documentation"
)]

mod apart;
mod frame;
mod kernel;
mod log;
mod maps;
mod tables;

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use forebay_common::abi::{RETIRE_BATCH, RetireBatch};
use forebay_common::family::{V4, V6};
use forebay_common::pipeline::{
    self, Exit, Outcome, carry_over, disown, forget_both, mark_flushed, mark_retiring,
    remove_retiring,
};
use forebay_common::reason::Reason;
use forebay_common::tables::Shared;

use crate::frame::XdpFrame;
use crate::kernel::FibFamily;
use crate::maps::Maps;
use crate::tables::{FormerTables, KernelTables};

/// Balances and translates every frame of an attached interface.
#[xdp(frags)]
#[inline(always)]
pub fn forebay(ctx: XdpContext) -> u32 {
    let outcome = pipeline::process(&mut XdpFrame::free(&ctx), &KernelTables::new(&ctx));
    act(&ctx, outcome)
}

/// Fragments and extension headers, handed on by [`forebay`].
#[xdp(frags)]
#[inline(always)]
pub fn unusual(ctx: XdpContext) -> u32 {
    let outcome = pipeline::unusual(&mut XdpFrame::held(&ctx), &KernelTables::new(&ctx));
    act(&ctx, outcome)
}

/// ICMP and neighbour discovery, handed on by [`forebay`].
#[xdp(frags)]
#[inline(always)]
pub fn icmp(ctx: XdpContext) -> u32 {
    let outcome = pipeline::icmp(&mut XdpFrame::held(&ctx), &KernelTables::new(&ctx));
    act(&ctx, outcome)
}

/// Packets whose sender is to be told why they go no further, handed on by the others.
#[xdp(frags)]
#[inline(always)]
pub fn complain(ctx: XdpContext) -> u32 {
    let outcome = pipeline::complain(&mut XdpFrame::held(&ctx), &KernelTables::new(&ctx));
    act(&ctx, outcome)
}

/// Translated packets that leave with other VLAN tags than they came with, handed on by the others.
#[xdp(frags)]
#[inline(always)]
pub fn tag(ctx: XdpContext) -> u32 {
    let outcome = pipeline::tag(&mut XdpFrame::held(&ctx), &KernelTables::new(&ctx));
    act(&ctx, outcome)
}

/// Packets whose flow may be in the former flow table, handed on by [`forebay`].
#[xdp(frags)]
#[inline(always)]
pub fn former(ctx: XdpContext) -> u32 {
    if !maps::flows_move() {
        return xdp_action::XDP_DROP;
    }
    let outcome = pipeline::process(&mut XdpFrame::held(&ctx), &FormerTables::new(&ctx));
    act(&ctx, outcome)
}

/// Packets without a trusted flow, handed on by the others.
#[xdp(frags)]
#[inline(always)]
pub fn first(ctx: XdpContext) -> u32 {
    let outcome = pipeline::first(&mut XdpFrame::held(&ctx), &KernelTables::new(&ctx));
    act(&ctx, outcome)
}

/// Flows that instances open, handed on by the others.
#[xdp(frags)]
#[inline(always)]
pub fn outbound(ctx: XdpContext) -> u32 {
    let outcome = pipeline::outbound(&mut XdpFrame::held(&ctx), &KernelTables::new(&ctx));
    act(&ctx, outcome)
}

/// Packets of public IPs, handed on by the others.
#[xdp(frags)]
#[inline(always)]
pub fn public(ctx: XdpContext) -> u32 {
    let outcome = pipeline::public(&mut XdpFrame::held(&ctx), &KernelTables::new(&ctx));
    act(&ctx, outcome)
}

/// Echoes of instances, handed on by the others.
#[xdp(frags)]
#[inline(always)]
pub fn ping(ctx: XdpContext) -> u32 {
    let outcome = pipeline::ping(&mut XdpFrame::held(&ctx), &KernelTables::new(&ctx));
    act(&ctx, outcome)
}

/// TCP segments of instances that are answered by a RST, handed on by the others.
#[xdp(frags)]
#[inline(always)]
pub fn refuse(ctx: XdpContext) -> u32 {
    let outcome = pipeline::refuse(&mut XdpFrame::held(&ctx), &KernelTables::new(&ctx));
    act(&ctx, outcome)
}

/// ICMP errors, handed on by [`icmp`].
#[xdp(frags)]
#[inline(always)]
pub fn quoted(ctx: XdpContext) -> u32 {
    let outcome = pipeline::quoted(&mut XdpFrame::held(&ctx), &KernelTables::new(&ctx));
    act(&ctx, outcome)
}

/// Turns an outcome into an XDP action.
#[inline(always)]
fn act(ctx: &XdpContext, outcome: Outcome) -> u32 {
    let verdict = match outcome {
        Outcome::Verdict(verdict) => verdict,
        Outcome::Stage(stage) => {
            // SAFETY: nothing is held that would have to be dropped; the frame is as it came in.
            unsafe { maps::STAGES.tail_call(ctx, stage as u32) };
            KernelTables::new(ctx).count(Reason::NotLoaded);
            return xdp_action::XDP_DROP;
        }
    };
    match verdict.exit {
        Exit::Pass => xdp_action::XDP_PASS,
        Exit::Transmit => xdp_action::XDP_TX,
        Exit::Redirect(slot) => maps::TX_PORTS
            .redirect(slot, 0)
            .unwrap_or(xdp_action::XDP_DROP),
        Exit::Drop => {
            if log::is_worth_a_line(verdict.reason) {
                log::refused(ctx, verdict.reason);
            }
            xdp_action::XDP_DROP
        }
    }
}

/// Reads jiffies and the boot clock together; the daemon runs it to learn the tick rate and to tell
/// the time as [`forebay`] does.
#[xdp]
pub fn clocks(_: XdpContext) -> u32 {
    maps::set_clocks(kernel::jiffies(), kernel::boot_nanoseconds());
    xdp_action::XDP_DROP
}

/// Ends the IPv4 flows that the daemon's sweep found to be over.
#[xdp]
pub fn retire4(_: XdpContext) -> u32 {
    kernel::repeat(RETIRE_BATCH as u32, retire::<V4>);
    xdp_action::XDP_DROP
}

/// Ends the IPv6 flows that the daemon's sweep found to be over.
#[xdp]
pub fn retire6(_: XdpContext) -> u32 {
    kernel::repeat(RETIRE_BATCH as u32, retire::<V6>);
    xdp_action::XDP_DROP
}

/// Takes the batch's step for the flow in one of its places; says whether there are more.
#[inline(always)]
fn retire<A: Maps + FibFamily>(index: u32) -> bool {
    let tables = KernelTables::without_context();
    let Some(batch) = A::retire_batch() else {
        return false;
    };
    if index >= batch.count {
        return false;
    }
    let place = index as usize;
    let (Some(key), Some(done)) = (batch.keys.get(place), batch.done.get_mut(place)) else {
        return false;
    };
    let taken = match batch.step {
        RetireBatch::<A>::MARK => mark_retiring(&tables, key),
        RetireBatch::<A>::REMOVE => remove_retiring(&tables, key),
        RetireBatch::<A>::FLUSH => mark_flushed(&tables, key),
        RetireBatch::<A>::CARRY => carry_over(&tables, key),
        RetireBatch::<A>::DISOWN => disown(&tables, key),
        RetireBatch::<A>::FORGET => forget_both(&tables, key),
        _ => false,
    };
    *done = u8::from(taken);
    true
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
