//! VLAN tags: which device of the host a tagged frame belongs to, and which tags it leaves with.

use super::{Goes, Outcome, Step, conclude, end_of};
use crate::abi::{Interface, VLAN_ID, VlanKey};
use crate::reason::Reason;
use crate::tables::Shared;
use crate::wire::{Ethernet, Field16, Frame, LinkLayer, Mac, Word, tags};

/// Bytes of a tag.
const TAG: usize = 4;
/// Where the first tag, or else the payload's type, is.
const TAGS_AT: usize = size_of::<Ethernet>() - size_of::<Field16>();

/// Slot of the device of the host that a frame came in on.
#[inline(always)]
pub(super) fn ingress_slot<F: Frame, T: Shared>(frame: &F, tables: &T) -> Option<u32> {
    let nic = frame.ingress_ifindex();
    let key = VlanKey::new(nic, tags(frame));
    if key.outer == 0 && key.inner == 0 {
        // No tag, or one for its priority alone (IEEE 802.1Q section 6.9.1).
        return tables.interface_slot(nic);
    }
    tables.vlan_slot(&key)
}

/// MAC address of the device of the host that a frame came in on.
#[inline(always)]
pub(super) fn own_mac<F: Frame, T: Shared>(frame: &F, tables: &T) -> Option<Mac> {
    let slot = ingress_slot(frame, tables)?;
    tables.interface(slot).map(Interface::mac)
}

/// Number of the device of the host that a frame came in on, as policy rules name it: the VLAN device of
/// a tagged frame if there is one, else the NIC.
#[inline(always)]
pub(super) fn ingress_device<F: Frame, T: Shared>(frame: &F, tables: &T) -> u32 {
    let nic = frame.ingress_ifindex();
    if tags(frame)[0] == 0 {
        return nic;
    }
    let device = ingress_slot(frame, tables).and_then(|slot| tables.interface(slot));
    device.map_or(nic, |device| device.ifindex)
}

/// Refuses to take tags that the host has no device for to another NIC.
#[inline(always)]
pub(super) fn may_leave<F: Frame, T: Shared>(
    frame: &F,
    tables: &T,
    link: LinkLayer,
    out: &Interface,
) -> Result<(), Reason> {
    let is_plain = out.tags[0] == 0;
    let crosses = link.is_tagged() && is_plain && out.nic != frame.ingress_ifindex();
    if crosses && ingress_slot(frame, tables).is_none() {
        return Err(Reason::VlanCrossing);
    }
    Ok(())
}

/// Notes for the stage how a frame leaves; says how it ends when that cannot be.
#[inline(always)]
pub(super) fn note<T: Shared>(tables: &T, step: Step) -> Step {
    let noted = tables.per_cpu(|cpu| {
        cpu.leaves = step.reason as u32;
        cpu.slot = u32::from(step.slot);
    });
    match noted {
        Some(()) => step,
        None => end_of(tables, Reason::NotLoaded),
    }
}

/// The stage of VLAN tags: sends a frame that is complete but for them.
///
/// By a VLAN device it leaves with the tags of that device. By a NIC it leaves without the tags that it
/// had as the frame of a VLAN device; tags that the host has no device for are kept on the same NIC.
#[inline(always)]
pub fn tag<F: Frame, T: Shared>(frame: &mut F, tables: &T) -> Outcome {
    let step = leave(frame, tables);
    conclude(tables, step)
}

#[inline(always)]
fn leave<F: Frame, T: Shared>(frame: &mut F, tables: &T) -> Result<Step, Reason> {
    let noted = tables.per_cpu(|cpu| (cpu.leaves, cpu.slot));
    let (reason, slot) = noted.ok_or(Reason::NotLoaded)?;
    let reason = if reason == Reason::IcmpTranslated as u32 {
        Reason::IcmpTranslated
    } else {
        Reason::Forwarded
    };
    let out = tables.interface(slot).ok_or(Reason::NoRoute)?;
    let tags = tags(frame);
    let turns = out.nic == frame.ingress_ifindex();
    let wanted = match out.vlan_key() {
        Some(_) => out.tags,
        None if ingress_slot(frame, tables).is_some() => [0; 2],
        None if turns => tags,
        None => return Err(Reason::VlanCrossing),
    };
    if !are_alike(tags, wanted) {
        retag(frame, tags, wanted)?;
    }
    let goes = if turns { Goes::Back } else { Goes::Across };
    Ok(Step::to(goes, reason, slot))
}

#[inline(always)]
fn are_alike(a: [u32; 2], b: [u32; 2]) -> bool {
    let relevant = !(0xffff & !u32::from(VLAN_ID)).to_be();
    a[0] & relevant == b[0] & relevant && a[1] & relevant == b[1] & relevant
}

#[inline(always)]
fn count(tags: [u32; 2]) -> usize {
    usize::from(tags[0] != 0) + usize::from(tags[1] != 0)
}

/// Puts `new` in the place of `old`. The priority of the outer tag is kept (IEEE 802.1Q section 6.9).
#[inline(always)]
fn retag<F: Frame>(frame: &mut F, old: [u32; 2], new: [u32; 2]) -> Result<(), Reason> {
    let ethernet = frame.at::<Ethernet>(0).ok_or(Reason::Runt)?;
    let (destination, source) = (ethernet.destination.get(), ethernet.source.get());
    let by = (count(new) as i32 - count(old) as i32) * TAG as i32;
    if by != 0 && !frame.extend_front(by) {
        return Err(Reason::NoRoom);
    }
    let ethernet = frame.at::<Ethernet>(0).ok_or(Reason::Runt)?;
    ethernet.destination.set(destination);
    ethernet.source.set(source);
    let priority = old[0] & 0xf000_u32.to_be();
    if new[0] != 0 {
        let outer = frame.at::<Word>(TAGS_AT).ok_or(Reason::Runt)?;
        outer.value.set(new[0] | priority);
    }
    if new[1] != 0 {
        let inner = frame.at::<Word>(TAGS_AT + TAG).ok_or(Reason::Runt)?;
        inner.value.set(new[1]);
    }
    Ok(())
}

/// Whether tags have to be looked at before a frame leaves by an interface.
#[inline(always)]
pub(super) fn concerns(link: LinkLayer, out: &Interface) -> bool {
    link.is_tagged() || out.tags[0] != 0
}
