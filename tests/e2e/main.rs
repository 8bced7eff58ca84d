//! Real clients, real servers and the daemon between them, in network namespaces.
//!
//! One file per behaviour. Every test makes its own network and can run alone; on a machine that
//! cannot have one it prints `skipped: why`.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends at the first thing that goes wrong"
)]

mod endpoints;
mod scene;

mod admin_state;
mod advertise;
mod availability;
mod carried;
mod churn;
mod detach;
mod distribution;
mod echo;
mod events;
mod expiry;
mod explain;
mod floods;
mod flush;
mod fragments;
mod ha_ports;
mod hash_seed;
mod hops;
mod host;
mod inbound_nat;
mod interfaces;
mod iperf;
mod jumbo;
mod lab_itself;
mod layouts;
mod log;
mod malformed;
mod metrics;
mod neighbors;
mod next_hops;
mod not_ours;
mod outbound;
mod path_mtu;
mod probes;
mod public_ip_commands;
mod readiness;
mod redirects;
mod reload;
mod reload_each_second;
mod restart;
mod run_refuses;
mod service_manager;
mod shared;
mod short;
mod show;
mod snat_events;
mod spread;
mod tagged;
mod takeover;
mod tcp_reset;
mod udp;
mod under_load;
mod unlisted;
mod whoami;
