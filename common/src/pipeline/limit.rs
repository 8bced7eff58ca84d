//! How many answers an asker gets: what anybody outside can make the node send is bounded.

use crate::abi::Settings;
use crate::family::Family;
use crate::tables::{ASKERS, AnswerKind, Shared};

/// Echo replies a second to a group of askers, a CPU.
const ECHOES: u64 = 10_000;
/// ICMP errors a second to a group of askers, a CPU.
const ERRORS: u64 = 100;
/// TCP RSTs a second to a group of askers, a CPU.
const RESETS: u64 = 10_000;

/// Whether another answer may go to `asker`, and if so counts it. Askers are told apart by IPv4 address
/// or IPv6 /64, as far as the hash of 256 groups does.
#[inline(always)]
pub(super) fn admits<A: Family, T: Shared>(
    tables: &T,
    settings: &Settings,
    kind: AnswerKind,
    asker: A,
) -> bool {
    let (word, _) = asker.words();
    let mixed = (word ^ settings.hash_key[0]).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let index = (mixed >> 56) as u32 & (ASKERS - 1) | (kind as u32) << 8;
    let most = match kind {
        AnswerKind::Echo => ECHOES,
        AnswerKind::Error => ERRORS,
        AnswerKind::Reset => RESETS,
    };
    let now = tables.now();
    let admitted = tables.per_cpu(|cpu| {
        let Some(window) = cpu.windows.get_mut(index as usize) else {
            return false;
        };
        if now.wrapping_sub(window.since) >= u64::from(settings.second) {
            window.since = now;
            window.given = 0;
        }
        window.given += 1;
        window.given <= most
    });
    admitted == Some(true)
}
