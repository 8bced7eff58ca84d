//! The packet path, twice: the program in the kernel and the pure pipeline over tables in memory.
//!
//! Whatever a test asserts it can assert of both through [`Engine`].

mod live;
mod maps;
mod model;
mod object;
mod shared;

use std::collections::BTreeMap;

use forebay_common::abi::{RuleCounters, Trial};
use forebay_common::family::{V4, V6};
use forebay_common::flow::FlowKey;
use forebay_common::reason::Reason;

pub use live::{Live, SHORTEST, connect_stages};
pub use model::Model;
pub use object::{OBJECT_VARIABLE, object_path};
pub use shared::with_live;

use crate::network::plan::Link;
use crate::world::{Flows, World};

/// Where a frame went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The program gave up: never right.
    Aborted,
    /// Nowhere.
    Drop,
    /// To the kernel.
    Pass,
    /// Out of the interface it came in on.
    Transmit,
    /// Out of another interface.
    Redirect,
}

/// What became of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Where it went.
    pub action: Action,
    /// Under which reasons it was counted, and how often.
    pub counted: Vec<(Reason, u64)>,
    /// Its bytes afterwards.
    pub frame: Vec<u8>,
}

impl Outcome {
    /// The reason it was counted under.
    ///
    /// # Panics
    /// When it was not counted exactly once.
    pub fn reason(&self) -> Reason {
        match self.counted[..] {
            [(reason, 1)] => reason,
            _ => panic!("a frame was counted as {:?}", self.counted),
        }
    }
}

/// The steps in which flows are ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retire {
    /// Marks it, if it is over.
    Mark,
    /// Removes it, if it was marked long enough ago.
    Remove,
    /// Marks it, whether or not it is over.
    Flush,
    /// Forgets it, if it is untrusted.
    Forget,
    /// Moves it from the former flow table.
    Carry,
}

/// Keys of flows.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    /// IPv4.
    pub v4: Vec<FlowKey<V4>>,
    /// IPv6.
    pub v6: Vec<FlowKey<V6>>,
}

impl Keys {
    /// The keys of every entry.
    pub fn of(flows: &Flows) -> Self {
        Self {
            v4: flows.v4.keys().copied().collect(),
            v6: flows.v6.keys().copied().collect(),
        }
    }
}

/// Something that runs the packet path over its own tables.
pub trait Engine {
    /// What to call it in messages.
    fn name(&self) -> &'static str;
    /// Starts afresh with these tables, flows included and counters at zero.
    fn load(&mut self, world: &World);
    /// Changes everything but flows and counters, as a reload of the daemon does.
    fn configure(&mut self, world: &World);
    /// Sets the time.
    fn set_now(&mut self, now: u64);
    /// Runs one frame.
    fn run(&mut self, frame: &[u8], ingress: &Link) -> Outcome;
    /// The flow tables.
    fn flows(&self) -> Flows;
    /// Takes a step of the daemon's sweep for the flows with these keys; says for which it did
    /// something, IPv4 first.
    fn retire(&mut self, step: Retire, keys: &Keys) -> Vec<bool>;
    /// Counters by rule, those at zero left out.
    fn rule_counters(&self) -> BTreeMap<u32, RuleCounters>;
    /// The trials of the world, and what was noted of them.
    fn trials(&self) -> BTreeMap<u32, Trial>;
}
