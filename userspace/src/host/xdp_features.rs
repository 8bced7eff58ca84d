//! What interfaces can do with XDP, as the kernel says (generic netlink family `netdev`, Linux 6.3).

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use futures::StreamExt;
use genetlink::GenetlinkHandle;
use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload, NlasIterator,
    ParseableParametrized, parse_u32, parse_u64,
};
use netlink_packet_generic::{GenlFamily, GenlHeader, GenlMessage};

use crate::control_plane::{HostInterface, XdpState};

const DEVICE_GET: u8 = 1;
const IFINDEX: u16 = 1;
const XDP_FEATURES: u16 = 3;
/// Takes frames that are redirected to it (`ndo_xdp_xmit`).
const TAKES_FRAMES: u64 = 4;
/// Takes those that lie in more than one buffer as well.
const TAKES_LONG_FRAMES: u64 = 64;
/// Up to this MTU every driver has room for a frame in one buffer.
const ONE_BUFFER: u32 = 3000;

/// A question about a device, or the answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Device {
    ifindex: u32,
    features: u64,
}

impl Device {
    /// What names the device in a question.
    fn attribute(&self) -> DefaultNla {
        DefaultNla::new(IFINDEX, self.ifindex.to_ne_bytes().to_vec())
    }
}

impl GenlFamily for Device {
    fn family_name() -> &'static str {
        "netdev"
    }

    fn command(&self) -> u8 {
        DEVICE_GET
    }

    fn version(&self) -> u8 {
        1
    }
}

impl Emitable for Device {
    fn buffer_len(&self) -> usize {
        self.attribute().buffer_len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        self.attribute().emit(buffer);
    }
}

impl ParseableParametrized<[u8], GenlHeader> for Device {
    fn parse_with_param(bytes: &[u8], _: GenlHeader) -> Result<Self, DecodeError> {
        let mut device = Self::default();
        for attribute in NlasIterator::new(bytes) {
            let attribute = attribute?;
            match attribute.kind() {
                IFINDEX => device.ifindex = parse_u32(attribute.value())?,
                XDP_FEATURES => device.features = parse_u64(attribute.value())?,
                _ => {}
            }
        }
        Ok(device)
    }
}

/// A connection on which the kernel can be asked.
#[derive(Debug, Clone)]
pub(super) struct XdpFeatures {
    handle: GenetlinkHandle,
}

impl XdpFeatures {
    pub(super) fn connect() -> Result<Self> {
        let (connection, handle, _) =
            genetlink::new_connection().context("open a generic netlink socket")?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// Says of interfaces whether frames can be redirected to them. What the kernel does not tell is
    /// guessed.
    pub(super) async fn complete(&self, interfaces: &mut [HostInterface]) {
        let mut known = BTreeMap::new();
        for interface in interfaces.iter().filter(|one| one.is_attached()) {
            match self.ask(interface.ifindex).await {
                Ok(features) => known.extend(features.map(|found| (interface.ifindex, found))),
                // A kernel before 6.3.
                Err(error) => {
                    log::debug!("no word on XDP features: {error:#}");
                    break;
                }
            }
        }
        complete(interfaces, &known);
    }

    /// The features of an interface; `None`: it is gone. One question for each: the answers about all
    /// come without the flag that tells them for parts of one.
    async fn ask(&self, ifindex: u32) -> Result<Option<u64>> {
        let device = Device {
            ifindex,
            features: 0,
        };
        let mut question = NetlinkMessage::from(GenlMessage::from_payload(device));
        question.header.flags = NLM_F_REQUEST;
        let mut handle = self.handle.clone();
        let mut answers = std::pin::pin!(handle.request(question).await?);
        let Some(answer) = answers.next().await else {
            return Ok(None);
        };
        Ok(match answer?.payload {
            NetlinkPayload::InnerMessage(message) => Some(message.payload.features),
            _ => None,
        })
    }
}

/// Frames for a VLAN device go to the NIC under it.
fn complete(interfaces: &mut [HostInterface], known: &BTreeMap<u32, u64>) {
    let states: BTreeMap<u32, XdpState> = interfaces
        .iter()
        .filter(|one| one.is_attached())
        .map(|one| (one.ifindex, one.xdp))
        .collect();
    for interface in interfaces {
        let nic = interface.nic();
        let state = states.get(&nic).copied().unwrap_or_default();
        let features = known.get(&nic).copied();
        interface.takes_redirects = takes_redirects(state, features, interface.mtu);
    }
}

/// Drivers that have native XDP mostly take redirected frames too; generic mode is chosen where there
/// is none.
fn takes_redirects(state: XdpState, features: Option<u64>, mtu: u32) -> bool {
    let needed = if mtu > ONE_BUFFER {
        TAKES_FRAMES | TAKES_LONG_FRAMES
    } else {
        TAKES_FRAMES
    };
    match features {
        Some(features) => features & needed == needed,
        None => state != XdpState::Generic,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control_plane::VlanDevice;

    #[test]
    fn an_answer_of_the_kernel_is_understood() {
        let bytes = [
            [8, 0, 1, 0].as_slice(),
            &7_u32.to_ne_bytes(),
            &[12, 0, 3, 0],
            &0x47_u64.to_ne_bytes(),
            // An attribute that came later.
            &[8, 0, 99, 0, 1, 2, 3, 4],
        ];
        let header = GenlHeader { cmd: 2, version: 1 };
        let device = Device::parse_with_param(&bytes.concat(), header).unwrap();
        assert_eq!((device.ifindex, device.features), (7, 0x47));
    }

    #[test]
    fn the_kernel_decides_and_the_mode_stands_in_for_it() {
        use XdpState::{Generic, Native};
        assert!(takes_redirects(Native, Some(0x7), 1500));
        assert!(!takes_redirects(Native, Some(0x3), 1500));
        assert!(takes_redirects(Generic, Some(0x4), 1500));
        assert!(!takes_redirects(Generic, None, 1500));
        assert!(takes_redirects(Native, None, 9000));
        assert!(!takes_redirects(Native, Some(0x7), 9000));
        assert!(takes_redirects(Native, Some(0x47), 9000));
    }

    #[test]
    fn a_vlan_device_takes_what_its_nic_takes() {
        let nic = |ifindex, xdp| HostInterface {
            ifindex,
            xdp,
            ..HostInterface::default()
        };
        let vlan = |ifindex, nic| HostInterface {
            ifindex,
            vlan: Some(VlanDevice { nic, tags: [1, 0] }),
            ..HostInterface::default()
        };
        let mut interfaces = [
            nic(2, XdpState::Native),
            nic(3, XdpState::Generic),
            vlan(7, 2),
            vlan(8, 3),
        ];
        let taken = |interfaces: &[HostInterface]| -> Vec<bool> {
            interfaces.iter().map(|one| one.takes_redirects).collect()
        };
        complete(&mut interfaces, &BTreeMap::new());
        assert_eq!(taken(&interfaces), [true, false, true, false]);
        complete(&mut interfaces, &BTreeMap::from([(2, 0), (3, 4)]));
        assert_eq!(taken(&interfaces), [false, true, false, true]);
    }
}
