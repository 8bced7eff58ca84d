//! The kernel side as the daemon sees it. Only this module knows aya.

mod attach;
mod counters;
mod family_tables;
mod flows;
mod layouts;
mod log;
mod object;
mod pins;
mod resize;
mod snat;
mod sys;
mod tables;
mod trials;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use aya::Ebpf;
use aya::maps::{Map, MapData};
use forebay_common::abi::{RuleCounters, names};
use forebay_common::reason::Reason;

pub use attach::Attached;
pub use counters::CounterReader;
pub use flows::{Cursor, FlowFamily, FlowTable, Flows, Slice, Sweep};
use pins::FlowPins;
pub use pins::Pins;
pub use snat::WayCount;
pub use sys::Plain;

use crate::clock::{Clock, TickRate};
use crate::config::model::XdpMode;
use crate::control_plane::{Change, Sizes, TableState};

/// Between the two readings that tell the tick rate: at 250 Hz some 37 ticks, at 300 Hz 45.
const CLOCK_INTERVAL: Duration = Duration::from_millis(150);

/// Measurements before giving up.
const CLOCK_ATTEMPTS: u32 = 10;

/// The loaded program, its tables and its links.
pub struct Dataplane {
    pins: Pins,
    loaded: Loaded,
}

/// A program and its tables.
struct Loaded {
    object: Ebpf,
    tables: tables::Tables,
    counters: counters::Counters,
    clocks: OwnedFd,
    clocks_program: OwnedFd,
    moving: OwnedFd,
    occupied: OwnedFd,
    trials: trials::Trials,
}

/// A data plane that has just been opened.
pub struct Opened {
    /// The data plane.
    pub dataplane: Dataplane,
    /// Its flow tables, for whoever reads and sweeps them.
    pub flows: Flows,
    /// What the tables of a former daemon hold; empty when there was none.
    pub adopted: TableState,
    /// Whether there was a former daemon's.
    pub is_adopted: bool,
}

fn raw(map: &MapData) -> Result<OwnedFd> {
    map.fd()
        .as_fd()
        .try_clone_to_owned()
        .context("duplicate a descriptor")
}

/// Loads the program over pinned tables; `sizes` are those of new ones.
fn load(pins: &Pins, flow_pins: &[FlowPins; 2], sizes: Sizes) -> Result<(Loaded, Flows)> {
    let mut object = object::load(pins, flow_pins, sizes)?;
    let has_former = flow_pins.each_ref().map(|pins| pins.former.is_some());
    let flows = Flows {
        v4: flow_table(&mut object, 0, has_former[0])?,
        v6: flow_table(&mut object, 1, has_former[1])?,
    };
    let clocks = descriptor(object::map(&mut object, names::CLOCKS)?)?;
    let moving = descriptor(object::map(&mut object, names::MOVING)?)?;
    let occupied = descriptor(object::map(&mut object, names::OCCUPIED)?)?;
    let clocks_program = program_descriptor(&mut object, names::CLOCKS_PROGRAM)?;
    let trials = trials::Trials::take(&mut object)?;
    let counters = counters::Counters::take(&mut object)?;
    let tables = tables::Tables::take(&mut object)?;
    log::follow(&mut object)?;
    let loaded = Loaded {
        object,
        tables,
        counters,
        clocks,
        clocks_program,
        moving,
        occupied,
        trials,
    };
    Ok((loaded, flows))
}

impl Dataplane {
    /// Loads the program over the pins, which were locked. `sizes` are those of new tables; adopted ones keep
    /// theirs.
    ///
    /// # Errors
    /// Missing privilege, an unsupported kernel, or not enough memory; each says what to do.
    pub fn open(pins: Pins, sizes: Sizes) -> Result<Opened> {
        let is_adopted = pins.has_maps();
        let (loaded, flows) = load(&pins, &pins.flows(), sizes)?;
        if !pins.is_moving() {
            // A former daemon may have ended just before it did this.
            resize::set_moving(&loaded, false)?;
        }
        let adopted = if is_adopted {
            loaded.tables.read()?
        } else {
            TableState::default()
        };
        Ok(Opened {
            dataplane: Self { pins, loaded },
            flows,
            adopted,
            is_adopted,
        })
    }

    /// Tells the program how many entries there are in flow tables that it did not fill itself.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_entries(&self, entries: [u64; 2]) -> Result<()> {
        for (family, entries) in (0_u32..).zip(entries) {
            sys::update(self.loaded.occupied.as_fd(), &family, &entries)
                .context("count the entries of flows that were taken over")?;
        }
        Ok(())
    }

    /// Removes what is left of older layouts; to be called when all links have this program.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn forget_older_layouts(&mut self) -> Result<()> {
        self.pins.forget_older()
    }

    /// Makes changes, in order.
    ///
    /// # Errors
    /// A write failed; those before it are made.
    pub fn apply(&mut self, changes: &[Change]) -> Result<()> {
        changes.iter().try_for_each(|change| match change {
            Change::ResetCounters(rule) => self.loaded.counters.reset_rule(*rule),
            other => self.loaded.tables.apply(other),
        })
    }

    /// What the tables hold.
    pub fn read_tables(&self) -> Result<TableState> {
        self.loaded.tables.read()
    }

    /// Puts the program on an interface.
    ///
    /// # Errors
    /// The interface cannot have it; the message says why and what to do.
    pub fn attach(&mut self, interface: &str, ifindex: u32, mode: XdpMode) -> Result<Attached> {
        let pin = self.pins.link(interface);
        attach::attach(
            object::program(&mut self.loaded.object, names::PROGRAM)?,
            interface,
            ifindex,
            mode,
            &pin,
        )
    }

    /// Takes the program off an interface.
    pub fn detach(&mut self, interface: &str) -> Result<()> {
        let pin = self.pins.link(interface);
        if pin.exists() {
            std::fs::remove_file(&pin).with_context(|| format!("remove {}", pin.display()))?;
        }
        Ok(())
    }

    /// Interfaces with a link of ours.
    pub fn linked(&self) -> Vec<String> {
        self.pins.linked()
    }

    /// Packets by reason.
    pub fn reasons(&self) -> Result<BTreeMap<Reason, u64>> {
        self.loaded.counters.reader.reasons()
    }

    /// Packets that were refused for want of a SNAT port, whether or not their sender was told.
    pub fn snat_refused(&self) -> Result<u64> {
        let counters = &self.loaded.counters.reader;
        Ok(counters.reason(Reason::SnatRefused)? + counters.reason(Reason::SnatExhausted)?)
    }

    /// Counters of a rule id.
    pub fn rule_counters(&self, id: u32) -> Result<RuleCounters> {
        self.loaded.counters.reader.rule(id)
    }

    /// What became of the flows that sources wanted to open.
    pub fn way_counts(&self) -> Result<Vec<WayCount>> {
        self.loaded.counters.reader.way_counts()
    }

    /// Reads counters for whoever wants to do so elsewhere.
    pub fn counter_reader(&self) -> Arc<CounterReader> {
        self.loaded.counters.reader.clone()
    }

    /// Jiffies and boot clock, read together by the kernel.
    pub fn read_clocks(&self) -> Result<[u64; 2]> {
        sys::run_program(self.loaded.clocks_program.as_fd()).context("read the kernel's clocks")?;
        let clocks =
            sys::lookup(self.loaded.clocks.as_fd(), &0_u32).context("read the kernel's clocks")?;
        clocks.context("the kernel's clocks were not read")
    }

    /// Learns the tick rate, from two measurements in a row that agree: a processor that is made to wait
    /// between two readings spoils one. Takes a third of a second.
    pub fn measure_clock(&self) -> Result<Clock> {
        let mut last = self.read_clocks()?;
        let mut before = None;
        for _ in 0..CLOCK_ATTEMPTS {
            std::thread::sleep(CLOCK_INTERVAL);
            let anchor = self.read_clocks()?;
            let rate = TickRate::between(last, anchor);
            if let Some(rate) = rate
                && before == Some(rate)
            {
                return Ok(Clock { rate, anchor });
            }
            (last, before) = (anchor, rate);
        }
        bail!(
            "the kernel's tick rate is none of 100, 250, 300 and 1000 Hz, or this machine is too busy to tell; try again"
        )
    }
}

/// Removes every pin under `root`: the program leaves its interfaces, and flows end.
///
/// # Errors
/// A daemon runs on them, or the file system refuses.
pub fn remove_pins(root: &Path) -> Result<Vec<String>> {
    pins::remove_all(root)
}

fn descriptor(map: Map) -> Result<OwnedFd> {
    match &map {
        Map::Array(data) | Map::HashMap(data) => raw(data),
        other => bail!("unexpected kind of map: {other:?}"),
    }
}

fn program_descriptor(object: &mut Ebpf, name: &str) -> Result<OwnedFd> {
    let program = object::program(object, name)?;
    program
        .fd()?
        .as_fd()
        .try_clone_to_owned()
        .context("duplicate a descriptor")
}

/// The flow table of a family: 0 for IPv4, 1 for IPv6.
fn flow_table<A>(object: &mut Ebpf, family: usize, has_former: bool) -> Result<FlowTable<A>> {
    let [flows, former, retire, program, untrusted] = [
        [
            names::FLOWS4,
            names::FORMER_FLOWS4,
            names::RETIRE4,
            names::RETIRE_PROGRAMS[0],
            names::UNTRUSTED4,
        ],
        [
            names::FLOWS6,
            names::FORMER_FLOWS6,
            names::RETIRE6,
            names::RETIRE_PROGRAMS[1],
            names::UNTRUSTED6,
        ],
    ][family];
    let Map::HashMap(data) = object::map(object, flows)? else {
        bail!("{flows} is not a hash")
    };
    let entries = data
        .info()
        .context("ask for the size of the flow table")?
        .max_entries();
    let former = descriptor(object::map(object, former)?)?;
    let Map::Array(untrusted_data) = object::map(object, untrusted)? else {
        bail!("{untrusted} is not an array")
    };
    let untrusted_sets = untrusted_data
        .info()
        .context("ask for the size of the table of untrusted flows")?
        .max_entries();
    Ok(FlowTable {
        untrusted: raw(&untrusted_data)?,
        untrusted_sets,
        map: raw(&data)?,
        former: has_former.then_some(former),
        retire_map: descriptor(object::map(object, retire)?)?,
        retire_program: program_descriptor(object, program)?,
        retiring: std::sync::Mutex::new(()),
        entries,
        family: std::marker::PhantomData,
    })
}
