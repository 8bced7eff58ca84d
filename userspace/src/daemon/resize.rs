//! Changes of `[limits].flows` while flows are alive.

use std::sync::Arc;

use anyhow::{Result, bail};

use super::Daemon;
use super::start::{flow_capacity, sizes};
use crate::config::model::Config;
use crate::control_plane::Event;
use crate::dataplane::Flows;

impl Daemon {
    /// The flow tables in use.
    pub(super) fn flows(&self) -> Arc<Flows> {
        self.flows.borrow().clone()
    }

    /// Refuses a configuration whose flow tables have no room for the flows that are alive.
    pub(super) fn require_room(&self, config: &Config) -> Result<()> {
        let (flows, wanted) = (self.flows(), flow_capacity(config));
        if is_for(&flows, wanted) {
            return Ok(());
        }
        require_room_for(flows.entries()?, wanted)
    }

    /// Begins to move all flows into tables of the size that the configuration asks for, if they have
    /// another. While flows still move from an earlier change, nothing is done yet.
    pub(super) fn resize(&mut self) -> Result<()> {
        let Some(config) = self.control_plane.config() else {
            return Ok(());
        };
        let wanted = flow_capacity(config);
        let flows = self.flows();
        if is_for(&flows, wanted) || self.dataplane.is_moving() {
            return Ok(());
        }
        let now = flows.v4.entries / 2;
        log::info!("moving all flows into tables for {wanted} flows, from tables for {now}");
        let flows = self.dataplane.begin_move(sizes(wanted))?;
        self.dataplane.open_new_tables()?;
        self.use_tables(flows)
    }

    /// Goes on with a move that a former daemon had begun, or begins one.
    pub(super) fn go_on_resizing(&mut self) -> Result<()> {
        if self.dataplane.is_moving() {
            log::info!("moving flows into tables of another size, as the former daemon had begun");
            self.dataplane.open_new_tables()?;
        }
        self.resize()
    }

    fn use_tables(&mut self, flows: Flows) -> Result<()> {
        let sizes = flows.sizes();
        self.flows.send_replace(Arc::new(flows));
        self.handle(Event::Sizes(sizes)).map(drop)
    }

    /// Forgets the former tables once all flows have left them.
    pub(super) fn finish_resize(&mut self) -> Result<()> {
        if !self.dataplane.is_moving() {
            return Ok(());
        }
        let flows = self.dataplane.finish_move()?;
        log::info!("all flows are in tables for {} flows", flows.v4.entries / 2);
        self.use_tables(flows)?;
        // The file may ask for another size by now.
        self.resize()
    }
}

/// Whether the flow tables have the size for so many flows.
fn is_for(flows: &Flows, wanted: u32) -> bool {
    [flows.v4.entries, flows.v6.entries].map(|entries| entries / 2) == [wanted; 2]
}

/// Refuses flow tables without room for the flows that are alive.
pub(super) fn require_room_for(entries: [u64; 2], wanted: u32) -> Result<()> {
    let used = entries[0].max(entries[1]).div_ceil(2);
    if used > u64::from(wanted) {
        bail!(
            "[limits].flows = {wanted} has no room for the flows that are alive: it needs to be {used} or more; wait until flows have ended, or end some with `forebay flush flows`"
        );
    }
    Ok(())
}
