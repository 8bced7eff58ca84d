//! `forebay set ...`: changes to the file by commands.

use std::time::Duration;

use clap::{Subcommand, ValueEnum};

use super::ask::ask;
use super::file_edit::edit_file;
use super::{Common, Failure};
use crate::api::{Drain, Request};
use crate::config::edit::set_admin_state;
use crate::config::model::{AdminState, MemberRef};

#[derive(Debug, Subcommand)]
pub(super) enum Set {
    /// Take a member of a pool out of service, put it back, or leave it to its probes
    AdminState {
        /// Name of the pool
        pool: String,
        /// INSTANCE or INSTANCE/IP-CONFIGURATION
        member: String,
        /// up: new flows whatever probes say; down: no new flows; none: as probes say
        state: State,
        /// With down: end what is left of its flows after this time, with a RST to both sides of connections
        #[arg(long, value_name = "TIME", value_parser = duration)]
        drain: Option<Duration>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum State {
    Up,
    Down,
    None,
}

/// A time as the file writes it.
fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; write it like 30s or 5m"))
}

pub(super) fn run(common: &Common, set: Set) -> Result<(), Failure> {
    let Set::AdminState {
        pool,
        member,
        state,
        drain,
    } = set;
    if drain.is_some() && state != State::Down {
        return Err(Failure::Invalid(
            "forebay: --drain goes with down: who stays in service keeps its flows".to_owned(),
        ));
    }
    let (target, state) = (
        MemberRef::of(&member),
        match state {
            State::Up => AdminState::Up,
            State::Down => AdminState::Down,
            State::None => AdminState::None,
        },
    );
    edit_file(common, |text| set_admin_state(text, &pool, &target, state))?;
    if let Some(drain) = drain {
        let drain = Drain {
            pool,
            member,
            seconds: drain.as_secs_f64(),
        };
        ask(common, &Request::Drain(drain))?;
    }
    Ok(())
}
