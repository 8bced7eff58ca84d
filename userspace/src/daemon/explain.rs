//! `explain` with what the tables of this node hold.

use std::net::IpAddr;

use anyhow::{Context, Result};
use forebay_common::abi::{PortKey, Rule, Way, WayKey};
use forebay_common::family::{V4, V6};
use forebay_common::flow::FlowKey;

use super::Daemon;
use crate::api::{self, Question};
use crate::control_plane::FamilyState;
use crate::dataplane::FlowFamily;
use crate::explain::{self, Snapshot};

impl Daemon {
    pub(super) async fn explain(&self, question: &Question) -> Result<api::Explanation> {
        let config = self
            .control_plane
            .config()
            .context("no configuration is in force yet")?;
        let mut snapshot = Snapshot {
            tables: self.control_plane.applied(),
            config,
            ids: self.control_plane.ids(),
            host: self.control_plane.host(),
            now: self.clock.now(),
            flows4: Vec::new(),
            flows6: Vec::new(),
        };
        let flows = self.flows();
        match (question.source, question.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let key = key(question, V4::from(source), V4::from(destination));
                snapshot.flows4 = self.flows_near(&flows.v4, key, &snapshot.tables.v4)?;
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let key = key(question, V6::from(source), V6::from(destination));
                snapshot.flows6 = self.flows_near(&flows.v6, key, &snapshot.tables.v6)?;
            }
            _ => {}
        }
        let (first, asked) = explain::run(question, &snapshot, None)?;
        let Some(asked) = asked else { return Ok(first) };
        let ingress = explain::inbound(question, snapshot.host)?;
        let way = self
            .netlink
            .way(asked.source, asked.destination, Some(ingress.ifindex))
            .await?;
        Ok(explain::run(question, &snapshot, Some(&way))?.0)
    }

    /// The flow of a packet, the mappings of its ends, and whoever holds the reply tuples that it could want.
    fn flows_near<A: FlowFamily>(
        &self,
        table: &crate::dataplane::FlowTable<A>,
        key: FlowKey<A>,
        family: &FamilyState<A>,
    ) -> Result<Vec<(FlowKey<A>, forebay_common::flow::Flow<A>)>>
    where
        FlowKey<A>: crate::dataplane::Plain,
        forebay_common::flow::Flow<A>: crate::dataplane::Plain,
        forebay_common::abi::RetireBatch<A>: crate::dataplane::Plain,
        forebay_common::flow::UntrustedSet<A>: crate::dataplane::Plain,
    {
        let rule = family.addresses.get(&key.destination).and_then(|owner| {
            let port = PortKey::new(owner.id, key.protocol as u8, key.destination_port());
            self.control_plane.applied().rule_on(port)
        });
        let arrives = |rule: &Rule| {
            if rule.flags & Rule::FIXED_PORT != 0 {
                rule.port_offset
            } else {
                key.destination_port().wrapping_add(rule.port_offset)
            }
        };
        let replies = rule.map(arrives).into_iter().flat_map(|port| {
            family.backends.values().map(move |address| FlowKey {
                source: *address,
                destination: key.source,
                ports: FlowKey::<A>::ports_word(port, key.source_port()),
                protocol: key.protocol,
            })
        });
        let hash_key = self.control_plane.applied().settings.hash_key;
        let get = |key: &FlowKey<A>| match table.get(key)? {
            Some(flow) => Ok(Some(flow)),
            None => table.get_untrusted(hash_key, key),
        };
        let mut found = Vec::new();
        let snat = snat_keys(&key, family);
        for key in replies.chain([key]).chain(mapping_keys(&key)).chain(snat) {
            let Some(flow) = get(&key)? else {
                continue;
            };
            let other = flow.reply_key(key.protocol);
            found.push((key, flow));
            found.extend(get(&other)?.map(|flow| (other, flow)));
        }
        Ok(found)
    }
}

fn key<A>(question: &Question, source: A, destination: A) -> FlowKey<A>
where
    A: FlowFamily,
{
    let (source_port, destination_port) = explain::ports(question);
    FlowKey {
        source,
        destination,
        ports: FlowKey::<A>::ports_word(source_port, destination_port),
        protocol: question.protocol.into(),
    }
}

/// Under which keys the ports for everybody lie that a packet comes from or goes to, and who was contacted.
fn mapping_keys<A: FlowFamily>(key: &FlowKey<A>) -> [FlowKey<A>; 3] {
    let inside = FlowKey {
        destination: A::default(),
        ports: FlowKey::<A>::ports_word(key.source_port(), 0),
        ..*key
    };
    let contact = FlowKey {
        ports: FlowKey::<A>::ports_word(0, key.destination_port()),
        ..*key
    };
    let outside = FlowKey {
        source: A::default(),
        ..contact
    };
    [inside, outside, contact]
}

/// Under which keys the SNAT ports that a new flow may get are in use, the first of them.
fn snat_keys<A: FlowFamily + Ord>(
    key: &FlowKey<A>,
    family: &FamilyState<A>,
) -> impl Iterator<Item = FlowKey<A>> {
    /// Ports that are looked at: each costs a system call.
    const MOST: usize = 8192;
    let of = |source| family.ways.get(&WayKey::new(source, key.protocol));
    let goes_out = !family.addresses.contains_key(&key.destination);
    let way = of(key.source).or_else(|| of(A::default()));
    let way = way.copied().filter(|_| goes_out).unwrap_or_default();
    let own = way.first..way.first + way.ranges;
    let shared = way.burst_first..way.burst_first + way.burst_ranges;
    let ranges = own.chain(shared);
    let ranges = ranges.filter_map(|number| family.snat_ranges.get(&number));
    let is_independent = way.flags & Way::ENDPOINT_INDEPENDENT != 0;
    let (source, port) = match is_independent {
        true => (A::default(), 0),
        false => (key.destination, key.destination_port()),
    };
    let protocol = key.protocol;
    let keys = ranges.flat_map(move |range| {
        let ports = range.first..range.first.saturating_add(range.count);
        ports.map(move |snat| FlowKey {
            source,
            destination: range.address,
            ports: FlowKey::<A>::ports_word(port, snat),
            protocol,
        })
    });
    keys.take(MOST)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use forebay_common::abi::SnatRange;
    use forebay_common::wire::TCP;

    use super::*;

    fn v4(text: &str) -> V4 {
        text.parse::<Ipv4Addr>().unwrap().into()
    }

    fn family(flags: u32) -> FamilyState<V4> {
        let mut family = FamilyState::default();
        let way = Way {
            flags,
            first: 4,
            ranges: 1,
            ports: 8,
            burst_first: 7,
            burst_ranges: 1,
            burst_ports: 60_000,
            ..Way::default()
        };
        let key = WayKey::new(v4("10.0.1.1"), TCP.into());
        family.ways.insert(key, way);
        for (number, first, count) in [(4, 1024, 8), (7, 2048, 60_000)] {
            let range = SnatRange {
                address: v4("203.0.113.10"),
                first,
                count,
                before: 0,
            };
            family.snat_ranges.insert(number, range);
        }
        family
    }

    fn packet(source: &str) -> FlowKey<V4> {
        FlowKey {
            source: v4(source),
            destination: v4("198.51.100.7"),
            ports: FlowKey::<V4>::ports_word(40_000, 443),
            protocol: TCP.into(),
        }
    }

    #[test]
    fn own_ports_are_looked_at_first_and_not_too_many() {
        let keys: Vec<_> = snat_keys(&packet("10.0.1.1"), &family(0)).collect();
        assert_eq!(keys.len(), 8192);
        let ports: Vec<u16> = keys.iter().map(|key| key.destination_port()).collect();
        assert_eq!(
            ports[..9],
            [1024, 1025, 1026, 1027, 1028, 1029, 1030, 1031, 2048]
        );
        let answers = FlowKey {
            source: v4("198.51.100.7"),
            destination: v4("203.0.113.10"),
            ports: FlowKey::<V4>::ports_word(443, 1024),
            protocol: TCP.into(),
        };
        assert_eq!(keys[0], answers);
        let independent = family(Way::ENDPOINT_INDEPENDENT);
        let first = snat_keys(&packet("10.0.1.1"), &independent).next().unwrap();
        assert_eq!((first.source, first.source_port()), (V4::default(), 0));
    }

    #[test]
    fn who_has_no_way_has_no_ports() {
        assert_eq!(snat_keys(&packet("10.0.1.2"), &family(0)).count(), 0);
    }

    #[test]
    fn mappings_are_found_under_both_ends() {
        let [inside, outside, contact] = mapping_keys(&packet("10.0.1.1"));
        assert_eq!(
            (inside.source, inside.source_port()),
            (v4("10.0.1.1"), 40_000)
        );
        assert_eq!(
            (inside.destination, inside.destination_port()),
            (V4::default(), 0)
        );
        assert_eq!((outside.source, outside.source_port()), (V4::default(), 0));
        assert_eq!((contact.source, contact.source_port()), (v4("10.0.1.1"), 0));
        assert_eq!(outside.destination_port(), 443);
        assert_eq!(contact.destination_port(), 443);
    }
}
