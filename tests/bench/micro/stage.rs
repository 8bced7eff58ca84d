//! Where the micro benchmark runs: a network namespace with devices to perch on, and both objects
//! loaded with the same flows in their tables.

use anyhow::{Context, Result};
use aya::programs::XdpMode;
use forebay_common::family::{V4, V6};
use forebay_tests::netlab::{Namespace, Workdir};
use nix::net::if_::if_nametoindex;

use crate::product::{Hop, HopLifetime, Port, Product};
use crate::scene::{Course, Net, backends, mac, written};
use crate::shared::NextHop;
use crate::yardstick::{Ways, Yardstick};

/// Loopback: the interface on which frames of test runs seem to come in.
const LOOPBACK: u32 = 1;
/// Slot of the device by which translated packets leave.
const SLOT_OUT: u32 = 2;
const NODE_MAC: u8 = 1;
const OUT_MAC: u8 = 3;
const NEXT_HOP_MAC: u8 = 4;

/// Programs that test runs start with. One that is attached somewhere starts at once, others wait for
/// the kernel to make them callable, each time.
pub(crate) const DRIVERS: [&str; 7] = [
    "drive_tcp4",
    "drive_udp4",
    "drive_tcp6",
    "drive_udp6",
    "drive_arp",
    "drive_ndp",
    "idle",
];

/// How many flows are in the tables.
pub(crate) struct Population {
    pub(crate) tcp: u64,
    pub(crate) udp: u64,
}

/// MAC addresses of translated packets: destination and source.
pub(crate) const TRANSLATED_MACS: [u8; 2] = [NEXT_HOP_MAC, OUT_MAC];

/// The namespace.
pub(crate) struct Place {
    pub(crate) namespace: Namespace,
    _workdir: Workdir,
}

impl Place {
    /// Makes the namespace with its devices, routes and neighbours.
    pub(crate) fn create() -> Result<Self> {
        let workdir = Workdir::create()?;
        let namespace = Namespace::create(&format!("fb-{}-micro", workdir.tag()))?;
        let mut lines = format!(
            "link add out0 address {} type veth peer name out1\nlink set out0 up\nlink set out1 up\n\
             address add 10.99.2.1/24 dev out0\naddress add fd00:99:2::1/64 dev out0 nodad\n",
            written(mac(OUT_MAC))
        );
        for perch in (0..DRIVERS.len()).step_by(2) {
            let other = perch + 1;
            lines += &format!("link add perch{perch} type veth peer name perch{other}\n");
        }
        let addresses = backends::<V4>().map(Net::ip).into_iter();
        for address in addresses.chain(backends::<V6>().map(Net::ip)) {
            let mac = written(mac(NEXT_HOP_MAC));
            lines += &format!("neighbor add {address} lladdr {mac} dev out0 nud permanent\n");
        }
        namespace.ip(&lines)?;
        for key in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
            namespace.sysctl(key, "1")?;
        }
        Ok(Self {
            namespace,
            _workdir: workdir,
        })
    }
}

/// Both objects, ready to be measured.
pub(crate) struct Stage {
    pub(crate) product: Product,
    pub(crate) yardstick: Yardstick,
}

impl Stage {
    /// Loads both objects and fills their tables. The calling thread is in the namespace.
    pub(crate) fn load(object: &std::path::Path, population: &Population) -> Result<Self> {
        let out = if_nametoindex("out0").context("find device out0")?;
        let ports = [
            Port {
                slot: 1,
                ifindex: LOOPBACK,
                mac: mac(NODE_MAC),
            },
            Port {
                slot: SLOT_OUT,
                ifindex: out,
                mac: mac(OUT_MAC),
            },
        ];
        let mut stage = Self {
            product: Product::load(object, &ports, HopLifetime::Endless)?,
            yardstick: Yardstick::load()?,
        };
        stage.yardstick.set_device(SLOT_OUT, out)?;
        stage.populate::<V4>(population)?;
        stage.populate::<V6>(population)?;
        for (perch, driver) in DRIVERS.iter().enumerate() {
            let program = stage.yardstick.program(driver)?;
            program
                .attach(&format!("perch{perch}"), XdpMode::Skb)
                .with_context(|| format!("attach {driver}"))?;
        }
        Ok(stage)
    }

    fn populate<A: Net>(&mut self, population: &Population) -> Result<()> {
        let (to, from) = (mac(NEXT_HOP_MAC), mac(OUT_MAC));
        let next = NextHop {
            to_head: to.head,
            from_head: from.head,
            to_tail: to.tail,
            from_tail: from.tail,
            slot: SLOT_OUT,
        };
        let ways = Ways {
            to_backends: next,
            to_clients: next,
        };
        let hop = Hop {
            mac: to,
            slot: SLOT_OUT,
        };
        self.yardstick.configure::<A>(&ways)?;
        let tcp = Course::<A>::known(population.tcp);
        let udp = Course::<A>::known(population.udp).udp();
        for course in [tcp, udp] {
            self.product.fill(&course, hop, hop)?;
            self.yardstick.fill(&course, &ways)?;
        }
        Ok(())
    }
}
