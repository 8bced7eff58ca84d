//! The packet path of Forebay: every decision that a packet meets, once.
//!
//! This crate is compiled twice: into the XDP program (`bpfel-unknown-none`) and into the host
//! (daemon, `explain`, tests). The two sides differ only in how bytes and tables are reached, that
//! is in their implementations of [`wire::Frame`] and [`tables::Tables`].
//!
//! # A flow has four endpoints
//!
//! ```text
//!  client C ──(C → V)──▶ node ──(S → B)──▶ instance B      V  public endpoint of a frontend
//!  client C ◀──(V → C)── node ◀──(B → S)── instance B      S  source shown to B (C unless full-nat)
//! ```
//!
//! Two keys find one flow, one for each side, and each entry says what its packets become.
//! Directions are [`flow::Direction::ToInstance`] and [`flow::Direction::FromInstance`], never
//! ingress or egress: a one-armed node sees both on one NIC.
//!
//! # Byte order
//!
//! Addresses, ports and other wire values are kept as they stand in the packet ("raw"): an IPv4
//! address is the `u32` whose bytes in memory are the octets. Constructors and getters convert.
//!
//! # Rules for code that runs in the kernel
//!
//! - No reachable panic: no indexing, no `/` by a variable, no `unwrap`; `wrapping_*` on wire values.
//! - Words, not byte arrays, in keys, values and headers; no implicit padding (sizes are asserted).
//! - All-zero is a legal map value (arrays always answer): zero means "unset" and is checked.
//! - Functions of the known-flow path are `#[inline(always)]`. A `#[inline(never)]` one says why: the
//!   frames along a call chain share 512 bytes of stack.
//! - Time and randomness come through [`tables::Tables`]; nothing here reads a clock.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        reason = "a test ends at the first thing that goes wrong"
    )
)]
#![cfg_attr(not(feature = "user"), no_std)]

pub mod abi;
pub mod balance;
pub mod family;
pub mod flow;
#[cfg(feature = "user")]
pub mod model;
pub mod pipeline;
#[cfg(feature = "user")]
pub mod ports;
pub mod reason;
pub mod tables;
pub mod wire;
