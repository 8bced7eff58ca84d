//! The daemon on real NIC drivers: in virtual machines, whose NICs the environment names.
//!
//! The lab is the one of the end-to-end suite, with NICs in place of the node's cables. What
//! differs between drivers is tried here: native mode, offloads, queues, VLAN tags.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends at the first thing that goes wrong"
)]

mod intact;
mod scene;

mod node;
mod queues;
mod restart;
mod traffic;
mod vlan;
