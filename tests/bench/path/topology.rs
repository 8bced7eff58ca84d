//! Client, router and server.
//!
//! ```text
//!  client  pbc0 ──── pbr0  router  pbr1 ──── pbs0  server
//! ```
//!
//! Everything a packet meets runs on one CPU, in the time of the thread that generates it: each veth
//! hands on to the next in the same soft interrupt.

use anyhow::{Context, Result};
use forebay_common::family::{V4, V6};
use forebay_common::wire::Mac;
use forebay_tests::netlab::{Namespace, Workdir};
use nix::net::if_::if_nametoindex;

use crate::scene::{Net, backends, mac, written};

pub(super) const CLIENT: &str = "pbc0";
pub(super) const ROUTER_CLIENT: &str = "pbr0";
pub(super) const ROUTER_SERVER: &str = "pbr1";
pub(super) const SERVER: &str = "pbs0";

pub(super) const CLIENT_MAC: Mac = mac(0x21);
pub(super) const ROUTER_CLIENT_MAC: Mac = mac(0x22);
pub(super) const ROUTER_SERVER_MAC: Mac = mac(0x23);
pub(super) const SERVER_MAC: Mac = mac(0x24);

/// The three namespaces.
pub(super) struct Topology {
    pub(super) client: Namespace,
    pub(super) router: Namespace,
    pub(super) server: Namespace,
    _workdir: Workdir,
}

impl Topology {
    /// Makes them.
    pub(super) fn create() -> Result<Self> {
        let workdir = Workdir::create()?;
        let namespace = |role: &str| Namespace::create(&format!("fb-{}-{role}", workdir.tag()));
        let topology = Self {
            client: namespace("pathc")?,
            router: namespace("pathr")?,
            server: namespace("paths")?,
            _workdir: workdir,
        };
        topology.wire()?;
        topology.address_router()?;
        Ok(topology)
    }

    fn wire(&self) -> Result<()> {
        let cables = [
            (
                (&self.client, CLIENT, CLIENT_MAC),
                (&self.router, ROUTER_CLIENT, ROUTER_CLIENT_MAC),
            ),
            (
                (&self.router, ROUTER_SERVER, ROUTER_SERVER_MAC),
                (&self.server, SERVER, SERVER_MAC),
            ),
        ];
        for (a, b) in cables {
            a.0.ip(&format!(
                "link add {} address {} numtxqueues 1 numrxqueues 1 type veth \
                 peer name {} address {} numtxqueues 1 numrxqueues 1 netns {}",
                a.1,
                written(a.2),
                b.1,
                written(b.2),
                b.0.name()
            ))?;
            for (namespace, device, _) in [a, b] {
                // A veth takes frames from XDP only when it polls: GRO makes it.
                let arguments = ["-K", device, "tx", "off", "gro", "on"];
                namespace.run("ethtool", &arguments)?;
                namespace.ip(&format!("link set {device} up"))?;
            }
        }
        Ok(())
    }

    fn address_router(&self) -> Result<()> {
        for key in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
            self.router.sysctl(key, "1")?;
        }
        let (client, server) = (written(CLIENT_MAC), written(SERVER_MAC));
        let mut lines = format!(
            "address add 10.99.1.1/24 dev {ROUTER_CLIENT}\n\
             address add fd00:99:1::1/64 dev {ROUTER_CLIENT} nodad\n\
             address add {}/24 dev {ROUTER_SERVER}\n\
             address add {}/64 dev {ROUTER_SERVER} nodad\n\
             neighbor add 10.99.1.2 lladdr {client} dev {ROUTER_CLIENT} nud permanent\n\
             neighbor add fd00:99:1::2 lladdr {client} dev {ROUTER_CLIENT} nud permanent\n\
             route add 100.64.0.0/10 via 10.99.1.2\n\
             route add 2001:db8:c::/48 via fd00:99:1::2\n",
            V4::ROUTER.ip(),
            V6::ROUTER.ip(),
        );
        let addresses = backends::<V4>().map(Net::ip).into_iter();
        for address in addresses.chain(backends::<V6>().map(Net::ip)) {
            lines += &format!(
                "neighbor add {address} lladdr {server} dev {ROUTER_SERVER} nud permanent\n"
            );
        }
        // Where packets go when nobody translates them, and where the outside is for instances, who are among the
        // clients.
        let (server4, server6) = (V4::backend(0).ip(), V6::backend(0).ip());
        lines += &format!(
            "route add {} via {server4}\nroute add {} via {server6}\n\
             route add 100.112.0.0/15 via {server4}\nroute add 2001:db8:c::6470:0/111 via {server6}\n",
            V4::FRONTEND.ip(),
            V6::FRONTEND.ip(),
        );
        self.router.ip(&lines)
    }
}

/// Number of an interface of the calling thread's namespace.
pub(super) fn ifindex(device: &str) -> Result<u32> {
    if_nametoindex(device).with_context(|| format!("find {device}"))
}
