//! What the tables should hold, and how to get there. Pure: no I/O, no clock, no threads.
//!
//! ```text
//! Event ─► ControlPlane ─► desired state ─► diff against what is applied ─► Changes, in order
//! ```
//!
//! A reload, a change of the host and (later) a probe result are the same path. Whoever applies the
//! changes does so in the order given: nothing then points at what is not there.

mod advertise;
mod cooling;
mod desired;
mod diff;
mod drains;
mod eligible;
mod frontends;
mod ids;
mod nat_ports;
mod outbound;
mod plan;
mod ports;
mod public_ips;
mod reset;
mod reverse;
mod rules;
mod sides;
mod snat_ports;
mod snat_use;
mod state;
mod sweep;
mod switch;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use forebay_common::abi::{LAYOUT_VERSION, Settings};

pub use advertise::Claim;
pub use desired::{HOP_LIFETIME, RingKey, RingProbe, SpreadKey};
pub use diff::{Change, FamilyChange};
pub use drains::{Drains, SavedDrains};
pub use eligible::{Lacking, Standing, Whose, lacking, standing, taking, to_move, to_stay};
pub use ids::{Ids, NoIdLeft, SLOT_PATIENCE};
pub use nat_ports::NatPorts;
pub use plan::{PlannedChange, plan};
pub use ports::PortRange;
pub use reset::{End, Reset, is_told, resets};
pub use rules::mappings;
pub use sides::{instance_of, is_opening, public_address_of};
pub use snat_ports::{SnatPorts, SnatWay};
pub use snat_use::{Destinations, PortSet, SnatDestinations, SnatUse, SnatUser, top};
pub use state::{
    FamilyState, HostInterface, Ring, TableState, VlanDevice, XdpState, needs_kernel, vlan_key,
};
pub use sweep::{Census, Judgement, judge, may_wait};

use cooling::Cooling;

use crate::clock::TickRate;
use crate::config::model::{Advertise, Config};
use crate::health::View;

/// Something happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A valid configuration was read.
    Config(Arc<Config>),
    /// Interfaces or their addresses are now these.
    Host(Vec<HostInterface>),
    /// Routes or neighbours changed: next hops must be looked up again. Low word of jiffies.
    HopsInvalid(u32),
    /// A full sweep counted the flows.
    Census(Census),
    /// `forebay advertise` was said.
    Advertise(bool),
    /// The tables that the program fills have these sizes now.
    Sizes(Sizes),
    /// Probes have found out something about members.
    Health(View),
}

/// Sizes of the tables that the program fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Entries of a flow table: two for each flow.
    pub entries: u32,
    /// Sets of a table of untrusted flows, a power of two.
    pub untrusted_sets: u32,
}

/// The control plane.
#[derive(Debug, Clone)]
pub struct ControlPlane {
    rate: TickRate,
    sizes: Sizes,
    hash_key: [u64; 2],
    config: Option<Arc<Config>>,
    host: Vec<HostInterface>,
    hops_valid_from: u32,
    /// What `forebay advertise` said last.
    said: Option<bool>,
    ids: Ids,
    /// Rule ids that flows held when the tables were adopted.
    held: BTreeSet<u32>,
    applied: TableState,
    /// Which ports of inbound NAT rules the members have.
    nat_ports: NatPorts,
    /// What was given up before the last census, and since.
    cooling: [Cooling; 2],
    /// What probes say of members.
    health: View,
}

impl ControlPlane {
    /// A control plane over tables that hold `adopted`.
    pub fn new(rate: TickRate, sizes: Sizes, hash_key: [u64; 2], adopted: TableState) -> Self {
        Self {
            rate,
            sizes,
            hash_key,
            config: None,
            host: Vec::new(),
            hops_valid_from: adopted.settings.hops_valid_from,
            // The tables remember it as long as they forward: not beyond a reboot.
            said: (adopted.settings.flags & Settings::ADVERTISE_ON != 0).then_some(true),
            ids: Ids::default(),
            held: BTreeSet::new(),
            applied: adopted,
            nat_ports: NatPorts::default(),
            cooling: Default::default(),
            health: View::default(),
        }
    }

    /// The same, with ports of inbound NAT rules that members had before.
    pub fn with_nat_ports(self, nat_ports: NatPorts) -> Self {
        Self { nat_ports, ..self }
    }

    /// The same over tables with flows that hold these rule ids: that of a removed rule, of which nothing but its
    /// flows is left, is nobody else's while they live.
    pub fn with_held_rules(self, held: BTreeSet<u32>) -> Self {
        Self { held, ..self }
    }

    /// What must be written now. The changes count as applied once returned.
    ///
    /// # Errors
    /// The configuration needs more ids than there are; nothing changes then.
    pub fn handle(&mut self, event: Event) -> Result<Vec<Change>, NoIdLeft> {
        let before = matches!(event, Event::Config(_)).then(|| {
            (
                self.config.clone(),
                self.ids.clone(),
                self.nat_ports.clone(),
            )
        });
        let outcome = self.decide(event);
        if outcome.is_err()
            && let Some((config, ids, nat_ports)) = before
        {
            (self.config, self.ids, self.nat_ports) = (config, ids, nat_ports);
        }
        outcome
    }

    fn decide(&mut self, event: Event) -> Result<Vec<Change>, NoIdLeft> {
        match event {
            Event::Config(config) => self.configure(config)?,
            Event::Host(host) => {
                self.host = host;
                // A device that left and came back took its entry in the device map along, unseen: what
                // is known of interfaces is written again.
                forget_interfaces(&mut self.applied);
            }
            Event::HopsInvalid(now) => {
                self.hops_valid_from = now;
                // Often, and nothing else depends on it.
                if self.applied.settings.layout == LAYOUT_VERSION && self.config.is_some() {
                    self.applied.settings.hops_valid_from = now;
                    return Ok(vec![Change::Settings(self.applied.settings)]);
                }
            }
            Event::Advertise(on) => self.said = Some(on),
            Event::Sizes(sizes) => self.sizes = sizes,
            Event::Health(view) => self.health = view,
            Event::Census(census) => {
                // A packet takes microseconds, a pass of the sweep much longer.
                self.cooling.swap(0, 1);
                self.cooling[1] = Cooling::default();
                let in_use = |address: &IpAddr| census.frontends.contains(address);
                if !census.is_complete || !self.ids.release_unused(&census.rules(), in_use) {
                    return Ok(Vec::new());
                }
            }
        }
        let Some(config) = self.config.clone() else {
            return Ok(Vec::new());
        };
        let mut desired = self.desired(&config)?;
        let flags = self.applied.settings.flags | desired.settings.flags;
        let has_public_ips = flags & Settings::PUBLIC_IPS != 0;
        if has_public_ips && self.applied.settings != desired.settings {
            // Settings that bring public IPs back do not bring back what was remembered of them.
            renew(&mut desired.settings);
        }
        let mut changes = diff::changes(&self.applied, &desired);
        if has_public_ips && !changes.is_empty() {
            // What programs remembered of public IPs up to the last of these writes counts no longer.
            renew(&mut desired.settings);
            changes.push(Change::Settings(desired.settings));
        }
        self.cooling[1].add(&self.applied, &desired);
        self.applied = desired;
        Ok(changes)
    }

    /// Changes the key of the flow hash; it is written with the next event.
    pub fn set_hash_key(&mut self, key: [u64; 2]) {
        self.hash_key = key;
    }

    /// Changes what probes say of members; it is written with the next event.
    pub fn set_health(&mut self, health: View) {
        self.health = health;
    }

    /// Takes what was read from the tables for what they hold, after a write has failed.
    pub fn resync(&mut self, tables: TableState) {
        self.cooling[1].add(&self.applied, &tables);
        self.applied = tables;
        forget_interfaces(&mut self.applied);
    }

    /// The configuration that is in force.
    pub fn config(&self) -> Option<&Arc<Config>> {
        self.config.as_ref()
    }

    /// What the tables hold.
    pub fn applied(&self) -> &TableState {
        &self.applied
    }

    /// What probes say of members, as last told.
    pub fn health(&self) -> &View {
        &self.health
    }

    /// Ids in use.
    pub fn ids(&self) -> &Ids {
        &self.ids
    }

    /// Which ports of inbound NAT rules the members have.
    pub fn nat_ports(&self) -> &NatPorts {
        &self.nat_ports
    }

    /// The interfaces of the host as last told.
    pub fn host(&self) -> &[HostInterface] {
        &self.host
    }

    /// Whether the node claims its public addresses where they are on-link.
    pub fn advertises(&self) -> bool {
        (self.config.as_ref())
            .is_some_and(|config| advertise::is_on(config.node.advertise, self.said))
    }

    /// The addresses that the node claims on links that are up.
    pub fn claims(&self) -> BTreeSet<Claim> {
        self.config.as_ref().map_or_else(BTreeSet::new, |config| {
            advertise::claims(config, &self.applied, &self.ids, &self.host)
        })
    }

    fn configure(&mut self, config: Arc<Config>) -> Result<(), NoIdLeft> {
        let mut ids = self.ids.clone();
        if self.config.is_none() {
            ids.recover(&config, &self.applied, &self.host);
            ids.reserve_held(&self.held);
        }
        ids.assign(&config)?;
        self.ids = ids;
        self.nat_ports = nat_ports::assign(&config, &self.nat_ports);
        if config.node.advertise == Advertise::None {
            self.said = None;
        }
        self.config = Some(config);
        Ok(())
    }

    fn desired(&mut self, config: &Config) -> Result<TableState, NoIdLeft> {
        self.ids.assign_slots(&self.host)?;
        let [before, since] = &self.cooling;
        let cooling = before.and(since);
        let inputs = desired::Inputs {
            config,
            host: &self.host,
            ids: &self.ids,
            rate: self.rate,
            sizes: self.sizes,
            hash_key: self.hash_key,
            hops_valid_from: self.hops_valid_from,
            advertises: advertise::is_on(config.node.advertise, self.said),
            said_on: self.said == Some(true),
            applied: &self.applied,
            cooling: &cooling,
            nat_ports: &self.nat_ports,
            health: &self.health,
        };
        inputs.state()
    }
}

/// Voids what programs remember of public IPs once the settings are written.
fn renew(settings: &mut Settings) {
    settings.generation = settings.generation.wrapping_add(1);
}

/// Makes every interface differ from what is wanted, whatever that is.
fn forget_interfaces(tables: &mut TableState) {
    for interface in tables.interfaces.values_mut() {
        interface.mtu = u32::MAX;
    }
}

#[cfg(test)]
mod tests;
