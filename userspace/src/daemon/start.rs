//! From a valid file to a running node, or to a message that says what is missing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use anyhow::{Context, Result, bail};
use tokio::sync::{mpsc, watch};

use super::availability::Trials;
use super::frontend_counters::Carried;
use super::leaving::Leaving;
use super::metrics::Metrics;
use super::probing::Probing;
use super::snat::{Counted, SnatWatch};
use super::{Daemon, InForce, Options, nat_ports, resize};
use crate::advertise::Advertiser;
use crate::config::model::Config;
use crate::config::{Diagnostic, Loaded};
use crate::control_plane::{ControlPlane, Event, HostInterface, Sizes};
use crate::control_socket::{self, Call};
use crate::dataplane::{Dataplane, Opened, Pins, remove_pins};
use crate::events::Events;
use crate::host::{
    Neighbors, Netlink, Offloads, ResetSocket, Sysctls, default_flows, reach, total_memory,
    untrusted_sets,
};
use crate::metrics::Asked;
use crate::probes::Found;
use crate::systemd::Systemd;

/// Capabilities that the daemon needs, with their bits; CAP_SYS_ADMIN stands for the last two.
const CAPABILITIES: [(&str, u32); 3] =
    [("CAP_NET_ADMIN", 12), ("CAP_PERFMON", 38), ("CAP_BPF", 39)];
const CAP_SYS_ADMIN: u32 = 21;

/// File in the state folder that says where the pins are.
const PINS: &str = "pins";

/// What a daemon that was started is asked.
pub(super) struct Asks {
    /// By commands.
    pub(super) calls: mpsc::Receiver<Call>,
    /// The counts that it has begun.
    pub(super) snat_counts: mpsc::Receiver<Counted>,
    /// What its probes find.
    pub(super) found: mpsc::Receiver<Found>,
    /// Over HTTP.
    pub(super) asked: mpsc::Receiver<Asked>,
}

pub(super) async fn start(options: Options, loaded: Loaded) -> Result<(Daemon, Asks)> {
    require_privilege()?;
    let config = Arc::new(loaded.config);
    for warning in &loaded.warnings {
        log::warn!("{warning}");
    }
    let netlink = Netlink::connect()?;
    let host = netlink.interfaces(&config.node.interfaces).await?;
    require_interfaces(&config.node.interfaces, &host, &netlink).await?;
    make_folder(&config.node.state_dir)?;
    let key = hash_key(&config)?;
    let pins = Pins::lock(&config.node.bpf_fs)?;
    let fresh = !pins.has_maps();
    remember_pins(&config)?;
    let in_force = InForce {
        sha256: loaded.sha256,
        loaded_at: timestamp(),
    };
    let begun = begin(options, in_force, &config, netlink, host, key, pins).await;
    if begun.is_err() && fresh {
        // Nothing of a node that never ran is left behind.
        let _ = remove_pins(&config.node.bpf_fs);
        Sysctls::open(&config.node.state_dir).restore();
        Offloads::open(&config.node.state_dir).restore();
    }
    begun
}

async fn begin(
    options: Options,
    in_force: InForce,
    config: &Arc<Config>,
    netlink: Netlink,
    host: Vec<HostInterface>,
    key: [u64; 2],
    pins: Pins,
) -> Result<(Daemon, Asks)> {
    let (mut metrics, asked) = Metrics::open(&config.api).await?;
    let nat_ports = nat_ports::read(&config.node.state_dir)?;
    let wanted = flow_capacity(config);
    let sizes = sizes(wanted);
    let Opened {
        dataplane,
        flows,
        adopted,
        is_adopted,
    } = Dataplane::open(pins, sizes)?;
    if is_adopted {
        log::info!("adopted the tables of the former daemon: flows and counters go on");
    }
    resize::require_room_for(flows.entries()?, wanted)?;
    let has_foreign_flows = is_adopted && adopted.settings.layout == 0;
    metrics.carried = match is_adopted && !has_foreign_flows {
        true => Carried::restore(&config.node.state_dir),
        false => Carried::begin(&config.node.state_dir),
    };
    if has_foreign_flows {
        dataplane.set_entries(flows.entries()?)?;
        flows.v4.disown()?;
        flows.v6.disown()?;
    }
    let sizes = flows.sizes();
    let clock = dataplane.measure_clock()?;
    let census = flows.census(&adopted.settings, clock.now())?;
    let held = census.rules();
    let calls = control_socket::listen(&config.api.socket).await?;
    let advertiser = Advertiser::start(&config.node.state_dir)?;
    let resets = ResetSocket::open().inspect_err(|error| {
        log::warn!("nobody is told by a RST that a flow ends: {error:#}");
    });
    let neighbors = Neighbors::start(&config.node.state_dir)?;
    let (snat, snat_counts) = SnatWatch::new();
    let (probing, found) = Probing::restore(&config.node.state_dir)?;
    let leaving = Leaving::restore(&config.node.state_dir, is_adopted && !has_foreign_flows);
    let mut daemon = Daemon {
        options,
        neighbors,
        reached_by_kernel: BTreeSet::new(),
        netlink,
        dataplane,
        flows: watch::Sender::new(Arc::new(flows)),
        resets: resets.ok().map(Arc::new),
        control_plane: ControlPlane::new(clock.rate, sizes, key, adopted)
            .with_nat_ports(nat_ports)
            .with_held_rules(held),
        clock,
        census: Arc::new(census),
        in_force,
        started: Instant::now(),
        ready: false,
        stuck: None,
        terms: watch::Sender::new(None),
        advertiser,
        taken: BTreeSet::new(),
        claims_changed: false,
        events: Events::default(),
        snat,
        whoami: None,
        answers: watch::Sender::new(Arc::default()),
        leaving,
        probing,
        metrics,
        systemd: Systemd::from_environment(),
        trials: Trials::new(),
    };
    let bring_up = |daemon: &mut Daemon| -> Result<()> {
        daemon.handle(Event::Host(host.clone()))?;
        daemon.probe(config);
        daemon.handle(Event::Config(config.clone()))?;
        daemon.prepare_host(config, &host)?;
        for interface in host.iter().filter(|one| one.is_attached()) {
            daemon.attach(&interface.name, interface.ifindex)?;
        }
        daemon.tell_vlans(&[], &host);
        daemon.detach_strangers(&config.node.interfaces)?;
        if has_foreign_flows {
            // The old program went on writing its numbers of interfaces.
            let now = daemon.clock.now() as u32;
            daemon.handle(Event::HopsInvalid(now.wrapping_add(1)))?;
        }
        daemon.dataplane.forget_older_layouts()
    };
    if let Err(error) = bring_up(&mut daemon) {
        let _ = std::fs::remove_file(&config.api.socket);
        return Err(error);
    }
    let file = daemon.options.config.display().to_string();
    for warning in reach::warnings(&daemon.netlink, config, &file).await {
        log::warn!("{warning}");
    }
    daemon.go_on_resizing()?;
    daemon.keep_neighbors();
    daemon.neighbors.begun().await;
    daemon.keep_whoami().await;
    daemon.ready = true;
    daemon.tell_loaded();
    log::info!(
        "{} is ready: {} rules on {} interfaces",
        config.node.name,
        config.rules.len() + config.inbound_nat_rules.len(),
        host.len()
    );
    let asks = Asks {
        calls,
        snat_counts,
        found,
        asked,
    };
    Ok((daemon, asks))
}

impl Daemon {
    /// Takes the program off interfaces that a former daemon attached and the file no longer names.
    pub(super) fn detach_strangers(&mut self, interfaces: &[String]) -> Result<()> {
        let linked = self.dataplane.linked();
        for stranger in linked.iter().filter(|name| !interfaces.contains(name)) {
            self.dataplane.detach(stranger)?;
            log::info!("{stranger}: detached, the configuration does not name it any more");
        }
        Ok(())
    }
}

/// Sizes of new tables for so many flows.
pub(super) fn sizes(flows: u32) -> Sizes {
    Sizes {
        entries: flows.saturating_mul(2),
        untrusted_sets: untrusted_sets(flows),
    }
}

pub(super) fn flow_capacity(config: &Config) -> u32 {
    config
        .limits
        .flows
        .unwrap_or_else(|| default_flows(total_memory()))
}

fn require_privilege() -> Result<()> {
    let status =
        std::fs::read_to_string("/proc/self/status").context("read the process's capabilities")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .unwrap_or("0");
    let held = u64::from_str_radix(line.trim(), 16).unwrap_or(0);
    let has = |bit: u32| held >> bit & 1 == 1;
    let stands_in = |name: &str| name != "CAP_NET_ADMIN" && has(CAP_SYS_ADMIN);
    let missing: Vec<&str> = CAPABILITIES
        .iter()
        .filter(|(name, bit)| !(has(*bit) || stands_in(name)))
        .map(|(name, _)| *name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    bail!(
        "missing privilege: {}; run as root, or give the process these capabilities",
        missing.join(", ")
    )
}

/// Refuses interfaces that the host does not have.
pub(super) async fn require_interfaces(
    wanted: &[String],
    found: &[HostInterface],
    netlink: &Netlink,
) -> Result<()> {
    let missing: Vec<&str> = wanted
        .iter()
        .filter(|name| !found.iter().any(|has| has.name == **name))
        .map(String::as_str)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let has = netlink.names().await.unwrap_or_default().join(", ");
    bail!(
        "no interface {} on this host (it has {has}): correct [node].interfaces",
        missing.join(", ")
    )
}

/// The key of the flow hash: from the file's seed, else from one that is kept.
pub(super) fn hash_key(config: &Config) -> Result<[u64; 2]> {
    let seed = match config.node.hash_seed {
        Some(seed) => seed,
        None => kept_seed(&config.node.state_dir)?,
    };
    Ok([seed, seed.rotate_left(32) ^ 0x9e37_79b9_7f4a_7c15])
}

fn kept_seed(state_dir: &Path) -> Result<u64> {
    let path = state_dir.join("hash_seed");
    if let Ok(text) = std::fs::read_to_string(&path) {
        let text = text.trim();
        return text.parse().with_context(|| {
            format!("{} holds {text:?}, not a number: remove it (flows without an entry may then change their member)", path.display())
        });
    }
    let seed: u64 = rand::random();
    crate::host::write_file(&path, format!("{seed}\n").as_bytes())?;
    Ok(seed)
}

/// Notes where the pins are, for a `detach` with an edited file.
fn remember_pins(config: &Config) -> Result<()> {
    let path = config.node.bpf_fs.display().to_string();
    crate::host::write_file(&config.node.state_dir.join(PINS), path.as_bytes())
}

/// The folders that may hold pins of this node.
pub(super) fn pin_folders(config: &Config) -> Vec<PathBuf> {
    let noted = std::fs::read_to_string(config.node.state_dir.join(PINS)).ok();
    let mut folders = vec![config.node.bpf_fs.clone()];
    folders.extend(
        noted
            .map(PathBuf::from)
            .filter(|path| *path != config.node.bpf_fs),
    );
    folders
}

/// Takes the note back.
pub(super) fn forget_pins(config: &Config) {
    let _ = std::fs::remove_file(config.node.state_dir.join(PINS));
}

fn make_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).with_context(|| format!("create {}", path.display()))
}

/// Settings that a running daemon cannot change stay as they are; returns a warning for each.
pub(super) fn keep_fixed(old: &Config, new: &mut Config, file: &str) -> Vec<Diagnostic> {
    let mut warnings = Vec::new();
    macro_rules! keep {
        ($key:literal, $($field:ident).+) => {
            if new.$($field).+ != old.$($field).+ {
                warnings.push(Diagnostic {
                    file: file.to_owned(),
                    line: 0,
                    key: $key.to_owned(),
                    found: format!("{:?}", new.$($field).+),
                    expected: format!("{:?}, as the daemon was started with", old.$($field).+),
                    message: "takes effect when the daemon is started anew, after `forebay detach`".to_owned(),
                });
                new.$($field).+ = old.$($field).+.clone();
            }
        };
    }
    keep!("node.bpf_fs", node.bpf_fs);
    keep!("node.state_dir", node.state_dir);
    keep!("node.xdp_mode", node.xdp_mode);
    keep!("api.socket", api.socket);
    warnings
}

pub(super) fn timestamp() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}
