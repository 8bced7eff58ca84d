//! Flow tables of another size, without a gap: see `docs/decisions/0012-resizing-flow-tables.md`.

use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context, Result};
use forebay_common::abi::names;

use super::pins::FlowPins;
use super::{Dataplane, Flows, Loaded, attach, load, object, sys};
use crate::control_plane::Sizes;

/// Longer than any packet takes: after it, every packet sees what was written before.
const SETTLED: Duration = Duration::from_millis(80);

/// Says where new flows go: into the former tables, or into the new ones.
pub(super) fn set_moving(loaded: &Loaded, moving: bool) -> Result<()> {
    sys::update(loaded.moving.as_fd(), &0_u32, &u32::from(moving)).context("say where new flows go")
}

impl Dataplane {
    /// Whether flows still move from former tables.
    pub fn is_moving(&self) -> bool {
        self.pins.is_moving()
    }

    /// Makes flow tables of another size, and puts a program on all interfaces that knows both. All flows
    /// are in the former tables yet. Takes as long as a start.
    ///
    /// # Errors
    /// There is not enough memory; then everything is as before.
    pub fn begin_move(&mut self, sizes: Sizes) -> Result<Flows> {
        let result = self.reload(&self.pins.flows_to_move(), sizes);
        if result.is_err() {
            self.pins.abandon_move();
        }
        result
    }

    /// Has new flows go into the new tables. From now on flows may be moved there; to be called when all
    /// interfaces have the program that knows both.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn open_new_tables(&self) -> Result<()> {
        std::thread::sleep(SETTLED);
        set_moving(&self.loaded, true)?;
        std::thread::sleep(SETTLED);
        Ok(())
    }

    /// Forgets the former tables, which are empty.
    ///
    /// # Errors
    /// The kernel refuses; the next daemon tries again.
    pub fn finish_move(&mut self) -> Result<Flows> {
        let nothing_new = Sizes {
            entries: 1,
            untrusted_sets: 1,
        };
        let flows = self.reload(&self.pins.flows_moved(), nothing_new)?;
        self.pins.finish_move()?;
        set_moving(&self.loaded, false)?;
        Ok(flows)
    }

    /// Loads the program anew, and puts it in the place of the old one everywhere.
    fn reload(&mut self, flow_pins: &[FlowPins; 2], sizes: Sizes) -> Result<Flows> {
        let (loaded, flows) = load(&self.pins, flow_pins, sizes)?;
        self.loaded = loaded;
        for interface in self.pins.linked() {
            let pin = self.pins.link(&interface);
            let program = object::program(&mut self.loaded.object, names::PROGRAM)?;
            if let Err(error) = attach::replace(program, &pin) {
                log::warn!("{interface}: {error:#}");
            }
        }
        Ok(flows)
    }
}
