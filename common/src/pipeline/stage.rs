//! What the parts of the path hand back, and how a frame goes from one to the next.

use core::ops::Deref;

use super::{complain, vlan};
use crate::abi::Settings;
use crate::family::{Family, V4, V6};
use crate::reason::{Fate, Reason};
use crate::tables::Shared;
use crate::wire::{Frame, LinkLayer, link_layer};

/// Where a frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Nowhere.
    Drop,
    /// To the kernel.
    Pass,
    /// Out of the interface it came in on.
    Transmit,
    /// Out of the interface in this slot.
    Redirect(u32),
}

/// Where a frame goes and why.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The reason it is counted under.
    pub reason: Reason,
    /// Where it goes.
    pub exit: Exit,
}

/// Parts of the path that few packets need; the number is the index in the table of programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Stage {
    /// [`super::unusual`]
    Unusual = 0,
    /// [`super::icmp`]
    Icmp = 1,
    /// [`super::complain`]
    Complain = 2,
    /// [`super::tag`]
    Tag = 3,
    /// [`super::process`] with the former flow table
    Former = 4,
    /// [`super::first`]
    First = 5,
    /// [`super::outbound`]
    Outbound = 6,
    /// [`super::public`]
    Public = 7,
    /// [`super::ping`]
    Ping = 8,
    /// [`super::refuse`]
    Refuse = 9,
    /// [`super::quoted`]
    Quoted = 10,
    /// [`super::process`], once more.
    Again = 11,
}

/// How the handling of a frame ended, or where it goes on.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is decided, and counted.
    Verdict(Verdict),
    /// It goes on there.
    Stage(Stage),
}

/// What a part of the path hands back.
///
/// VERIFIER: eight bytes, and `Result<Step, Reason>` eight as well, none of which is ever undefined: the
/// compiler would move undefined ones around, which the verifier refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) reason: Reason,
    pub(super) slot: u16,
    pub(super) goes: Goes,
}

const _: () = assert!(size_of::<Result<Step, Reason>>() == 8);

/// Where a packet goes from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Goes {
    Drop,
    Pass,
    /// Out of the interface it came in on.
    Back,
    /// Out of the interface in the slot.
    Across,
    /// Out of the interface in the slot, once it has its tags.
    Tagged,
    /// To a stage.
    Unusual,
    Icmp,
    Complain,
    Former,
    First,
    Outbound,
    Public,
    Ping,
    Refuse,
    Quoted,
    /// To the beginning: the flow table has the packet's flow now.
    Again,
}

impl Step {
    #[inline(always)]
    pub(super) fn to(goes: Goes, reason: Reason, slot: u32) -> Self {
        Self {
            reason,
            slot: slot as u16,
            goes,
        }
    }

    #[inline(always)]
    pub(super) fn transmit(reason: Reason) -> Self {
        Self::to(Goes::Back, reason, 0)
    }

    #[inline(always)]
    pub(super) fn pass(reason: Reason) -> Self {
        Self::to(Goes::Pass, reason, 0)
    }

    #[inline(always)]
    pub(super) fn stage(goes: Goes) -> Self {
        Self::to(goes, Reason::NotLoaded, 0)
    }
}

/// Hands an IP packet to the one of two handlers that knows its family.
///
/// # Errors
/// It is no IP packet, or what the handler says of it.
#[inline(always)]
pub(super) fn by_family<P, F: Frame, T: Shared>(
    frame: P,
    tables: &T,
    v4: impl FnOnce(P, &T, LinkLayer, &Settings) -> Result<Step, Reason>,
    v6: impl FnOnce(P, &T, LinkLayer, &Settings) -> Result<Step, Reason>,
) -> Result<Step, Reason>
where
    P: Deref<Target = F>,
{
    let link = link_layer(&*frame)?;
    let settings = tables.settings().ok_or(Reason::NotConfigured)?;
    match link.ethertype {
        V4::ETHERTYPE => v4(frame, tables, link, settings),
        V6::ETHERTYPE => v6(frame, tables, link, settings),
        _ => Err(Reason::NotIp),
    }
}

/// Brings a step to its end: the choice to complain, and the one count.
#[inline(always)]
pub(super) fn conclude<T: Shared>(tables: &T, step: Result<Step, Reason>) -> Outcome {
    let step = match step {
        Ok(step) if step.goes == Goes::Tagged => vlan::note(tables, step),
        Ok(step) => step,
        Err(reason) => end_of(tables, reason),
    };
    let exit = match step.goes {
        Goes::Drop => Exit::Drop,
        Goes::Pass => Exit::Pass,
        Goes::Back => Exit::Transmit,
        Goes::Across => Exit::Redirect(u32::from(step.slot)),
        Goes::Unusual => return Outcome::Stage(Stage::Unusual),
        Goes::Icmp => return Outcome::Stage(Stage::Icmp),
        Goes::Complain => return Outcome::Stage(Stage::Complain),
        Goes::Tagged => return Outcome::Stage(Stage::Tag),
        Goes::Former => return Outcome::Stage(Stage::Former),
        Goes::First => return Outcome::Stage(Stage::First),
        Goes::Outbound => return Outcome::Stage(Stage::Outbound),
        Goes::Public => return Outcome::Stage(Stage::Public),
        Goes::Ping => return Outcome::Stage(Stage::Ping),
        Goes::Refuse => return Outcome::Stage(Stage::Refuse),
        Goes::Quoted => return Outcome::Stage(Stage::Quoted),
        Goes::Again => return Outcome::Stage(Stage::Again),
    };
    let reason = step.reason;
    tables.count(reason);
    Outcome::Verdict(Verdict { reason, exit })
}

/// How a packet ends that does not go on: its sender is told, or it is dropped, or it is none of ours.
#[inline(always)]
pub(super) fn end_of<T: Shared>(tables: &T, reason: Reason) -> Step {
    if complain::is_told(reason) && complain::note(tables, reason) {
        return Step::stage(Goes::Complain);
    }
    let goes = if matches!(reason.fate(), Fate::Drop | Fate::Own) {
        Goes::Drop
    } else {
        Goes::Pass
    };
    Step::to(goes, reason, 0)
}
