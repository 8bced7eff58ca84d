//! One tracked connection: its keys, its entry, its state and its end.

mod entry;
mod expiry;
mod state;
mod untrusted;

pub use entry::{Flow, FlowKey, FlowRef, Hop};
pub use expiry::{Timeouts, is_over, lifetime};
pub use state::{Direction, FlowKind, FlowState, Seen, marks, state_of};
pub use untrusted::{Entry, Place, SetRef, Untrusted, UntrustedSet, WAYS};
