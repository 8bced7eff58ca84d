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
        let mut changes = Vec::new();
        for (key, value) in wanted {
            // A host without IPv6 has none of its keys.
            let Some(found) = read(&key) else {
                log::debug!("no sysctl {key} on this host");
                continue;
            };
            if found != value {
                self.remember(&key);
                changes.push((key, value, found));
            }
        }
        if changes.is_empty() {
            return Ok(());
        }
        self.save()?;
        for (key, value, found) in changes {
            match fs::write(path(&key), &value) {
                Ok(()) => log::info!("set sysctl {key} = {value} (was {found})"),
                Err(error) => log::warn!(
                    "cannot set sysctl {key} = {value}: {error}; set it by hand, or forwarding may fail"
                ),
            }
        }
        Ok(())
    }

    /// Notes the value of a key, and of those that the kernel sets along with it.
    fn remember(&mut self, key: &str) {
        for key in dragged_along(key).into_iter().chain([key.to_owned()]) {
            if let Some(value) = read(&key) {
                self.old.entry(key).or_insert(value);
            }
        }
    }

    /// Puts the old values back; says which.
    pub fn restore(self) -> Vec<String> {
        let mut restored = Vec::new();
        // Those first that set others along.
        let (toggles, others): (Vec<_>, Vec<_>) =
            (self.old.iter()).partition(|(key, _)| TOGGLES.contains(&key.as_str()));
        for (key, value) in toggles.into_iter().chain(others) {
            if read(key).is_none_or(|found| found == *value) {
                continue;
            }
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
        super::write_file(&self.store, &text)
    }
}

fn path(key: &str) -> PathBuf {
    Path::new("/proc/sys").join(key)
}

/// The value of a key; `None`: this host has no such key (any more).
fn read(key: &str) -> Option<String> {
    let text = fs::read_to_string(path(key)).ok()?;
    Some(text.trim().to_owned())
}

const FORWARD4: &str = "net/ipv4/ip_forward";
const FORWARD6: &str = "net/ipv6/conf/all/forwarding";
/// Keys that set others along when their value changes.
const TOGGLES: [&str; 2] = [FORWARD4, FORWARD6];

/// The keys that the kernel sets along with this one: forwarding of every interface and of those to
/// come, and whether redirects are accepted.
fn dragged_along(key: &str) -> Vec<String> {
    let (family, more) = match key {
        FORWARD4 => ("ipv4", Some("net/ipv4/conf/all/accept_redirects")),
        FORWARD6 => ("ipv6", None),
        _ => return Vec::new(),
    };
    let interfaces = fs::read_dir(path(&format!("net/{family}/conf")));
    let names = interfaces.into_iter().flatten().flatten();
    let mut keys: Vec<String> = names
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name != "all")
        .map(|name| format!("net/{family}/conf/{name}/forwarding"))
        .collect();
    keys.extend(more.map(str::to_owned));
    keys
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
    set(FORWARD4.to_owned(), "1");
    set(FORWARD6.to_owned(), "1");
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
    read(key)?.parse().ok()
}
