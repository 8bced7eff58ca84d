//! `[node]`, `[limits]`, `[timeouts]`, `[api]`, `[log]`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use forebay_common::abi::MAX_VIRTUAL_NETWORKS;
use ipnet::IpNet;
use log::LevelFilter;

use crate::config::field::Field;
use crate::config::model::{Advertise, Api, Limits, Log, LogFormat, Node, Timeouts, XdpMode};
use crate::config::place::Placed;
use crate::config::reader::Table;
use crate::config::values::time::{TIMEOUTS, duration};
use crate::config::values::{boolean, net, numbers, one_of, text, unset_or};

/// RFC 1918, RFC 6598, unique local and link-local addresses.
const PRIVATE_SPACE: [&str; 7] = [
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "169.254.0.0/16",
    "fc00::/7",
    "fe80::/10",
];

const XDP_MODES: [(&str, XdpMode); 3] = [
    ("auto", XdpMode::Auto),
    ("native", XdpMode::Native),
    ("generic", XdpMode::Generic),
];

const ADVERTISE: [(&str, Advertise); 3] = [
    ("neighbor", Advertise::Neighbor),
    ("standby", Advertise::Standby),
    ("none", Advertise::None),
];

const LEVELS: [(&str, LevelFilter); 6] = [
    ("error", LevelFilter::Error),
    ("warn", LevelFilter::Warn),
    ("info", LevelFilter::Info),
    ("debug", LevelFilter::Debug),
    ("trace", LevelFilter::Trace),
    ("off", LevelFilter::Off),
];

const LOG_FORMATS: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];

pub(super) fn node(mut table: Table<'_>, host_name: &dyn Fn() -> Option<String>) -> Placed<Node> {
    let name = match table.get("name", text::name) {
        Field::Present(name) => Some(name),
        Field::Invalid => None,
        Field::Absent => host_name().or_else(|| {
            let message = "the host name cannot be read; write a name";
            table
                .source()
                .error(table.place().at("name"), text::NAME, message);
            None
        }),
    };
    let value = Node {
        name: name.unwrap_or_default(),
        interfaces: interfaces(&mut table),
        xdp_mode: table.get("xdp_mode", one_of(&XDP_MODES)).or(XdpMode::Auto),
        virtual_network: table
            .list("virtual_network", "a list of prefixes", net::prefix)
            .or_else(private_space),
        advertise: table
            .get("advertise", one_of(&ADVERTISE))
            .or(Advertise::Neighbor),
        allow_direct: table.get("allow_direct", boolean).or(false),
        full_nat_ipv4: table.get("full_nat_ipv4", unset_or(net::ipv4)).or(None),
        full_nat_ipv6: table.get("full_nat_ipv6", unset_or(net::ipv6)).or(None),
        manage_host: table.get("manage_host", boolean).or(true),
        bpf_fs: table
            .get("bpf_fs", text::path)
            .or_else(|| PathBuf::from("/sys/fs/bpf/forebay")),
        state_dir: table
            .get("state_dir", text::path)
            .or_else(|| PathBuf::from("/var/lib/forebay")),
        hash_seed: table
            .get("hash_seed", numbers::integer(0..=i64::MAX.unsigned_abs()))
            .present(),
    };
    limit_networks(&table, &value.virtual_network);
    table.finish().with(value, Vec::new())
}

fn interfaces(table: &mut Table<'_>) -> Vec<String> {
    const EXPECTED: &str = "a list of interfaces such as [\"eth0\", \"eth1\"]";
    let interfaces = match table.list("interfaces", EXPECTED, text::interface) {
        Field::Present(interfaces) => interfaces,
        Field::Invalid => return Vec::new(),
        Field::Absent => {
            table.missing("interfaces", EXPECTED);
            return Vec::new();
        }
    };
    let (source, place) = (table.source(), table.place());
    if interfaces.is_empty() {
        let message = "name every NIC the node forwards on";
        source.error(place.at("interfaces"), EXPECTED, message);
    }
    let mut seen = BTreeSet::new();
    for (index, interface) in interfaces.iter().enumerate() {
        if !seen.insert(interface) {
            let spot = place.element("interfaces", index);
            source.error(spot, "each interface once", "remove the second one");
        }
    }
    interfaces
}

/// The data plane has room for so many prefixes.
fn limit_networks(table: &Table<'_>, networks: &[IpNet]) {
    let most = MAX_VIRTUAL_NETWORKS as usize;
    let ipv4 = networks.iter().filter(|net| net.addr().is_ipv4()).count();
    if ipv4.max(networks.len() - ipv4) > most {
        table.source().error(
            table.place().at("virtual_network"),
            format!("at most {most} prefixes a family"),
            "the table of the data plane has no more room; join neighbouring prefixes".to_owned(),
        );
    }
}

fn private_space() -> Vec<IpNet> {
    (PRIVATE_SPACE.iter())
        .map(|prefix| prefix.parse().expect("a prefix of our own list"))
        .collect()
}

pub(super) fn limits(mut table: Table<'_>) -> Limits {
    let limits = Limits {
        flows: table
            .get("flows", numbers::integer(256..=1 << 28))
            .present(),
        new_flows_per_second_per_source: table
            .get(
                "new_flows_per_second_per_source",
                numbers::integer(0..=u32::MAX),
            )
            .or(0),
    };
    table.finish();
    limits
}

pub(super) fn timeouts(mut table: Table<'_>) -> Timeouts {
    let mut timeout = |key, seconds| {
        let timeout = table.get(key, duration(TIMEOUTS));
        timeout.or(Duration::from_secs(seconds))
    };
    let timeouts = Timeouts {
        tcp_idle: timeout("tcp_idle", 240),
        udp_idle: timeout("udp_idle", 240),
        udp_unreplied: timeout("udp_unreplied", 30),
        udp_dns: timeout("udp_dns", 10),
        icmp_idle: timeout("icmp_idle", 60),
        tcp_half_open: timeout("tcp_half_open", 30),
        tcp_fin: timeout("tcp_fin", 65),
        tcp_rst: timeout("tcp_rst", 16),
        drain: table.get("drain", unset_or(duration(TIMEOUTS))).or(None),
    };
    table.finish();
    timeouts
}

pub(super) fn api(mut table: Table<'_>) -> Api {
    let metrics = table.get("metrics", unset_or(net::socket_address));
    let api = Api {
        socket: table
            .get("socket", text::socket_path)
            .or_else(|| PathBuf::from("/run/forebay/forebay.sock")),
        metrics: metrics.or(Some(Api::DEFAULT_METRICS)),
        whoami: table.get("whoami", unset_or(net::socket_address)).or(None),
        group: table.get("group", unset_or(text::group)).or(None),
    };
    if api.whoami.is_some() && api.whoami == api.metrics {
        let message = "the metrics are served there; choose another port";
        table
            .source()
            .error(table.place().at("whoami"), "an address of its own", message);
    }
    table.finish();
    api
}

pub(super) fn log(mut table: Table<'_>) -> Log {
    let log = Log {
        level: table.get("level", one_of(&LEVELS)).or(LevelFilter::Info),
        format: table
            .get("format", one_of(&LOG_FORMATS))
            .or(LogFormat::Text),
        flow_log: table.get("flow_log", unset_or(text::path)).or(None),
    };
    table.finish();
    log
}
