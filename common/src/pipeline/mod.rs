//! The packet path, top to bottom.
//!
//! ```text
//! frame → link layer → ARP? → IP → 5-tuple → known flow? ──hit──────────────▶ forward
//!                               │                └─miss─▶ stage "first" ─▶ untrusted flow, or choose
//!                               │                            └─ from an instance ─▶ stage "outbound" ─▶ "refuse"
//!                               ├─ fragment, extension headers ─▶ stage "unusual" ─▶ the same
//!                               ├─ ICMP, NDP ───────────────────▶ stage "icmp" ─▶ "quoted", "ping"
//!                               ├─ to a public IP ──────────────▶ stage "public"
//!                               ├─ expired, too big ────────────▶ stage "complain"
//!                               ├─ VLAN tags ─── forward ───────▶ stage "tag"
//!                               └─ not in a table that flows move to ▶ stage "former"
//! ```
//!
//! [`process`] is the only entry. Everything on the hit path is inlined into it. What few packets need is
//! in stages. In the kernel each is a program of its own, which the first one
//! ends in; so it has the whole stack, and the known-flow path does not pay for it. A stage begins
//! with the frame as it came in; only the stage "tag" takes one that is translated already.

mod carry;
mod claim;
mod complain;
mod echo;
mod first;
mod former;
mod forward;
mod icmp;
mod life;
mod limit;
mod mapping;
mod neighbor;
mod open;
mod outbound;
mod ping;
mod public;
mod quoted;
mod recent;
mod refuse;
mod retire;
mod service;
mod snat;
mod sources;
mod stage;
mod trial;
mod untrusted;
mod unusual;
mod vlan;

pub use carry::{carry_over, disown};
pub use complain::complain;
pub use first::first;
pub use forward::record;
pub use icmp::icmp;
pub use life::is_over_for;
pub use mapping::touch;
pub use outbound::outbound;
pub use ping::ping;
pub use public::public;
pub use quoted::quoted;
pub use refuse::refuse;
pub use retire::{mark_flushed, mark_retiring, remove_retiring};
pub use snat::{candidate, range_of};
pub use stage::{Exit, Outcome, Stage, Verdict};
pub use untrusted::{News, forget_both, settle};
pub use unusual::unusual;
pub use vlan::tag;

use crate::abi::Settings;
use crate::balance::filter;
use crate::family::{Family, V4, V6};
use crate::flow::{FlowKey, FlowRef};
use crate::reason::Reason;
use crate::tables::{Shared, Tables};
use crate::wire::{Frame, IpHeader, LinkLayer, Network, Transport, link_layer, network, tcp_flags};
use stage::{Goes, Step, by_family, conclude, end_of};

/// What every step of a packet goes by.
#[derive(Clone, Copy)]
struct Terms<'s> {
    settings: &'s Settings,
    now: u64,
}

/// Decides about one frame and changes it accordingly.
#[inline(always)]
pub fn process<F: Frame, T: Tables<V4> + Tables<V6>>(frame: &mut F, tables: &T) -> Outcome {
    let step = dispatch(frame, tables);
    conclude(tables, step)
}

/// Takes a frame through all stages. Every frame is counted under one reason.
#[cfg(feature = "user")]
pub fn run<F: Frame, T: Tables<V4> + Tables<V6>>(frame: &mut F, tables: &T) -> Verdict {
    let mut outcome = process(frame, tables);
    for _ in 0..MOST_STAGES {
        outcome = match outcome {
            Outcome::Verdict(verdict) => return verdict,
            Outcome::Stage(Stage::Unusual) => unusual(frame, tables),
            Outcome::Stage(Stage::Icmp) => icmp(frame, tables),
            Outcome::Stage(Stage::Complain) => complain(frame, tables),
            Outcome::Stage(Stage::Tag) => tag(frame, tables),
            Outcome::Stage(Stage::Former) => tables.in_former(|| process(frame, tables)),
            Outcome::Stage(Stage::First) => first(frame, tables),
            Outcome::Stage(Stage::Outbound) => outbound(frame, tables),
            Outcome::Stage(Stage::Public) => public(frame, tables),
            Outcome::Stage(Stage::Ping) => ping(frame, tables),
            Outcome::Stage(Stage::Refuse) => refuse(frame, tables),
            Outcome::Stage(Stage::Quoted) => quoted(frame, tables),
            Outcome::Stage(Stage::Again) => process(frame, tables),
        };
    }
    tables.count(Reason::NotLoaded);
    Verdict {
        reason: Reason::NotLoaded,
        exit: Exit::Drop,
    }
}

/// Stages that a frame may go through; the kernel has no more tail calls (`MAX_TAIL_CALL_CNT`).
#[cfg(feature = "user")]
const MOST_STAGES: u32 = 33;

#[inline(always)]
fn dispatch<F: Frame, T: Tables<V4> + Tables<V6>>(frame: &F, tables: &T) -> Result<Step, Reason> {
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
fn ip<A: Network, F: Frame, T: Tables<A>>(
    frame: &F,
    tables: &T,
    link: LinkLayer,
    settings: &Settings,
) -> Result<Step, Reason> {
    let ip = frame.at::<A::Header>(link.offset).ok_or(Reason::Runt)?;
    let mut key = key_of::<A>(ip, ip.payload_protocol());
    let packet = match network::<A, F>(frame, ip, link.offset, &mut key) {
        Ok(Some(packet)) => packet,
        Ok(None) => return Ok(Step::stage(Goes::Unusual)),
        Err(Reason::Protocol) if ip.payload_protocol() == A::ICMP => {
            return Ok(Step::stage(Goes::Icmp));
        }
        Err(reason) => {
            let ingress = vlan::ingress_device(frame, tables);
            let reason = first::without_flow(tables, &key, ingress, reason);
            return public::or_else(tables, &key, reason);
        }
    };
    let now = tables.now();
    let flags = packet.transport.tcp_flags();
    let mut flow = known(tables, &key, heard(&packet.transport), settings, now);
    if flow.is_none() && tables.is_former() {
        flow = former::renew(tables, &key, flags);
    }
    if flow.is_none()
        && settings.flags & Settings::PUBLIC_IPS != 0
        && !is_longer_than_frame(frame, link, packet.length)
    {
        let device = vlan::ingress_device(frame, tables);
        flow = recent::recent_without_flow(tables, &key, settings, now, device);
    }
    match flow {
        Some(flow) => {
            let terms = Terms { settings, now };
            forward::forward::<true, A, F, T>(frame, tables, link, &packet, &key, flow, terms)
        }
        None => elsewhere(tables, &key, packet.start),
    }
}

/// The key of a packet with this header, ports still missing.
#[inline(always)]
fn key_of<A: Family>(ip: &A::Header, protocol: u8) -> FlowKey<A> {
    FlowKey {
        source: ip.source(),
        destination: ip.destination(),
        ports: 0,
        protocol: u32::from(protocol),
    }
}

/// Where a packet goes on whose flow is not in the flow table.
#[inline(always)]
fn elsewhere<A: Family, T: Tables<A>>(
    tables: &T,
    key: &FlowKey<A>,
    start: usize,
) -> Result<Step, Reason> {
    // Flows may outlive their instance and its public IP.
    if tables.former(key).is_some() {
        return Ok(Step::stage(Goes::Former));
    }
    if !concerns_us(tables, key) {
        return Err(Reason::NotOurs);
    }
    if public::is_to_one(tables, key) {
        return Ok(Step::stage(Goes::Public));
    }
    let noted = tables.per_cpu(|cpu| cpu.first = 0);
    noted.ok_or(Reason::NotLoaded)?;
    first::hand_over(tables, key, start)
}

/// Whether an IP header claims more bytes than there are.
#[inline(always)]
fn is_longer_than_frame<F: Frame>(frame: &F, link: LinkLayer, length: u32) -> bool {
    link.offset as u32 + length > frame.length()
}

/// TCP flags, and what the sender acknowledges, raw; 0: nothing.
#[inline(always)]
fn heard(transport: &Transport<'_>) -> (u8, u32) {
    match transport {
        Transport::Tcp(tcp) if tcp.flags.get() & tcp_flags::ACK != 0 => {
            (tcp.flags.get(), tcp.acknowledgement.get())
        }
        other => (other.tcp_flags(), 0),
    }
}

/// The live flow of a packet. A SYN that meets a flow which has ended opens a new connection, so to
/// it the flow is not there.
#[inline(always)]
fn known<'t, A: Family, T: Tables<A>>(
    tables: &'t T,
    key: &FlowKey<A>,
    (flags, acknowledgement): (u8, u32),
    settings: &Settings,
    now: u64,
) -> Option<FlowRef<'t, A>> {
    let flow = tables.flow(key)?;
    if life::is_quiet(flow, key.protocol, settings, now)
        && life::is_over_in_both(tables, settings, flow, key.protocol, now)
    {
        retire::hear(flow, acknowledgement, now);
        return None;
    }
    let opens = flags & (tcp_flags::SYN | tcp_flags::ACK) == tcp_flags::SYN;
    if opens && flow.state(key.protocol).has_ended() {
        return None;
    }
    Some(flow)
}

/// False when a packet is certainly none of this node's.
#[inline(always)]
fn concerns_us<A: Family, T: Tables<A>>(tables: &T, key: &FlowKey<A>) -> bool {
    may_be_ours(tables, key.source)
        || may_be_ours(tables, key.destination)
        || goes_out_by_default(tables, key)
}

/// Whether a packet from the virtual network to somewhere else is to be translated although its source is no
/// instance.
#[inline(always)]
fn goes_out_by_default<A: Family, T: Tables<A>>(tables: &T, key: &FlowKey<A>) -> bool {
    let is_on = tables
        .settings()
        .is_some_and(|settings| settings.flags & Settings::DEFAULT_OUTBOUND != 0);
    is_on
        && key.destination.is_global_unicast()
        && key.source.is_global_unicast()
        && tables.in_virtual_network(key.source)
        && !tables.in_virtual_network(key.destination)
}

/// False when an address is certainly neither a frontend nor an instance.
#[inline(always)]
fn may_be_ours<A: Family, T: Shared>(tables: &T, address: A) -> bool {
    let (word, mask) = filter::bit(address);
    tables.address_filter(word) & mask != 0
}
