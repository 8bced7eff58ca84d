//! The machine: interfaces, routes, sysctls, memory.

mod interfaces;
mod memory;
pub mod reach;
mod sysctl;
mod watch;

pub use interfaces::{Netlink, Way};
pub use memory::{default_flows, flow_table_bytes, total_memory};
pub use sysctl::Sysctls;
pub use watch::{HostChange, Watch};
