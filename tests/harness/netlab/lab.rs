//! A client, a node and three instances, wired in one of two ways.
//!
//! ```text
//! two-armed   client ── client0 [node] inst0 ── [switch] ── web-1, web-2, web-3
//! one-armed                     [node] net0  ── [switch] ── client, web-1, web-2, web-3
//! ```
//!
//! Addresses are the same in both: clients in 203.0.113.0/24 and 2001:db8:1::/64, instances in
//! 10.0.1.0/24 and fd00:1::/64, the node in all four as the router. The switch itself is a host
//! among the instances that is no instance. The node's cables are veth pairs, or NICs from outside.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use anyhow::{Context, Result};

use super::namespace::Namespace;
use super::nics::{Nic, Nics, wait_for_carrier};
use super::pass_program::PassProgram;
use super::servers::{IperfServer, Servers};
use super::workdir::{Workdir, sweep};

/// How the node is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arms {
    /// One NIC towards clients and instances alike.
    One,
    /// One NIC towards clients, another towards instances.
    Two,
}

/// Who has which address in every lab; all from documentation and private ranges.
pub mod address {
    use std::net::{Ipv4Addr, Ipv6Addr};

    /// The node, on the clients' side.
    pub const NODE_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
    /// The node, on the clients' side.
    pub const NODE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
    /// The client's usual address.
    pub const CLIENT_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
    /// The client's usual address.
    pub const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2);
    /// A frontend in the clients' own subnet: somebody has to answer ARP for it.
    pub const FRONTEND_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
    /// A frontend in the clients' own subnet: somebody has to answer solicitations for it.
    pub const FRONTEND_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x10);
    /// A frontend that clients reach through their default route.
    pub const ROUTED_FRONTEND_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
    /// A frontend that clients reach through their default route.
    pub const ROUTED_FRONTEND_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x10);
    /// A host behind the node that is no instance.
    pub const OTHER_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 99);
    /// A host behind the node that is no instance.
    pub const OTHER_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0x99);

    /// One of the client's addresses: 2 (the usual one) to 9.
    pub fn client_v4(host: u8) -> Ipv4Addr {
        Ipv4Addr::new(203, 0, 113, host)
    }

    /// One of the client's addresses: 2 (the usual one) to 9.
    pub fn client_v6(host: u8) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, u16::from(host))
    }
}

/// One of the machines behind the node.
#[derive(Debug)]
pub struct Instance {
    /// `web-1` to `web-3`
    pub name: String,
    /// Its private address.
    pub ipv4: Ipv4Addr,
    /// Its private address.
    pub ipv6: Ipv6Addr,
    /// Where it runs.
    pub namespace: Namespace,
}

/// A network with servers running; gone when dropped.
#[derive(Debug)]
pub struct Lab {
    // Dropped in this order: what runs inside first, the names of the namespaces last.
    _servers: Servers,
    pass_programs: Vec<PassProgram>,
    _nics: Vec<Nic>,
    /// Where clients run.
    pub client: Namespace,
    /// Where the daemon runs.
    pub node: Namespace,
    /// The bridge that connects the instances, and a host of its own.
    pub switch: Namespace,
    /// The machines behind the node.
    pub instances: Vec<Instance>,
    /// The node's NICs, the one towards the clients first.
    pub interfaces: Vec<&'static str>,
    workdir: Workdir,
}

impl Lab {
    /// Makes the network and starts a web server and a UDP responder on every instance.
    pub fn create(arms: Arms) -> Result<Self> {
        Self::make(arms, None)
    }

    /// The same with NICs as the node's cables.
    pub fn with_nics(arms: Arms, nics: &Nics) -> Result<Self> {
        Self::make(arms, Some(nics))
    }

    fn make(arms: Arms, nics: Option<&Nics>) -> Result<Self> {
        sweep();
        let workdir = Workdir::create()?;
        let namespace = |role: &str| Namespace::create(&format!("fb-{}-{role}", workdir.tag()));
        let [client, node, switch] = [
            namespace("client")?,
            namespace("node")?,
            namespace("switch")?,
        ];
        let mut instances = Vec::new();
        for number in 1..=3 {
            let name = format!("web-{number}");
            instances.push(Instance {
                ipv4: Ipv4Addr::new(10, 0, 1, 10 + number),
                ipv6: Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0x10 + u16::from(number)),
                namespace: namespace(&name)?,
                name,
            });
        }
        let interfaces = match arms {
            Arms::One => vec!["net0"],
            Arms::Two => vec!["client0", "inst0"],
        };
        let machines = Machines {
            client: &client,
            node: &node,
            switch: &switch,
            instances: &instances,
        };
        let nics = machines.wire(arms, nics)?;
        machines.give_addresses(&interfaces)?;
        let pass_programs = if nics.is_empty() {
            machines.attach_pass_programs(arms)?
        } else {
            wait_for_carrier(&node, &interfaces)?;
            Vec::new()
        };
        let servers = Servers::start(&instances, workdir.path())?;
        Ok(Self {
            _servers: servers,
            pass_programs,
            _nics: nics,
            client,
            node,
            switch,
            instances,
            interfaces,
            workdir,
        })
    }

    /// The folder for files of this lab, which also holds its mounts.
    pub fn workdir(&self) -> &Workdir {
        &self.workdir
    }

    /// An instance by name.
    pub fn instance(&self, name: &str) -> Result<&Instance> {
        let found = self.instances.iter().find(|instance| instance.name == name);
        found.with_context(|| format!("no instance is called {name}"))
    }

    /// Starts an iperf3 server on an instance.
    pub fn start_iperf(&self, instance: &Instance) -> Result<IperfServer> {
        IperfServer::start(instance, self.workdir.path())
    }

    /// Takes the node's NIC towards the instances away; for a two-armed lab.
    pub fn unplug_instances(&mut self) -> Result<()> {
        self.node.ip("link delete inst0")
    }

    /// Gives the node a new NIC of the same name in its place.
    pub fn plug_in_instances(&mut self) -> Result<()> {
        cable((&self.node, "inst0"), (&self.switch, "node0"))?;
        self.switch.ip("link set node0 master br0")?;
        self.node.ip(&addresses_towards_instances("inst0"))?;
        self.pass_programs
            .push(PassProgram::attach(&self.switch, "node0")?);
        Ok(())
    }

    /// Connects the node and the client by a second link, `client1` to `eth1`.
    pub fn add_uplink(&mut self) -> Result<()> {
        cable((&self.node, "client1"), (&self.client, "eth1"))?;
        self.node.ip("address add 192.168.77.1/24 dev client1\n\
                      address add fd77::1/64 dev client1 nodad")?;
        self.client.ip("address add 192.168.77.2/24 dev eth1\n\
                        address add fd77::2/64 dev eth1 nodad")?;
        self.pass_programs
            .push(PassProgram::attach(&self.client, "eth1")?);
        Ok(())
    }

    /// Adds a second node to a one-armed lab, with `net0` on the same switch and .200 and ::200 in every network;
    /// nobody has a route by it yet.
    pub fn add_node(&mut self) -> Result<Namespace> {
        let node = Namespace::create(&format!("fb-{}-node-2", self.workdir.tag()))?;
        cable((&node, "net0"), (&self.switch, "node1"))?;
        self.switch.ip("link set node1 master br0")?;
        node.ip("address add 203.0.113.200/24 dev net0\n\
                 address add 2001:db8:1::200/64 dev net0 nodad\n\
                 address add 10.0.1.200/24 dev net0\n\
                 address add fd00:1::200/64 dev net0 nodad")?;
        self.pass_programs
            .push(PassProgram::attach(&self.switch, "node1")?);
        Ok(node)
    }

    /// All namespaces, with their roles.
    pub fn namespaces(&self) -> impl Iterator<Item = &Namespace> {
        [&self.client, &self.node, &self.switch]
            .into_iter()
            .chain(self.instances.iter().map(|instance| &instance.namespace))
    }

    /// The path of that folder.
    pub fn path(&self) -> &Path {
        self.workdir.path()
    }
}

struct Machines<'a> {
    client: &'a Namespace,
    node: &'a Namespace,
    switch: &'a Namespace,
    instances: &'a [Instance],
}

/// One end of a cable.
pub(super) type Plug<'a> = (&'a Namespace, &'a str);

impl Machines<'_> {
    fn wire(&self, arms: Arms, nics: Option<&Nics>) -> Result<Vec<Nic>> {
        self.switch
            .ip("link add br0 type bridge mcast_snooping 0")?;
        let mut placed = Vec::new();
        for (number, (near, far)) in self.cables_of_the_node(arms).into_iter().enumerate() {
            match nics {
                Some(nics) => placed.extend(nics.place(number, near, far)?),
                None => cable(near, far)?,
            }
        }
        // In front of a NIC nobody has to do what the NIC does.
        let cable = if nics.is_some() { plain_cable } else { cable };
        if arms == Arms::One {
            cable((self.client, "eth0"), (self.switch, "client0"))?;
            self.switch.ip("link set client0 master br0")?;
        }
        for instance in self.instances {
            cable((&instance.namespace, "eth0"), (self.switch, &instance.name))?;
            self.switch
                .ip(&format!("link set {} master br0", instance.name))?;
        }
        self.switch
            .ip("link set node0 master br0\nlink set br0 up")?;
        Ok(placed)
    }

    fn cables_of_the_node(&self, arms: Arms) -> Vec<(Plug<'_>, Plug<'_>)> {
        let to_switch = |near| ((self.node, near), (self.switch, "node0"));
        match arms {
            Arms::One => vec![to_switch("net0")],
            Arms::Two => vec![
                ((self.node, "client0"), (self.client, "eth0")),
                to_switch("inst0"),
            ],
        }
    }

    fn attach_pass_programs(&self, arms: Arms) -> Result<Vec<PassProgram>> {
        let mut programs = vec![PassProgram::attach(self.switch, "node0")?];
        if arms == Arms::Two {
            programs.push(PassProgram::attach(self.client, "eth0")?);
        }
        Ok(programs)
    }

    fn give_addresses(&self, interfaces: &[&str]) -> Result<()> {
        let (client_side, instance_side) = (interfaces[0], interfaces[interfaces.len() - 1]);
        self.node.ip(&format!(
            "address add 203.0.113.1/24 dev {client_side}\n\
             address add 2001:db8:1::1/64 dev {client_side} nodad"
        ))?;
        self.node.ip(&addresses_towards_instances(instance_side))?;
        self.client.ip("address add 203.0.113.2/24 dev eth0\n\
             address add 2001:db8:1::2/64 dev eth0 nodad\n\
             route add default via 203.0.113.1\n\
             route add default via 2001:db8:1::1")?;
        // Deprecated, so that only who binds to them uses them.
        let more = (3..=9).map(|host| {
            format!(
                "address add 203.0.113.{host}/24 dev eth0\n\
                 address add 2001:db8:1::{host}/64 dev eth0 nodad preferred_lft 0\n"
            )
        });
        self.client.ip(&more.collect::<String>())?;
        let behind_the_node = |v4: Ipv4Addr, v6: Ipv6Addr, device: &str| {
            format!(
                "address add {v4}/24 dev {device}\n\
                 address add {v6}/64 dev {device} nodad\n\
                 route add default via 10.0.1.1\n\
                 route add default via fd00:1::1"
            )
        };
        for instance in self.instances {
            instance
                .namespace
                .ip(&behind_the_node(instance.ipv4, instance.ipv6, "eth0"))?;
        }
        self.switch.ip(&behind_the_node(
            address::OTHER_V4,
            address::OTHER_V6,
            "br0",
        ))
    }
}

/// What gives the node its addresses among the instances.
fn addresses_towards_instances(device: &str) -> String {
    format!(
        "address add 10.0.1.1/24 dev {device}\n\
         address add fd00:1::1/64 dev {device} nodad"
    )
}

/// A veth pair with both ends up.
fn plain_cable(a: Plug<'_>, b: Plug<'_>) -> Result<()> {
    a.0.ip(&format!(
        "link add {} type veth peer name {} netns {}",
        a.1,
        b.1,
        b.0.name()
    ))?;
    for (namespace, device) in [a, b] {
        namespace.ip(&format!("link set {device} up"))?;
    }
    Ok(())
}

/// The same for an end with an XDP program, or one before it without a NIC between. No end leaves
/// checksums or segmentation to a NIC that is not there, because XDP sees the frame as it was
/// handed over; and both ends poll, because frames redirected by XDP reach nobody else.
pub(super) fn cable(a: Plug<'_>, b: Plug<'_>) -> Result<()> {
    plain_cable(a, b)?;
    for (namespace, device) in [a, b] {
        let offloads =
            "tx off tso off gso off gro on txvlan off rxvlan off tx-vlan-stag-hw-insert off";
        let mut arguments = vec!["-K", device];
        arguments.extend(offloads.split(' '));
        namespace.run("ethtool", &arguments)?;
    }
    Ok(())
}
