//! Rules and inbound NAT rules as packets see them: bound to ports, directed at members.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use forebay_common::abi::{self, Bound, MAX_BINDINGS, MAX_PORT_RANGES};
use forebay_common::balance::{Distribution as Hashed, RingMember};
use forebay_common::flow::FlowKind;

use super::desired::{self, Inputs, RingKey, SpreadKey};
use super::eligible::{self, Standing};
use super::frontends::{Service, Services};
use super::ids::{Bits, NoIdLeft};
use super::outbound;
use super::ports::{Claim, protocols, resolve};
use super::state::{Ring, TableState};
use crate::config::model::{
    AdminState, Config, Distribution, Frontend, InboundNatRule, IpConfig, MemberRef, NatTarget,
    Pool, Ports, Probe, Protocol, Rule,
};

/// By what the ids of all rules are found.
pub(super) fn names(config: &Config) -> impl Iterator<Item = String> {
    let rules = config.rules.iter().map(|rule| rule.name.clone());
    let nat = config.inbound_nat_rules.iter();
    let outbound = config.outbound_rules.iter();
    rules
        .chain(nat.map(|rule| rule.name.clone()))
        .chain(outbound.map(|rule| outbound::rule_key(&rule.name)))
}

/// FNV-1a, finished so that similar words end far apart.
fn digest(words: &[&[u8]]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for word in words {
        for byte in word.iter().chain(&[0xff]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ hash >> 33
}

fn name_digest(kind: FlowKind, name: &str) -> u64 {
    digest(&[&[kind as u8], name.as_bytes()])
}

/// The rules of a configuration, to be found by what the tables say of their names.
pub(super) struct Named<'c>(HashMap<u64, &'c str>);

impl<'c> Named<'c> {
    pub(super) fn of(config: &'c Config) -> Self {
        let of = |kind, name: &'c String| (name_digest(kind, name), name.as_str());
        let rules = config.rules.iter().map(|r| of(FlowKind::Rule, &r.name));
        let nat = config.inbound_nat_rules.iter();
        let nat = nat.map(|r| of(FlowKind::InboundNat, &r.name));
        Self(rules.chain(nat).collect())
    }

    pub(super) fn of_digest(&self, digest: u64) -> Option<&'c str> {
        self.0.get(&digest).copied()
    }
}

/// What is looked up for each of many rules and members.
struct Index<'c> {
    frontends: HashMap<&'c str, &'c Frontend>,
    pools: HashMap<&'c str, &'c Pool>,
    ip_configs: HashMap<(&'c str, &'c str), &'c IpConfig>,
    probes: HashMap<&'c str, &'c Probe>,
    /// Rings of the rules in the tables, by the digest of their names.
    rings: HashMap<u64, [u32; 2]>,
}

impl<'c> Index<'c> {
    fn of(config: &'c Config, applied: &TableState) -> Self {
        let bindings = applied.bindings.values();
        let balanced = bindings.filter(|rule| rule.is_active() && rule.way == abi::Rule::RING);
        let ip_configs = config.instances.iter().flat_map(|instance| {
            let name = instance.name.as_str();
            let each = instance.ip_configs.iter();
            each.map(move |one| ((name, one.name.as_str()), one))
        });
        Self {
            frontends: (config.frontends.iter().map(|f| (f.name.as_str(), f))).collect(),
            pools: (config.pools.iter().map(|p| (p.name.as_str(), p))).collect(),
            ip_configs: ip_configs.collect(),
            probes: desired::probes(config),
            rings: balanced.map(|rule| (rule.name, rule.targets)).collect(),
        }
    }

    fn address(&self, member: &MemberRef, ipv6: bool) -> Option<IpAddr> {
        let names = (member.instance.as_str(), member.ip_config.as_str());
        let mut addresses = self.ip_configs.get(&names)?.addresses();
        addresses.find(|address| address.is_ipv6() == ipv6)
    }
}

/// A rule without its binding.
struct Draft<'c> {
    protocol: Protocol,
    ports: &'c Ports,
    /// Ids of its frontend's addresses, IPv4 and IPv6; 0: none.
    frontends: [u32; 2],
    rule: abi::Rule,
}

impl Draft<'_> {
    /// Says which ports the rule is bound to.
    fn claim_digest(&self) -> u64 {
        let mut bytes = protocols(self.protocol).to_vec();
        bytes.push(u8::from(*self.ports == Ports::Every));
        for port in [*self.ports.range().start(), *self.ports.range().end()] {
            bytes.extend(port.to_be_bytes());
        }
        for frontend in self.frontends {
            bytes.extend(frontend.to_be_bytes());
        }
        digest(&[&bytes])
    }
}

impl Inputs<'_> {
    /// Adds rules, their ports and whom they are directed at; says what pings to frontends are told.
    pub(super) fn add_rules(&self, state: &mut TableState) -> Result<Services, NoIdLeft> {
        let index = Index::of(self.config, self.applied);
        let rules = self.config.rules.iter();
        let rules = rules.map(|rule| self.draft_rule(&index, state, rule));
        let mut drafts: Vec<Draft<'_>> = rules.collect::<Vec<_>>().into_iter().flatten().collect();
        let nat = self.config.inbound_nat_rules.iter();
        for rule in nat {
            drafts.extend(self.draft_nat(&index, state, rule));
        }
        let services = services(&drafts, state);
        let mut bindings = Bindings::of(self.applied, &self.cooling.bindings);
        let mut claims = Vec::with_capacity(drafts.len() * 2);
        for draft in &mut drafts {
            draft.rule.claim = draft.claim_digest();
            draft.rule.flags |= abi::Rule::ACTIVE;
            let binding = bindings.of_rule(&draft.rule)?;
            state.bindings.insert(binding, draft.rule);
            let frontends = draft.frontends.into_iter().filter(|id| *id != 0);
            claims.extend(frontends.map(|frontend| Claim {
                frontend,
                protocol: draft.protocol,
                ports: draft.ports.clone(),
                binding,
            }));
        }
        let tables = resolve(&claims);
        // Ranges that change are in the table twice for a while.
        if tables.port_ranges.len() > MAX_PORT_RANGES as usize / 2 {
            return Err(NoIdLeft {
                kind: "parts of ranges of ports",
                limit: MAX_PORT_RANGES / 2,
            });
        }
        state.ports = tables.ports;
        state.port_ranges = tables.port_ranges;
        Ok(services)
    }

    fn draft_rule<'c>(
        &self,
        index: &Index<'c>,
        state: &mut TableState,
        rule: &'c Rule,
    ) -> Option<Draft<'c>> {
        let mut body = self.body(FlowKind::Rule, &rule.name)?;
        let first = *rule.port.range().start();
        body.port_offset = rule.backend_port.unwrap_or(first).wrapping_sub(first);
        body.distribution = match rule.distribution {
            Distribution::FiveTuple => Hashed::FiveTuple,
            Distribution::SourceIp => Hashed::SourceIp,
            Distribution::SourceIpProtocol => Hashed::SourceIpProtocol,
        } as u8;
        if let Some(idle) = rule.idle_timeout.map(|idle| self.rate.ticks(idle)) {
            (body.tcp_idle, body.udp_idle, body.udp_dns) = (idle, idle, idle);
        }
        if rule.tcp_reset && rule.protocol != Protocol::Udp {
            body.flags |= abi::Rule::TCP_RESET;
        }
        let frontend = index.frontends.get(rule.frontend.as_str())?;
        let frontends = self.frontend_ids(frontend);
        for ipv6 in self.families(frontends) {
            let key = RingKey::of_rule(rule, ipv6, &index.probes);
            let id = self.ids.rings.get(&key)?;
            let former = index
                .rings
                .get(&body.name)
                .map(|rings| rings[usize::from(ipv6)]);
            self.add_ring(index, state, &key, id, former);
            body.targets[usize::from(ipv6)] = id;
        }
        Some(Draft {
            protocol: rule.protocol,
            ports: &rule.port,
            frontends,
            rule: body,
        })
    }

    fn draft_nat<'c>(
        &self,
        index: &Index<'c>,
        state: &mut TableState,
        rule: &'c InboundNatRule,
    ) -> Option<Draft<'c>> {
        let mut body = self.body(FlowKind::InboundNat, &rule.name)?;
        body.flags |= abi::Rule::INBOUND_NAT;
        if rule.protocol != Protocol::Udp {
            body.flags |= abi::Rule::TCP_RESET;
        }
        if let Some(port) = rule.backend_port {
            body.flags |= abi::Rule::FIXED_PORT;
            body.port_offset = port;
        }
        let frontend = index.frontends.get(rule.frontend.as_str())?;
        let frontends = self.frontend_ids(frontend);
        for ipv6 in self.families(frontends) {
            let target = &mut body.targets[usize::from(ipv6)];
            match &rule.target {
                NatTarget::Instance(member) => {
                    body.way = abi::Rule::BACKEND;
                    let address = index.address(member, ipv6);
                    *target = address.map_or(0, |address| self.add_backend(state, address));
                }
                NatTarget::Pool(_) => {
                    body.way = abi::Rule::SPREAD;
                    body.first_port = *rule.port.range().start();
                    let id = self.ids.spreads.get(&SpreadKey::of(rule, ipv6))?;
                    let places = self.places(index, state, rule, ipv6);
                    state.spreads.insert(id, Some(places));
                    *target = id;
                }
            }
        }
        Some(Draft {
            protocol: rule.protocol,
            ports: &rule.port,
            frontends,
            rule: body,
        })
    }

    /// What rules have in common.
    fn body(&self, kind: FlowKind, name: &String) -> Option<abi::Rule> {
        let timeouts = &self.config.timeouts;
        Some(abi::Rule {
            name: name_digest(kind, name),
            id: self.ids.rules.get(name)?,
            tcp_idle: self.rate.ticks(timeouts.tcp_idle),
            udp_idle: self.rate.ticks(timeouts.udp_idle),
            udp_dns: self.rate.ticks(timeouts.udp_dns),
            ..abi::Rule::default()
        })
    }

    fn frontend_ids(&self, frontend: &Frontend) -> [u32; 2] {
        let mut ids = [0; 2];
        for address in frontend.addresses() {
            ids[usize::from(address.is_ipv6())] = self.ids.frontends.get(&address).unwrap_or(0);
        }
        ids
    }

    /// Whether IPv6, for each family that a frontend has.
    fn families(&self, frontends: [u32; 2]) -> impl Iterator<Item = bool> + use<> {
        let families = frontends.into_iter().zip([false, true]);
        families.filter(|(id, _)| *id != 0).map(|(_, ipv6)| ipv6)
    }

    /// Adds a ring of those that take new flows; `former` is the one that the rule has had.
    fn add_ring(
        &self,
        index: &Index<'_>,
        state: &mut TableState,
        key: &RingKey,
        id: u32,
        former: Option<u32>,
    ) {
        if state.rings.contains_key(&id) {
            return;
        }
        let former = former.and_then(|id| self.applied.rings.get(&id));
        let known: HashSet<u32> = match former {
            Some(Ring::Members(members)) => members.iter().map(|m| m.backend).collect(),
            Some(Ring::Unknown) | None => HashSet::new(),
        };
        let takes_part =
            |backend| matches!(former, Some(Ring::Unknown)) || known.contains(&backend);
        let mut members = Vec::new();
        // Those that would be in it if their probes said so.
        let mut others = Vec::new();
        let pool = index.pools.get(key.pool.as_str());
        for member in pool.into_iter().flat_map(|pool| &pool.members) {
            let Some(address) = index.address(&member.target, key.ipv6) else {
                continue;
            };
            let backend = self.add_backend(state, address);
            if backend == 0 || member.admin_state == AdminState::Down {
                continue;
            }
            let ring_member = RingMember {
                identity: address.to_string().into_bytes(),
                weight: member.weight,
                backend,
            };
            let standing = eligible::standing(member, address, key.probe.as_ref(), self.health);
            let is_in = match standing {
                Standing::In => true,
                Standing::Out => false,
                Standing::AsBefore => takes_part(backend),
            };
            match is_in {
                true => members.push(ring_member),
                false => others.push(ring_member),
            }
        }
        if members.is_empty() && key.probe.as_ref().is_some_and(|probe| probe.all_if_none) {
            members = others;
        }
        state.rings.insert(id, Ring::Members(members));
    }

    /// Who has which port of a range, as places counted from the first port.
    fn places(
        &self,
        index: &Index<'_>,
        state: &mut TableState,
        rule: &InboundNatRule,
        ipv6: bool,
    ) -> Vec<u32> {
        let range = rule.port.range();
        let mut places = vec![0; range.len()];
        for (member, port) in self.nat_ports.get(&rule.name).into_iter().flatten() {
            let Some(address) = index.address(member, ipv6) else {
                continue;
            };
            let place = usize::from(port.wrapping_sub(*range.start()));
            if let Some(place) = places.get_mut(place) {
                *place = self.add_backend(state, address);
            }
        }
        places
    }

    /// The id of a member's address; 0: it has none.
    fn add_backend(&self, state: &mut TableState, address: IpAddr) -> u32 {
        let Some(id) = self.ids.backends.get(&address) else {
            return 0;
        };
        match Bits::from(address) {
            Bits::V4(address) => drop(state.v4.backends.insert(id, address)),
            Bits::V6(address) => drop(state.v6.backends.insert(id, address)),
        }
        id
    }
}

/// By id of the frontend's address.
fn services(drafts: &[Draft<'_>], state: &TableState) -> Services {
    let mut services = Services::new();
    for draft in drafts {
        let families = draft.frontends.into_iter().zip(draft.rule.targets);
        for (frontend, target) in families.filter(|(frontend, _)| *frontend != 0) {
            let has_member = match draft.rule.way {
                abi::Rule::RING => matches!(
                    state.rings.get(&target),
                    Some(Ring::Members(members)) if !members.is_empty()
                ),
                abi::Rule::SPREAD => {
                    let places = state.spreads.get(&target).into_iter().flatten().flatten();
                    places.into_iter().any(|id| *id != 0)
                }
                _ => target != 0,
            };
            let service = services.entry(frontend).or_insert(Service::Down);
            if has_member {
                *service = Service::Up;
            }
        }
    }
    services
}

/// Which binding a rule has: the one it had, if nothing about it is different, else one that nobody had for
/// a while.
struct Bindings<'s> {
    /// Active ones, by the digest of their rule's name.
    active: HashMap<u64, Vec<(u32, &'s abi::Rule)>>,
    taken: BTreeSet<u32>,
    next: u32,
}

impl<'s> Bindings<'s> {
    fn of(applied: &'s TableState, cooling: &BTreeSet<u32>) -> Self {
        let mut active: HashMap<u64, Vec<_>> = HashMap::new();
        for (id, rule) in applied.bindings.iter().filter(|(_, rule)| rule.is_active()) {
            active.entry(rule.name).or_default().push((*id, rule));
        }
        let both = |bound: &Bound| [bound.first, bound.second];
        let mut taken: BTreeSet<u32> = applied.bindings.keys().copied().collect();
        taken.extend(applied.ports.values().flat_map(both));
        taken.extend(applied.port_ranges.values().flat_map(both));
        taken.extend(cooling);
        Self {
            active,
            taken,
            next: 1,
        }
    }

    fn of_rule(&mut self, rule: &abi::Rule) -> Result<u32, NoIdLeft> {
        let had = self.active.get(&rule.name).into_iter().flatten();
        for (id, active) in had {
            if *active == rule {
                return Ok(*id);
            }
        }
        while self.taken.contains(&self.next) {
            self.next += 1;
        }
        if self.next >= MAX_BINDINGS {
            return Err(NoIdLeft {
                kind: "rules that change at once",
                limit: MAX_BINDINGS - 1,
            });
        }
        self.next += 1;
        Ok(self.next - 1)
    }
}

/// The ports that the members of an inbound NAT rule over a pool have, by port.
pub fn mappings(ports: &BTreeMap<MemberRef, u16>) -> Vec<(u16, &MemberRef)> {
    let mut mappings: Vec<_> = ports.iter().map(|(member, port)| (*port, member)).collect();
    mappings.sort();
    mappings
}
