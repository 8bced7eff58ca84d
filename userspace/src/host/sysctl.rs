//! The sysctls that forwarding needs (`manage_host`): set, logged, and put back by `detach`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

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
        self.set(wanted(interfaces))
    }

    /// Lets the kernel forward translated packets that it is handed, when their new source, a shared
    /// frontend, is an address of its own: it takes them for forged otherwise.
    ///
    /// # Errors
    /// Old values cannot be kept.
    pub fn accept_own_sources(&mut self, interfaces: &[String]) -> Result<()> {
        let key = |name: &String| format!("net/ipv4/conf/{name}/accept_local");
        self.set(
            interfaces
                .iter()
                .map(|name| (key(name), "1".to_owned()))
                .collect(),
        )
    }

    fn set(&mut self, wanted: Vec<(String, String)>) -> Result<()> {
        for (key, value) in wanted {
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
                // Its interface is gone.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Ok(()) => restored.push(format!("{key} = {value}")),
                Err(error) => log::warn!("cannot put sysctl {key} back to {value}: {error}"),
            }
        }
        let _ = fs::remove_file(&self.store);
        restored
    }

    fn save(&self) -> Result<()> {
        let text = serde_json::to_vec_pretty(&self.old).context("write sysctls")?;
        super::write_file(&self.store, &text)
    }
}

fn path(key: &str) -> PathBuf {
    Path::new("/proc/sys").join(key)
}

/// Keys and the values that forwarding needs.
fn wanted(interfaces: &[String]) -> Vec<(String, String)> {
    let mut wanted = Vec::new();
    let mut set = |key: String, value: &str| wanted.push((key, value.to_owned()));
    // Turning forwarding on makes a host ignore router advertisements unless told otherwise, and so lose
    // a default route that it learnt that way, on whichever interface: 2 means "accept all the same".
    for name in listening_to_routers() {
        set(format!("net/ipv6/conf/{name}/accept_ra"), "2");
    }
    set("net/ipv4/ip_forward".to_owned(), "1");
    set("net/ipv6/conf/all/forwarding".to_owned(), "1");
    // The kernel sends redirects when either the interface's value or this one allows it.
    set("net/ipv4/conf/all/send_redirects".to_owned(), "0");
    let filter = |scope: &str| value_of(&format!("net/ipv4/conf/{scope}/rp_filter")).unwrap_or(0);
    for name in interfaces {
        set(format!("net/ipv4/conf/{name}/forwarding"), "1");
        // Answers leave with a frontend's source address, which no route of the host points back to. The
        // kernel takes the larger of both values; 0 (off) needs no loosening.
        if filter("all").max(filter(name)) == 1 {
            set(format!("net/ipv4/conf/{name}/rp_filter"), "2");
        }
        set(format!("net/ipv4/conf/{name}/send_redirects"), "0");
        set(format!("net/ipv6/conf/{name}/forwarding"), "1");
        for (key, value) in NEIGHBORS {
            set(format!("net/ipv4/neigh/{name}/{key}"), value);
            set(format!("net/ipv6/neigh/{name}/{key}"), value);
        }
        // A new MAC address is believed when the old one was confirmed this long ago, in 1/100 s.
        set(format!("net/ipv4/neigh/{name}/locktime"), "10");
    }
    for family in ["ipv4", "ipv6"] {
        let interval = PROBE_INTERVAL.as_millis().to_string();
        if probe_interval().is_none_or(|found| found > PROBE_INTERVAL) {
            set(format!("net/{family}/{PROBE_INTERVAL_KEY}"), &interval);
        }
    }
    wanted
}

/// What makes the kernel notice within a second that a neighbour has another MAC address: it is believed
/// for 0.15 to 0.45 s, asked again at once, and after 0.16 s without an answer everybody is asked.
/// Times are multiples of a tick at every tick rate, so that they read as they were written.
const NEIGHBORS: [(&str, &str); 5] = [
    ("base_reachable_time_ms", "300"),
    ("delay_first_probe_time", "0"),
    ("retrans_time_ms", "160"),
    ("ucast_solicit", "1"),
    ("mcast_resolicit", "3"),
];

/// How often the neighbours that are kept resolved are looked after.
pub(super) const PROBE_INTERVAL: Duration = Duration::from_millis(200);
const PROBE_INTERVAL_KEY: &str = "neigh/default/interval_probe_time_ms";

/// How often the kernel looks after them by itself; `None` where only the machine's first network
/// namespace can tell.
pub(super) fn probe_interval() -> Option<Duration> {
    let intervals =
        ["ipv4", "ipv6"].map(|family| value_of(&format!("net/{family}/{PROBE_INTERVAL_KEY}")));
    let longest = intervals.into_iter().flatten().max()?;
    Some(Duration::from_millis(longest.into()))
}

/// Interfaces that accept router advertisements as long as they do not forward.
fn listening_to_routers() -> Vec<String> {
    let entries = fs::read_dir(path("net/ipv6/conf"))
        .into_iter()
        .flatten()
        .flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let listens = |name: &String| {
        let value = |key: &str| value_of(&format!("net/ipv6/conf/{name}/{key}"));
        !matches!(name.as_str(), "all" | "default" | "lo")
            && value("accept_ra") == Some(1)
            && value("forwarding") == Some(0)
    };
    names.filter(listens).collect()
}

fn value_of(key: &str) -> Option<u32> {
    std::fs::read_to_string(path(key)).ok()?.trim().parse().ok()
}
