//! The network with both objects loaded for it.

use anyhow::{Context, Result};
use aya::programs::XdpMode;
use forebay_common::family::{V4, V6};

use super::topology::{
    CLIENT, CLIENT_MAC, ROUTER_CLIENT, ROUTER_CLIENT_MAC, ROUTER_SERVER, ROUTER_SERVER_MAC, SERVER,
    SERVER_MAC, Topology, ifindex,
};
use crate::product::{Hop, HopLifetime, Port, Product, object_path};
use crate::shared::NextHop;
use crate::yardstick::{Ways, Yardstick};

/// Slots of devices; the generator's is fixed in its program.
const GENERATOR_SLOT: u32 = 0;
const CLIENT_SLOT: u32 = 1;
const SERVER_SLOT: u32 = 2;

/// Everything that a measurement needs.
pub(super) struct Setup {
    // Programs go before the devices that they are attached to.
    pub(super) product: Product,
    pub(super) yardstick: Yardstick,
    pub(super) topology: Topology,
}

impl Setup {
    /// Makes the network and loads the objects.
    pub(super) fn create() -> Result<Self> {
        let topology = Topology::create()?;
        let object = object_path()?;
        let mut yardstick = Yardstick::load()?;
        topology
            .client
            .enter(|| yardstick.set_device(GENERATOR_SLOT, ifindex(CLIENT)?))?;
        let product = topology.router.enter(|| {
            let ports = [
                Port {
                    slot: CLIENT_SLOT,
                    ifindex: ifindex(ROUTER_CLIENT)?,
                    mac: ROUTER_CLIENT_MAC,
                },
                Port {
                    slot: SERVER_SLOT,
                    ifindex: ifindex(ROUTER_SERVER)?,
                    mac: ROUTER_SERVER_MAC,
                },
            ];
            for port in &ports {
                yardstick.set_device(port.slot, port.ifindex)?;
            }
            Product::load(&object, &ports, HopLifetime::Second)
        })?;
        let ways = ways();
        yardstick.configure::<V4>(&ways)?;
        yardstick.configure::<V6>(&ways)?;
        topology.server.enter(|| -> Result<()> {
            let far_end = yardstick.program("arrive")?;
            let link = far_end.attach(SERVER, XdpMode::Driver);
            link.context("attach the far end")?;
            Ok(())
        })?;
        Ok(Self {
            product,
            yardstick,
            topology,
        })
    }
}

/// The way of known flows to their backend.
pub(super) fn to_server() -> Hop {
    Hop {
        mac: SERVER_MAC,
        slot: SERVER_SLOT,
    }
}

fn ways() -> Ways {
    let next = |to: forebay_common::wire::Mac, from: forebay_common::wire::Mac, slot| NextHop {
        to_head: to.head,
        from_head: from.head,
        to_tail: to.tail,
        from_tail: from.tail,
        slot,
    };
    Ways {
        to_backends: next(SERVER_MAC, ROUTER_SERVER_MAC, SERVER_SLOT),
        to_clients: next(CLIENT_MAC, ROUTER_CLIENT_MAC, CLIENT_SLOT),
    }
}
