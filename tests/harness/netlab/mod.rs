//! Networks to try Forebay in: namespaces, links, servers, clients and the daemon itself.
//!
//! A [`Lab`] is a client, a node and three instances, each in a network namespace of its own,
//! with real servers running; a [`Forebay`] is the daemon in the node of such a lab. Both clean
//! up when they are dropped, also after a panic, and what a killed process left behind is swept
//! away by the next lab.

mod beyond;
pub mod bulk;
pub mod client;
pub mod config;
mod forebay;
mod lab;
pub mod mirror;
mod namespace;
mod nics;
mod pass_program;
mod process;
mod requirements;
mod servers;
mod sniffer;
mod sockets;
mod wire;
mod workdir;

pub use beyond::Beyond;
pub use config::Config;
pub use forebay::{CliOutput, Forebay};
pub use lab::{Arms, Instance, Lab, address};
pub use namespace::{Namespace, NamespaceHandle};
pub use nics::{Nics, wait_for_carrier};
pub use process::Process;
pub use requirements::missing_requirement;
pub use servers::IperfServer;
pub use sniffer::{Heard, Sniffer};
pub use sockets::{Resets, tcp_states};
pub use wire::Wire;
pub use workdir::{Workdir, sweep};
