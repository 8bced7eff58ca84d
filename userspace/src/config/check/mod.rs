//! How the parts of the file fit together: references, addresses, ports, SNAT, probes.

mod addresses;
mod backends;
mod dns;
mod families;
mod host;
mod nat_ports;
mod ports;
mod probes;
mod references;
mod rules;
mod security;
mod snat;
mod tls;

use std::collections::HashMap;

use super::host::Host;
use super::model::{Frontend, Instance, IpConfig, MemberRef, Pool, Probe, PublicIp, SecurityGroup};
use super::place::Placed;
use super::sections::Draft;
use super::source::Source;

/// Reports everything that does not fit together.
pub(super) fn run(source: &Source<'_>, draft: &Draft, host: Option<&Host>) {
    let check = Check::new(source, draft);
    references::check(&check);
    addresses::check(&check);
    dns::check(&check);
    rules::check(&check);
    ports::check(&check);
    nat_ports::check(&check);
    probes::check(&check);
    families::check(&check);
    backends::check(&check);
    security::check(&check);
    snat::check(&check, host);
    if let Some(host) = host {
        host::check(&check, host);
        tls::check(&check, host);
    }
}

/// The file, by name.
struct Check<'d> {
    source: &'d Source<'d>,
    draft: &'d Draft,
    frontends: HashMap<&'d str, &'d Placed<Frontend>>,
    public_ips: HashMap<&'d str, &'d Placed<PublicIp>>,
    instances: HashMap<&'d str, &'d Placed<Instance>>,
    pools: HashMap<&'d str, &'d Placed<Pool>>,
    probes: HashMap<&'d str, &'d Placed<Probe>>,
    security_groups: HashMap<&'d str, &'d Placed<SecurityGroup>>,
}

impl<'d> Check<'d> {
    fn new(source: &'d Source<'d>, draft: &'d Draft) -> Self {
        Self {
            source,
            draft,
            frontends: by_name(&draft.frontends, |frontend| &frontend.name),
            public_ips: by_name(&draft.public_ips, |public_ip| &public_ip.name),
            instances: by_name(&draft.instances, |instance| &instance.name),
            pools: by_name(&draft.pools, |pool| &pool.name),
            probes: by_name(&draft.probes, |probe| &probe.name),
            security_groups: by_name(&draft.security_groups, |group| &group.name),
        }
    }

    /// The IP configuration that a reference means, with its instance.
    fn ip_config(&self, target: &MemberRef) -> Option<(&'d Instance, &'d IpConfig)> {
        let instance = &self.instances.get(target.instance.as_str())?.value;
        let mut ip_configs = instance.ip_configs.iter();
        let ip_config = ip_configs.find(|ip_config| ip_config.name == target.ip_config)?;
        Some((instance, ip_config))
    }

    /// The IP configurations of a pool, as far as they exist.
    fn targets(&self, pool: &str) -> Vec<(&'d MemberRef, &'d Instance, &'d IpConfig)> {
        let pool = self.pools.get(pool).map(|pool| &pool.value);
        let members = pool.into_iter().flat_map(|pool| &pool.members);
        members
            .filter_map(|member| {
                let (instance, ip_config) = self.ip_config(&member.target)?;
                Some((&member.target, instance, ip_config))
            })
            .collect()
    }
}

/// The first of each name: a second one has been refused already.
fn by_name<T>(placed: &[Placed<T>], name: impl Fn(&T) -> &String) -> HashMap<&str, &Placed<T>> {
    let mut index = HashMap::new();
    for item in placed {
        index.entry(name(&item.value).as_str()).or_insert(item);
    }
    index
}
