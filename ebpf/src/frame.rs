//! The only packet pointers of the program.

use aya_ebpf::programs::XdpContext;
use forebay_common::wire::{Frame, Header};

/// The frame of an XDP context.
pub(crate) struct XdpFrame<'c> {
    ctx: &'c XdpContext,
}

impl<'c> XdpFrame<'c> {
    #[inline(always)]
    pub(crate) fn new(ctx: &'c XdpContext) -> Self {
        Self { ctx }
    }
}

impl Frame for XdpFrame<'_> {
    #[inline(always)]
    fn at<H: Header>(&self, offset: usize) -> Option<&H> {
        // VERIFIER: the pointer that is compared must be the one that is used.
        let start = self.ctx.data() + offset;
        if start + size_of::<H>() > self.ctx.data_end() {
            return None;
        }
        // SAFETY: the bytes are within the frame, `Header` promises alignment 1 and that every bit
        // pattern is valid, and the kernel gives the frame to this CPU alone while the program runs.
        Some(unsafe { &*(start as *const H) })
    }

    #[inline(always)]
    fn blurred(&self, offset: usize) -> usize {
        // No driver has 2^27 queues: the upper bits are zero, which the verifier cannot know.
        let zero = (self.ctx.rx_queue_index() >> 27) as usize;
        (offset ^ zero) & 31
    }

    #[inline(always)]
    fn ingress_ifindex(&self) -> u32 {
        self.ctx.ingress_ifindex() as u32
    }
}
