//! What commands print with `--json`, and what travels over the control socket.
//!
//! Names and shapes are a contract with scripts: fields may be added, none renamed or dropped.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::control_plane::PlannedChange;

/// What a command asks of the daemon.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// `forebay status`
    Status,
    /// `forebay show frontends`
    Frontends,
    /// `forebay show rules`
    Rules,
    /// `forebay show inbound-nat-rules`
    InboundNatRules,
    /// `forebay show pools`
    Pools,
    /// `forebay show probes`
    Probes,
    /// `forebay show instances`
    Instances,
    /// `forebay show public-ips`
    PublicIps,
    /// `forebay show outbound-rules`
    OutboundRules,
    /// `forebay outbound-ips`
    OutboundIps {
        /// Name of the instance.
        instance: String,
    },
    /// `forebay show snat`
    Snat {
        /// Name of an instance.
        instance: Option<String>,
    },
    /// `forebay show flows`
    Flows(FlowFilter),
    /// `forebay flush flows`; the limit does not count
    FlushFlows(FlowFilter),
    /// `forebay show drops`
    Drops,
    /// `forebay events`: those after the one with this number
    Events {
        /// A number; 0: all that are kept.
        after: u64,
    },
    /// `forebay explain`
    Explain(Question),
    /// `forebay advertise`
    Advertise {
        /// Whether addresses are to be claimed.
        on: bool,
    },
    /// `forebay set admin-state ... --drain`, once the file says "down"
    Drain(Drain),
    /// `forebay reload`
    Reload,
    /// `forebay plan`: the text of a file under a name.
    Plan {
        /// Name for messages.
        file: String,
        /// Its text.
        text: String,
    },
}

/// When what is left of a member's flows ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Drain {
    /// Name of the pool.
    pub pool: String,
    /// The member, as the file writes it.
    pub member: String,
    /// From now on.
    pub seconds: f64,
}

/// The daemon's answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// What the command prints.
    Ok(serde_json::Value),
    /// Why it cannot be done, and what to do.
    Failed(String),
}

impl From<anyhow::Result<serde_json::Value>> for Response {
    fn from(answer: anyhow::Result<serde_json::Value>) -> Self {
        match answer {
            Ok(value) => Self::Ok(value),
            Err(error) => Self::Failed(format!("{error:#}")),
        }
    }
}

/// Which flows to show.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct FlowFilter {
    /// Source address before translation.
    pub source: Option<IpAddr>,
    /// Destination address before translation.
    pub destination: Option<IpAddr>,
    /// Name of an instance.
    pub instance: Option<String>,
    /// At most so many.
    pub limit: usize,
}

/// `flush flows`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Flushed {
    /// Flows that were ended.
    pub flows: usize,
    /// Those among them whose two sides were sent a RST.
    pub reset: usize,
}

/// A packet to explain.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Question {
    /// Protocol number.
    pub protocol: u8,
    /// Source address.
    pub source: IpAddr,
    /// Source port; 0 where the protocol has none.
    pub source_port: u16,
    /// Destination address.
    pub destination: IpAddr,
    /// Destination port; 0 where the protocol has none.
    pub destination_port: u16,
    /// Name of the interface it comes in on.
    pub inbound_interface: Option<String>,
}

/// `status`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// Name of the node.
    pub name: String,
    /// Version of the daemon.
    pub version: String,
    /// Whether the node forwards with its configuration.
    pub ready: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_ready: Option<String>,
    /// Where metrics are served; absent: nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Listener>,
    /// Seconds since the daemon started.
    pub uptime_seconds: u64,
    /// The file in force.
    pub config: ConfigStatus,
    /// Interfaces in file order.
    pub interfaces: Vec<InterfaceStatus>,
    /// Whether addresses are claimed.
    pub advertise: Advertisement,
    /// Flow tables by family.
    pub flows: FlowTables,
    /// Packets since the tables were made.
    pub packets: PacketTotals,
}

/// A server of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Address and port.
    pub address: String,
    /// Whether it listens.
    pub listening: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// The file in force.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConfigStatus {
    /// Where it was read.
    pub path: String,
    /// SHA-256 of its bytes.
    pub sha256: String,
    /// When it was read (RFC 3339, UTC).
    pub loaded_at: String,
}

/// An interface of the node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InterfaceStatus {
    /// Its name.
    pub name: String,
    /// `native` or `generic`, as the kernel says; `none` when not attached.
    pub xdp_mode: String,
    /// Whether the program is on it.
    pub attached: bool,
    /// How frames that came in elsewhere reach it: `redirect`, or `kernel`, which is several times
    /// slower, when its driver takes none that are redirected.
    #[serde(default)]
    pub reached_by: String,
    /// VLAN devices over it that the node forwards on.
    #[serde(default)]
    pub vlan_devices: Vec<String>,
}

/// Whether the node claims its public addresses, and how many.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Advertisement {
    /// `neighbor`, `standby` or `none`, as the file says.
    pub mode: String,
    /// Whether it answers ARP and NDP for addresses that are on-link.
    pub on: bool,
    /// Addresses that it does claim, on links that are up.
    pub addresses: usize,
}

/// Flow tables by family.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FlowTables {
    /// IPv4.
    pub ipv4: TableUse,
    /// IPv6.
    pub ipv6: TableUse,
    /// Whether flows still move from tables of another size.
    #[serde(default)]
    pub moving: bool,
}

/// How full a flow table is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TableUse {
    /// Flows as last counted.
    pub used: u64,
    /// Flows that fit.
    pub capacity: u64,
    /// Flows beside them that have not proven themselves yet, as last counted.
    #[serde(default)]
    pub untrusted: u64,
}

/// Packets by what became of them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct PacketTotals {
    /// Translated and sent on.
    pub forwarded: u64,
    /// Left to the kernel.
    pub passed: u64,
    /// Answered by the node.
    pub answered: u64,
    /// Dropped.
    pub dropped: u64,
    /// Of the node's own trials, which are no traffic.
    #[serde(default)]
    pub own: u64,
}

/// `show frontends`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Frontend {
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// Whether the addresses are the host's own.
    pub shared: bool,
    /// Whether the node answers ARP and NDP for them.
    pub advertised: bool,
    /// Names of its rules.
    pub rules: Vec<String>,
    /// Members of its rules' pools that take new flows.
    pub members_up: usize,
    /// Members of its rules' pools.
    pub members_total: usize,
}

/// `show rules`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// Its frontend.
    pub frontend: String,
    /// The frontend's addresses.
    pub addresses: Vec<String>,
    /// `tcp`, `udp` or `all`.
    pub protocol: String,
    /// Port, or `first-last`.
    pub port: serde_json::Value,
    /// Its pool.
    pub pool: String,
    /// Port at the members.
    pub backend_port: serde_json::Value,
    /// `5-tuple`, `source-ip` or `source-ip-protocol`.
    pub distribution: String,
    /// `nat`, `full-nat` or `dsr`.
    pub forwarding: String,
    /// Flows begun.
    pub new_flows_total: u64,
    /// Packets, both directions.
    pub packets_total: u64,
    /// Bytes, both directions.
    pub bytes_total: u64,
    /// Flows now.
    pub active_flows: u64,
    /// The part of the node's own trials that were answered, 0 to 1; none: nothing is known.
    pub availability: Option<f64>,
    /// The same for each address, with the port that is tried.
    pub trials: Vec<Trials>,
}

/// Trials of a rule at one address.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Trials {
    /// The address.
    pub address: String,
    /// The TCP port.
    pub port: u16,
    /// The part that was answered, 0 to 1; none: nothing is known.
    pub availability: Option<f64>,
    /// Why the last one failed that did; none: none did.
    pub last_failure: Option<String>,
}

/// `show inbound-nat-rules`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InboundNatRule {
    /// Its name.
    pub name: String,
    /// Its frontend.
    pub frontend: String,
    /// `tcp`, `udp` or `all`.
    pub protocol: String,
    /// Port, or `first-last`.
    pub port: serde_json::Value,
    /// The pool whose members have the ports; none: one instance has its port.
    pub pool: Option<String>,
    /// Who has which port, by port.
    pub mappings: Vec<Mapping>,
    /// Members of the pool for whom the range has no port.
    pub members_without_port: Vec<String>,
    /// Flows begun.
    pub new_flows_total: u64,
    /// Packets, both directions.
    pub packets_total: u64,
    /// Bytes, both directions.
    pub bytes_total: u64,
    /// Flows now.
    pub active_flows: u64,
}

/// A port of a frontend address that is an instance's.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Mapping {
    /// The frontend's address.
    pub address: String,
    /// The frontend's port.
    pub port: u16,
    /// Name of the instance.
    pub instance: String,
    /// Name of its IP configuration.
    pub ip_config: String,
    /// Port at the instance.
    pub backend_port: u16,
}

/// `show pools`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// Its members, in file order.
    pub members: Vec<Member>,
}

/// A member of a pool.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Member {
    /// The instance.
    pub instance: String,
    /// Its IP configuration.
    pub ip_config: String,
    /// Share of new flows.
    pub weight: u16,
    /// `none`, `up` or `down`.
    pub admin_state: String,
    /// Its addresses.
    pub addresses: Vec<MemberAddress>,
    /// Flows now, through rules that use the pool.
    pub active_flows: u64,
    /// Whether it only finishes the flows it has.
    pub draining: bool,
}

/// An address of a member.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MemberAddress {
    /// The address.
    pub address: String,
    /// `up`, `down` or `unknown`.
    pub health: String,
    /// Why.
    pub reason: String,
    /// Whether any rule sends it new flows.
    pub accepts_new_flows: bool,
    /// What each rule's probe says.
    pub probes: Vec<MemberProbe>,
}

/// What a rule's probe says of a member's address.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MemberProbe {
    /// Name of the rule.
    pub rule: String,
    /// Name of the probe.
    pub probe: String,
    /// The probed port.
    pub port: u16,
    /// `up`, `down` or `unknown`.
    pub health: String,
    /// Why, in one word.
    pub reason: String,
}

/// `show probes`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Probe {
    /// Name of the probe.
    pub probe: String,
    /// Name of the instance.
    pub instance: String,
    /// Name of its IP configuration.
    pub ip_config: String,
    /// The address that is judged.
    pub address: String,
    /// The probed port.
    pub port: u16,
    /// `up`, `down` or `unknown`.
    pub health: String,
    /// Why, in one word.
    pub reason: String,
    /// What the last probe found: `ok`, or what went wrong.
    pub last_result: Option<String>,
    /// How long it took.
    pub last_duration_seconds: Option<f64>,
    /// Probes in a row that found the same, well or not.
    pub consecutive: u32,
    /// Since when it is so.
    pub changed_at: String,
    /// How long recovery is still held, of one that has fallen too often.
    pub held_for_seconds: Option<f64>,
    /// The address that is asked instead, where one family judges both.
    pub probed_address: Option<String>,
}

/// `show instances`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Instance {
    /// Its name.
    pub name: String,
    /// Its security group.
    pub security_group: Option<String>,
    /// Its IP configurations.
    pub ip_configs: Vec<IpConfig>,
}

/// An IP configuration of an instance.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct IpConfig {
    /// Its name.
    pub name: String,
    /// Its private addresses.
    pub addresses: Vec<String>,
    /// Name of its public IP.
    pub public_ip: Option<String>,
    /// Pools it is a member of.
    pub pools: Vec<String>,
    /// How it reaches the outside; the stronger method when families differ.
    pub outbound: String,
    /// How it reaches the outside over IPv4.
    #[serde(default)]
    pub outbound_ipv4: String,
    /// How it reaches the outside over IPv6.
    #[serde(default)]
    pub outbound_ipv6: String,
}

/// `show public-ips`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PublicIp {
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// The instance that has it.
    pub instance: Option<String>,
    /// The IP configuration that has it.
    pub ip_config: Option<String>,
    /// Its name in the DNS.
    pub dns_name: Option<String>,
}

/// `show outbound-rules`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OutboundRule {
    /// Its name.
    pub name: String,
    /// Its pool.
    pub pool: String,
    /// Its frontends.
    pub frontends: Vec<String>,
    /// Their addresses; prefixes as they are.
    pub addresses: Vec<String>,
    /// `tcp`, `udp` or `all`.
    pub protocol: String,
    /// Ports that are each member's own.
    pub ports_per_instance: u32,
    /// Ports that members share once their own are spent.
    pub burst_ports: u64,
    /// Members that go out by it.
    pub instances: usize,
}

/// `show snat`: the SNAT ports of one address that an IP configuration uses over a protocol
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snat {
    /// Name of the instance; empty for sources in the virtual network that are none.
    pub instance: String,
    /// Name of its IP configuration.
    pub ip_config: String,
    /// Name of the frontend.
    pub frontend: String,
    /// The frontend's address.
    pub address: String,
    /// `tcp`, `udp` or `icmp`.
    pub protocol: String,
    /// Ports that are its own.
    pub allocated: u32,
    /// Ports that it shares with others once its own are spent.
    pub burst: u32,
    /// Ports that are in use.
    pub used: u32,
    /// Those among them that are not its own.
    pub burst_used: u32,
    /// Packets that were refused because no address had a port left for their destination.
    pub failed_total: u64,
    /// Where most of them are in use.
    pub top_destinations: Vec<Destination>,
}

/// A destination of flows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    /// Its address.
    pub address: String,
    /// Its port.
    pub port: u16,
    /// Ports in use towards it.
    pub used: u64,
}

/// `outbound-ips`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OutboundIps {
    /// Name of the instance.
    pub instance: String,
    /// What it goes out with now.
    pub outbound_ips: Vec<String>,
    /// What it may go out with by any method that the configuration has for it.
    pub possible_outbound_ips: Vec<String>,
}

/// `show flows`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Flow {
    /// `tcp`, `udp` ...
    pub protocol: String,
    /// What made it.
    pub kind: String,
    /// As its opener's packets come in.
    pub original: Endpoints,
    /// As they go on.
    pub translated: Endpoints,
    /// `opening`, `established`, `closing` or `closed`.
    pub state: String,
    /// Since its last packet.
    pub idle_seconds: f64,
    /// Until it ends without further packets.
    pub expires_in_seconds: f64,
    /// The instance.
    pub instance: String,
    /// The frontend.
    pub frontend: String,
    /// The rule.
    pub rule: String,
    /// Packets, both directions.
    pub packets: u64,
    /// Bytes, both directions.
    pub bytes: u64,
}

/// Addresses and ports of a packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// Source address.
    pub source: String,
    /// Source port.
    pub source_port: u16,
    /// Destination address.
    pub destination: String,
    /// Destination port.
    pub destination_port: u16,
}

/// `show drops`: packets by reason.
pub type Drops = BTreeMap<String, u64>;

/// `events`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When (RFC 3339, UTC).
    pub time: String,
    /// `info`, `warning` or `critical`.
    pub severity: String,
    /// Its name.
    pub event: String,
    /// What has happened, in words.
    pub message: String,
    /// Events since the daemon started, this one included.
    pub number: u64,
    /// What it is about.
    #[serde(flatten)]
    pub fields: serde_json::Map<String, serde_json::Value>,
}

/// `explain`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Explanation {
    /// `forward`, `drop`, `pass` or `answer`.
    pub verdict: String,
    /// Name of the reason it would be counted under.
    pub reason: String,
    /// What that means.
    pub meaning: String,
    /// What was asked on the way.
    pub steps: Vec<Step>,
    /// The packet as it would go on.
    pub translated: Option<Endpoints>,
    /// The ports that a new flow to the outside may get, of which `translated` has one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub snat_ports: Vec<SnatPorts>,
    /// The instance it would go to or comes from.
    pub instance: Option<String>,
    /// Where it would go next.
    pub next_hop: Option<String>,
}

/// A range of SNAT ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnatPorts {
    /// The public address.
    pub address: String,
    /// First port.
    pub first: u16,
    /// Last port.
    pub last: u16,
    /// Others may use it too, and it comes after those that are the instance's own.
    pub shared: bool,
}

/// A step of the packet path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What was asked.
    pub question: String,
    /// What was found.
    pub answer: String,
}

/// `reload` and `plan`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Report {
    /// Whether the file can be run.
    pub valid: bool,
    /// Mistakes.
    pub errors: Vec<serde_json::Value>,
    /// What is allowed but probably not meant.
    pub warnings: Vec<serde_json::Value>,
    /// What is or would be different.
    pub changes: Vec<PlannedChange>,
    /// Kernel memory of the tables, bytes.
    pub memory_bytes: u64,
    /// Tables by name.
    pub tables: Vec<TableSize>,
    /// SNAT ports that each IP configuration is promised.
    #[serde(default)]
    pub snat: Vec<SnatPromise>,
}

/// SNAT ports that an IP configuration is promised, over one family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnatPromise {
    /// Name of the instance.
    pub instance: String,
    /// Name of its IP configuration.
    pub ip_config: String,
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// `outbound-rule`, `rule-implied` or `default-outbound`.
    pub method: String,
    /// Name of the outbound rule, or of the first rule that implies it; empty for default outbound.
    pub rule: String,
    /// `tcp`, `udp` or `all`.
    pub protocol: String,
    /// Names of the frontends they are of.
    pub frontends: Vec<String>,
    /// How many, for each protocol.
    pub ports: u32,
}

/// Size of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSize {
    /// Its name.
    pub name: String,
    /// Entries that fit.
    pub entries: u64,
    /// Kernel memory, bytes.
    pub bytes: u64,
}
