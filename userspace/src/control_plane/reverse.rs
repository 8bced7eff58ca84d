//! Replies that are known without a flow: an instance's TCP port that has the flows of one frontend's port
//! only can send nothing but their replies. So a node without the flow still knows what they become.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use forebay_common::abi::{MAX_REVERSE, Reverse};
use forebay_common::ports;

use super::ids::Bits;
use super::state::TableState;
use crate::config::model::{
    Config, Forwarding, Frontend, MemberRef, NatTarget, Pool, Ports, Protocol,
};

/// Ports of an instance's address that a rule sends to, and the first frontend port of them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stretch {
    first: u16,
    last: u16,
    frontend: IpAddr,
    frontend_first: u16,
}

/// Adds what can be known of a configuration. Nothing can while outsiders reach instances directly: those
/// connections have the same replies.
pub(super) fn add(config: &Config, state: &mut TableState) {
    if config.node.allow_direct {
        return;
    }
    for (address, stretches) in stretches(config) {
        for stretch in unshared(stretches) {
            let offset = stretch.frontend_first.wrapping_sub(stretch.first);
            for (port, bits) in ports::prefixes(stretch.first, stretch.last) {
                match (Bits::from(address), Bits::from(stretch.frontend)) {
                    (Bits::V4(address), Bits::V4(frontend)) => {
                        insert(
                            &mut state.v4.reverse,
                            (address, port, bits),
                            frontend,
                            offset,
                        );
                    }
                    (Bits::V6(address), Bits::V6(frontend)) => {
                        insert(
                            &mut state.v6.reverse,
                            (address, port, bits),
                            frontend,
                            offset,
                        );
                    }
                    _ => {}
                }
            }
        }
    }
}

/// What does not fit is done without: those flows have both their keys in the tables anyway.
fn insert<A: Ord>(
    known: &mut BTreeMap<(A, u16, u32), Reverse<A>>,
    key: (A, u16, u32),
    frontend: A,
    port_offset: u16,
) {
    if known.len() < MAX_REVERSE as usize {
        let padding = [0; 3];
        known.insert(
            key,
            Reverse {
                frontend,
                port_offset,
                padding,
            },
        );
    }
}

/// Where rules send to, by instance's address. An IP configuration with a public IP may send anything, and a
/// rule for every port leaves nothing to tell its flows by.
fn stretches(config: &Config) -> HashMap<IpAddr, Vec<Stretch>> {
    let frontends: HashMap<&str, _> = config.frontends.iter().map(|f| (&*f.name, f)).collect();
    let pools: HashMap<&str, _> = config.pools.iter().map(|p| (&*p.name, p)).collect();
    let targets = targets(config);
    let mut found = HashMap::<IpAddr, Vec<Stretch>>::new();
    for rule in &config.rules {
        let is_told = rule.protocol != Protocol::Udp && rule.forwarding == Forwarding::Nat;
        let (Some(frontend), Some(pool)) = (frontends.get(&*rule.frontend), pools.get(&*rule.pool))
        else {
            continue;
        };
        if !is_told {
            continue;
        }
        let ports = rule.port.range();
        let backend = rule.port.backend_range(rule.backend_port);
        let is_every = rule.port == Ports::Every;
        for address in pool
            .members
            .iter()
            .flat_map(|m| targets.get(&m.target))
            .flatten()
        {
            for own in frontend
                .addresses()
                .filter(|own| own.is_ipv6() == address.is_ipv6())
            {
                let stretch = Stretch {
                    first: *backend.start(),
                    last: *backend.end(),
                    frontend: own,
                    frontend_first: *ports.start(),
                };
                let known = found.entry(*address).or_default();
                // Whatever else is on a port that everything goes to, it is not alone there.
                if is_every {
                    known.push(stretch.clone());
                }
                known.push(stretch);
            }
        }
    }
    add_inbound_nat(config, &frontends, &pools, &targets, &mut found);
    found
}

/// Adds where inbound NAT rules send to. Which port of the pool form is a member's is not looked into: its
/// replies are nobody's alone.
fn add_inbound_nat(
    config: &Config,
    frontends: &HashMap<&str, &Frontend>,
    pools: &HashMap<&str, &Pool>,
    targets: &HashMap<MemberRef, Vec<IpAddr>>,
    found: &mut HashMap<IpAddr, Vec<Stretch>>,
) {
    let rules = config.inbound_nat_rules.iter();
    for rule in rules.filter(|rule| rule.protocol != Protocol::Udp) {
        let Some(frontend) = frontends.get(&*rule.frontend) else {
            continue;
        };
        let (members, times) = match &rule.target {
            NatTarget::Instance(member) => (vec![member], 1),
            NatTarget::Pool(pool) => {
                let pool = pools.get(&**pool).into_iter();
                (
                    pool.flat_map(|p| &p.members).map(|m| &m.target).collect(),
                    2,
                )
            }
        };
        let ports = rule.port.range();
        let backend = match rule.backend_port {
            Some(port) => port..=port,
            None => ports.clone(),
        };
        for address in members
            .iter()
            .filter_map(|member| targets.get(*member))
            .flatten()
        {
            for own in frontend
                .addresses()
                .filter(|own| own.is_ipv6() == address.is_ipv6())
            {
                let stretch = Stretch {
                    first: *backend.start(),
                    last: *backend.end(),
                    frontend: own,
                    frontend_first: *ports.start(),
                };
                let known = found.entry(*address).or_default();
                known.extend(std::iter::repeat_n(stretch, times));
            }
        }
    }
}

/// Private addresses of the IP configurations without a public IP.
fn targets(config: &Config) -> HashMap<MemberRef, Vec<IpAddr>> {
    let of_all = config.instances.iter().flat_map(|instance| {
        instance.ip_configs.iter().filter_map(|ip_config| {
            let name = MemberRef {
                instance: instance.name.clone(),
                ip_config: ip_config.name.clone(),
            };
            ip_config
                .public_ip
                .is_none()
                .then(|| (name, ip_config.addresses().collect()))
        })
    });
    of_all.collect()
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
