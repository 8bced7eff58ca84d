//! References to what does not exist, and things that are used twice but belong to one.

use std::collections::HashMap;

use super::Check;
use crate::config::model::{IpConfig, MemberRef, NatTarget, Pool};
use crate::config::place::{Place, Placed, Spot};
use crate::config::values::text;

pub(super) fn check(check: &Check<'_>) {
    instances(check);
    for pool in &check.draft.pools {
        members(check, pool);
    }
    for rule in &check.draft.rules {
        refer(
            check,
            "frontend",
            &rule.value.frontend,
            rule.place.at("frontend"),
        );
        refer(check, "pool", &rule.value.pool, rule.place.at("pool"));
        if let Some(probe) = &rule.value.probe {
            refer(check, "probe", probe, rule.place.at("probe"));
        }
    }
    for rule in &check.draft.inbound_nat_rules {
        refer(
            check,
            "frontend",
            &rule.value.frontend,
            rule.place.at("frontend"),
        );
        match &rule.value.target {
            NatTarget::Pool(pool) => refer(check, "pool", pool, rule.place.at("pool")),
            NatTarget::Instance(target) => member(check, target, rule.place.at("instance")),
        }
    }
    for rule in &check.draft.outbound_rules {
        refer(check, "pool", &rule.value.pool, rule.place.at("pool"));
        frontends(check, &rule.value.frontends, &rule.place);
    }
    if let Some(default) = &check.draft.default_outbound {
        frontends(check, &default.value.frontends, &default.place);
    }
    outbound_rules_of_one_pool(check);
}

fn refer(check: &Check<'_>, kind: &str, name: &str, spot: Spot) {
    check.draft.names.refer(check.source, kind, name, spot);
}

fn frontends(check: &Check<'_>, frontends: &[String], place: &Place) {
    for (index, frontend) in frontends.iter().enumerate() {
        refer(
            check,
            "frontend",
            frontend,
            place.element("frontends", index),
        );
    }
}

fn instances(check: &Check<'_>) {
    let mut owners: HashMap<&str, String> = HashMap::new();
    for instance in &check.draft.instances {
        if let Some(group) = &instance.value.security_group {
            refer(
                check,
                "security_group",
                group,
                instance.place.at("security_group"),
            );
        }
        for (ip_config, place) in instance.value.ip_configs.iter().zip(&instance.parts) {
            if let Some(group) = &ip_config.security_group {
                refer(check, "security_group", group, place.at("security_group"));
            }
            let Some(public_ip) = &ip_config.public_ip else {
                continue;
            };
            refer(check, "public_ip", public_ip, place.at("public_ip"));
            families_of_public_ip(check, public_ip, ip_config, place);
            let owner = format!("{}/{}", instance.value.name, ip_config.name);
            if let Some(other) = owners.get(public_ip.as_str()) {
                let expected = "a public IP that no other IP configuration has";
                let message = format!("it belongs to {other} already; give each its own");
                check.source.error(place.at("public_ip"), expected, message);
            } else {
                owners.insert(public_ip, owner);
            }
        }
    }
}

fn families_of_public_ip(check: &Check<'_>, name: &str, ip_config: &IpConfig, place: &Place) {
    let Some(public_ip) = check.public_ips.get(name) else {
        return;
    };
    let lacking = [
        (
            "IPv4",
            public_ip.value.ipv4.is_some() && ip_config.ipv4.is_none(),
        ),
        (
            "IPv6",
            public_ip.value.ipv6.is_some() && ip_config.ipv6.is_none(),
        ),
    ];
    for (family, lacks) in lacking {
        if lacks {
            let expected = "a public IP with only the families of its IP configuration";
            let message = format!(
                "\"{name}\" has an {family} address and the IP configuration has none; add {} \
                 here or remove it there",
                family.to_lowercase()
            );
            check.source.error(place.at("public_ip"), expected, message);
        }
    }
}

fn members(check: &Check<'_>, pool: &Placed<Pool>) {
    let mut seen: HashMap<&MemberRef, usize> = HashMap::new();
    for (entry, place) in pool.value.members.iter().zip(&pool.parts) {
        let key = if place.has("ip_config") {
            "ip_config"
        } else {
            "instance"
        };
        member(check, &entry.target, place.at_or_whole(key));
        if let Some(line) = seen.get(&entry.target) {
            let message = format!("line {line} has it already; set its weight there instead");
            check
                .source
                .error(place.at_or_whole("instance"), "each member once", message);
        } else {
            seen.insert(&entry.target, place.line);
        }
    }
}

/// An instance whose IP configurations could not be read may have any.
fn member(check: &Check<'_>, target: &MemberRef, spot: Spot) {
    let names = &check.draft.names;
    if !names.has("instance", &target.instance) {
        names.refer(check.source, "instance", &target.instance, spot);
        return;
    }
    let Some(instance) = check.instances.get(target.instance.as_str()) else {
        return;
    };
    if names.has("IP configuration", &target.to_string()) || !instance.sound {
        return;
    }
    let known = instance.value.ip_configs.iter();
    let known: Vec<_> = known
        .map(|ip| format!("\"{}/{}\"", target.instance, ip.name))
        .collect();
    let implied = if target.ip_config == text::PRIMARY {
        " called \"primary\""
    } else {
        ""
    };
    let message = format!(
        "\"{}\" has no such IP configuration{implied}; it has {}",
        target.instance,
        known.join(", ")
    );
    check
        .source
        .error(spot, "an IP configuration of the instance", message);
}

/// Two outbound rules may share a pool only when no packet falls under both.
fn outbound_rules_of_one_pool(check: &Check<'_>) {
    let rules = &check.draft.outbound_rules;
    for (index, rule) in rules.iter().enumerate() {
        let earlier = rules[..index].iter().find(|earlier| {
            earlier.value.pool == rule.value.pool
                && earlier.value.protocol.overlaps(rule.value.protocol)
        });
        if let Some(earlier) = earlier {
            let message = format!(
                "outbound_rule \"{}\" (line {}) takes this pool's traffic; name several frontends \
                 in one rule, or give the rules different protocols",
                earlier.value.name, earlier.place.line
            );
            let expected = "a pool without another outbound rule for the same protocol";
            check.source.error(rule.place.at("pool"), expected, message);
        }
    }
}
