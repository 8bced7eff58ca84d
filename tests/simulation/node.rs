//! A node: daemon and tables, and what the daemon does to flows. The daemon may die; the tables stay.

use std::collections::BTreeSet;
use std::sync::Arc;

use forebay::clock::TickRate;
use forebay::config::model::Config;
use forebay::control_plane::{
    Census, ControlPlane, HostInterface, Judgement, NatPorts, Sizes, TableState, judge,
};
use forebay_common::family::{V4, V6};
use forebay_common::flow::{FlowKey, Hop};
use forebay_common::model::{FamilyModel, ModelTables, UNTRUSTED_SETS};
use forebay_common::pipeline::{
    carry_over, forget_both, mark_flushed, mark_retiring, remove_retiring,
};
use forebay_common::tables::{Route, Tables};
use forebay_common::wire::Mac;
use forebay_tests::network::Side;

use crate::tables::Written;

/// Jiffies in a second.
pub(crate) const SECOND: u64 = 100;
/// The key of the flow hash.
const HASH_KEY: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];
/// Numbers of the interfaces to clients and to instances.
pub(crate) const CLIENT_SIDE: u32 = 7;
pub(crate) const INSTANCE_SIDE: u32 = 8;

/// A pass of the sweep that has marked and not yet removed.
pub(crate) struct Pass {
    v4: Vec<FlowKey<V4>>,
    v6: Vec<FlowKey<V6>>,
    pub(crate) census: Census,
    pub(crate) begun: u64,
}

/// The node.
pub(crate) struct Node {
    pub(crate) tables: Written,
    pub(crate) daemon: Option<ControlPlane>,
    pub(crate) host: Vec<HostInterface>,
    /// The configurations of which the tables may hold parts.
    pub(crate) files: Vec<Arc<Config>>,
    /// No configuration has been written whole yet.
    pub(crate) is_blank: bool,
    pub(crate) nat_ports: NatPorts,
    pub(crate) entries: u32,
    pub(crate) pass: Option<Pass>,
}

fn interface(name: &str, ifindex: u32, network: &str) -> HostInterface {
    HostInterface {
        name: name.to_owned(),
        ifindex,
        mtu: 1_500,
        mac: Mac::from_octets([2, 0, 0, 0, 0, ifindex as u8]),
        networks: vec![network.parse().expect("a network")],
        link_ups: Some(1),
        ..HostInterface::default()
    }
}

/// An interface that comes and goes.
pub(crate) fn spare(ifindex: u32) -> HostInterface {
    interface("x0", ifindex, "10.0.9.0/24")
}

impl Node {
    pub(crate) fn new(entries: u32) -> Self {
        let mut tables = Written::default();
        tables.model.now = 1_000_000;
        let mut node = Self {
            tables,
            daemon: None,
            host: vec![
                interface("c0", CLIENT_SIDE, "203.0.113.0/24"),
                interface("i0", INSTANCE_SIDE, "10.0.1.0/24"),
            ],
            files: Vec::new(),
            is_blank: true,
            nat_ports: NatPorts::default(),
            entries,
            pass: None,
        };
        node.set_capacity();
        node
    }

    fn set_capacity(&mut self) {
        self.tables.model.v4.capacity = self.entries as usize;
        self.tables.model.v6.capacity = self.entries as usize;
    }

    pub(crate) fn sizes(&self) -> Sizes {
        Sizes {
            entries: self.entries,
            untrusted_sets: UNTRUSTED_SETS,
        }
    }

    /// A daemon over what the tables hold.
    pub(crate) fn plane(&self, adopted: TableState) -> ControlPlane {
        ControlPlane::new(TickRate(SECOND as u32), self.sizes(), HASH_KEY, adopted)
            .with_nat_ports(self.nat_ports.clone())
            .with_held_rules(self.held_rules())
    }

    /// Rule ids that flows hold.
    fn held_rules(&self) -> BTreeSet<u32> {
        let model = &self.tables.model;
        let mut census = Census::default();
        count(&model.v4, model, &mut census);
        count(&model.v6, model, &mut census);
        census.rules()
    }

    pub(crate) fn die(&mut self) {
        self.daemon = None;
        self.pass = None;
    }

    /// Has the host route by what the tables call its interfaces.
    pub(crate) fn route(&mut self) {
        let model = &mut self.tables.model;
        let slot = |ifindex| {
            let mut interfaces = model.interfaces.iter();
            let found = interfaces.find(|(_, interface)| interface.ifindex == ifindex);
            found.map(|(slot, _)| *slot as u16)
        };
        let hop = |ifindex: u32| {
            slot(ifindex).map_or(Route::Kernel, |slot| {
                Route::Hop(Hop {
                    mac: Mac::from_octets([2, 0, 0, 0, 1, ifindex as u8]),
                    slot,
                    is_narrow: false,
                })
            })
        };
        let (outside, inside) = (hop(CLIENT_SIDE), hop(INSTANCE_SIDE));
        let private4 = V4::from(std::net::Ipv4Addr::new(10, 0, 1, 0));
        let private6 = V6::from(std::net::Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0));
        model.v4.routes = vec![(V4::default(), 0, outside), (private4, 24, inside)];
        model.v6.routes = vec![(V6::default(), 0, outside), (private6, 64, inside)];
    }

    /// The first half of a pass: marks what is over, removes what was marked long ago, counts.
    pub(crate) fn mark(&mut self) {
        let model = &self.tables.model;
        let mut census = Census::default();
        count(&model.v4, model, &mut census);
        count(&model.v6, model, &mut census);
        let v4 = mark_family(model, &model.v4);
        let v6 = mark_family(model, &model.v6);
        self.pass = Some(Pass {
            v4,
            v6,
            census,
            begun: model.now,
        });
    }

    /// The second half: removes what was marked. Hands out the count.
    pub(crate) fn remove(&mut self) -> Option<Census> {
        let pass = self.pass.take()?;
        for key in &pass.v4 {
            remove_retiring(&self.tables.model, key);
        }
        for key in &pass.v6 {
            remove_retiring(&self.tables.model, key);
        }
        Some(pass.census)
    }

    /// Ends all flows.
    pub(crate) fn flush(&self) {
        let model = &self.tables.model;
        for key in model.v4.flows().keys() {
            mark_flushed(model, key);
        }
        for key in model.v6.flows().keys() {
            mark_flushed(model, key);
        }
        let settings = model.settings.unwrap_or_default();
        for key in model.v4.untrusted(&settings).keys() {
            forget_both(model, key);
        }
        for key in model.v6.untrusted(&settings).keys() {
            forget_both(model, key);
        }
    }

    pub(crate) fn is_moving(&self) -> bool {
        let model = &self.tables.model;
        !(model.v4.former_flows().is_empty() && model.v6.former_flows().is_empty())
    }

    /// Entries of the fuller family.
    pub(crate) fn used(&self) -> usize {
        let model = &self.tables.model;
        let v4 = Tables::<V4>::occupied(model);
        v4.max(Tables::<V6>::occupied(model)) as usize
    }

    /// Begins to move all flows into tables of another size, if they fit.
    pub(crate) fn begin_move(&mut self, entries: u32) -> bool {
        if self.is_moving() || self.used() > entries as usize {
            return false;
        }
        self.entries = entries;
        let model = &self.tables.model;
        set_aside(model, &model.v4);
        set_aside(model, &model.v6);
        self.set_capacity();
        true
    }

    /// Moves some flows.
    pub(crate) fn carry(&self, at_most: usize) {
        let model = &self.tables.model;
        for key in model.v4.former_flows().keys().take(at_most) {
            carry_over(model, key);
        }
        for key in model.v6.former_flows().keys().take(at_most) {
            carry_over(model, key);
        }
    }
}

fn mark_family<A: Side>(model: &ModelTables, family: &FamilyModel<A>) -> Vec<FlowKey<A>> {
    let settings = model.settings.unwrap_or_default();
    let mut marked = Vec::new();
    for (key, flow) in family.flows() {
        match judge(&settings, &key, &flow, model.now) {
            Judgement::Keep => {}
            Judgement::Mark => {
                if mark_retiring(model, &key) {
                    marked.push(key);
                }
            }
            Judgement::Remove => {
                remove_retiring(model, &key);
            }
        }
    }
    marked
}

/// Counts all flows of a family, wherever they are.
fn count<A: Side>(family: &FamilyModel<A>, model: &ModelTables, census: &mut Census) {
    let settings = model.settings.unwrap_or_default();
    for (key, flow) in family.flows().iter().chain(&family.former_flows()) {
        census.add(key, flow);
    }
    for (key, entry) in family.untrusted(&settings) {
        if judge(&settings, &key, &entry.flow, model.now) == Judgement::Keep {
            census.add_untrusted(&key, &entry.flow);
        }
    }
}

fn set_aside<A: Side>(model: &ModelTables, family: &FamilyModel<A>) {
    for (key, flow) in family.flows() {
        family.put_former(key, flow);
        Tables::<A>::remove(model, &key);
    }
}
