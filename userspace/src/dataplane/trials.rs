//! Running the node's own trials through the program.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};
use aya::Ebpf;
use forebay_common::abi::{Trial, names};

use super::{Dataplane, descriptor, object, program_descriptor, sys};

/// The program, and where it notes what becomes of trials.
pub(super) struct Trials {
    program: OwnedFd,
    table: OwnedFd,
}

impl Trials {
    pub(super) fn take(object: &mut Ebpf) -> Result<Self> {
        Ok(Self {
            program: program_descriptor(object, names::PROGRAM)?,
            table: descriptor(object::map(object, names::TRIALS)?)?,
        })
    }
}

impl Dataplane {
    /// Says which packets from the reserved source are a trial from now on.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn begin_trial(&self, port: u16, trial: &Trial) -> Result<()> {
        sys::update(self.loaded.trials.table.as_fd(), &Trial::place(port), trial)
            .context("write a trial")
    }

    /// Has the program handle a frame as if it had come in on an interface; it leaves if the program says so.
    ///
    /// # Errors
    /// The interface is not there, or the kernel cannot do this.
    pub fn run_trial(&self, frame: &[u8], ifindex: u32) -> io::Result<()> {
        sys::run_live(self.loaded.trials.program.as_fd(), frame, ifindex)
    }

    /// What has become of the trial with this source port.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn trial(&self, port: u16) -> Result<Trial> {
        let found = sys::lookup(self.loaded.trials.table.as_fd(), &Trial::place(port));
        Ok(found.context("read a trial")?.unwrap_or_default())
    }
}
