//! Which members' addresses are judged by which probe of which port.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::config::model::{Config, Member, Pool, Probe};
use crate::health::{Target, ip_configs, probed_port};

/// A member's address as a rule has it probed.
pub(super) struct Probing<'c> {
    pub(super) pool: &'c Pool,
    pub(super) member: &'c Member,
    pub(super) address: IpAddr,
    pub(super) target: Target,
}

/// Goes through all of them. What several rules have probed alike is met several times.
pub(super) fn each<'c>(config: &'c Config, mut see: impl FnMut(Probing<'c>)) {
    let named = |probe: &'c Probe| (probe.name.as_str(), probe);
    let probes: BTreeMap<&str, &Probe> = config.probes.iter().map(named).collect();
    let named = |pool: &'c Pool| (pool.name.as_str(), pool);
    let pools: BTreeMap<&str, &Pool> = config.pools.iter().map(named).collect();
    let ip_configs = ip_configs(config);
    for rule in &config.rules {
        let probe = rule.probe.as_deref().and_then(|name| probes.get(name));
        let port = probe.and_then(|probe| probed_port(rule, probe));
        let (Some(probe), Some(port), Some(pool)) = (probe, port, pools.get(&*rule.pool)) else {
            continue;
        };
        for member in &pool.members {
            let ip_config = ip_configs.get(&member.target).into_iter();
            for address in ip_config.flat_map(|ip_config| ip_config.addresses()) {
                let target = Target {
                    probe: probe.name.clone(),
                    address,
                    port,
                };
                see(Probing {
                    pool,
                    member,
                    address,
                    target,
                });
            }
        }
    }
}
