//! Kernel helpers as safe functions.

use core::mem::MaybeUninit;

use aya_ebpf::bindings::{
    BPF_FIB_LKUP_RET_BLACKHOLE, BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_NO_NEIGH,
    BPF_FIB_LKUP_RET_NOT_FWDED, BPF_FIB_LKUP_RET_PROHIBIT, BPF_FIB_LKUP_RET_SUCCESS,
    BPF_FIB_LKUP_RET_UNREACHABLE, bpf_fib_lookup,
};
use aya_ebpf::helpers::generated as helpers;
use forebay_common::family::{Family, V4, V6};
use forebay_common::flow::FlowKey;
use forebay_common::wire::Mac;

/// The kernel's tick counter.
#[inline(always)]
pub(crate) fn jiffies() -> u64 {
    // SAFETY: no arguments, no preconditions.
    unsafe { helpers::bpf_jiffies64() }
}

/// Time since boot, suspend included, nanoseconds.
#[inline(always)]
pub(crate) fn boot_nanoseconds() -> u64 {
    // SAFETY: no arguments, no preconditions.
    unsafe { helpers::bpf_ktime_get_boot_ns() }
}

/// A random word.
#[inline(always)]
pub(crate) fn random() -> u32 {
    // SAFETY: no arguments, no preconditions.
    unsafe { helpers::bpf_get_prandom_u32() }
}

/// What the FIB says of a packet.
pub(crate) enum Fib {
    /// Out of this interface, to this neighbour.
    Neighbor { ifindex: u32, mac: Mac, mtu: u32 },
    /// Out of this interface, to a neighbour that is not resolved.
    NoNeighbor { ifindex: u32 },
    /// Not forwarded: to the host itself, or forwarding is off.
    NotForwarded,
    /// Above this MTU of the way out.
    TooBig { mtu: u32 },
    /// Blackhole, unreachable or prohibit route.
    NoRoute,
    /// The kernel must do it: tunnel, no source address.
    Kernel,
}

/// Families whose addresses fit into the lookup's parameters.
pub(crate) trait FibFamily: Family {
    /// Puts the addresses in.
    fn fill(parameters: &mut bpf_fib_lookup, source: Self, destination: Self);
}

impl FibFamily for V4 {
    #[inline(always)]
    fn fill(parameters: &mut bpf_fib_lookup, source: Self, destination: Self) {
        parameters.__bindgen_anon_3.ipv4_src = source.0;
        parameters.__bindgen_anon_4.ipv4_dst = destination.0;
    }
}

impl FibFamily for V6 {
    #[inline(always)]
    fn fill(parameters: &mut bpf_fib_lookup, source: Self, destination: Self) {
        let words = |address: Self| {
            let [high, low] = address.0;
            [
                high as u32,
                (high >> 32) as u32,
                low as u32,
                (low >> 32) as u32,
            ]
        };
        parameters.__bindgen_anon_3.ipv6_src = words(source);
        parameters.__bindgen_anon_4.ipv6_dst = words(destination);
    }
}

/// Room for the lookup's parameters.
#[repr(align(8))]
struct Parameters(MaybeUninit<bpf_fib_lookup>);

const _: () = assert!(size_of::<Parameters>() == 64);

impl Parameters {
    /// All zero, word by word: otherwise the compiler calls a function that does it byte by byte, and has
    /// a frame of its own on the stack.
    #[inline(always)]
    fn zeroed(&mut self) -> &mut bpf_fib_lookup {
        let words = self.0.as_mut_ptr().cast::<u64>();
        let mut index = 0;
        while index < size_of::<Self>() / size_of::<u64>() {
            // SAFETY: within the structure, whose alignment is that of the words.
            unsafe { words.add(index).write_volatile(0) };
            index += 1;
        }
        // SAFETY: plain integers and unions of them, all valid as zero.
        unsafe { self.0.assume_init_mut() }
    }
}

/// Looks up the way of a packet with this (translated) key that came in on `ingress`, policy rules
/// included. `length` 0: any MTU will do.
#[inline(always)]
pub(crate) fn fib<A: FibFamily>(
    ctx: *mut core::ffi::c_void,
    key: &FlowKey<A>,
    length: u32,
    ingress: u32,
) -> Fib {
    let mut parameters = Parameters(MaybeUninit::uninit());
    let parameters = parameters.zeroed();
    parameters.family = A::AF;
    parameters.l4_protocol = key.protocol as u8;
    parameters.sport = key.ports as u16;
    parameters.dport = (key.ports >> 16) as u16;
    parameters.__bindgen_anon_1.tot_len = length as u16;
    parameters.ifindex = ingress;
    A::fill(parameters, key.source, key.destination);
    // SAFETY: the parameters are valid for their size, and the context is the program's own.
    let answer = unsafe {
        helpers::bpf_fib_lookup(
            ctx,
            &raw mut *parameters,
            size_of::<bpf_fib_lookup>() as i32,
            0,
        )
    };
    // SAFETY: a word, whichever of its two meanings it has.
    let mtu = unsafe { parameters.__bindgen_anon_1.mtu_result };
    match answer as u32 {
        BPF_FIB_LKUP_RET_SUCCESS => {
            let [a, b, c, d, e, f] = parameters.dmac;
            Fib::Neighbor {
                ifindex: parameters.ifindex,
                mac: Mac::from_octets([a, b, c, d, e, f]),
                mtu: u32::from(mtu),
            }
        }
        BPF_FIB_LKUP_RET_NO_NEIGH => Fib::NoNeighbor {
            ifindex: parameters.ifindex,
        },
        BPF_FIB_LKUP_RET_NOT_FWDED => Fib::NotForwarded,
        BPF_FIB_LKUP_RET_FRAG_NEEDED => Fib::TooBig {
            mtu: u32::from(mtu),
        },
        BPF_FIB_LKUP_RET_BLACKHOLE | BPF_FIB_LKUP_RET_UNREACHABLE | BPF_FIB_LKUP_RET_PROHIBIT => {
            Fib::NoRoute
        }
        _ => Fib::Kernel,
    }
}

/// Calls `step` with 0, 1, 2 ... until it returns false, at most `times` times (Linux 5.17).
///
/// VERIFIER: the callback is verified once, where a loop would be verified turn by turn.
#[inline(always)]
pub(crate) fn repeat<F: Fn(u32) -> bool>(times: u32, step: F) {
    unsafe extern "C" fn turn<F: Fn(u32) -> bool>(index: u32, step: *mut core::ffi::c_void) -> i64 {
        // SAFETY: `repeat` passes a reference to its closure, which outlives the loop. A closure without
        // captures has no bytes to read.
        let step = unsafe { &*step.cast::<F>() };
        i64::from(!step(index))
    }
    let mut step = step;
    // SAFETY: the callback has the signature that the helper calls, and the context outlives the call.
    unsafe {
        helpers::bpf_loop(
            times,
            turn::<F> as *mut core::ffi::c_void,
            (&raw mut step).cast(),
            0,
        );
    }
}

/// Adds to a word that other CPUs add to as well. The target has no atomic type for it.
#[inline(always)]
pub(crate) fn atomic_add(word: *mut u64, more: i64) {
    // SAFETY: the callers pass words of map values.
    unsafe {
        core::arch::asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) word, in(reg) more, options(nostack));
    }
}

/// Replaces a word that other CPUs replace as well; returns what it was.
#[inline(always)]
pub(crate) fn atomic_exchange(word: *mut u64, mut value: u64) -> u64 {
    // SAFETY: the callers pass words of map values.
    unsafe {
        core::arch::asm!("{1} = xchg_64({0} + 0, {1})", in(reg) word, inout(reg) value, options(nostack));
    }
    value
}
