//! What NICs must not do before the program sees a frame (`manage_host`). VLAN tags that a NIC takes off
//! are out of the program's reach. Segments that were put together are frames larger than any MTU: they
//! can neither be sent on nor, in generic mode, be taken apart again. Switched off, logged, and put back
//! by `detach`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::ethtool::Offload;
use crate::control_plane::{HostInterface, XdpState};

/// Settings that were changed, kept in the state folder until `detach`.
#[derive(Debug)]
pub struct Offloads {
    store: PathBuf,
    changed: BTreeSet<(String, Offload)>,
}

impl Offloads {
    /// Reads what a former daemon changed.
    pub fn open(state_dir: &Path) -> Self {
        let store = state_dir.join("offloads.json");
        let changed = fs::read(&store)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        Self { store, changed }
    }

    /// Switches off what is in the way on these interfaces, as they are attached now. What cannot be
    /// switched off is a warning.
    ///
    /// # Errors
    /// What was changed cannot be kept.
    pub fn prepare(&mut self, host: &[HostInterface]) -> Result<()> {
        for (nic, offload) in unwanted(host) {
            match offload.is_on(&nic) {
                Ok(true) => {}
                // Also a device that knows no such setting.
                Ok(false) | Err(_) => continue,
            }
            let name = offload.label();
            self.changed.insert((nic.clone(), offload));
            self.save()?;
            match offload.switch(&nic, false) {
                Ok(()) => log::info!("{nic}: switched {name} off, {}", reason(offload)),
                Err(error) => log::warn!(
                    "{nic}: cannot switch {name} off ({error}): {}",
                    consequence(offload)
                ),
            }
        }
        Ok(())
    }

    /// Puts the old settings back; says which.
    pub fn restore(self) -> Vec<String> {
        let mut restored = Vec::new();
        for (nic, offload) in &self.changed {
            let name = offload.label();
            match offload.switch(nic, true) {
                Ok(()) => restored.push(format!("{name} of {nic} = on")),
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {}
                Err(error) => log::warn!("{nic}: cannot switch {name} on again: {error}"),
            }
        }
        let _ = fs::remove_file(&self.store);
        restored
    }

    fn save(&self) -> Result<()> {
        let text = serde_json::to_vec_pretty(&self.changed).context("write offloads")?;
        super::write_file(&self.store, &text)
    }
}

/// What must be off, and where.
fn unwanted(host: &[HostInterface]) -> BTreeSet<(String, Offload)> {
    let mut unwanted = BTreeSet::new();
    for interface in host.iter().filter(|one| one.is_attached()) {
        let mut off = |nic: &String, offload| unwanted.insert((nic.clone(), offload));
        off(&interface.name, Offload::VlanStripping);
        off(&interface.name, Offload::Lro);
        if interface.xdp != XdpState::Generic {
            continue;
        }
        for nic in interface.feeders.iter().chain([&interface.name]) {
            off(nic, Offload::Lro);
            off(nic, Offload::Gro);
        }
    }
    unwanted
}

fn reason(offload: Offload) -> &'static str {
    match offload {
        Offload::VlanStripping => "so that XDP sees VLAN tags",
        Offload::Lro | Offload::Gro => "so that frames can be sent on as they came",
    }
}

fn consequence(offload: Offload) -> &'static str {
    match offload {
        Offload::VlanStripping => "frames of VLANs are taken for untagged ones",
        Offload::Lro | Offload::Gro => "large transfers may stall",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(name: &str, xdp: XdpState) -> HostInterface {
        HostInterface {
            name: name.to_owned(),
            xdp,
            ..HostInterface::default()
        }
    }

    #[test]
    fn a_device_without_the_setting_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let mut offloads = Offloads::open(folder.path());
        offloads
            .prepare(&[interface("no-such-nic0", XdpState::Generic)])
            .expect("nothing to keep");
        assert!(offloads.changed.is_empty());
        assert!(!folder.path().join("offloads.json").exists());
        assert!(offloads.restore().is_empty());
    }

    #[test]
    fn segments_stay_apart_in_generic_mode_on_the_whole_way_in() {
        let mut bridge = interface("lan", XdpState::Generic);
        bridge.feeders = vec!["eth1".to_owned()];
        let found = unwanted(&[interface("eth0", XdpState::Native), bridge]);
        let expected = [
            ("eth0", Offload::VlanStripping),
            ("eth0", Offload::Lro),
            ("lan", Offload::VlanStripping),
            ("lan", Offload::Lro),
            ("lan", Offload::Gro),
            ("eth1", Offload::Lro),
            ("eth1", Offload::Gro),
        ];
        let expected = expected.map(|(nic, offload)| (nic.to_owned(), offload));
        assert_eq!(found, BTreeSet::from(expected));
    }
}
