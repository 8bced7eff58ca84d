//! `[[rule]]`.

use crate::config::model::{
    Distribution, Forwarding, Frontend, NoHealthyBackends, Node, Protocol, Rule,
};
use crate::config::names::Names;
use crate::config::place::Placed;
use crate::config::reader::Table;
use crate::config::values::time::{TIMEOUTS, duration};
use crate::config::values::{boolean, one_of, ports, text};

/// `protocol` of rules, inbound NAT rules and outbound rules.
pub(super) const PROTOCOLS: [(&str, Protocol); 3] = [
    ("tcp", Protocol::Tcp),
    ("udp", Protocol::Udp),
    ("all", Protocol::All),
];

const DISTRIBUTIONS: [(&str, Distribution); 3] = [
    ("5-tuple", Distribution::FiveTuple),
    ("source-ip", Distribution::SourceIp),
    ("source-ip-protocol", Distribution::SourceIpProtocol),
];

const FORWARDINGS: [(&str, Forwarding); 3] = [
    ("nat", Forwarding::Nat),
    ("full-nat", Forwarding::FullNat),
    ("dsr", Forwarding::Dsr),
];

const NO_HEALTHY_BACKENDS: [(&str, NoHealthyBackends); 2] = [
    ("down", NoHealthyBackends::Down),
    ("up", NoHealthyBackends::Up),
];

pub(super) fn rule(
    mut table: Table<'_>,
    names: &mut Names,
    node: &Node,
    frontends: &[Placed<Frontend>],
) -> Option<Placed<Rule>> {
    let name = names.read(&mut table, "rule");
    let frontend = table.require("frontend", "the name of a frontend", text::name);
    let protocol = table
        .get("protocol", one_of(&PROTOCOLS))
        .or_default(Protocol::Tcp);
    let port = table.require("port", ports::RULE_PORT, ports::rule_port);
    let pool = table.require("pool", "the name of a pool", text::name);
    let backend_port = table.get("backend_port", ports::port).optional();
    let probe = table.get("probe", text::name).optional();
    let distribution = table
        .get("distribution", one_of(&DISTRIBUTIONS))
        .or(Distribution::FiveTuple);
    let forwarding = table
        .get("forwarding", one_of(&FORWARDINGS))
        .or_default(Forwarding::Nat);
    let idle_timeout = table.get("idle_timeout", duration(TIMEOUTS)).present();
    let tcp_reset = table.get("tcp_reset", boolean).or(true);
    let no_healthy_backends = table
        .get("no_healthy_backends", one_of(&NO_HEALTHY_BACKENDS))
        .or(NoHealthyBackends::Down);
    let outbound_snat = table.get("outbound_snat", boolean);
    let finished = table.finish();
    let frontend = frontend?;
    let outbound_snat = outbound_snat.or_else(|| !is_internal(node, frontends, &frontend));
    let value = Rule {
        name: name?,
        frontend,
        protocol: protocol?,
        port: port?,
        pool: pool?,
        backend_port: backend_port?,
        probe: probe?,
        distribution,
        forwarding: forwarding?,
        idle_timeout,
        tcp_reset,
        no_healthy_backends,
        outbound_snat,
    };
    Some(finished.with(value, Vec::new()))
}

/// Whether an address of this frontend lies in the virtual network: nothing outside would answer
/// to it.
fn is_internal(node: &Node, frontends: &[Placed<Frontend>], name: &str) -> bool {
    let frontend = frontends
        .iter()
        .find(|frontend| frontend.value.name == name);
    frontend.is_some_and(|frontend| {
        let mut addresses = frontend.value.addresses();
        addresses.any(|address| node.is_private(address))
    })
}
