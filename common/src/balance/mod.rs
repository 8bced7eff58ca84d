//! Which member takes a flow.

pub mod filter;
mod hash;
mod ring;

pub use hash::{Distribution, flow_hash, slot_of};
#[cfg(feature = "user")]
pub use ring::{RingMember, build_ring};
