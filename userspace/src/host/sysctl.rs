//! The sysctls that forwarding needs (`manage_host`): set, logged, and put back by `detach`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Old values, kept in the state folder until `detach`.
#[derive(Debug)]
pub struct Sysctls {
    store: PathBuf,
    old: BTreeMap<String, String>,
}

impl Sysctls {
    /// Reads what a former daemon changed.
    pub fn open(state_dir: &Path) -> Self {
        let store = state_dir.join("sysctls.json");
        let old = fs::read(&store)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        Self { store, old }
    }

    /// Sets what forwarding over these interfaces needs. One that cannot be set is a warning: the node
    /// may still work, and says why if it does not.
    ///
    /// # Errors
    /// Old values cannot be kept.
    pub fn prepare(&mut self, interfaces: &[String]) -> Result<()> {
        for (key, value) in wanted(interfaces) {
            let path = path(&key);
            let Ok(found) = fs::read_to_string(&path) else {
                // A host without IPv6 has none of its keys.
                log::debug!("no sysctl {key} on this host");
                continue;
            };
            let found = found.trim().to_owned();
            if found == value {
                continue;
            }
            self.old.entry(key.clone()).or_insert_with(|| found.clone());
            self.save()?;
            match fs::write(&path, &value) {
                Ok(()) => log::info!("set sysctl {key} = {value} (was {found})"),
                Err(error) => log::warn!(
                    "cannot set sysctl {key} = {value}: {error}; set it by hand, or forwarding may fail"
                ),
            }
        }
        Ok(())
    }

    /// Puts the old values back; says which.
    pub fn restore(self) -> Vec<String> {
        let mut restored = Vec::new();
        for (key, value) in &self.old {
            match fs::write(path(key), value) {
                Ok(()) => restored.push(format!("{key} = {value}")),
                Err(error) => log::warn!("cannot put sysctl {key} back to {value}: {error}"),
            }
        }
        let _ = fs::remove_file(&self.store);
        restored
    }

    fn save(&self) -> Result<()> {
        let text = serde_json::to_vec_pretty(&self.old).context("write sysctls")?;
        fs::write(&self.store, text).with_context(|| format!("write {}", self.store.display()))
    }
}

fn path(key: &str) -> PathBuf {
    Path::new("/proc/sys").join(key)
}

/// Keys and the values that forwarding needs.
fn wanted(interfaces: &[String]) -> Vec<(String, String)> {
    let mut wanted = vec![("net/ipv4/ip_forward".to_owned(), "1".to_owned())];
    for name in interfaces {
        let mut set =
            |key: &str, value: &str| wanted.push((key.replace("NIC", name), value.to_owned()));
        // Turning forwarding on makes a host ignore router advertisements unless told otherwise, and so
        // lose a default route it learnt that way: 2 means "accept all the same".
        if value_of(&format!("net/ipv6/conf/{name}/accept_ra")) == Some(1) {
            set("net/ipv6/conf/NIC/accept_ra", "2");
        }
        set("net/ipv4/conf/NIC/forwarding", "1");
        // Answers leave with a frontend's source address, which no route of the host points back to. The
        // kernel takes the larger of both values; 0 (off) needs no loosening.
        let filter =
            |scope: &str| value_of(&format!("net/ipv4/conf/{scope}/rp_filter")).unwrap_or(0);
        if filter("all").max(filter(name)) == 1 {
            set("net/ipv4/conf/NIC/rp_filter", "2");
        }
        set("net/ipv4/conf/NIC/send_redirects", "0");
        set("net/ipv6/conf/NIC/forwarding", "1");
    }
    wanted.push(("net/ipv6/conf/all/forwarding".to_owned(), "1".to_owned()));
    wanted
}

fn value_of(key: &str) -> Option<u32> {
    std::fs::read_to_string(path(key)).ok()?.trim().parse().ok()
}
