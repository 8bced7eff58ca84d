//! Who is who in every measurement: one frontend, four backends, clients by the hundred thousand; and
//! instances that go out.

mod course;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use forebay_common::abi::names;
use forebay_common::family::{Family, V4, V6};
use forebay_common::wire::Mac;

pub(crate) use self::course::Course;
use crate::frame::Written;
use crate::shared::{BACKENDS, Bits};

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
    /// Known flows of instances go there.
    pub(crate) const OUTSIDE: u32 = 0x6470_0001;
    /// New flows of instances go there.
    pub(crate) const NEW_OUTSIDE: u32 = 0x6471_0001;
    /// Instances that go out.
    pub(crate) const INSTANCES: u32 = 0x6478_0001;
}

/// Port of an instance from which it goes out.
pub(crate) const INSTANCE_PORT: u16 = 40_000;
/// SNAT port of known flows.
pub(crate) const SNAT_PORT: u16 = 2_000;
/// Ports from which one instance opens flows to one destination: all that a driver has for an address.
pub(crate) const SOURCE_PORTS: u64 = 1 << 15;

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
    /// The public address of a public IP.
    const PUBLIC_IP: Self;
    /// The router's address on the side of the backends, as the path benchmark has it.
    const ROUTER: Self;
    /// First half of clients' IPv6 addresses.
    const CLIENT_PREFIX: u64;
    /// What the last words of backends' addresses have in common, and the frontend's has not.
    const BACKENDS: Bits;
    /// A backend, from 0.
    fn backend(index: usize) -> Self;
    /// A public address with SNAT ports, from 0.
    fn snat(index: u8) -> Self;
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
    pub(crate) ways: &'static str,
    pub(crate) way_counters: &'static str,
    pub(crate) snat_ranges: &'static str,
    pub(crate) public_ips: &'static str,
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
    pub(crate) drive_syn: &'static str,
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
    const PUBLIC_IP: Self = v4([203, 0, 113, 50]);
    const ROUTER: Self = v4([10, 99, 2, 1]);
    const CLIENT_PREFIX: u64 = 0;
    const BACKENDS: Bits = Bits {
        mask: v4([255, 255, 255, 0]).0,
        value: v4([10, 99, 2, 0]).0,
    };

    fn backend(index: usize) -> Self {
        v4([10, 99, 2, 11 + index as u8])
    }

    fn snat(index: u8) -> Self {
        v4([203, 0, 113, 64 + index])
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
        ways: names::WAYS4,
        way_counters: names::WAY_COUNTERS4,
        snat_ranges: names::SNAT_RANGES4,
        public_ips: names::PUBLIC_IPS4,
    };
    const BENCH: BenchNames = BenchNames {
        translations: "TRANSLATIONS4",
        service: "MINIMAL4",
        parse: "parse4",
        lookup: "lookup4",
        minimal: "minimal4",
        drive_tcp: "drive_tcp4",
        drive_udp: "drive_udp4",
        drive_syn: "drive_syn4",
        generate: "generate_udp4",
    };
}

impl Net for V6 {
    const LABEL: &'static str = "v6";
    const FRONTEND: Self = v6([0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x10]);
    const STRANGER: Self = v6([0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 0x77]);
    const PUBLIC_IP: Self = v6([0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x50]);
    const ROUTER: Self = v6([0xfd00, 0x99, 2, 0, 0, 0, 0, 1]);
    const CLIENT_PREFIX: u64 = v6([0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 0]).0[0];
    const BACKENDS: Bits = Bits {
        mask: 0xffff_0000_u32.to_be(),
        value: 0x0001_0000_u32.to_be(),
    };

    fn backend(index: usize) -> Self {
        v6([0xfd00, 0x99, 2, 0, 0, 0, 1, 0x11 + index as u16])
    }

    fn snat(index: u8) -> Self {
        v6([0x2001, 0xdb8, 0x113, 0, 0, 0, 1, 0x64 + u16::from(index)])
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
        ways: names::WAYS6,
        way_counters: names::WAY_COUNTERS6,
        snat_ranges: names::SNAT_RANGES6,
        public_ips: names::PUBLIC_IPS6,
    };
    const BENCH: BenchNames = BenchNames {
        translations: "TRANSLATIONS6",
        service: "MINIMAL6",
        parse: "parse6",
        lookup: "lookup6",
        minimal: "minimal6",
        drive_tcp: "drive_tcp6",
        drive_udp: "drive_udp6",
        drive_syn: "drive_syn6",
        generate: "generate_udp6",
    };
}

/// All backends.
pub(crate) fn backends<A: Net>() -> [A; BACKENDS] {
    std::array::from_fn(A::backend)
}

/// An instance that goes out, from 0.
pub(crate) fn instance<A: Net>(index: u8) -> A {
    A::client(clients::INSTANCES + u32::from(index))
}

/// What the last words of addresses outside have in common, in either family.
pub(crate) const OUTSIDE: Bits = Bits {
    mask: 0xfffe_0000_u32.to_be(),
    value: 0x6470_0000_u32.to_be(),
};

/// Where an instance's storms of new flows go.
pub(crate) fn destination<A: Net>() -> A {
    A::client(clients::NEW_OUTSIDE)
}

#[cfg(test)]
mod tests {
    use forebay_common::balance::filter;

    use super::*;

    /// Else "not ours" would not measure what it says.
    #[test]
    fn strangers_are_told_from_our_addresses_by_the_filter() {
        fn check<A: Net>() {
            let mut known = vec![filter::bit(A::FRONTEND)];
            known.extend(backends::<A>().map(filter::bit));
            known.push(filter::bit(A::PUBLIC_IP));
            for index in 0..16 {
                known.extend([
                    filter::bit(instance::<A>(index)),
                    filter::bit(A::snat(index)),
                ]);
            }
            assert!(!known.contains(&filter::bit(A::STRANGER)));
            for host in 0..8 {
                let client = A::client(clients::STRANGERS + host);
                assert!(!known.contains(&filter::bit(client)), "{}", client.ip());
            }
        }
        check::<V4>();
        check::<V6>();
    }
}
