//! The machine: interfaces, routes, sysctls, memory.

mod ethtool;
mod file;
mod interfaces;
mod links;
mod memory;
mod metrics;
mod neighbors;
mod offloads;
mod own;
mod packet_socket;
mod proxies;
pub mod reach;
mod reset_socket;
mod sysctl;
mod watch;
mod xdp_features;

pub use file::{replace_file, write_file};
pub use interfaces::{Netlink, Way};
pub use memory::{default_flows, flow_table_bytes, total_memory, untrusted_bytes, untrusted_sets};
pub use neighbors::{NeighborTerms, Neighbors, release as release_neighbors};
pub use offloads::Offloads;
pub use own::{addresses, facts};
pub use packet_socket::PacketSocket;
pub use proxies::ProxyEntries;
pub use reset_socket::ResetSocket;
pub use sysctl::Sysctls;
pub use watch::{HostChange, follow_host};
