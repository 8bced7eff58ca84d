//! Hosts further away: two routers behind a lab's client or switch, with a narrow link between the routers.
//!
//! ```text
//! node ── client or switch ──(narrow)── hop ── host
//! ```
//!
//! Both ends of a connection have links of the usual MTU, so neither knows what lies between.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::Result;

use super::lab::{Instance, Lab, address, cable};
use super::namespace::Namespace;

/// A host behind a narrow link.
#[derive(Debug)]
pub struct Beyond {
    /// The host; an instance only if a configuration says so.
    pub host: Instance,
    /// The router before it.
    pub hop: Namespace,
}

/// Where such a host is.
struct Place<'a> {
    name: &'a str,
    /// The router that the node knows: its namespace, its addresses, the node's device towards it.
    near: &'a Namespace,
    near_addresses: (Ipv4Addr, Ipv6Addr),
    node_device: &'a str,
    /// Prefixes without the last part: of the narrow link, then of the host's own.
    ipv4: [&'a str; 2],
    ipv6: [&'a str; 2],
}

impl Lab {
    /// A client behind the client, on the far side of a link of this MTU.
    pub fn client_beyond(&self, mtu: u16) -> Result<Beyond> {
        self.connect_beyond(
            mtu,
            &Place {
                name: "far-client",
                near: &self.client,
                near_addresses: (address::CLIENT_V4, address::CLIENT_V6),
                node_device: self.interfaces[0],
                ipv4: ["192.0.2", "198.18.2"],
                ipv6: ["2001:db8:8", "2001:db8:9"],
            },
        )
    }

    /// A host behind the switch, on the far side of a link of this MTU.
    pub fn instance_beyond(&self, mtu: u16) -> Result<Beyond> {
        self.connect_beyond(
            mtu,
            &Place {
                name: "far-1",
                near: &self.switch,
                near_addresses: (address::OTHER_V4, address::OTHER_V6),
                node_device: self.interfaces[self.interfaces.len() - 1],
                ipv4: ["10.0.8", "10.0.9"],
                ipv6: ["fd00:8", "fd00:9"],
            },
        )
    }

    fn connect_beyond(&self, mtu: u16, place: &Place<'_>) -> Result<Beyond> {
        let create = |role: &str| {
            Namespace::create(&format!(
                "fb-{}-{}-{role}",
                self.workdir().tag(),
                place.name
            ))
        };
        let (hop, host) = (create("hop")?, create("host")?);
        let near = place.near;
        let [[link4, own4], [link6, own6]] = [place.ipv4, place.ipv6];
        cable((near, "far0"), (&hop, "near0"))?;
        cable((&hop, "far0"), (&host, "eth0"))?;
        near.ip(&format!(
            "link set far0 mtu {mtu}\n\
             address add {link4}.1/24 dev far0\n\
             address add {link6}::1/64 dev far0 nodad\n\
             route add {own4}.0/24 via {link4}.2\n\
             route add {own6}::/64 via {link6}::2"
        ))?;
        hop.ip(&format!(
            "link set near0 mtu {mtu}\n\
             address add {link4}.2/24 dev near0\n\
             address add {link6}::2/64 dev near0 nodad\n\
             address add {own4}.1/24 dev far0\n\
             address add {own6}::1/64 dev far0 nodad\n\
             route add default via {link4}.1\n\
             route add default via {link6}::1"
        ))?;
        host.ip(&format!(
            "address add {own4}.2/24 dev eth0\n\
             address add {own6}::2/64 dev eth0 nodad\n\
             route add default via {own4}.1\n\
             route add default via {own6}::1"
        ))?;
        let (near4, near6) = place.near_addresses;
        let device = place.node_device;
        self.node.ip(&format!(
            "route add {own4}.0/24 via {near4} dev {device}\n\
             route add {own6}::/64 via {near6} dev {device}\n\
             route add {link4}.0/24 via {near4} dev {device}\n\
             route add {link6}::/64 via {near6} dev {device}"
        ))?;
        for router in [near, &hop] {
            for (key, value) in ROUTER_SYSCTLS {
                router.sysctl(key, value)?;
            }
        }
        Ok(Beyond {
            host: Instance {
                name: place.name.to_owned(),
                ipv4: format!("{own4}.2").parse()?,
                ipv6: format!("{own6}::2").parse()?,
                namespace: host,
            },
            hop,
        })
    }
}

/// A router that tells everybody whose packet it cannot pass on, however many they are.
const ROUTER_SYSCTLS: &[(&str, &str)] = &[
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv6/conf/all/forwarding", "1"),
    ("net/ipv4/icmp_ratelimit", "0"),
    ("net/ipv6/icmp/ratelimit", "0"),
];
