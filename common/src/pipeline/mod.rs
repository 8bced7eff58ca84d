//! The packet path, top to bottom.
//!
//! ```text
//! frame → link layer → ARP / NDP? → IP → 5-tuple → known flow? ──hit──────────────▶ forward
//!                                                     └─miss─▶ ours? → choose → claim ┘
//! ```
//!
//! [`process`] is the only entry. Everything on the hit path is inlined into it; what only first
//! packets need hangs off it in functions of their own, which leave nothing behind but a flow entry:
//! the packet then takes the same road as every later one.

mod claim;
mod first;
mod forward;
mod life;
mod neighbor;
mod retire;

pub use life::is_over_for;
pub use retire::{mark_retiring, remove_retiring};

use crate::abi::Settings;
use crate::balance::filter;
use crate::family::{Family, V4, V6};
use crate::flow::{FlowKey, FlowRef};
use crate::reason::{Fate, Reason};
use crate::tables::{Shared, Tables};
use crate::wire::{Frame, IpHeader, LinkLayer, Neighbor, Network, link_layer, network, tcp_flags};

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

/// What every step of a packet goes by.
#[derive(Clone, Copy)]
struct Terms<'s> {
    settings: &'s Settings,
    now: u64,
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

/// Decides about one frame and changes it accordingly. Every frame is counted under one reason.
#[inline(always)]
pub fn process<F: Frame, T: Tables<V4> + Tables<V6>>(frame: &F, tables: &T) -> Verdict {
    let verdict = match dispatch(frame, tables) {
        Ok(verdict) => verdict,
        Err(reason) => {
            let exit = if matches!(reason.fate(), Fate::Drop) {
                Exit::Drop
            } else {
                Exit::Pass
            };
            Verdict { reason, exit }
        }
    };
    tables.count(verdict.reason);
    verdict
}

#[inline(always)]
fn dispatch<F: Frame, T: Tables<V4> + Tables<V6>>(
    frame: &F,
    tables: &T,
) -> Result<Verdict, Reason> {
    let link = link_layer(frame)?;
    let settings = tables.settings().ok_or(Reason::NotConfigured)?;
    match link.ethertype {
        V4::ETHERTYPE => ip::<V4, F, T>(frame, tables, link, settings),
        V6::ETHERTYPE => ip::<V6, F, T>(frame, tables, link, settings),
        neighbor::ARP => neighbor::arp(frame, tables, link),
        _ => Err(Reason::NotIp),
    }
}

#[inline(always)]
fn ip<A: Network, F: Frame, T: Tables<A> + Tables<V6>>(
    frame: &F,
    tables: &T,
    link: LinkLayer,
    settings: &Settings,
) -> Result<Verdict, Reason> {
    let ip = frame.at::<A::Header>(link.offset).ok_or(Reason::Runt)?;
    if A::AF == V6::AF
        && ip.payload_protocol() == V6::ICMP
        && let Some(message) = frame.at::<Neighbor>(link.offset + size_of::<A::Header>())
        && neighbor::is_solicitation(message)
    {
        match neighbor::solicitation(frame, tables, link) {
            // About nobody we answer for: a packet like any other, which must not get past the fence.
            Err(Reason::NeighborNotOurs) => {}
            answered => return answered,
        }
    }
    let protocol = u32::from(ip.payload_protocol());
    let mut key = FlowKey {
        source: ip.source(),
        destination: ip.destination(),
        ports: 0,
        protocol,
    };
    let packet = match network::<A, F>(frame, ip, link.offset, &mut key) {
        Ok(packet) => packet,
        Err(reason) => {
            return Err(first::without_flow(
                tables,
                &key,
                frame.ingress_ifindex(),
                reason,
            ));
        }
    };
    let now = tables.now();
    let flags = packet.transport.tcp_flags();
    let flow = match known(tables, &key, flags, settings, now) {
        Some(flow) => flow,
        None => {
            if !may_be_ours(tables, key.source) && !may_be_ours(tables, key.destination) {
                return Err(Reason::NotOurs);
            }
            let flags_hops = u32::from(flags) << 8 | u32::from(packet.ip.hops());
            first::first_packet(tables, &key, frame.ingress_ifindex(), flags_hops)?;
            tables.flow(&key).ok_or(Reason::FlowEnding)?
        }
    };
    forward::forward(
        frame,
        tables,
        link,
        &packet,
        &key,
        flow,
        Terms { settings, now },
    )
}

/// The live flow of a packet. A SYN that meets a flow which has ended opens a new connection, so to
/// it the flow is not there.
#[inline(always)]
fn known<'t, A: Family, T: Tables<A>>(
    tables: &'t T,
    key: &FlowKey<A>,
    flags: u8,
    settings: &Settings,
    now: u64,
) -> Option<FlowRef<'t, A>> {
    let flow = tables.flow(key)?;
    if life::is_quiet(flow, key.protocol, settings, now)
        && life::is_over_in_both(tables, settings, flow, key.protocol, now)
    {
        return None;
    }
    let opens = flags & (tcp_flags::SYN | tcp_flags::ACK) == tcp_flags::SYN;
    if opens && flow.state(key.protocol).has_ended() {
        return None;
    }
    Some(flow)
}

/// False when an address is certainly neither a frontend nor an instance.
#[inline(always)]
fn may_be_ours<A: Family, T: Shared>(tables: &T, address: A) -> bool {
    let (word, mask) = filter::bit(address);
    tables.address_filter(word) & mask != 0
}
