//! Who is who in every measurement: one frontend, four backends, clients by the hundred thousand.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use forebay_common::abi::names;
use forebay_common::family::{Family, V4, V6};
use forebay_common::flow::FlowKey;
use forebay_common::wire::{Mac, TCP, UDP};

use crate::frame::{Headers, Written};
use crate::shared::{BACKENDS, Expectation, Plan, client_of};

/// Port of the rule.
pub(crate) const PORT: u16 = 80;
/// Port it leads to.
pub(crate) const BACKEND_PORT: u16 = 8080;
/// A port of the frontend without a rule.
pub(crate) const CLOSED_PORT: u16 = 81;

/// First addresses (low words) of groups of clients that do not overlap.
pub(crate) mod clients {
    /// Their flows are in the tables beforehand.
    pub(crate) const KNOWN: u32 = 0x6440_0001;
    /// Their flows are new.
    pub(crate) const NEW: u32 = 0x6450_0001;
    /// They have nothing to do with us.
    pub(crate) const STRANGERS: u32 = 0x6460_0001;
}

/// A locally administered MAC address.
pub(crate) const fn mac(last: u8) -> Mac {
    Mac::from_octets([0x02, 0xbe, 0x9c, 0, 0, last])
}

/// A MAC address for other programs.
pub(crate) fn written(mac: Mac) -> String {
    mac.octets().map(|octet| format!("{octet:02x}")).join(":")
}

/// A family as the bench sees it.
pub(crate) trait Net: Family + Written + std::hash::Hash + Send + Sync {
    /// In names of cases.
    const LABEL: &'static str;
    /// The frontend.
    const FRONTEND: Self;
    /// Neither frontend nor instance.
    const STRANGER: Self;
    /// First half of clients' IPv6 addresses.
    const CLIENT_PREFIX: u64;
    /// What the last words of backends' addresses have in common, and the frontend's has not.
    const BACKENDS: Expectation;
    /// A backend, from 0.
    fn backend(index: usize) -> Self;
    /// A client, by the low word of its address.
    fn client(word: u32) -> Self;
    /// The last 32 bits, raw.
    fn low_word(self) -> u32;
    /// For people and programs.
    fn ip(self) -> IpAddr;
    /// Maps of the product.
    const MAPS: Maps;
    /// Maps and programs of the bench.
    const BENCH: BenchNames;
}

/// Names of a family's maps in the product.
pub(crate) struct Maps {
    pub(crate) flows: &'static str,
    pub(crate) untrusted: &'static str,
    pub(crate) addresses: &'static str,
    pub(crate) backends: &'static str,
}

/// Names of a family's maps and programs in the bench's object.
pub(crate) struct BenchNames {
    pub(crate) translations: &'static str,
    pub(crate) service: &'static str,
    pub(crate) parse: &'static str,
    pub(crate) lookup: &'static str,
    pub(crate) minimal: &'static str,
    pub(crate) drive_tcp: &'static str,
    pub(crate) drive_udp: &'static str,
    pub(crate) generate: &'static str,
}

const fn v6(segments: [u16; 8]) -> V6 {
    let [a, b, c, d, e, f, g, h] = segments;
    let bits = Ipv6Addr::new(a, b, c, d, e, f, g, h).to_bits();
    V6([((bits >> 64) as u64).to_be(), (bits as u64).to_be()])
}

const fn v4(octets: [u8; 4]) -> V4 {
    V4(u32::from_ne_bytes(octets))
}

impl Net for V4 {
    const LABEL: &'static str = "v4";
    const FRONTEND: Self = v4([203, 0, 113, 10]);
    const STRANGER: Self = v4([198, 51, 100, 77]);
    const CLIENT_PREFIX: u64 = 0;
    const BACKENDS: Expectation = Expectation {
        mask: v4([255, 255, 255, 0]).0,
        value: v4([10, 99, 2, 0]).0,
    };

    fn backend(index: usize) -> Self {
        v4([10, 99, 2, 11 + index as u8])
    }

    fn client(word: u32) -> Self {
        V4(word.to_be())
    }

    fn low_word(self) -> u32 {
        self.0
    }

    fn ip(self) -> IpAddr {
        Ipv4Addr::from(self).into()
    }

    const MAPS: Maps = Maps {
        flows: names::FLOWS4,
        untrusted: names::UNTRUSTED4,
        addresses: names::ADDRESSES4,
        backends: names::BACKENDS4,
    };
    const BENCH: BenchNames = BenchNames {
        translations: "TRANSLATIONS4",
        service: "MINIMAL4",
        parse: "parse4",
        lookup: "lookup4",
        minimal: "minimal4",
        drive_tcp: "drive_tcp4",
        drive_udp: "drive_udp4",
        generate: "generate_udp4",
    };
}

impl Net for V6 {
    const LABEL: &'static str = "v6";
    const FRONTEND: Self = v6([0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x10]);
    const STRANGER: Self = v6([0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 0x77]);
    const CLIENT_PREFIX: u64 = v6([0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 0]).0[0];
    const BACKENDS: Expectation = Expectation {
        mask: 0xffff_0000_u32.to_be(),
        value: 0x0001_0000_u32.to_be(),
    };

    fn backend(index: usize) -> Self {
        v6([0xfd00, 0x99, 2, 0, 0, 0, 1, 0x11 + index as u16])
    }

    fn client(word: u32) -> Self {
        V6([Self::CLIENT_PREFIX, u64::from(word.to_be()) << 32])
    }

    fn low_word(self) -> u32 {
        (self.0[1] >> 32) as u32
    }

    fn ip(self) -> IpAddr {
        Ipv6Addr::from(self).into()
    }

    const MAPS: Maps = Maps {
        flows: names::FLOWS6,
        untrusted: names::UNTRUSTED6,
        addresses: names::ADDRESSES6,
        backends: names::BACKENDS6,
    };
    const BENCH: BenchNames = BenchNames {
        translations: "TRANSLATIONS6",
        service: "MINIMAL6",
        parse: "parse6",
        lookup: "lookup6",
        minimal: "minimal6",
        drive_tcp: "drive_tcp6",
        drive_udp: "drive_udp6",
        generate: "generate_udp6",
    };
}

/// All backends.
pub(crate) fn backends<A: Net>() -> [A; BACKENDS] {
    std::array::from_fn(A::backend)
}

/// Packets that a driver writes, one flow after the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Course<A> {
    /// TCP or UDP.
    pub(crate) protocol: u8,
    /// From the peer to clients rather than from clients to the peer.
    pub(crate) is_reply: bool,
    /// Low word of the first client's address.
    pub(crate) first_client: u32,
    /// The other side.
    pub(crate) peer: A,
    /// Its port.
    pub(crate) peer_port: u16,
    /// How many flows; a power of two.
    pub(crate) flows: u64,
    /// Destination MAC address.
    pub(crate) to: Mac,
    /// Source MAC address.
    pub(crate) from: Mac,
}

impl<A: Net> Course<A> {
    /// From known clients to the rule, TCP.
    pub(crate) fn known(flows: u64) -> Self {
        Self {
            protocol: TCP,
            is_reply: false,
            first_client: clients::KNOWN,
            peer: A::FRONTEND,
            peer_port: PORT,
            flows,
            to: mac(1),
            from: mac(2),
        }
    }

    /// The same flows' answers.
    pub(crate) fn replies(self) -> Self {
        Self {
            is_reply: true,
            peer: A::backend(0),
            peer_port: BACKEND_PORT,
            ..self
        }
    }

    /// The same with UDP.
    pub(crate) fn udp(self) -> Self {
        Self {
            protocol: UDP,
            ..self
        }
    }

    /// Key of a flow, as its packets in this course have it.
    pub(crate) fn key(&self, flow: u64) -> FlowKey<A> {
        let (host, port) = client_of(flow);
        let client = A::client(self.first_client.wrapping_add(host));
        let protocol = u32::from(self.protocol);
        let to_peer = FlowKey {
            source: client,
            destination: self.peer,
            ports: FlowKey::<A>::ports_word(port, self.peer_port),
            protocol,
        };
        if self.is_reply {
            to_peer.reversed()
        } else {
            to_peer
        }
    }

    /// Headers of a flow's packet.
    pub(crate) fn headers(&self, flow: u64) -> Headers<A> {
        let key = self.key(flow);
        Headers {
            to: self.to,
            from: self.from,
            source: key.source,
            destination: key.destination,
            ports: key.ports,
            protocol: self.protocol,
            hops: 64,
        }
    }

    /// What the driver needs to know.
    pub(crate) fn plan(&self) -> Plan {
        let mask = self.flows - 1;
        // Sums of what all packets have in common: the client's low word and the ports are missing.
        let mut common = self.headers(0);
        common.ports = 0;
        let nobody = A::client(0);
        if self.is_reply {
            common.destination = nobody;
        } else {
            common.source = nobody;
        }
        let sums = common.sums();
        let (peer, more) = self.peer.words();
        Plan {
            counter: 0,
            mask,
            shift: mask.count_ones().div_ceil(2),
            is_reply: u32::from(self.is_reply),
            peer: [peer, more.unwrap_or(0)],
            client_prefix: A::CLIENT_PREFIX,
            first_client: self.first_client,
            peer_port: u32::from(self.peer_port.to_be()),
            ip_sum: sums.ip,
            transport_sum: sums.transport,
            to_head: self.to.head,
            from_head: self.from.head,
            to_tail: self.to.tail,
            from_tail: self.from.tail,
            padding: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use forebay_common::balance::filter;

    use super::*;
    use crate::shared::flow_of;

    #[test]
    fn every_flow_gets_its_turn() {
        for flows in [1_u64, 2, 8192, 1 << 18] {
            let plan = Course::<V4>::known(flows).plan();
            let seen: HashSet<u64> = (0..flows)
                .map(|number| flow_of(number, plan.mask, plan.shift))
                .collect();
            assert_eq!(seen.len() as u64, flows);
            assert!(seen.iter().all(|flow| *flow < flows));
        }
    }

    #[test]
    fn flows_have_keys_of_their_own() {
        let course = Course::<V6>::known(1 << 17);
        let keys: HashSet<_> = (0..course.flows).map(|flow| course.key(flow)).collect();
        assert_eq!(keys.len() as u64, course.flows);
    }

    /// Else "not ours" would not measure what it says.
    #[test]
    fn strangers_are_told_from_our_addresses_by_the_filter() {
        fn check<A: Net>() {
            let mut known = vec![filter::bit(A::FRONTEND)];
            known.extend(backends::<A>().map(filter::bit));
            assert!(!known.contains(&filter::bit(A::STRANGER)));
            for host in 0..8 {
                let client = A::client(clients::STRANGERS + host);
                assert!(!known.contains(&filter::bit(client)), "{}", client.ip());
            }
        }
        check::<V4>();
        check::<V6>();
    }

    #[test]
    fn answers_have_the_key_under_which_the_flow_is_found_from_the_other_side() {
        let course = Course::<V4>::known(8);
        let (there, back) = (course.key(5), course.replies().key(5));
        assert_eq!(back.destination, there.source);
        assert_eq!(back.destination_port(), there.source_port());
        assert_eq!(back.source, V4::backend(0));
        assert_eq!(back.source_port(), BACKEND_PORT);
    }
}
