//! What the daemon and the program tell each other of a trial.

use crate::wire::Mac;

/// Trials at once; a power of two. One has its place by the low bits of its source port.
pub const TRIALS: u32 = 1_024;

/// A trial of a rule: a SYN that the daemon makes and the program handles like one from outside.
///
/// Anybody can send packets from the reserved source, so what makes one a trial is the MAC address that it comes
/// from, which is random, and which nobody outside the node sees. What makes an answer one is the number that it
/// acknowledges.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Trial {
    /// Its source port, host byte order; 0: none.
    pub port: u32,
    /// The MAC address that it comes from: first four octets.
    pub mac_head: u32,
    /// Last two octets.
    pub mac_tail: u32,
    /// What its answer acknowledges, host byte order.
    pub acknowledged: u32,
    /// What became of it, as [`Self::verdict_of`]; 0: nothing yet.
    pub verdict: u32,
    /// How it was answered, as [`Self::answer_of`]; 0: not yet.
    pub answer: u32,
}

const _: () = assert!(size_of::<Trial>() == 24);
const _: () = assert!(TRIALS.is_power_of_two());

impl Trial {
    const SET: u32 = 1 << 16;

    /// The place of the trial with this source port.
    #[inline(always)]
    pub const fn place(port: u16) -> u32 {
        port as u32 & (TRIALS - 1)
    }

    /// The MAC address that it comes from.
    #[inline(always)]
    pub const fn mac(&self) -> Mac {
        Mac {
            head: self.mac_head,
            tail: self.mac_tail as u16,
        }
    }

    /// The word for a reason.
    #[inline(always)]
    pub const fn verdict_of(reason: u32) -> u32 {
        Self::SET | reason
    }

    /// The word for an answer with these TCP flags.
    #[inline(always)]
    pub const fn answer_of(flags: u8) -> u32 {
        Self::SET | flags as u32
    }

    /// Number of the reason under which its SYN left or did not.
    pub const fn reason(&self) -> Option<u32> {
        if self.verdict & Self::SET == 0 {
            return None;
        }
        Some(self.verdict & (Self::SET - 1))
    }

    /// Whether it was answered.
    pub const fn is_answered(&self) -> bool {
        self.answer & Self::SET != 0
    }
}
