//! The smallest full NAT that could be: one lookup, both addresses and ports, checksums by
//! difference, TTL, MAC addresses, one counter, redirect. No ageing, no states, no options, no tags.
//!
//! Written by hand for each family, apart from the product's pipeline: it is what that is measured
//! against.

use aya_ebpf::bindings::BPF_NOEXIST;
use forebay_common::family::{V4, V6};
use forebay_common::flow::FlowKey;
use forebay_common::wire::{Field16, Field32, Frame, TCP};

use crate::floor::{parse4, parse6, send};
use crate::maps;
use crate::packet::{Tcp4, Tcp6};
use crate::shared::{Translation, backend_of};

/// Folds a sum of at most 2^16 32-bit words to 16 bits.
#[inline(always)]
fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum + (sum >> 16)) as u16
}

#[inline(always)]
fn halves(word: u64) -> u64 {
    (word & 0xffff_ffff) + (word >> 32)
}

#[inline(always)]
fn update(checksum: &Field16, changed: u64) {
    checksum.set(!fold(u64::from(!checksum.get()) + changed));
}

#[inline(always)]
fn set_ports(field: &Field32, checksum: &Field16, ports: u32, changed: u64) {
    let changed = changed + u64::from(!field.get()) + u64::from(ports);
    field.set(ports);
    update(checksum, changed);
}

/// The same for UDP, which may come without a checksum and never sends zero.
#[inline(always)]
fn set_udp_ports(field: &Field32, checksum: &Field16, ports: u32, changed: u64) {
    let old = checksum.get();
    let changed = changed + u64::from(!field.get()) + u64::from(ports);
    field.set(ports);
    if old != 0 {
        let new = !fold(u64::from(!old) + changed);
        checksum.set(if new == 0 { 0xffff } else { new });
    }
}

#[inline(always)]
fn count() {
    if let Some(packets) = maps::PACKETS.get_ptr_mut(0) {
        // SAFETY: per-CPU, and the program is not interrupted by itself on one CPU.
        unsafe { *packets = (*packets).wrapping_add(1) };
    }
}

/// Translates an IPv4 packet.
#[inline(always)]
pub(crate) fn translate4<F: Frame>(frame: &F) -> Option<u32> {
    let (packet, key) = &parse4(frame)?;
    let found = match maps::TRANSLATIONS4.get_ptr(key) {
        Some(found) => found,
        None => {
            open4(key)?;
            maps::TRANSLATIONS4.get_ptr(key)?
        }
    };
    // SAFETY: entries are never removed while packets come.
    let new = unsafe { &*found };
    let changed = u64::from(!key.source.0)
        + u64::from(!key.destination.0)
        + u64::from(new.source.0)
        + u64::from(new.destination.0);
    if key.protocol == u32::from(TCP) {
        let tcp = &frame.at::<Tcp4>(0)?.above;
        set_ports(&tcp.ports, &tcp.checksum, new.ports, changed);
    } else {
        let udp = &packet.above;
        set_udp_ports(&udp.ports, &udp.checksum, new.ports, changed);
    }
    let ip = &packet.ip;
    ip.source.set(new.source.0);
    ip.destination.set(new.destination.0);
    ip.ttl.set(ip.ttl.get().wrapping_sub(1));
    update(&ip.checksum, changed + 0xfffe);
    count();
    Some(send(&packet.ethernet, &new.hop))
}

/// Translates an IPv6 packet.
#[inline(always)]
pub(crate) fn translate6<F: Frame>(frame: &F) -> Option<u32> {
    let (packet, key) = &parse6(frame)?;
    let found = match maps::TRANSLATIONS6.get_ptr(key) {
        Some(found) => found,
        None => {
            open6(key)?;
            maps::TRANSLATIONS6.get_ptr(key)?
        }
    };
    // SAFETY: entries are never removed while packets come.
    let new = unsafe { &*found };
    let (source, destination) = (new.source.0, new.destination.0);
    let changed = halves(!key.source.0[0])
        + halves(!key.source.0[1])
        + halves(!key.destination.0[0])
        + halves(!key.destination.0[1])
        + halves(source[0])
        + halves(source[1])
        + halves(destination[0])
        + halves(destination[1]);
    if key.protocol == u32::from(TCP) {
        let tcp = &frame.at::<Tcp6>(0)?.above;
        set_ports(&tcp.ports, &tcp.checksum, new.ports, changed);
    } else {
        let udp = &packet.above;
        set_udp_ports(&udp.ports, &udp.checksum, new.ports, changed);
    }
    let ip = &packet.ip;
    ip.source.set(source);
    ip.destination.set(destination);
    ip.hop_limit.set(ip.hop_limit.get().wrapping_sub(1));
    count();
    Some(send(&packet.ethernet, &new.hop))
}

#[inline(always)]
fn ports(source: u16, destination: u16) -> u32 {
    u32::from(source) | u32::from(destination) << 16
}

macro_rules! open {
    ($name:ident, $family:ty, $service:ident, $table:ident, $word:expr) => {
        /// Makes both entries of a new flow.
        ///
        /// `#[inline(never)]`: known flows must not pay for its stack.
        #[inline(never)]
        fn $name(key: &FlowKey<$family>) -> Option<()> {
            let service = maps::$service.get(0)?;
            if key.destination != service.frontend || (key.ports >> 16) as u16 != service.port {
                return None;
            }
            let client: fn(&FlowKey<$family>) -> u32 = $word;
            let backend = *service.backends.get(backend_of(client(key), key.ports))?;
            let client_port = key.ports as u16;
            let back = Translation {
                source: key.destination,
                destination: key.source,
                ports: ports(service.port, client_port),
                hop: service.to_clients,
                padding: 0,
            };
            let reply = FlowKey {
                source: backend,
                destination: key.source,
                ports: ports(service.backend_port, client_port),
                protocol: key.protocol,
            };
            maps::$table
                .insert(&reply, &back, u64::from(BPF_NOEXIST))
                .ok()?;
            let forth = Translation {
                source: key.source,
                destination: backend,
                ports: ports(client_port, service.backend_port),
                hop: service.to_backends,
                padding: 0,
            };
            maps::$table
                .insert(key, &forth, u64::from(BPF_NOEXIST))
                .ok()
        }
    };
}

open!(open4, V4, MINIMAL4, TRANSLATIONS4, |key| key.source.0);
open!(
    open6,
    V6,
    MINIMAL6,
    TRANSLATIONS6,
    |key| (key.source.0[1] >> 32) as u32
);
