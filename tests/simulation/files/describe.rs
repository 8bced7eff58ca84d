//! A configuration in a failure's words.

use forebay::config::model::Config;

/// What of a configuration concerns packets.
pub(crate) fn describe(config: &Config) -> String {
    let frontends: Vec<&str> = config.frontends.iter().map(|f| f.name.as_str()).collect();
    let rules = config.rules.iter().map(|r| {
        let (name, frontend, pool) = (&r.name, &r.frontend, &r.pool);
        let (protocol, port, there) = (r.protocol, &r.port, r.backend_port);
        format!("{name} {frontend} {protocol:?} {port:?} {pool} {there:?}")
    });
    let nat = config.inbound_nat_rules.iter().map(|r| {
        let (name, frontend, target) = (&r.name, &r.frontend, &r.target);
        let (protocol, port, there) = (r.protocol, &r.port, r.backend_port);
        format!("{name} {frontend} {protocol:?} {port:?} {target:?} {there:?}")
    });
    let rules: Vec<String> = rules.chain(nat).collect();
    let pools = config.pools.iter().map(|pool| {
        let members = pool.members.iter().map(|m| m.target.instance.as_str());
        format!("{} {:?}", pool.name, members.collect::<Vec<_>>())
    });
    let pools: Vec<String> = pools.collect();
    let public = config.instances.iter().map(|one| {
        let name = one
            .ip_configs
            .first()
            .and_then(|own| own.public_ip.as_ref());
        format!("{} {name:?}", one.name)
    });
    let public: Vec<String> = public.collect();
    let implied = config.rules.iter().filter(|rule| rule.outbound_snat);
    let implied: Vec<&str> = implied.map(|rule| rule.name.as_str()).collect();
    let (outbound, default) = (&config.outbound_rules, &config.default_outbound);
    format!(
        "{frontends:?} {rules:#?} {pools:?} {public:?} implied {implied:?} {outbound:#?} {default:?}"
    )
}
