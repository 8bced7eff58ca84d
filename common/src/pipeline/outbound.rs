//! Flows that instances open: to the outside, or back to a frontend or a public IP of this node. And flows that
//! outsiders open to a port that an instance goes out by, where its filtering lets them in.
//!
//! They go straight into the flow table: their port is a real resource, which the number of ports and short
//! timeouts bound.

use super::claim::Claim;
use super::first::may_come_from;
use super::snat::{self, Found};
use super::{Goes, Outcome, Step, by_family, complain, conclude, mapping, service, vlan};
use crate::abi::{Owner, Settings, Way, WayKey};
use crate::family::{Family, V4, V6};
use crate::flow::{Direction, FlowKind};
use crate::reason::Reason;
use crate::tables::{Shared, Tables};
use crate::wire::{Frame, LinkLayer, TCP, tcp_flags};

/// In [`crate::tables::PerCpu::flags`]: an outsider sends to a port that instances go out by.
const FROM_OUTSIDE: u32 = 0x100;

/// Leaves a packet (`scratch.key`) to this stage.
#[inline(always)]
pub(super) fn hand_over<T: Shared>(
    tables: &T,
    flags: u8,
    is_from_outside: bool,
) -> Result<Step, Reason> {
    let more = if is_from_outside { FROM_OUTSIDE } else { 0 };
    let noted = tables.per_cpu(|cpu| cpu.flags = u32::from(flags) | more);
    noted.ok_or(Reason::NotLoaded)?;
    Ok(Step::stage(Goes::Outbound))
}

/// The stage of flows that instances open.
#[inline(always)]
pub fn outbound<F: Frame, T: Tables<V4> + Tables<V6>>(frame: &mut F, tables: &T) -> Outcome {
    let step = by_family(
        &*frame,
        tables,
        of_family::<V4, F, T>,
        of_family::<V6, F, T>,
    );
    conclude(tables, step)
}

#[inline(always)]
fn of_family<A: Family, F: Frame, T: Tables<A>>(
    frame: &F,
    tables: &T,
    _link: LinkLayer,
    _settings: &Settings,
) -> Result<Step, Reason> {
    let device = vlan::ingress_device(frame, tables);
    let flags = tables.per_cpu(|cpu| cpu.flags).unwrap_or(0);
    let opened = if flags & FROM_OUTSIDE != 0 {
        let_in::<A, T>(tables)
    } else {
        open::<A, T>(tables, device, flags)
    };
    // SAFETY: whoever opened the flow has let go of it.
    let scratch = unsafe { Tables::<A>::scratch(tables) }.ok_or(Reason::NotConfigured)?;
    let is_tcp = scratch.key.protocol == u32::from(TCP);
    match opened {
        Ok(()) if scratch.key.protocol == u32::from(A::ICMP) => Ok(Step::stage(Goes::Ping)),
        Ok(()) => Ok(Step::stage(Goes::Again)),
        Err(reason @ Reason::SnatExhausted) => {
            let search = &scratch.search;
            let (port, address) = (search.destination_port as u16, search.address);
            let way = WayKey::new(search.source, scratch.key.protocol);
            tables.count_refused(&way, scratch.key.destination, port, address);
            if search.way.flags & Way::REJECT == 0 || !complain::note(tables, reason) {
                return Err(reason);
            }
            Ok(Step::stage(if is_tcp {
                Goes::Refuse
            } else {
                Goes::Complain
            }))
        }
        Err(reason @ Reason::UnknownConnection) if complain::note(tables, reason) => {
            Ok(Step::stage(Goes::Refuse))
        }
        Err(reason) => Err(reason),
    }
}

/// Opens a flow for a packet (`scratch.key`) from an instance.
///
/// `#[inline(never)]`: two families, and the frames of what it calls need a small one here.
///
/// # Errors
/// There is no way out, no port is free, or the packet opens nothing.
#[inline(never)]
fn open<A: Family, T: Tables<A>>(tables: &T, device: u32, flags: u32) -> Result<(), Reason> {
    let is_hairpin = aim::<A, T>(tables)?;
    choose_way::<A, T>(tables, is_hairpin)?;
    match standing::<A, T>(tables, device, flags)? {
        Standing::None => {}
        Standing::Opened => return Ok(()),
    }
    // SAFETY: taken once in this function, before the search takes it.
    let search = unsafe { Tables::<A>::scratch(tables) }.ok_or(Reason::NotConfigured)?;
    let way = search.search.way;
    let source = search.search.source;
    let protocol = search.key.protocol;
    let kind = search.search.kind;
    let found = if search.search.found == ITS_OWN {
        mapping::enter::<A, T>(tables)?;
        take::<A, T>(tables)
    } else if way.flags & Way::ENDPOINT_INDEPENDENT != 0 {
        mapping::obtain::<A, T>(tables, open_to(&way))?;
        if let Err(reason) = mapping::enter::<A, T>(tables) {
            note_contact::<A, T>(tables, &way);
            return Err(reason);
        }
        on_mapping::<A, T>(tables, kind)
    } else {
        // Which address it will have is not known yet.
        A::default().write(&mut search.search.address);
        mapping::enter::<A, T>(tables)?;
        snat::search::<A, T>(tables, false)
    };
    match found {
        Found::Port => {
            tables.count_opened(&WayKey::new(source, protocol));
            tables.count_new_flow(way.rule);
        }
        Found::Known => {}
        Found::Nothing if search_is_over(&way) => return Err(Reason::ReplyTupleTaken),
        Found::Nothing => return Err(Reason::SnatSearching),
        Found::Exhausted => return Err(Reason::SnatExhausted),
        Found::Full => return Err(Reason::FlowTableFull),
    }
    note_contact::<A, T>(tables, &way);
    Ok(())
}

/// Remembers whom the packet's source has contacted, if that lets them in.
#[inline(always)]
fn note_contact<A: Family, T: Tables<A>>(tables: &T, way: &Way) {
    if way.flags & Way::OPEN_TO_CONTACTED != 0 && way.flags & Way::ENDPOINT_INDEPENDENT != 0 {
        mapping::note_contact::<A, T>(tables);
    }
}

/// Whether a port that was not free was the only one: that of a mapping or of a public IP.
#[inline(always)]
fn search_is_over(way: &Way) -> bool {
    way.flags & Way::ENDPOINT_INDEPENDENT != 0 || (way.ports == 0 && way.burst_ports == 0)
}

/// Who may send to a mapping, as the bits of its kind.
#[inline(always)]
fn open_to(way: &Way) -> u32 {
    if way.flags & Way::OPEN_TO_ALL != 0 {
        u32::from(FlowKind::MAPPED_BIT)
    } else if way.flags & Way::OPEN_TO_CONTACTED != 0 {
        u32::from(FlowKind::CONTACT_BIT)
    } else {
        0
    }
}

/// In [`crate::tables::Search::found`] before a search: address and port are given.
const ITS_OWN: u32 = u32::MAX;

/// Whether a packet still has to open its flow, as a word that fits a register.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Standing {
    /// It does.
    None,
    /// It did before, or another packet did.
    Opened,
}

/// Who is behind the packet's destination: that itself, or the member of a frontend's rule, or the instance of a
/// public IP or of a mapping that others may send to. Says whether it is one of these.
///
/// `#[inline(never)]`: has its own stack.
#[inline(never)]
fn aim<A: Family, T: Tables<A>>(tables: &T) -> Result<bool, Reason> {
    let settings = tables.settings().ok_or(Reason::NotConfigured)?;
    // SAFETY: taken once in this function, whose caller has let go of it.
    let scratch = unsafe { Tables::<A>::scratch(tables) }.ok_or(Reason::NotConfigured)?;
    let (key, search) = (&scratch.key, &mut scratch.search);
    search.destination = key.destination;
    search.destination_port = u32::from(key.destination_port());
    search.found = 0;
    search.for_mapping = 0;
    search.door = 0;
    let Some(owner) = tables.owner(key.destination) else {
        return Ok(false);
    };
    if owner.roles & Owner::PUBLIC_IP != 0 {
        let public = tables.public_ip(key.destination).ok_or(Reason::NoRoute)?;
        public.other.write(&mut search.destination);
        return Ok(true);
    }
    if owner.roles & Owner::FRONTEND == 0 {
        return Ok(false);
    }
    if owner.roles & Owner::SNAT != 0
        && let Some(mapping) = mapping::open_one(tables, key, &mut scratch.third)
    {
        mapping.destination().write(&mut search.destination);
        search.destination_port = u32::from(u16::from_be((mapping.ports() >> 16) as u16));
        search.door = u32::from(mapping.kind() & mapping::OPEN);
        return Ok(true);
    }
    let rule = service::rule_for(tables, owner.id, key).ok_or(Reason::NoRule)?;
    let hash = service::hash(settings, key, rule.distribution);
    search.destination_port = u32::from(service::backend_port(rule, key));
    search.destination = service::member(tables, rule, key, hash, 0)?;
    Ok(true)
}

/// Whether the packet may open a flow, and how its key stands in the flow table: a connection that has ended
/// begins anew with the port that it had.
///
/// `#[inline(never)]`: has its own stack.
///
/// # Errors
/// The verdict of a packet that opens none.
#[inline(never)]
fn standing<A: Family, T: Tables<A>>(
    tables: &T,
    device: u32,
    flags: u32,
) -> Result<Standing, Reason> {
    let settings = tables.settings().ok_or(Reason::NotConfigured)?;
    // SAFETY: taken once in this function, whose caller has let go of it.
    let scratch = unsafe { Tables::<A>::scratch(tables) }.ok_or(Reason::NotConfigured)?;
    let key = &scratch.key;
    if !key.source.is_global_unicast() || !may_come_from(tables, key, device) {
        return Err(Reason::BadSource);
    }
    if key.protocol == u32::from(TCP) {
        let flags = flags as u8;
        if flags & tcp_flags::RST != 0 {
            return Err(Reason::NoFlow);
        }
        if flags & (tcp_flags::SYN | tcp_flags::ACK) != tcp_flags::SYN {
            return Err(Reason::UnknownConnection);
        }
    }
    if tables.former(key).is_some() {
        // It is over or has ended, and keeps its keys until it has moved.
        return Err(Reason::FlowEnding);
    }
    let Some(flow) = tables.flow(key) else {
        return Ok(Standing::None);
    };
    let claim = Claim {
        settings,
        now: tables.now(),
    };
    scratch.other = flow.reply_key(key.protocol);
    let other = tables.flow(&scratch.other);
    if claim.is_leaving(flow, other, key.protocol) {
        return Err(Reason::FlowEnding);
    }
    if claim.has_ended(flow, other, key.protocol) {
        // The port that it had is its own as long as its reply key is.
        let kind = flow.kind();
        flow.source().write(&mut scratch.search.address);
        scratch.search.port = u32::from(u16::from_be(flow.ports() as u16));
        flow.destination().write(&mut scratch.search.destination);
        scratch.search.destination_port = u32::from(u16::from_be((flow.ports() >> 16) as u16));
        scratch.search.kind = u32::from(kind);
        scratch.search.way.idle = flow.idle_timeout();
        scratch.search.way.idle_dns = flow.idle_timeout();
        scratch.search.way.rule = flow.rule();
        scratch.own.key = scratch.key;
        scratch.pair.key = scratch.other;
        return match snat::take(tables, scratch, settings, claim.now) {
            Found::Port => {
                let source = WayKey::new(scratch.search.source, scratch.key.protocol);
                tables.count_opened(&source);
                tables.count_new_flow(scratch.search.way.rule);
                Ok(Standing::Opened)
            }
            Found::Known => Ok(Standing::Opened),
            Found::Nothing | Found::Exhausted | Found::Full => Err(Reason::FlowEnding),
        };
    }
    Ok(Standing::None)
}

/// Puts the way out of the packet's source into the search.
///
/// `#[inline(never)]`: has its own stack.
///
/// # Errors
/// There is none.
#[inline(never)]
fn choose_way<A: Family, T: Tables<A>>(tables: &T, is_hairpin: bool) -> Result<(), Reason> {
    // SAFETY: taken once in this function, whose caller has let go of it.
    let scratch = unsafe { Tables::<A>::scratch(tables) }.ok_or(Reason::NotConfigured)?;
    let (key, search) = (&scratch.key, &mut scratch.search);
    let roles = tables.owner(key.source).map_or(0, |owner| owner.roles);
    let is_instance = roles & Owner::INSTANCE != 0;
    search.source = if is_instance {
        key.source
    } else {
        A::default()
    };
    let own = tables.way(&WayKey::new(search.source, key.protocol));
    let way = match own {
        Some(way) if roles & Owner::HAS_PUBLIC_IP == 0 => way,
        _ if is_hairpin => {
            // Who has no way out goes by the address that it talks to, or by its own.
            let way = tables.way(&WayKey::new(key.destination, key.protocol));
            search.source = key.destination;
            way.ok_or(Reason::NoOutbound)?
        }
        _ => return Err(Reason::NoOutbound),
    };
    copy(way, &mut search.way);
    let mut kind = way.flags >> Way::KIND_SHIFT & 0x0f;
    if is_hairpin {
        kind = FlowKind::Hairpin as u32;
    }
    let resets = way.flags & Way::TCP_RESET != 0;
    kind |= u32::from(FlowKind::Rule.byte(Direction::FromInstance, resets) & 0xf0);
    if is_hairpin
        && roles & Owner::HAS_PUBLIC_IP != 0
        && let Some(public) = tables.public_ip(key.source)
    {
        public.other.write(&mut search.address);
        search.port = u32::from(key.source_port());
        search.way.flags &= !Way::ENDPOINT_INDEPENDENT;
        (search.way.ports, search.way.burst_ports) = (0, 0);
        search.found = ITS_OWN;
    } else if way.flags & Way::ENDPOINT_INDEPENDENT != 0 {
        kind |= u32::from(FlowKind::MAPPED_BIT);
        if way.flags & Way::OPEN_TO_CONTACTED != 0 {
            kind |= u32::from(FlowKind::CONTACT_BIT);
        }
    }
    search.kind = kind;
    Ok(())
}

/// Takes the keys of a flow by the port of its mapping.
#[inline(always)]
fn on_mapping<A: Family, T: Tables<A>>(tables: &T, kind: u32) -> Found {
    // SAFETY: taken once in this function, whose caller has let go of it.
    let Some(scratch) = (unsafe { Tables::<A>::scratch(tables) }) else {
        return Found::Full;
    };
    scratch.search.kind = kind;
    scratch.search.for_mapping = 0;
    take::<A, T>(tables)
}

/// Takes the keys of a flow by the address and port at hand.
///
/// `#[inline(never)]`: two callers.
#[inline(never)]
fn take<A: Family, T: Tables<A>>(tables: &T) -> Found {
    // SAFETY: taken once in this function, whose callers have let go of it.
    let (Some(settings), Some(scratch)) =
        (tables.settings(), unsafe { Tables::<A>::scratch(tables) })
    else {
        return Found::Full;
    };
    let now = tables.now();
    snat::name_keys(scratch);
    snat::take_alone(tables, scratch, settings, now)
}

/// Opens a flow for a packet (`scratch.key`) from outside to a port that an instance goes out by.
///
/// `#[inline(never)]`: as for those of instances.
///
/// # Errors
/// Filtering does not let it in.
#[inline(never)]
fn let_in<A: Family, T: Tables<A>>(tables: &T) -> Result<(), Reason> {
    mapping::admit::<A, T>(tables)?;
    let settings = tables.settings().ok_or(Reason::NotConfigured)?;
    if tables.occupied() >= u64::from(settings.promote_below) {
        return Err(Reason::FlowTableFull);
    }
    // SAFETY: taken once in this function; `admit` has let go of it.
    let scratch = unsafe { Tables::<A>::scratch(tables) }.ok_or(Reason::NotConfigured)?;
    let search = &mut scratch.search;
    let way = tables.way(&WayKey::new(search.source, scratch.key.protocol));
    let way = way.ok_or(Reason::Unsolicited)?;
    copy(way, &mut search.way);
    let resets = way.flags & Way::TCP_RESET != 0;
    let bits = FlowKind::Rule.byte(Direction::ToInstance, resets) & 0xf0;
    search.kind = way.flags >> Way::KIND_SHIFT & 0x0f | u32::from(bits | FlowKind::MAPPED_BIT);
    search.for_mapping = 0;
    match snat::take(tables, scratch, settings, tables.now()) {
        Found::Port | Found::Known => Ok(()),
        Found::Full => Err(Reason::FlowTableFull),
        Found::Nothing | Found::Exhausted => Err(Reason::FlowEnding),
    }
}

/// VERIFIER: as for [`Family::write`]; what does not overlap is copied without a call.
#[inline(always)]
fn copy(from: &Way, to: &mut Way) {
    // SAFETY: two structures, one of which is ours alone.
    unsafe { core::ptr::copy_nonoverlapping(from, to, 1) };
}
