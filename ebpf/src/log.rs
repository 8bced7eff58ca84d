//! What the program writes to the daemon's log: only rare things, and only when the daemon was started
//! with the level `debug` or finer. Otherwise the branch is pruned when the program is loaded.

use aya_ebpf::programs::XdpContext;
use aya_log_ebpf::debug;
use forebay_common::reason::Reason;

/// Writes down that a packet opened no flow although a rule is there for it.
///
/// `#[inline(never)]`: formatting needs stack.
#[inline(never)]
pub(crate) fn refused(ctx: &XdpContext, reason: Reason) {
    debug!(
        ctx,
        "a packet on interface {} opened no flow, reason {}",
        ctx.ingress_ifindex(),
        reason as u32
    );
}

/// Whether a packet with this reason is worth a line: the node, not the sender, is at its limits.
#[inline(always)]
pub(crate) fn is_worth_a_line(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::FlowTableFull | Reason::ReplyTupleTaken | Reason::NoBackend
    )
}
