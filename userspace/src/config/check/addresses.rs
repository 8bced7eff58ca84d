//! Two things with one address.

use ipnet::IpNet;
use std::net::IpAddr;

use super::Check;
use crate::config::place::{Place, Spot};

/// Somebody's address or prefix.
struct Claim {
    net: IpNet,
    owner: String,
    spot: Spot,
}

pub(super) fn check(check: &Check<'_>) {
    let mut claims = claims(check);
    claims.sort_by_key(|claim| (claim.net.network(), claim.net.prefix_len()));
    let mut claims = claims.into_iter();
    let Some(mut widest) = claims.next() else {
        return;
    };
    for claim in claims {
        if !widest.net.contains(&claim.net) {
            widest = claim;
            continue;
        }
        let (earlier, later) = if claim.spot.line < widest.spot.line {
            (&claim, &widest)
        } else {
            (&widest, &claim)
        };
        let message = format!(
            "{} has {} already (line {})",
            earlier.owner,
            written(earlier.net),
            earlier.spot.line
        );
        let expected = "an address that nothing else has";
        check.source.error(later.spot.clone(), expected, message);
    }
}

fn claims(check: &Check<'_>) -> Vec<Claim> {
    let draft = check.draft;
    let mut claims = Vec::new();
    let mut claim = |net: Option<IpNet>, owner: &str, place: &Place, key: &str| {
        claims.extend(net.map(|net| Claim {
            net,
            owner: owner.to_owned(),
            spot: place.at(key),
        }));
    };
    let node = &draft.node;
    claim(
        node.value.full_nat_ipv4.map(host),
        "node.full_nat_ipv4",
        &node.place,
        "full_nat_ipv4",
    );
    claim(
        node.value.full_nat_ipv6.map(host),
        "node.full_nat_ipv6",
        &node.place,
        "full_nat_ipv6",
    );
    for frontend in &draft.frontends {
        let (value, place) = (&frontend.value, &frontend.place);
        claim(value.ipv4.map(IpNet::V4), &place.path, place, "ipv4");
        claim(value.ipv6.map(IpNet::V6), &place.path, place, "ipv6");
    }
    for public_ip in &draft.public_ips {
        let (value, place) = (&public_ip.value, &public_ip.place);
        claim(value.ipv4.map(host), &place.path, place, "ipv4");
        claim(value.ipv6.map(host), &place.path, place, "ipv6");
    }
    for instance in &draft.instances {
        for (ip_config, place) in instance.value.ip_configs.iter().zip(&instance.parts) {
            let owner = format!("{}/{}", instance.value.name, ip_config.name);
            claim(ip_config.ipv4.map(host), &owner, place, "ipv4");
            claim(ip_config.ipv6.map(host), &owner, place, "ipv6");
        }
    }
    claims
}

fn host(address: impl Into<IpAddr>) -> IpNet {
    IpNet::from(address.into())
}

fn written(net: IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() {
        net.addr().to_string()
    } else {
        net.to_string()
    }
}
