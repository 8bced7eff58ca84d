//! Public IPs: which address is whose.

use std::collections::HashMap;
use std::net::IpAddr;

use forebay_common::abi::{MAX_PUBLIC_IPS, Owner, Settings};

use super::desired::Inputs;
use super::ids::{Bits, NoIdLeft};
use super::state::TableState;
use crate::config::model::{Config, PublicIp};

/// Public and private address of every IP configuration that has a public IP. One that nobody has is none.
pub(super) fn pairs(config: &Config) -> impl Iterator<Item = (IpAddr, IpAddr)> + '_ {
    let by_name = |public_ip: &'_ PublicIp| -> (String, [Option<IpAddr>; 2]) {
        let addresses = [
            public_ip.ipv4.map(IpAddr::V4),
            public_ip.ipv6.map(IpAddr::V6),
        ];
        (public_ip.name.clone(), addresses)
    };
    let public: HashMap<String, [Option<IpAddr>; 2]> =
        config.public_ips.iter().map(by_name).collect();
    let ip_configs = config.instances.iter().flat_map(|i| &i.ip_configs);
    ip_configs.flat_map(move |ip_config| {
        let name = ip_config.public_ip.as_ref();
        let addresses = name.and_then(|name| public.get(name).copied());
        let private = [
            ip_config.ipv4.map(IpAddr::V4),
            ip_config.ipv6.map(IpAddr::V6),
        ];
        let both = addresses.unwrap_or_default().into_iter().zip(private);
        both.filter_map(|(public, private)| Some((public?, private?)))
    })
}

impl Inputs<'_> {
    /// Adds public IPs under both of their addresses.
    pub(super) fn add_public_ips(&self, state: &mut TableState) -> Result<(), NoIdLeft> {
        for (public, private) in pairs(self.config) {
            let on_link = self.on_link(public);
            match (Bits::from(public), Bits::from(private)) {
                (Bits::V4(public), Bits::V4(private)) => {
                    add(&mut state.v4, public, private, on_link);
                }
                (Bits::V6(public), Bits::V6(private)) => {
                    add(&mut state.v6, public, private, on_link);
                }
                _ => continue,
            }
            state.settings.flags |= Settings::PUBLIC_IPS;
        }
        let most = state.v4.public_ips.len().max(state.v6.public_ips.len());
        if most > 2 * MAX_PUBLIC_IPS as usize {
            return Err(NoIdLeft {
                kind: "public IPs",
                limit: MAX_PUBLIC_IPS,
            });
        }
        Ok(())
    }
}

fn add<A: Ord + Copy>(
    state: &mut super::state::FamilyState<A>,
    public: A,
    private: A,
    on_link: u64,
) {
    let owner = state.addresses.entry(public).or_default();
    owner.roles |= Owner::PUBLIC_IP;
    owner.on_link = on_link;
    let owner = state.addresses.entry(private).or_default();
    owner.roles |= Owner::HAS_PUBLIC_IP;
    state.public_ips.insert(public, private);
    state.public_ips.insert(private, public);
}
