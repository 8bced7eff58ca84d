//! What a NIC must not do before the program sees a frame (`manage_host`): take its VLAN tags off, which
//! the driver would then hand to the kernel beside the frame, where XDP has no access. Switched off,
//! logged, and put back by `detach`.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

const GET_FLAGS: u32 = 0x25;
const SET_FLAGS: u32 = 0x26;
const VLAN_STRIPPING: u32 = 1 << 8;

/// NICs whose setting was changed, kept in the state folder until `detach`.
#[derive(Debug)]
pub struct Offloads {
    store: PathBuf,
    changed: BTreeSet<String>,
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

    /// Leaves VLAN tags on the frames of these NICs. One where that cannot be is a warning: without
    /// VLANs it does no harm.
    ///
    /// # Errors
    /// What was changed cannot be kept.
    pub fn prepare<'a>(&mut self, nics: impl Iterator<Item = &'a str>) -> Result<()> {
        for nic in nics {
            match strips_tags(nic) {
                Ok(true) => {}
                // Also a device that knows no such setting.
                Ok(false) | Err(_) => continue,
            }
            self.changed.insert(nic.to_owned());
            self.save()?;
            match strip_tags(nic, false) {
                Ok(()) => {
                    log::info!("{nic}: switched rx-vlan-offload off, so that XDP sees VLAN tags")
                }
                Err(error) => log::warn!(
                    "{nic}: cannot switch rx-vlan-offload off ({error}): frames of VLANs are taken for untagged ones"
                ),
            }
        }
        Ok(())
    }

    /// Puts the old settings back; says which.
    pub fn restore(self) -> Vec<String> {
        let mut restored = Vec::new();
        for nic in &self.changed {
            match strip_tags(nic, true) {
                Ok(()) => restored.push(format!("rx-vlan-offload of {nic} = on")),
                Err(error) => {
                    log::warn!("{nic}: cannot switch rx-vlan-offload on again: {error}");
                }
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

fn strips_tags(nic: &str) -> io::Result<bool> {
    Ok(flags(nic, GET_FLAGS, 0)? & VLAN_STRIPPING != 0)
}

fn strip_tags(nic: &str, on: bool) -> io::Result<()> {
    let others = flags(nic, GET_FLAGS, 0)? & !VLAN_STRIPPING;
    let wanted = if on { others | VLAN_STRIPPING } else { others };
    flags(nic, SET_FLAGS, wanted)?;
    // A driver may take the order and do nothing.
    if strips_tags(nic)? != on {
        return Err(io::Error::other("the driver keeps it as it is"));
    }
    Ok(())
}

/// `struct ethtool_value`.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// `struct ifreq` with the member that points to data.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    data: *mut EthtoolValue,
    rest: [u64; 2],
}

fn flags(nic: &str, command: u32, data: u32) -> io::Result<u32> {
    let mut name = [0; libc::IFNAMSIZ];
    // The last byte stays 0.
    let room = name.iter_mut().take(libc::IFNAMSIZ - 1);
    room.zip(nic.bytes()).for_each(|(to, from)| *to = from);
    let mut value = EthtoolValue { command, data };
    let mut request = Request {
        name,
        data: &raw mut value,
        rest: [0; 2],
    };
    let socket = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    // SAFETY: the request is as long as `struct ifreq`, its name ends with a zero, and its pointer leads to
    // a live `struct ethtool_value`, which is all that these two commands read and write.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(value.data)
}

const _: () = assert!(size_of::<Request>() == size_of::<libc::ifreq>());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_without_the_setting_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let mut offloads = Offloads::open(folder.path());
        offloads
            .prepare(["lo", "no-such-nic0"].into_iter())
            .expect("nothing to keep");
        assert!(offloads.changed.is_empty());
        assert!(!folder.path().join("offloads.json").exists());
        assert!(offloads.restore().is_empty());
    }
}
