//! The only packet pointers of the program.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated as helpers;
use aya_ebpf::programs::XdpContext;
use forebay_common::wire::{FAR, Frame, Header, Word};

/// The frame of an XDP context.
///
/// VERIFIER: with `HELD`, a pointer into the frame stays the one that was compared with the frame's end.
/// Else the compiler may load it anew where registers run short, and the verifier knows nothing of it. The
/// known-flow path is short enough to do without, and faster.
pub(crate) struct XdpFrame<'c, const HELD: bool> {
    ctx: &'c XdpContext,
}

impl<'c> XdpFrame<'c, false> {
    #[inline(always)]
    pub(crate) fn free(ctx: &'c XdpContext) -> Self {
        Self { ctx }
    }
}

impl<'c> XdpFrame<'c, true> {
    #[inline(always)]
    pub(crate) fn held(ctx: &'c XdpContext) -> Self {
        Self { ctx }
    }
}

impl<const HELD: bool> XdpFrame<'_, HELD> {
    /// Zero, five bits wide, which the verifier cannot know: no driver has 2^27 queues.
    #[inline(always)]
    fn unknown_zero(&self) -> usize {
        (self.ctx.rx_queue_index() >> 27) as usize
    }
}

/// A value of which the compiler forgets where it is from.
#[inline(always)]
fn opaque(mut value: usize) -> usize {
    // SAFETY: a register is copied to itself. (No instruction at all would break the line table.)
    unsafe {
        core::arch::asm!("{0} = {0}", inout(reg) value, options(nomem, nostack, preserves_flags));
    }
    value
}

impl<const HELD: bool> Frame for XdpFrame<'_, HELD> {
    #[inline(always)]
    fn at<H: Header>(&self, offset: usize) -> Option<&H> {
        // VERIFIER: the pointer that is compared must be the one that is used.
        let mut start = self.ctx.data() + offset;
        if HELD {
            start = opaque(start);
        }
        if start + size_of::<H>() > self.ctx.data_end() {
            return None;
        }
        // SAFETY: the bytes are within the frame, `Header` promises alignment 1 and that every bit
        // pattern is valid, and the kernel gives the frame to this CPU alone while the program runs.
        Some(unsafe { &*(start as *const H) })
    }

    #[inline(always)]
    fn word(&self, offset: usize) -> Option<u32> {
        // Off the known-flow path, so held in any case.
        let frame = XdpFrame::held(self.ctx);
        frame.at::<Word>(offset).map(|word| word.value.get())
    }

    #[inline(always)]
    fn blurred(&self, offset: usize) -> usize {
        // VERIFIER: the mask must come last, or Linux 6.1 sees no bound.
        let unknown = offset ^ self.unknown_zero();
        (if HELD { opaque(unknown) } else { unknown }) & 31
    }

    #[inline(always)]
    fn blurred_far(&self, offset: usize) -> usize {
        let zero = self.unknown_zero();
        opaque(offset ^ (zero | zero << 5 | zero << 10)) & FAR
    }

    #[inline(always)]
    fn extend_front(&mut self, by: i32) -> bool {
        // SAFETY: the context is the program's own; references into the frame ended with the borrow.
        unsafe { helpers::bpf_xdp_adjust_head(self.ctx.as_ptr().cast(), -by) == 0 }
    }

    #[inline(always)]
    fn extend_back(&mut self, by: i32) -> bool {
        // SAFETY: as above.
        unsafe { helpers::bpf_xdp_adjust_tail(self.ctx.as_ptr().cast(), by) == 0 }
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        // SAFETY: the context is the program's own.
        unsafe { helpers::bpf_xdp_get_buff_len(self.ctx.as_ptr().cast()) as u32 }
    }

    #[inline(always)]
    fn ingress_ifindex(&self) -> u32 {
        self.ctx.ingress_ifindex() as u32
    }
}
