//! The configuration as the rest of the daemon sees it: valid by construction.
//!
//! Only [`super::load`] makes these values, after every reference has been resolved and every
//! range checked, so nobody downstream has to doubt them. Names stay strings: they are the
//! operator's words and appear in output; numeric ids are the control plane's business.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// A whole, valid configuration file.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `[node]`
    pub node: Node,
    /// `[limits]`
    pub limits: Limits,
    /// `[timeouts]`
    pub timeouts: Timeouts,
    /// `[api]`
    pub api: Api,
    /// `[log]`
    pub log: Log,
    /// `[[frontend]]`, in file order
    pub frontends: Vec<Frontend>,
    /// `[[public_ip]]`, in file order
    pub public_ips: Vec<PublicIp>,
    /// `[[instance]]`, in file order
    pub instances: Vec<Instance>,
    /// `[[pool]]`, in file order
    pub pools: Vec<Pool>,
    /// `[[probe]]`, in file order
    pub probes: Vec<Probe>,
    /// `[[rule]]`, in file order
    pub rules: Vec<Rule>,
    /// `[[inbound_nat_rule]]`, in file order
    pub inbound_nat_rules: Vec<InboundNatRule>,
    /// `[[outbound_rule]]`, in file order
    pub outbound_rules: Vec<OutboundRule>,
    /// `[default_outbound]`
    pub default_outbound: Option<DefaultOutbound>,
    /// `[dns]`
    pub dns: Option<Dns>,
    /// `[[security_group]]`, in file order
    pub security_groups: Vec<SecurityGroup>,
}

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

/// `[[frontend]]`: at least one family is present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frontend {
    /// Unique name.
    pub name: String,
    /// Address, or prefix (outbound only).
    pub ipv4: Option<Ipv4Net>,
    /// Address, or prefix (outbound only).
    pub ipv6: Option<Ipv6Net>,
    /// The address is the host's own.
    pub shared: bool,
    /// Echo requests are answered by the node.
    pub ping: bool,
}

impl Frontend {
    /// Whether one of its families is a prefix of several addresses: outbound only.
    pub fn has_prefix(&self) -> bool {
        self.ipv4.is_some_and(|net| net.prefix_len() < 32)
            || self.ipv6.is_some_and(|net| net.prefix_len() < 128)
    }

    /// The single addresses of this frontend; prefixes are left out.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let v4 = self
            .ipv4
            .filter(|net| net.prefix_len() == 32)
            .map(|net| IpAddr::V4(net.addr()));
        let v6 = self
            .ipv6
            .filter(|net| net.prefix_len() == 128)
            .map(|net| IpAddr::V6(net.addr()));
        v4.into_iter().chain(v6)
    }
}

/// `[[public_ip]]`: at least one family is present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicIp {
    /// Unique name.
    pub name: String,
    /// IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
    /// Label in the zone.
    pub dns_label: Option<String>,
}

/// `[[instance]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Unique name.
    pub name: String,
    /// Group of every IP configuration that names none itself.
    pub security_group: Option<String>,
    /// Never empty; the short form gives one called "primary".
    pub ip_configs: Vec<IpConfig>,
}

/// One private address pair of an instance: at least one family is present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpConfig {
    /// Unique within the instance.
    pub name: String,
    /// Private IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// Private IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
    /// Name of its public IP.
    pub public_ip: Option<String>,
    /// Overrides the instance's group.
    pub security_group: Option<String>,
}

impl IpConfig {
    /// The private addresses.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.ipv4
            .map(IpAddr::V4)
            .into_iter()
            .chain(self.ipv6.map(IpAddr::V6))
    }
}

/// Names one IP configuration: `instance/ip_config`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberRef {
    /// Name of the instance.
    pub instance: String,
    /// Name of the IP configuration.
    pub ip_config: String,
}

impl std::fmt::Display for MemberRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.instance, self.ip_config)
    }
}

/// `[[pool]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Unique name.
    pub name: String,
    /// In file order, no duplicates; may be empty.
    pub members: Vec<Member>,
}

/// A member of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The IP configuration.
    pub target: MemberRef,
    /// 1-256.
    pub weight: u16,
    /// Operator's override of health.
    pub admin_state: AdminState,
    /// Pinned port of a pool-form inbound NAT rule.
    pub nat_port: Option<u16>,
}

/// `admin_state` of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdminState {
    /// The probe decides.
    None,
    /// Takes new flows whatever the probe says.
    Up,
    /// Takes no new flows.
    Down,
}

/// `[[probe]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Unique name.
    pub name: String,
    /// What is sent.
    pub protocol: ProbeProtocol,
    /// Probed port; `None`: the rule's backend port.
    pub port: Option<u16>,
    /// Path of the request.
    pub path: String,
    /// Host header and SNI; empty: the member's address.
    pub host: String,
    /// Accepted status codes.
    pub expect_status: Vec<RangeInclusive<u16>>,
    /// Time between probes.
    pub interval: Duration,
    /// Time until a probe has failed.
    pub timeout: Duration,
    /// Consecutive successes until up.
    pub rise: u32,
    /// Consecutive failures until down.
    pub fall: u32,
    /// Whether a flapping member is held out.
    pub flap_damping: bool,
    /// Which addresses are probed.
    pub family: ProbeFamily,
    /// Whether the certificate is verified.
    pub tls_verify: bool,
    /// Certificates to verify against.
    pub ca_file: Option<PathBuf>,
}

/// `probe.protocol`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeProtocol {
    /// Three-way handshake.
    Tcp,
    /// GET.
    Http,
    /// GET over TLS.
    Https,
}

/// `probe.family`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeFamily {
    /// Every address by itself.
    Each,
    /// IPv4 judges both.
    Ipv4,
    /// IPv6 judges both.
    Ipv6,
}

/// Transport protocol of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// Every protocol the rule can carry.
    All,
}

impl Protocol {
    /// Whether a packet can be of both.
    pub fn overlaps(self, other: Protocol) -> bool {
        self == other || self == Protocol::All || other == Protocol::All
    }
}

/// Port of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ports {
    /// One port.
    Single(u16),
    /// First and last port.
    Range(RangeInclusive<u16>),
    /// Port 0: every port.
    Every,
}

impl Ports {
    /// First and last port.
    pub fn range(&self) -> RangeInclusive<u16> {
        match self {
            Ports::Single(port) => *port..=*port,
            Ports::Range(range) => range.clone(),
            Ports::Every => 1..=u16::MAX,
        }
    }

    /// The ports of a backend that these ports arrive at; the offset within a range is kept.
    pub fn backend_range(&self, backend_port: Option<u16>) -> RangeInclusive<u16> {
        let range = self.range();
        match backend_port {
            None => range,
            Some(first) => first..=first.saturating_add(range.end() - range.start()),
        }
    }
}

/// `[[rule]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Unique name.
    pub name: String,
    /// Name of the frontend.
    pub frontend: String,
    /// What it balances.
    pub protocol: Protocol,
    /// Frontend port or ports.
    pub port: Ports,
    /// Name of the pool.
    pub pool: String,
    /// Backend port of the (first) frontend port; `None`: the same port.
    pub backend_port: Option<u16>,
    /// Name of the probe; `None`: every member is up.
    pub probe: Option<String>,
    /// What is hashed.
    pub distribution: Distribution,
    /// How packets are forwarded.
    pub forwarding: Forwarding,
    /// Overrides `tcp_idle` and `udp_idle`.
    pub idle_timeout: Option<Duration>,
    /// RST to both sides of an established flow that idles out.
    pub tcp_reset: bool,
    /// What happens to new flows when every member is down.
    pub no_healthy_backends: NoHealthyBackends,
    /// Whether members may use this frontend to reach the outside.
    pub outbound_snat: bool,
}

/// `rule.distribution`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Distribution {
    /// 5-tuple
    FiveTuple,
    /// 2-tuple: addresses
    SourceIp,
    /// 3-tuple: addresses and protocol
    SourceIpProtocol,
}

/// `rule.forwarding`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Forwarding {
    /// Destination translated, client address kept.
    Nat,
    /// Both translated.
    FullNat,
    /// Nothing translated.
    Dsr,
}

/// `rule.no_healthy_backends`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NoHealthyBackends {
    /// No new flows.
    Down,
    /// All members take new flows.
    Up,
}

/// `[[inbound_nat_rule]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboundNatRule {
    /// Unique name, also among rules.
    pub name: String,
    /// Name of the frontend.
    pub frontend: String,
    /// What it translates.
    pub protocol: Protocol,
    /// Single form: one port; pool form: the range.
    pub port: Ports,
    /// Where it goes.
    pub target: NatTarget,
    /// Backend port; `None`: the frontend port.
    pub backend_port: Option<u16>,
}

/// Where an inbound NAT rule sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NatTarget {
    /// One IP configuration.
    Instance(MemberRef),
    /// One port of the range for each member of this pool.
    Pool(String),
}

/// `[[outbound_rule]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboundRule {
    /// Unique name.
    pub name: String,
    /// Name of the pool.
    pub pool: String,
    /// Names of the frontends.
    pub frontends: Vec<String>,
    /// What may go out.
    pub protocol: Protocol,
    /// Guaranteed SNAT ports.
    pub ports_per_instance: PortsPerInstance,
    /// Whether unreserved ports may be used too.
    pub burst: bool,
    /// How TCP ports are mapped.
    pub tcp_mapping: Mapping,
    /// How UDP ports are mapped.
    pub udp_mapping: Mapping,
    /// Who may send to an endpoint-independent mapping.
    pub filtering: Filtering,
    /// Which frontend is used.
    pub frontend_selection: FrontendSelection,
    /// Which port is used.
    pub port_selection: PortSelection,
    /// Overrides `tcp_idle` and `udp_idle`.
    pub idle_timeout: Option<Duration>,
    /// RST to both sides of an established flow that idles out.
    pub tcp_reset: bool,
    /// What the instance is told when ports run out.
    pub on_exhaustion: OnExhaustion,
}

/// `ports_per_instance`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortsPerInstance {
    /// Table by pool size.
    Auto,
    /// A multiple of 8.
    Fixed(u32),
}

/// `mapping`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mapping {
    /// A port is reused towards other destinations.
    PerDestination,
    /// RFC 4787 REQ-1.
    EndpointIndependent,
}

/// `filtering` (RFC 4787 section 5)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filtering {
    /// Anyone.
    EndpointIndependent,
    /// Addresses contacted before.
    AddressDependent,
    /// Addresses and ports contacted before.
    AddressAndPortDependent,
}

/// `frontend_selection`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrontendSelection {
    /// Stable per instance and destination.
    Spread,
    /// The next one when the first is full.
    Fill,
    /// Random.
    Random,
}

/// `port_selection`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortSelection {
    /// Random start.
    Random,
    /// Lowest free.
    Lowest,
}

/// `on_exhaustion`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExhaustion {
    /// TCP RST or ICMP unreachable.
    Reject,
    /// Silence.
    Drop,
}

/// `[default_outbound]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefaultOutbound {
    /// Names of the frontends.
    pub frontends: Vec<String>,
    /// Guaranteed SNAT ports.
    pub ports_per_instance: PortsPerInstance,
}

/// `[dns]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// Zone that is kept.
    pub zone: String,
    /// Authoritative server.
    pub server: std::net::SocketAddr,
    /// TSIG key.
    pub tsig_key_file: Option<PathBuf>,
    /// TTL of the records.
    pub ttl: Duration,
    /// Whether PTR records are kept too.
    pub reverse: bool,
}

/// `[[security_group]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecurityGroup {
    /// Unique name.
    pub name: String,
    /// By direction and priority, ascending.
    pub rules: Vec<SecurityRule>,
}

/// `[[security_group.rule]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecurityRule {
    /// Unique within the group.
    pub name: String,
    /// 100-4096, unique within the direction.
    pub priority: u16,
    /// Which flows it judges.
    pub direction: SecurityDirection,
    /// Allowed (`true`) or denied.
    pub allow: bool,
    /// Protocol.
    pub protocol: SecurityProtocol,
    /// Sources; empty: any.
    pub source: Vec<Selector>,
    /// Destinations; empty: any.
    pub destination: Vec<Selector>,
    /// Source ports; empty: any.
    pub source_ports: Vec<RangeInclusive<u16>>,
    /// Destination ports; empty: any.
    pub destination_ports: Vec<RangeInclusive<u16>>,
}

/// `security_group.rule.direction`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecurityDirection {
    /// Towards the instance, after translation.
    Inbound,
    /// From the instance, before translation.
    Outbound,
}

/// `security_group.rule.protocol`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecurityProtocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// ICMP and ICMPv6
    Icmp,
    /// Every protocol
    Any,
}

/// An element of `source` or `destination`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selector {
    /// An address or prefix.
    Net(IpNet),
    /// Tag `VirtualNetwork`
    VirtualNetwork,
    /// Tag `LoadBalancer`
    LoadBalancer,
    /// Tag `Internet`
    Internet,
}

impl Config {
    /// The IP configuration that a member names.
    pub fn ip_config(&self, target: &MemberRef) -> Option<&IpConfig> {
        let instance = self
            .instances
            .iter()
            .find(|instance| instance.name == target.instance)?;
        instance
            .ip_configs
            .iter()
            .find(|ip_config| ip_config.name == target.ip_config)
    }

    /// The IP configuration that has a private address, as `instance/ip_config`.
    pub fn owner_of(&self, address: IpAddr) -> Option<MemberRef> {
        self.instances.iter().find_map(|instance| {
            let has_it =
                |ip_config: &&IpConfig| ip_config.addresses().any(|known| known == address);
            let found = instance.ip_configs.iter().find(has_it)?;
            Some(MemberRef {
                instance: instance.name.clone(),
                ip_config: found.name.clone(),
            })
        })
    }

    /// The pool of this name.
    pub fn pool(&self, name: &str) -> Option<&Pool> {
        self.pools.iter().find(|pool| pool.name == name)
    }

    /// The frontend of this name.
    pub fn frontend(&self, name: &str) -> Option<&Frontend> {
        self.frontends.iter().find(|frontend| frontend.name == name)
    }
}
