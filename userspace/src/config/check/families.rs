//! Frontends of a family that nothing behind them has.

use std::collections::HashMap;

use super::Check;
use crate::config::model::{IpConfig, NatTarget};
use crate::config::place::Place;
use crate::config::snat::Family;

pub(super) fn check(check: &Check<'_>) {
    let mut of_pools: HashMap<&str, Vec<&IpConfig>> = HashMap::new();
    for rule in &check.draft.rules {
        let pool = check.pools.get(rule.value.pool.as_str());
        if pool.is_some_and(|pool| pool.sound) {
            let ip_configs = of_pools.entry(&rule.value.pool).or_insert_with(|| {
                let targets = check.targets(&rule.value.pool).into_iter();
                targets.map(|(_, _, ip_config)| ip_config).collect()
            });
            let backend = format!("but no member of pool \"{}\" has one", rule.value.pool);
            warn(
                check,
                &rule.value.frontend,
                ip_configs,
                &backend,
                (&rule.place, "pool"),
            );
        }
    }
    for rule in &check.draft.inbound_nat_rules {
        if let NatTarget::Instance(target) = &rule.value.target
            && let Some((_, ip_config)) = check.ip_config(target)
        {
            let backend = format!("but {target} does not have one");
            let place = (&rule.place, "instance");
            warn(check, &rule.value.frontend, &[ip_config], &backend, place);
        }
    }
}

fn warn(
    check: &Check<'_>,
    frontend: &str,
    ip_configs: &[&IpConfig],
    backend: &str,
    (place, key): (&Place, &str),
) {
    let Some(frontend) = check.frontends.get(frontend) else {
        return;
    };
    for family in Family::ALL {
        let served = ip_configs
            .iter()
            .any(|ip_config| family.of_ip_config(ip_config));
        if family.addresses_of(&frontend.value) > 0 && !ip_configs.is_empty() && !served {
            let message = format!(
                "frontend \"{}\" has an {family} address, {backend}: nothing answers there",
                frontend.value.name
            );
            let expected = format!("an {family} address behind it");
            check.source.warning(place.at(key), expected, message);
        }
    }
}
