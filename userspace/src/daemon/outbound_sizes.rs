//! What the tables of ways out take.

use forebay_common::abi::{
    MAX_PUBLIC_IPS, MAX_SNAT_RANGES, MAX_WAYS, POSITIONS, Position, PublicIp, SnatRange, Way,
    WayCounters, WayKey,
};
use forebay_common::family::{V4, V6};

use crate::api::TableSize;
use crate::config::model::Config;

/// Of a bucket of a hash in the kernel.
const BUCKET: u64 = 16;
/// Of an element besides key and value.
const ELEMENT: u64 = 48;
/// TCP, UDP, ICMP.
const PROTOCOLS: u64 = 3;

/// The tables by which instances reach the outside, as the kernel allocates them.
pub(super) fn sizes(config: &Config) -> [TableSize; 3] {
    let size = |name: &str, entries: u64, bytes: u64| TableSize {
        name: name.to_owned(),
        entries,
        bytes,
    };
    let private = config.instances.iter().flat_map(|i| &i.ip_configs);
    let private = private.flat_map(|one| one.addresses()).count() as u64;
    let public = config.frontends.iter().flat_map(|f| f.addresses()).count() as u64;
    let ways = (private + public) * PROTOCOLS;
    let way = size_of::<[WayKey<V6>; 2]>() + size_of::<Way>() + size_of::<WayCounters<V6>>();
    let ranges = size_of::<SnatRange<V4>>().next_multiple_of(8) + size_of::<SnatRange<V6>>();
    let public_ips = config.public_ips.len() as u64 * 2;
    let public_ip = size_of::<V6>() + size_of::<PublicIp<V6>>();
    [
        size(
            "ways",
            ways,
            u64::from(MAX_WAYS) * BUCKET * 4 + ways * (2 * ELEMENT + way as u64),
        ),
        size(
            "snat-ranges",
            u64::from(MAX_SNAT_RANGES) * 2,
            u64::from(MAX_SNAT_RANGES) * ranges as u64
                + u64::from(POSITIONS) * size_of::<Position>() as u64,
        ),
        size(
            "public-ips",
            public_ips,
            u64::from(2 * MAX_PUBLIC_IPS) * BUCKET * 2 + public_ips * (ELEMENT + public_ip as u64),
        ),
    ]
}
