//! Who goes out by the same method, with as many ports.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use forebay_common::family::{V4, V6};
use forebay_common::wire::{TCP, UDP};

use super::{Side, Store};
use crate::config::model::{Config, IpConfig, MemberRef, OutboundRule, Protocol};
use crate::config::snat::{self, BLOCK, Family, Origin, Share};
use crate::control_plane::state::TableState;

/// By which method.
#[derive(Debug, Clone, Copy)]
pub(super) enum Method<'c> {
    /// An outbound rule.
    Rule(&'c OutboundRule),
    /// A load-balancing rule implies it.
    Implied,
    /// `[default_outbound]`
    Default,
}

/// Sources with the same method.
#[derive(Debug, Clone)]
pub(super) struct Group<'c, A> {
    pub(super) method: Method<'c>,
    /// Which of several methods of one source counts: the first.
    origin: Origin,
    protocol: Protocol,
    /// Private addresses.
    pub(super) sources: Vec<A>,
    /// Positions of the addresses that they may use.
    pub(super) stores: Vec<usize>,
    /// How many blocks each is promised.
    pub(super) blocks: u32,
}

impl<A> Group<'_, A> {
    /// Whether its sources may use what nobody reserved.
    pub(super) fn has_burst(&self) -> bool {
        match self.method {
            Method::Rule(rule) => rule.burst,
            Method::Implied | Method::Default => true,
        }
    }

    /// Whether it serves those who are no instances, too.
    pub(super) fn is_default(&self) -> bool {
        matches!(self.method, Method::Default)
    }
}

/// Whether a rule for this protocol is for packets of that number.
fn covers(protocol: Protocol, number: u8) -> bool {
    match protocol {
        Protocol::All => true,
        Protocol::Tcp => number == TCP,
        Protocol::Udp => number == UDP,
    }
}

/// The groups of a family, in the order in which they choose.
pub(super) fn groups<'c, A: Side>(
    config: &'c Config,
    plan: &snat::Plan,
    stores: &[Store<A>],
) -> Vec<Group<'c, A>> {
    let addresses = Addresses::of(config);
    let position: BTreeMap<A, usize> = (stores.iter().map(|store| store.address))
        .zip(0..)
        .collect();
    let shares = plan.shares.iter();
    let shares = shares.filter(|share| share.family == A::FAMILY);
    let groups = shares.filter_map(|share| {
        let method = match share.origin {
            Origin::OutboundRule(at) => Method::Rule(config.outbound_rules.get(at)?),
            Origin::Rule(_) => Method::Implied,
            Origin::DefaultOutbound => Method::Default,
        };
        let used = frontend_addresses(config, share).filter_map(A::of);
        let used: BTreeSet<usize> = used.filter_map(|a| position.get(&a).copied()).collect();
        Some(Group {
            method,
            origin: share.origin,
            protocol: share.protocol,
            sources: addresses.of_share(share).filter_map(A::of).collect(),
            stores: used.into_iter().collect(),
            blocks: share.ports.div_ceil(BLOCK),
        })
    });
    groups.collect()
}

/// The groups that have ways over a protocol, each source in one of them.
pub(super) fn of_protocol<'c, A: Side>(groups: &[Group<'c, A>], protocol: u8) -> Vec<Group<'c, A>> {
    let mut groups: Vec<_> = groups.to_vec();
    groups.retain(|group| covers(group.protocol, protocol));
    let mut first: BTreeMap<A, Origin> = BTreeMap::new();
    for group in &groups {
        for source in &group.sources {
            let origin = first.entry(*source).or_insert(group.origin);
            *origin = group.origin.min(*origin);
        }
    }
    for group in &mut groups {
        let origin = group.origin;
        group
            .sources
            .retain(|source| first.get(source) == Some(&origin));
    }
    groups.retain(|group| group.is_default() || !group.sources.is_empty());
    groups
}

fn frontend_addresses<'c>(
    config: &'c Config,
    share: &'c Share,
) -> impl Iterator<Item = IpAddr> + 'c {
    let frontends = config.frontends.iter();
    let used = frontends.filter(|frontend| share.frontends.contains(&frontend.name));
    used.flat_map(|frontend| frontend.every_address())
        .filter(|address| address.is_ipv6() == (share.family == Family::V6))
}

/// Every public address with ports that somebody goes out by.
pub(in crate::control_plane) fn snat_addresses(config: &Config) -> BTreeSet<IpAddr> {
    let plan = snat::plan(config);
    let used = plan
        .shares
        .iter()
        .filter(|share| !share.ip_configs.is_empty() || share.origin == Origin::DefaultOutbound);
    used.flat_map(|share| frontend_addresses(config, share))
        .collect()
}

/// Private addresses by name.
struct Addresses<'c>(HashMap<(&'c str, &'c str), &'c IpConfig>);

impl<'c> Addresses<'c> {
    fn of(config: &'c Config) -> Self {
        let all = config.instances.iter().flat_map(|instance| {
            let each = instance.ip_configs.iter();
            each.map(|one| ((instance.name.as_str(), one.name.as_str()), one))
        });
        Self(all.collect())
    }

    fn of_share<'s>(&'s self, share: &'s Share) -> impl Iterator<Item = IpAddr> + 's {
        let each = share.ip_configs.iter();
        each.filter_map(move |member: &MemberRef| {
            let names = (member.instance.as_str(), member.ip_config.as_str());
            let ip_config = self.0.get(&names)?;
            match share.family {
                Family::V4 => ip_config.ipv4.map(IpAddr::V4),
                Family::V6 => ip_config.ipv6.map(IpAddr::V6),
            }
        })
    }
}

/// What keeps outbound rules apart from others of their name. No name has a slash.
const OUTBOUND: &str = "outbound_rule/";

/// By what an outbound rule's id is found.
pub(in crate::control_plane) fn rule_key(name: &str) -> String {
    format!("{OUTBOUND}{name}")
}

/// The name of the outbound rule that is found by this.
pub(in crate::control_plane) fn rule_of_key(key: &str) -> Option<&str> {
    key.strip_prefix(OUTBOUND)
}

/// The ids of outbound rules as the ways of a former daemon have them. Ways do not name their rule: it is taken
/// for that of most of its sources.
pub(in crate::control_plane) fn former_rules(
    config: &Config,
    tables: &TableState,
) -> Vec<(String, u32)> {
    let plan = snat::plan(config);
    let mut votes: BTreeMap<(u32, String), u32> = BTreeMap::new();
    vote::<V4>(config, &plan, tables, &mut votes);
    vote::<V6>(config, &plan, tables, &mut votes);
    let mut found: Vec<_> = votes.into_iter().collect();
    found.sort_by_key(|(_, votes)| std::cmp::Reverse(*votes));
    let found = found.into_iter();
    found.map(|((id, name), _)| (rule_key(&name), id)).collect()
}

fn vote<A: Side>(
    config: &Config,
    plan: &snat::Plan,
    tables: &TableState,
    votes: &mut BTreeMap<(u32, String), u32>,
) {
    let mut names: HashMap<(IpAddr, u32), &str> = HashMap::new();
    let groups = groups::<A>(config, plan, &[]);
    for protocol in [TCP, UDP, A::ICMP] {
        for group in of_protocol(&groups, protocol) {
            if let Method::Rule(rule) = group.method {
                let sources = group.sources.into_iter();
                names.extend(sources.map(|s| ((s.into(), protocol.into()), rule.name.as_str())));
            }
        }
    }
    for (key, way) in A::tables(tables)
        .ways
        .iter()
        .filter(|(_, way)| way.rule != 0)
    {
        if let Some(name) = names.get(&(key.source.into(), key.protocol)) {
            *votes.entry((way.rule, (*name).to_owned())).or_default() += 1;
        }
    }
}
