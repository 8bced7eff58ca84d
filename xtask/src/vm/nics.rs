//! The NICs of a guest: of each driver two links, each of two NICs that are connected outside.
//!
//! In the guest, one NIC of a link is the one that is tried; the other belongs to whom it talks to.
//! Tests are told by MAC address which is which.

use std::process::Command;

use super::network::{Network, tap_name};

/// Links of each driver: a node has up to two arms.
pub(crate) const LINKS: usize = 2;
/// Twice the processors of a guest: native XDP wants queues of its own to send on.
const QUEUES: usize = 4;
/// The environment of a job: driver and addresses.
const NICS: &str = "FOREBAY_NICS";

/// A driver of the guest's kernel, and the device of QEMU that it drives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Driver {
    VirtioNet,
    Igb,
}

/// One end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The NIC that is tried.
    Near,
    /// Who it talks to; always a virtio-net.
    Far,
}

/// All that are tried.
pub(crate) const DRIVERS: [Driver; 2] = [Driver::VirtioNet, Driver::Igb];
const ENDS: [End; 2] = [End::Near, End::Far];

impl Driver {
    /// As the kernel calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::VirtioNet => "virtio_net",
            Self::Igb => "igb",
        }
    }

    /// As QEMU calls its device.
    pub(crate) fn device(self) -> &'static str {
        match self {
            Self::VirtioNet => "virtio-net-pci",
            Self::Igb => "igb",
        }
    }

    /// What a job has to know about these NICs, as a variable of its environment.
    pub(crate) fn environment(self) -> (String, String) {
        let mut nics = self.name().to_owned();
        for link in 0..LINKS {
            for end in ENDS {
                nics.push(' ');
                nics.push_str(&self.address(link, end));
            }
        }
        (NICS.to_owned(), nics)
    }

    /// Why these NICs have one queue only, if they have.
    pub(crate) fn one_queue(self, network: &Network) -> Option<&str> {
        match (self, network) {
            (Self::VirtioNet, Network::HubsOnly(why)) => Some(why),
            _ => None,
        }
    }

    fn address(self, link: usize, end: End) -> String {
        format!("52:54:00:{:02x}:{link:02x}:{:02x}", self as u8, end as u8)
    }

    /// Adds these NICs to a guest.
    pub(crate) fn plug_in(self, network: &Network, command: &mut Command) {
        for link in 0..LINKS {
            for end in ENDS {
                self.plug_in_one(network, link, end, command);
            }
        }
    }

    fn plug_in_one(self, network: &Network, link: usize, end: End, command: &mut Command) {
        let id = format!("{}{link}{end:?}", self.device());
        let taps = self == Self::VirtioNet && matches!(network, Network::Taps(_));
        let netdev = match (taps, end) {
            (true, End::Near) => tap(&id, link, end, QUEUES),
            (true, End::Far) => tap(&id, link, end, 1),
            // Hubs are told apart by number.
            (false, _) => {
                let hub = self as usize * LINKS + link + 1;
                format!("hubport,id={id},hubid={hub}")
            }
        };
        let device = if end == End::Near {
            self.device()
        } else {
            Self::VirtioNet.device()
        };
        let address = self.address(link, end);
        let mut options = format!("{device},netdev={id},mac={address},romfile=");
        if taps && end == End::Near {
            // A vector for each queue of either direction, and two for the device.
            options.push_str(&format!(",mq=on,vectors={}", 2 * QUEUES + 2));
        }
        if device == Self::Igb.device() {
            let number = link + 1;
            let port = format!("pcie-root-port,id=port{number},chassis={number},slot={number}");
            command.args(["-device", &port]);
            options.push_str(&format!(",bus=port{number}"));
        }
        command.args(["-netdev", &netdev, "-device", &options]);
    }
}

fn tap(id: &str, link: usize, end: End, queues: usize) -> String {
    let name = tap_name(link, end);
    let mut text = format!("tap,id={id},ifname={name},script=no,downscript=no,vhost=off");
    if queues > 1 {
        text.push_str(&format!(",queues={queues}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taps() -> Network {
        Network::Taps("/network.sh".into())
    }

    fn arguments(driver: Driver, network: &Network) -> String {
        let mut command = Command::new("qemu");
        driver.plug_in(network, &mut command);
        let words: Vec<_> = command
            .get_args()
            .map(|word| word.to_string_lossy())
            .collect();
        words.join(" ")
    }

    #[test]
    fn no_two_nics_of_a_guest_share_an_address() {
        let mut addresses = Vec::new();
        for driver in DRIVERS {
            for link in 0..LINKS {
                addresses.extend(ENDS.map(|end| driver.address(link, end)));
            }
        }
        let all = addresses.len();
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), all);
    }

    #[test]
    fn the_nic_that_is_tried_has_several_queues_on_taps() {
        let text = arguments(Driver::VirtioNet, &taps());
        assert_eq!(text.matches("queues=4").count(), LINKS, "{text}");
        assert_eq!(text.matches("mq=on,vectors=10").count(), LINKS, "{text}");
    }

    #[test]
    fn without_taps_links_are_hubs_and_it_is_told_why() {
        let network = Network::HubsOnly("no taps here".to_owned());
        let text = arguments(Driver::VirtioNet, &network);
        assert!(!text.contains("tap"), "{text}");
        assert_eq!(text.matches("hubid=1").count(), 2, "{text}");
        assert_eq!(Driver::VirtioNet.one_queue(&network), Some("no taps here"));
        assert_eq!(Driver::VirtioNet.one_queue(&taps()), None);
        assert_eq!(Driver::Igb.one_queue(&network), None);
    }

    #[test]
    fn an_igb_has_a_port_of_its_own_and_a_virtio_net_at_the_other_end() {
        let text = arguments(Driver::Igb, &taps());
        assert!(
            text.contains("igb,netdev=igb0Near,mac=52:54:00:01:00:00,romfile=,bus=port1"),
            "{text}"
        );
        assert!(text.contains("virtio-net-pci,netdev=igb1Far"), "{text}");
    }
}
