//! A sequence: what happens to a node, step by step.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use forebay::config::model::Config;
use forebay::control_plane::{Event, TableState};
use forebay_tests::chance::{Chance, number};
use forebay_tests::frame::{TCP, UDP};
use forebay_tests::network::IpVersion;

use crate::files::{Answers, FRONTENDS, PORTS, describe, file};
use crate::honest::Connection;
use crate::node::{Node, SECOND, spare};
use crate::outgoing::Outgoing;
use crate::snat::{Reserved, check_ranges};
use crate::strangers::Mappings;

/// How often what has happened.
pub(crate) type Census = BTreeMap<&'static str, u64>;

/// Connections at once.
const CONNECTIONS: usize = 60;
/// What a failure tells of before: so many lines, or `FOREBAY_TOLD`.
const TOLD: u64 = 40;

/// A sequence under way.
pub(crate) struct Play {
    pub(crate) chance: Chance,
    pub(crate) node: Node,
    pub(crate) connections: Vec<Connection>,
    pub(crate) outgoing: Vec<Outgoing>,
    pub(crate) mappings: Mappings,
    pub(crate) census: Census,
    pub(crate) probes: u16,
    told: Vec<String>,
}

/// Plays a sequence.
///
/// # Errors
/// What is wrong, after which steps.
pub(crate) fn sequence(seed: u64, steps: u64) -> Result<Census, String> {
    let mut chance = Chance::new(seed);
    let entries = *chance.pick(&[100, 200, 1_000]);
    let mut play = Play {
        chance,
        node: Node::new(entries),
        connections: Vec::new(),
        outgoing: Vec::new(),
        mappings: Mappings::new(),
        census: Census::new(),
        probes: 0,
        told: Vec::new(),
    };
    for step in 0..steps {
        let now = play.node.tables.model.now;
        play.tell(format!("step {step} at {now}"));
        if let Err(wrong) = play.step().and_then(|()| play.check()) {
            let told = number("FOREBAY_TOLD").unwrap_or(TOLD) as usize;
            let told = play.told.len().saturating_sub(told);
            return Err(format!("{}\n{wrong}", play.told[told..].join("\n")));
        }
    }
    Ok(play.census)
}

impl Play {
    pub(crate) fn tell(&mut self, what: String) {
        self.told.push(what);
    }

    pub(crate) fn count(&mut self, what: &'static str) {
        *self.census.entry(what).or_default() += 1;
    }

    /// The invariants of all flows.
    fn check(&mut self) -> Result<(), String> {
        self.check_flows()?;
        self.check_outgoing()
    }

    fn step(&mut self) -> Result<(), String> {
        if self.node.daemon.is_none() && (self.node.is_blank || self.chance.one_in(6)) {
            return self.start();
        }
        match self.chance.below(100) {
            0..26 => self.converse(),
            26..36 => self.connect(),
            36..50 => self.exchange(),
            50..62 => self.reach_out(),
            62..66 => self.intrude(),
            66..74 => self.wait(),
            74..77 => self.flood(),
            77..81 => self.reload(),
            81..84 => self.change_host(),
            84..86 => {
                let now = self.node.tables.model.now as u32;
                self.handle(Event::HopsInvalid(now.wrapping_add(1)))
            }
            86..94 => self.sweep(),
            94..96 => {
                self.tell("the daemon dies".to_owned());
                self.node.die();
                Ok(())
            }
            96 => self.flush(),
            _ => self.resize(),
        }
    }

    /// Starts a daemon, with the file of before or another one.
    fn start(&mut self) -> Result<(), String> {
        let same = self.node.files.last().filter(|_| self.chance.one_in(2));
        let config = same.cloned().unwrap_or_else(|| file(&mut self.chance));
        self.tell(format!("a daemon starts with {}", describe(&config)));
        self.count("starts");
        let adopted = self.node.tables.read();
        self.node.daemon = Some(self.node.plane(adopted));
        self.handle(Event::Host(self.node.host.clone()))?;
        self.configure(config)
    }

    fn reload(&mut self) -> Result<(), String> {
        let config = file(&mut self.chance);
        self.tell(format!("a reload with {}", describe(&config)));
        self.configure(config)
    }

    fn configure(&mut self, config: Arc<Config>) -> Result<(), String> {
        if self.node.daemon.is_none() {
            return Ok(());
        }
        self.node.files.push(Arc::clone(&config));
        self.count("reloads");
        let before = Reserved::of(&self.node.tables.model);
        self.handle(Event::Config(Arc::clone(&config)))?;
        if self.node.daemon.is_none() {
            return Ok(());
        }
        Reserved::of(&self.node.tables.model).check(&before, &config)
    }

    /// Hands an event to the daemon and makes its writes, with packets between them. The daemon may die at any.
    fn handle(&mut self, event: Event) -> Result<(), String> {
        let Some(daemon) = &mut self.node.daemon else {
            return Ok(());
        };
        let changes = daemon.handle(event).map_err(|error| error.to_string())?;
        self.node.nat_ports = daemon.nat_ports().clone();
        let end = self.chance.below(changes.len() as u64 + 1) as usize;
        let dies = self.chance.one_in(10);
        for (number, change) in changes.iter().enumerate() {
            if dies && number == end {
                self.tell(format!("the daemon dies before {change:?}"));
                self.count("deaths between writes");
                self.node.die();
                return Ok(());
            }
            self.node.tables.write(change);
            self.node.route();
            match self.chance.below(8) {
                0 | 1 => self
                    .probe()
                    .map_err(|wrong| format!("after {change:?}: {wrong}"))?,
                2 => self
                    .converse()
                    .and_then(|()| self.exchange())
                    .and_then(|()| self.reach_out())
                    .map_err(|wrong| format!("after {change:?}: {wrong}"))?,
                _ => {}
            }
        }
        self.check_tables()
    }

    /// "The tables equal what is wanted", and "consistent".
    fn check_tables(&mut self) -> Result<(), String> {
        let Some(daemon) = &self.node.daemon else {
            return Ok(());
        };
        // Before it has read its file, a daemon writes nothing.
        let Some(config) = daemon.config().cloned() else {
            return Ok(());
        };
        self.node.tables.check(daemon.applied())?;
        check_ranges(&self.node.tables.model, &config)?;
        self.node.files = vec![Arc::clone(&config)];
        self.node.is_blank = false;
        if !self.chance.one_in(4) {
            return Ok(());
        }
        self.count("comparisons with a fresh node");
        let mut fresh = Node::new(self.node.entries);
        fresh.nat_ports.clone_from(&self.node.nat_ports);
        let mut plane = fresh.plane(TableState::default());
        for event in [Event::Host(self.node.host.clone()), Event::Config(config)] {
            for change in plane.handle(event).map_err(|error| error.to_string())? {
                fresh.tables.write(&change);
            }
        }
        fresh.route();
        fresh.tables.model.now = self.node.tables.model.now;
        for _ in 0..6 {
            let (protocol, to, port) = self.place();
            let here = self.fate(protocol, to, port)?;
            let mut other = Play {
                chance: self.chance.clone(),
                node: fresh,
                connections: Vec::new(),
                outgoing: Vec::new(),
                mappings: Mappings::new(),
                census: Census::new(),
                probes: self.probes - 1,
                told: Vec::new(),
            };
            let there = other.fate(protocol, to, port)?;
            if here != there && !here.is_no_service(&there) {
                return Err(format!(
                    "a packet to {to} port {port} ends as {here:?}, on a fresh node as {there:?}"
                ));
            }
            fresh = other.node;
        }
        Ok(())
    }

    /// Somewhere that packets may be sent.
    pub(crate) fn place(&mut self) -> (u8, IpAddr, u16) {
        let version = *self.chance.pick(&IpVersion::BOTH);
        let (_, host) = self.chance.pick(&FRONTENDS);
        let protocol = *self.chance.pick(&[TCP, UDP]);
        (protocol, host.address(version), *self.chance.pick(&PORTS))
    }

    /// A client begins a connection.
    fn connect(&mut self) -> Result<(), String> {
        let version = *self
            .chance
            .pick(&[IpVersion::V4, IpVersion::V4, IpVersion::V6]);
        let protocol = *self.chance.pick(&[TCP, TCP, UDP]);
        let (mut host, mut port) = (FRONTENDS[0].1, PORTS[0]);
        // Most know where a service is.
        for _ in 0..6 {
            host = self.chance.pick(&FRONTENDS).1;
            port = *self.chance.pick(&PORTS);
            let to = host.address(version);
            let answers = Answers::of(&self.node.files, to, protocol, port);
            if !answers.destinations.is_empty() {
                break;
            }
        }
        let new = Connection::new(&mut self.chance, (host, port), protocol, version);
        let same = |old: &Connection| old.tuple() == new.tuple();
        if let Some(old) = self.connections.iter().position(same) {
            // Who uses a port again waits for the end of its connection.
            let old = &self.connections[old];
            if !(old.is_over || old.has_ended() || old.home.is_none()) {
                return Ok(());
            }
        }
        if self.is_in_use(&new.tuple()) {
            return Ok(());
        }
        self.connections.retain(|old| !same(old));
        if self.connections.len() == CONNECTIONS {
            let gone = self.chance.below(CONNECTIONS as u64) as usize;
            self.connections.swap_remove(gone);
        }
        self.connections.push(new);
        let last = self.connections.len() - 1;
        // Most handshakes are not interrupted.
        for _ in 0..self.chance.below(6) + 1 {
            if last < self.connections.len() {
                self.talk(last)?;
            }
        }
        Ok(())
    }

    /// Some packets of connections.
    fn converse(&mut self) -> Result<(), String> {
        for _ in 0..self.chance.below(4) {
            if self.connections.is_empty() {
                return Ok(());
            }
            let one = self.chance.below(self.connections.len() as u64) as usize;
            self.talk(one)?;
        }
        Ok(())
    }

    fn wait(&mut self) -> Result<(), String> {
        let second = SECOND;
        let choices = [
            1,
            3,
            5,
            20,
            second,
            second,
            3 * second,
            11 * second,
            70 * second,
        ];
        let jiffies = *self.chance.pick(&choices);
        self.tell(format!("{jiffies} jiffies pass"));
        self.node.tables.model.now += jiffies;
        Ok(())
    }

    fn sweep(&mut self) -> Result<(), String> {
        if self.node.daemon.is_none() || self.node.is_blank {
            return Ok(());
        }
        let Some(pass) = &self.node.pass else {
            self.tell("the sweep marks".to_owned());
            self.node.mark();
            return Ok(());
        };
        // The grace of the sweep.
        let end = pass.begun + SECOND * 8 / 100 + 1;
        self.node.tables.model.now = self.node.tables.model.now.max(end);
        self.tell("the sweep removes".to_owned());
        match self.node.remove() {
            Some(census) => self.handle(Event::Census(census)),
            None => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<(), String> {
        if !self.node.is_moving() && self.chance.one_in(2) {
            self.tell("all flows are flushed".to_owned());
            self.node.flush();
            self.connections
                .iter_mut()
                .for_each(|one| one.is_over = true);
            self.outgoing.iter_mut().for_each(|one| one.is_over = true);
        }
        Ok(())
    }

    fn change_host(&mut self) -> Result<(), String> {
        let host = &mut self.node.host;
        match self.chance.below(3) {
            0 if host.len() > 2 => drop(host.pop()),
            0 => host.push(spare(20 + self.chance.below(10) as u32)),
            1 => host[1].mtu = *self.chance.pick(&[1_400, 1_500, 9_000]),
            _ => host[0].link_ups = Some(host[0].link_ups.unwrap_or(0) + 1),
        }
        self.tell("interfaces change".to_owned());
        self.handle(Event::Host(self.node.host.clone()))
    }

    /// Flows move to tables of another size; a daemon that has died meanwhile leaves them where they are.
    fn resize(&mut self) -> Result<(), String> {
        if self.node.daemon.is_none() || self.node.is_blank {
            return Ok(());
        }
        if self.node.is_moving() {
            let some = self.chance.below(12) as usize;
            self.tell(format!("{some} keys of flows are carried over"));
            self.node.carry(some);
            self.count("pieces of moves");
            if !self.node.is_moving() {
                return self.handle(Event::Sizes(self.node.sizes()));
            }
            return Ok(());
        }
        let entries = *self.chance.pick(&[100, 200, 1_000]);
        if entries == self.node.entries || !self.node.begin_move(entries) {
            return Ok(());
        }
        self.tell(format!(
            "flows begin to move to tables of {entries} entries"
        ));
        self.count("moves");
        self.handle(Event::Sizes(self.node.sizes()))
    }
}
