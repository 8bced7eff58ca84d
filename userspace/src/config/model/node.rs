//! What the node itself is: interfaces, limits, timeouts, API, log.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

/// `[node]`
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Name of this node; the host name when the file gives none.
    pub name: String,
    /// Every NIC the node forwards on; never empty, no duplicates.
    pub interfaces: Vec<String>,
    /// How XDP is attached.
    pub xdp_mode: XdpMode,
    /// Private space: never translated to.
    pub virtual_network: Vec<IpNet>,
    /// Who answers ARP and NDP for public addresses.
    pub advertise: Advertise,
    /// Whether outsiders may address instances directly.
    pub allow_direct: bool,
    /// Source of full-nat flows over IPv4.
    pub full_nat_ipv4: Option<Ipv4Addr>,
    /// Source of full-nat flows over IPv6.
    pub full_nat_ipv6: Option<Ipv6Addr>,
    /// Whether the daemon sets the sysctls that forwarding needs.
    pub manage_host: bool,
    /// bpffs folder for pins.
    pub bpf_fs: PathBuf,
    /// Folder for what must survive a reboot.
    pub state_dir: PathBuf,
    /// Seed of the flow hash; `None`: random, kept in `state_dir`.
    pub hash_seed: Option<u64>,
}

impl Node {
    /// Whether an address lies in the virtual network.
    pub fn is_private(&self, address: IpAddr) -> bool {
        (self.virtual_network.iter()).any(|prefix| prefix.contains(&address))
    }
}

/// `node.xdp_mode`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XdpMode {
    /// Native where the driver can, else generic with a warning.
    Auto,
    /// Native or refuse.
    Native,
    /// Generic (skb) mode.
    Generic,
}

/// `node.advertise`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advertise {
    /// Answer ARP and NDP where the address is on-link.
    Neighbor,
    /// The same, once `forebay advertise on` was said.
    Standby,
    /// The addresses are routed to the node.
    None,
}

/// `[limits]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Flows per address family; `None`: 5 % of memory, between 65,536 and 4,194,304.
    pub flows: Option<u32>,
    /// New flows a second and source; 0: no limit.
    pub new_flows_per_second_per_source: u32,
}

/// `[timeouts]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Established TCP flow without packets.
    pub tcp_idle: Duration,
    /// Answered UDP flow without packets.
    pub udp_idle: Duration,
    /// UDP flow without an answer yet.
    pub udp_unreplied: Duration,
    /// UDP flow to destination port 53.
    pub udp_dns: Duration,
    /// ICMP echo flow without packets.
    pub icmp_idle: Duration,
    /// TCP flow until its handshake is complete.
    pub tcp_half_open: Duration,
    /// TCP flow after FIN from both sides.
    pub tcp_fin: Duration,
    /// TCP flow after RST.
    pub tcp_rst: Duration,
    /// Flows of removed or drained members end after this; `None`: by themselves.
    pub drain: Option<Duration>,
}

/// `[api]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Api {
    /// Control socket.
    pub socket: PathBuf,
    /// Listen address of the metrics server; `None`: off.
    pub metrics: Option<std::net::SocketAddr>,
    /// Listen address of `GET /whoami`; `None`: off.
    pub whoami: Option<std::net::SocketAddr>,
    /// System group that may read through the socket.
    pub group: Option<String>,
}

impl Api {
    /// Where the metrics are served when the file does not say.
    pub const DEFAULT_METRICS: std::net::SocketAddr =
        std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9470);
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Least severe level that is written.
    pub level: log::LevelFilter,
    /// Shape of a log line.
    pub format: LogFormat,
    /// File of the flow log; `None`: off.
    pub flow_log: Option<PathBuf>,
}

/// `log.format`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// A line to read.
    Text,
    /// A JSON object a line.
    Json,
}
