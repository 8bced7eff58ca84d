//! The Forebay daemon and its command line.
//!
//! `config` reads the file, `control_plane` decides (pure), `dataplane` is the only user of aya, `host`
//! asks and sets the machine, `advertise` makes addresses known to neighbours, `daemon` ties them together, `events` keeps what operators
//! are told of, `health` judges members by what `probes` find, `availability` judges rules by how they are tried,
//! `whoami` tells instances of their way out, `metrics` tells Prometheus and `systemd` the service manager, `cli` and
//! `control_socket` talk to people.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        reason = "a test ends at the first thing that goes wrong"
    )
)]

pub mod advertise;
pub mod api;
pub mod availability;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control_plane;
pub mod control_socket;
pub mod daemon;
pub mod dataplane;
pub mod events;
pub mod explain;
pub mod health;
pub mod host;
pub mod http_server;
pub mod metrics;
pub mod probes;
pub mod systemd;
pub mod whoami;
