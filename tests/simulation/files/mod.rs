//! Random configurations, and what they let become of a first packet.

mod describe;
mod outbound;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use forebay::config;
use forebay::config::model::{Config, MemberRef, NatTarget, Ports, Protocol};
use forebay_common::reason::Reason;
use forebay_tests::chance::Chance;
use forebay_tests::frame::TCP;
use forebay_tests::network::Host;

pub(crate) use describe::describe;

/// Frontends that files may have.
pub(crate) const FRONTENDS: [(&str, Host); 3] = [
    (
        "web",
        Host::new([203, 0, 113, 10], [0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x10]),
    ),
    (
        "api",
        Host::new([203, 0, 113, 11], [0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x11]),
    ),
    (
        "old",
        Host::new([203, 0, 113, 12], [0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x12]),
    ),
];

/// Instances; each of the last two is in most files.
pub(crate) const INSTANCES: [Host; 5] = [
    Host::new([10, 0, 1, 1], [0xfd00, 1, 0, 0, 0, 0, 0, 1]),
    Host::new([10, 0, 1, 2], [0xfd00, 1, 0, 0, 0, 0, 0, 2]),
    Host::new([10, 0, 1, 3], [0xfd00, 1, 0, 0, 0, 0, 0, 3]),
    Host::new([10, 0, 1, 4], [0xfd00, 1, 0, 0, 0, 0, 0, 4]),
    Host::new([10, 0, 1, 5], [0xfd00, 1, 0, 0, 0, 0, 0, 5]),
];

/// Ports at which something may be.
pub(crate) const PORTS: [u16; 9] = [9, 53, 80, 8_000, 8_003, 8_007, 8_011, 8_022, 65_535];

/// Who has an address in the virtual network and is no instance.
pub(crate) const GUEST: Host = Host::new([10, 0, 1, 200], [0xfd00, 1, 0, 0, 0, 0, 0, 0xc8]);

/// Names of rules; each may be anything from file to file.
const RULES: usize = 6;
/// The same of outbound rules.
const OUTBOUND_RULES: usize = 3;

fn parsed(text: &str) -> Option<Arc<Config>> {
    let loaded = config::parse("simulation.toml", text).ok()?;
    Some(Arc::new(loaded.config))
}

/// A random valid file.
pub(crate) fn file(chance: &mut Chance) -> Arc<Config> {
    let mut text = String::from("[node]\nname = \"lb1\"\ninterfaces = [\"c0\", \"i0\", \"x0\"]\n");
    timeouts(chance, &mut text);
    let mut frontends = add_frontends(chance, &mut text);
    let instances = add_instances(chance, &mut text);
    add_pools(chance, &mut text, &instances);
    let mut config = parsed(&text).expect("a file without rules is valid");
    // What contradicts the rules before it is left out.
    let mut add = |more: String| {
        let longer = format!("{text}{more}");
        if let Some(valid) = parsed(&longer) {
            (config, text) = (valid, longer);
        }
    };
    for number in 0..RULES {
        if !chance.one_in(6) {
            add(rule(chance, number, &frontends));
        }
    }
    if chance.one_in(2) {
        add(outbound::NAT.to_owned());
        frontends.push("nat");
    }
    for number in 0..OUTBOUND_RULES {
        if chance.one_in(2) {
            add(outbound::rule(chance, number, &frontends));
        }
    }
    if chance.one_in(3) {
        add(outbound::default(chance, &frontends));
    }
    config
}

fn timeouts(chance: &mut Chance, text: &mut String) {
    let seconds = |chance: &mut Chance| *chance.pick(&[1_u64, 2, 5, 20]);
    let _ = writeln!(
        text,
        "[timeouts]\ntcp_idle = \"{}s\"\nudp_idle = \"{}s\"\ntcp_half_open = \"{}s\"\ntcp_fin = \"{}s\"\n\
         udp_unreplied = \"{}s\"\nicmp_idle = \"{}s\"",
        20 * seconds(chance),
        10 * seconds(chance),
        seconds(chance),
        seconds(chance),
        5 * seconds(chance),
        2 * seconds(chance),
    );
}

fn add_frontends(chance: &mut Chance, text: &mut String) -> Vec<&'static str> {
    let mut frontends = vec![];
    for (name, host) in FRONTENDS {
        let form = chance.below(8);
        if name != "web" && form == 0 {
            continue;
        }
        frontends.push(name);
        let _ = write!(
            text,
            "[[frontend]]\nname = \"{name}\"\nipv4 = \"{}\"\n",
            host.v4
        );
        if name == "web" || form > 2 {
            let _ = writeln!(text, "ipv6 = \"{}\"", host.v6);
        }
    }
    frontends
}

/// Adds instances, some of which have public IPs; says which there are.
fn add_instances(chance: &mut Chance, text: &mut String) -> Vec<usize> {
    let held = outbound::public_ips(chance, text);
    let mut instances = Vec::new();
    for (number, host) in INSTANCES.iter().enumerate() {
        if number >= 3 && chance.one_in(5) {
            continue;
        }
        instances.push(number);
        let _ = write!(
            text,
            "[[instance]]\nname = \"i{number}\"\nipv4 = \"{}\"\n",
            host.v4
        );
        if number != 4 {
            let _ = writeln!(text, "ipv6 = \"{}\"", host.v6);
        }
        if let Some((_, name)) = held.iter().find(|(owner, _)| *owner == number) {
            let _ = writeln!(text, "public_ip = \"{name}\"");
        }
    }
    instances
}

fn add_pools(chance: &mut Chance, text: &mut String, instances: &[usize]) {
    for pool in 0..4 {
        let members = instances.iter().filter(|_| chance.one_in(2));
        let members: Vec<&usize> = members.collect();
        let members = members.iter().map(|number| {
            let weight = chance.within(1, 2);
            format!("{{ instance = \"i{number}\", weight = {weight} }}")
        });
        let members: Vec<String> = members.collect();
        let _ = write!(
            text,
            "[[pool]]\nname = \"p{pool}\"\nmembers = [{}]\n",
            members.join(", ")
        );
    }
}

fn rule(chance: &mut Chance, number: usize, frontends: &[&str]) -> String {
    let frontend = chance.pick(frontends);
    let protocol = chance.pick(&["tcp", "tcp", "udp", "all"]);
    let first = *chance.pick(&[53, 80, 80, 8_000, 8_003, 8_007, 8_011]);
    let (port, is_range) = match chance.below(6) {
        0 => ("0".to_owned(), false),
        1 | 2 => (format!("\"{first}-{}\"", first + chance.below(12)), true),
        _ => (first.to_string(), false),
    };
    let mut body = format!(
        "name = \"r{number}\"\nfrontend = \"{frontend}\"\nprotocol = \"{protocol}\"\nport = {port}\n"
    );
    if port != "0" && chance.one_in(2) {
        let _ = writeln!(body, "backend_port = {}", chance.pick(&[80, 1_000, 8_003]));
    }
    if port != "0" && chance.one_in(4) {
        let target = if is_range {
            format!("pool = \"p{}\"", chance.below(4))
        } else {
            format!("instance = \"i{}\"", chance.below(INSTANCES.len() as u64))
        };
        return format!("[[inbound_nat_rule]]\n{body}{target}\n");
    }
    if chance.one_in(2) {
        let way = chance.pick(&["five-tuple", "source-ip", "source-ip-protocol"]);
        let _ = writeln!(body, "distribution = \"{way}\"");
    }
    if chance.one_in(3) {
        let _ = writeln!(body, "idle_timeout = \"{}s\"", chance.pick(&[4, 30, 120]));
    }
    let _ = writeln!(body, "outbound_snat = {}", chance.one_in(2));
    format!("[[rule]]\n{body}pool = \"p{}\"\n", chance.below(4))
}

/// What may become of a first packet.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// It is sent to one of these.
    pub(crate) destinations: BTreeSet<(IpAddr, u16)>,
    /// It ends with one of these.
    pub(crate) reasons: BTreeSet<Reason>,
}

/// Who has a port: the pool or the member, and the port there.
enum Target<'c> {
    Pool(&'c str, u16),
    /// A member of the pool, or nobody.
    Place(&'c str, u16),
    Instance(&'c MemberRef, u16),
}

impl Answers {
    /// What may become of a first packet while the tables hold parts of these configurations. Rules and pools
    /// change each by themselves.
    pub(crate) fn of(files: &[Arc<Config>], to: IpAddr, protocol: u8, port: u16) -> Self {
        let mut answers = Self::default();
        for config in files {
            let frontend = config
                .frontends
                .iter()
                .find(|f| f.addresses().any(|a| a == to));
            let Some(frontend) = frontend else {
                // It is answered for as long as it has flows.
                answers.reasons.extend([Reason::NotOurs, Reason::NoRule]);
                continue;
            };
            let targets = targets(config, &frontend.name, protocol, port);
            if targets.is_empty() {
                answers.reasons.insert(Reason::NoRule);
            }
            for target in targets {
                answers.add(files, config, &target, to.is_ipv6());
            }
        }
        answers
    }

    fn add(&mut self, files: &[Arc<Config>], of: &Config, target: &Target<'_>, ipv6: bool) {
        match target {
            Target::Instance(member, port) => match address(of, member, ipv6) {
                Some(address) => drop(self.destinations.insert((address, *port))),
                None => drop(self.reasons.insert(Reason::NoBackend)),
            },
            Target::Pool(pool, port) | Target::Place(pool, port) => {
                let is_place = matches!(target, Target::Place(..));
                for config in files {
                    let found = config.pools.iter().find(|p| p.name == *pool);
                    let members = found.into_iter().flat_map(|pool| &pool.members);
                    let members = members.filter_map(|m| address(config, &m.target, ipv6));
                    let known: Vec<_> = members.map(|address| (address, *port)).collect();
                    self.destinations.extend(&known);
                    if is_place || known.is_empty() {
                        self.reasons.insert(Reason::NoBackend);
                    }
                }
            }
        }
    }
}

fn address(config: &Config, member: &MemberRef, ipv6: bool) -> Option<IpAddr> {
    let instance = config
        .instances
        .iter()
        .find(|i| i.name == member.instance)?;
    let mut addresses = instance.ip_configs.iter().flat_map(|c| c.addresses());
    addresses.find(|address| address.is_ipv6() == ipv6)
}

/// Who has a port of a frontend: a single port before a range before every port, and within each the protocol
/// before all protocols.
fn targets<'c>(config: &'c Config, frontend: &str, protocol: u8, port: u16) -> Vec<Target<'c>> {
    let rank = |name: &str, of: Protocol, ports: &Ports| {
        let is_own = match of {
            Protocol::Tcp => protocol == TCP,
            Protocol::Udp => protocol != TCP,
            Protocol::All => true,
        };
        if name != frontend || !is_own || !(ports.range().contains(&port) || *ports == Ports::Every)
        {
            return None;
        }
        let width = match ports {
            Ports::Single(_) => 0,
            Ports::Range(_) => 1,
            Ports::Every => 2,
        };
        Some((width, of == Protocol::All))
    };
    let rules = config.rules.iter().filter_map(|rule| {
        let rank = rank(&rule.frontend, rule.protocol, &rule.port)?;
        let there = match (&rule.port, rule.backend_port) {
            (Ports::Every, _) | (_, None) => port,
            (ports, Some(first)) => first.wrapping_add(port - ports.range().start()),
        };
        Some((rank, Target::Pool(&rule.pool, there)))
    });
    let nat = config.inbound_nat_rules.iter().filter_map(|rule| {
        let rank = rank(&rule.frontend, rule.protocol, &rule.port)?;
        let there = rule.backend_port.unwrap_or(port);
        let target = match &rule.target {
            NatTarget::Instance(member) => Target::Instance(member, there),
            NatTarget::Pool(pool) => Target::Place(pool, there),
        };
        Some((rank, target))
    });
    let mut found: Vec<_> = rules.chain(nat).collect();
    let best = found.iter().map(|(rank, _)| *rank).min();
    found.retain(|(rank, _)| Some(*rank) == best);
    found.into_iter().map(|(_, target)| target).collect()
}
