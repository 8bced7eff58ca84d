//! Replies that are known without a flow: an instance's TCP port that has the flows of one frontend's port
//! only can send nothing but their replies. So a node without the flow still knows what they become.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::ops::RangeInclusive;

use forebay_common::abi::{MAX_REVERSE, Reverse};
use forebay_common::ports;

use super::ids::Bits;
use super::state::TableState;
use crate::config::model::{
    Config, Forwarding, Frontend, InboundNatRule, MemberRef, NatTarget, Ports, Protocol,
};

/// Entries that fit, a family.
const MOST: usize = MAX_REVERSE as usize;

/// Ports of an instance's address that a rule sends to, and the first frontend port of them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stretch {
    first: u16,
    last: u16,
    frontend: IpAddr,
    frontend_first: u16,
}

/// Adds what can be known of a configuration. Nothing can while outsiders reach instances directly: those
/// connections have the same replies. An IP configuration with a public IP may send anything.
///
/// What does not fit is done without: those flows have both their keys in the tables anyway.
pub(super) fn add(config: &Config, state: &mut TableState) {
    if config.node.allow_direct {
        return;
    }
    let senders = Senders::of(config);
    for instance in &config.instances {
        for ip_config in instance.ip_configs.iter().filter(|c| c.public_ip.is_none()) {
            let member = MemberRef {
                instance: instance.name.clone(),
                ip_config: ip_config.name.clone(),
            };
            for address in ip_config.addresses() {
                let is_full = match Bits::from(address) {
                    Bits::V4(_) => state.v4.reverse.len() >= MOST,
                    Bits::V6(_) => state.v6.reverse.len() >= MOST,
                };
                if !is_full {
                    add_address(address, senders.stretches(&member, address), state);
                }
            }
        }
    }
}

fn add_address(address: IpAddr, stretches: Vec<Stretch>, state: &mut TableState) {
    for stretch in unshared(stretches) {
        let port_offset = stretch.frontend_first.wrapping_sub(stretch.first);
        for (port, bits) in ports::prefixes(stretch.first..=stretch.last) {
            match (Bits::from(address), Bits::from(stretch.frontend)) {
                (Bits::V4(address), Bits::V4(frontend)) => {
                    insert(
                        &mut state.v4.reverse,
                        (address, port, bits),
                        frontend,
                        port_offset,
                    );
                }
                (Bits::V6(address), Bits::V6(frontend)) => {
                    insert(
                        &mut state.v6.reverse,
                        (address, port, bits),
                        frontend,
                        port_offset,
                    );
                }
                _ => {}
            }
        }
    }
}

fn insert<A: Ord>(
    known: &mut BTreeMap<(A, u16, u32), Reverse<A>>,
    key: (A, u16, u32),
    frontend: A,
    port_offset: u16,
) {
    if known.len() < MOST {
        let padding = [0; 3];
        let reverse = Reverse {
            frontend,
            port_offset,
            padding,
        };
        known.insert(key, reverse);
    }
}

/// What a rule sends to each of its members.
struct Sender<'c> {
    frontend: &'c Frontend,
    /// First frontend port.
    first: u16,
    /// Ports of the member.
    backend: RangeInclusive<u16>,
    /// Whether its replies can be told from those of others at all.
    is_told: bool,
}

/// The rules for TCP, by whom they send to.
struct Senders<'c> {
    by_pool: HashMap<&'c str, Vec<Sender<'c>>>,
    by_member: HashMap<&'c MemberRef, Vec<Sender<'c>>>,
    pools: HashMap<&'c MemberRef, Vec<&'c str>>,
}

impl<'c> Senders<'c> {
    fn of(config: &'c Config) -> Self {
        let frontends: HashMap<&str, _> = config.frontends.iter().map(|f| (&*f.name, f)).collect();
        let mut senders = Self {
            by_pool: HashMap::new(),
            by_member: HashMap::new(),
            pools: HashMap::new(),
        };
        for pool in &config.pools {
            for member in &pool.members {
                senders
                    .pools
                    .entry(&member.target)
                    .or_default()
                    .push(&pool.name);
            }
        }
        for rule in config
            .rules
            .iter()
            .filter(|rule| rule.protocol != Protocol::Udp)
        {
            if let Some(frontend) = frontends.get(&*rule.frontend) {
                let sender = Sender {
                    frontend,
                    first: *rule.port.range().start(),
                    backend: rule.port.backend_range(rule.backend_port),
                    is_told: rule.port != Ports::Every && rule.forwarding == Forwarding::Nat,
                };
                senders.by_pool.entry(&rule.pool).or_default().push(sender);
            }
        }
        for rule in config
            .inbound_nat_rules
            .iter()
            .filter(|r| r.protocol != Protocol::Udp)
        {
            if let Some(frontend) = frontends.get(&*rule.frontend) {
                senders.add_inbound_nat(rule, frontend);
            }
        }
        senders
    }

    /// Which port of the pool form is a member's is not looked into.
    fn add_inbound_nat(&mut self, rule: &'c InboundNatRule, frontend: &'c Frontend) {
        let ports = rule.port.range();
        let sender = Sender {
            frontend,
            first: *ports.start(),
            backend: rule.backend_port.map_or(ports, |port| port..=port),
            is_told: matches!(rule.target, NatTarget::Instance(_)),
        };
        match &rule.target {
            NatTarget::Instance(member) => self.by_member.entry(member).or_default().push(sender),
            NatTarget::Pool(pool) => self.by_pool.entry(pool).or_default().push(sender),
        }
    }

    /// Where all rules send to on a member's address.
    fn stretches(&self, member: &MemberRef, address: IpAddr) -> Vec<Stretch> {
        let pools = self.pools.get(member).into_iter().flatten();
        let by_pool = pools.filter_map(|pool| self.by_pool.get(pool));
        let senders = by_pool.chain(self.by_member.get(member)).flatten();
        let mut found = Vec::new();
        for sender in senders {
            let of_family = |own: &IpAddr| own.is_ipv6() == address.is_ipv6();
            for frontend in sender.frontend.addresses().filter(of_family) {
                let stretch = Stretch {
                    first: *sender.backend.start(),
                    last: *sender.backend.end(),
                    frontend,
                    frontend_first: sender.first,
                };
                // Whoever cannot be told leaves nobody alone.
                let times = if sender.is_told { 1 } else { 2 };
                found.extend(std::iter::repeat_n(stretch, times));
            }
        }
        found
    }
}

/// The parts of stretches that no other stretch shares.
fn unshared(mut stretches: Vec<Stretch>) -> Vec<Stretch> {
    stretches.sort_by_key(|stretch| (stretch.first, stretch.last));
    let mut borders: Vec<u32> = stretches
        .iter()
        .flat_map(|s| [u32::from(s.first), u32::from(s.last) + 1])
        .collect();
    borders.sort_unstable();
    borders.dedup();
    let mut alone = Vec::new();
    let (mut next, mut open) = (0, Vec::<usize>::new());
    for border in borders.windows(2) {
        let [begin, end] = [border[0], border[1]];
        open.retain(|index| u32::from(stretches[*index].last) >= begin);
        while next < stretches.len() && u32::from(stretches[next].first) == begin {
            open.push(next);
            next += 1;
        }
        if let [only] = open[..] {
            let stretch = &stretches[only];
            alone.push(Stretch {
                first: begin as u16,
                last: (end - 1) as u16,
                frontend: stretch.frontend,
                frontend_first: stretch
                    .frontend_first
                    .wrapping_add(begin as u16 - stretch.first),
            });
        }
    }
    alone
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stretch(first: u16, last: u16, number: u8) -> Stretch {
        Stretch {
            first,
            last,
            frontend: IpAddr::from([203, 0, 113, number]),
            frontend_first: first / 2,
        }
    }

    #[test]
    fn what_two_share_belongs_to_neither() {
        let found = unshared(vec![stretch(10, 20, 1), stretch(15, 30, 2)]);
        assert_eq!(found[0], stretch(10, 14, 1));
        assert_eq!((found[1].first, found[1].last), (21, 30));
        assert_eq!(found[1].frontend_first, 7 + 6, "the offset is kept");
        assert!(unshared(vec![stretch(8, 8, 1), stretch(8, 8, 2)]).is_empty());
    }

    proptest! {
        #[test]
        fn a_port_is_known_just_where_one_stretch_has_it(
            pairs in prop::collection::vec((0u16..200, 0u16..50), 0..8),
        ) {
            let all: Vec<Stretch> = pairs
                .iter()
                .enumerate()
                .map(|(number, (first, more))| stretch(*first, first + more, number as u8))
                .collect();
            let found = unshared(all.clone());
            for port in 0..300u16 {
                let has = |s: &&Stretch| (s.first..=s.last).contains(&port);
                let of_all: Vec<&Stretch> = all.iter().filter(has).collect();
                let known: Vec<&Stretch> = found.iter().filter(has).collect();
                let expected = if of_all.len() == 1 { &of_all[..] } else { &[] };
                prop_assert_eq!(known.len(), expected.len());
                for (known, expected) in known.iter().zip(expected) {
                    prop_assert_eq!(known.frontend, expected.frontend);
                    let to = |s: &Stretch| s.frontend_first.wrapping_add(port - s.first);
                    prop_assert_eq!(to(known), to(expected));
                }
            }
        }
    }
}
