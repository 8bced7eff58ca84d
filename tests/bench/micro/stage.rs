//! Where the micro benchmark runs: a network namespace with devices to perch on, and both objects
//! loaded with the same flows in their tables.

use anyhow::{Context, Result};
use aya::programs::XdpMode;
use forebay_common::family::{V4, V6};
use forebay_common::flow::{Direction, FlowKind};
use forebay_tests::netlab::{Namespace, Workdir};
use nix::net::if_::if_nametoindex;

use super::case::Setting;
use super::maker::SOME;
use super::outward;
use crate::bpf::Arriving;
use crate::product::outbound::{LARGE, MAPPED, PUBLIC, QUIET, TOLD};
use crate::product::{Hop, HopLifetime, Port, Product};
use crate::scene::{Course, Net, backends, instance, mac, written};
use crate::shared::NextHop;
use crate::yardstick::{Ways, Yardstick};

/// Loopback: the interface on which frames of test runs seem to come in.
const LOOPBACK: u32 = 1;
/// Slot of the device by which translated packets leave.
const SLOT_OUT: u32 = 2;
/// Slot of the device that instances are behind.
const SLOT_IN: u32 = 3;
const NODE_MAC: u8 = 1;
const OUT_MAC: u8 = 3;
const NEXT_HOP_MAC: u8 = 4;
const IN_MAC: u8 = 5;
const INSTANCE_MAC: u8 = 6;

/// Programs that test runs start with. One that is attached somewhere starts at once, others wait for
/// the kernel to make them callable, each time.
pub(crate) const DRIVERS: [&str; 9] = [
    "drive_tcp4",
    "drive_udp4",
    "drive_tcp6",
    "drive_udp6",
    "drive_syn4",
    "drive_syn6",
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
/// The same of packets to instances that go out.
pub(crate) const INSTANCE_MACS: [u8; 2] = [INSTANCE_MAC, IN_MAC];

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
             address add 10.99.2.1/24 dev out0\naddress add fd00:99:2::1/64 dev out0 nodad\n\
             link add in0 address {} type veth peer name in1\nlink set in0 up\nlink set in1 up\n\
             address add 10.99.1.1/24 dev in0\naddress add fd00:99:1::1/64 dev in0 nodad\n\
             route add 100.120.0.0/24 dev in0\nroute add 2001:db8:c::6478:0/112 dev in0\n",
            written(mac(OUT_MAC)),
            written(mac(IN_MAC)),
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
        lines += &format!(
            "route add 100.112.0.0/15 via {}\nroute add 2001:db8:c::6470:0/111 via {}\n",
            V4::backend(0).ip(),
            V6::backend(0).ip()
        );
        for index in [QUIET.index, TOLD.index, LARGE.index, MAPPED.index, PUBLIC] {
            let mac = written(mac(INSTANCE_MAC));
            for address in [instance::<V4>(index).ip(), instance::<V6>(index).ip()] {
                lines += &format!("neighbor add {address} lladdr {mac} dev in0 nud permanent\n");
            }
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
    /// Number of the interface that instances are behind.
    behind: u32,
}

impl Stage {
    /// Loads both objects and fills their tables. The calling thread is in the namespace.
    pub(crate) fn load(object: &std::path::Path, population: &Population) -> Result<Self> {
        let out = if_nametoindex("out0").context("find device out0")?;
        let behind = if_nametoindex("in0").context("find device in0")?;
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
            Port {
                slot: SLOT_IN,
                ifindex: behind,
                mac: mac(IN_MAC),
            },
        ];
        let mut stage = Self {
            product: Product::load(object, &ports, HopLifetime::Endless)?,
            yardstick: Yardstick::load()?,
            behind,
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
        self.yardstick.configure::<A>(&ways)?;
        let tcp = Course::<A>::known(population.tcp);
        let udp = Course::<A>::known(population.udp).udp();
        let kind = FlowKind::Rule.byte(Direction::ToInstance, false);
        for course in [tcp, udp] {
            self.product
                .fill([course, course.replies()], kind, self.hop())?;
            self.yardstick.fill(&course, &ways)?;
        }
        let kind = FlowKind::OutboundRule.byte(Direction::FromInstance, false);
        let tcp = outward::courses::<A>(SOME);
        let udp = outward::courses::<A>(1).map(Course::udp);
        for both in [tcp, udp] {
            self.product.fill(both, kind, self.hop())?;
        }
        Ok(())
    }

    /// Where known flows leave.
    pub(crate) fn hop(&self) -> Hop {
        Hop {
            mac: mac(NEXT_HOP_MAC),
            slot: SLOT_OUT,
        }
    }

    /// A frame on its way in.
    pub(crate) fn arriving<'f>(&self, frame: &'f [u8], setting: &Setting) -> Arriving<'f> {
        let ingress = if setting.from_instances {
            self.behind
        } else {
            LOOPBACK
        };
        Arriving { frame, ingress }
    }
}
