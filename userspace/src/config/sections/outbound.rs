//! `[[outbound_rule]]` and `[default_outbound]`.

use std::collections::BTreeSet;

use toml_edit::Value;

use super::rules::PROTOCOLS;
use crate::config::field::Field;
use crate::config::model::{
    DefaultOutbound, Filtering, FrontendSelection, Mapping, OnExhaustion, OutboundRule,
    PortSelection, PortsPerInstance, Protocol,
};
use crate::config::names::Names;
use crate::config::place::Placed;
use crate::config::reader::Table;
use crate::config::values::numbers::integer_as;
use crate::config::values::time::{TIMEOUTS, duration};
use crate::config::values::{Mismatch, Parsed, boolean, one_of, text};

/// What `ports_per_instance` looks like.
const PORTS: &str = "\"auto\" or a multiple of 8";
/// `[default_outbound]` gives each IP configuration this many ports unless it says otherwise.
const DEFAULT_OUTBOUND_PORTS: u32 = 1024;

const MAPPINGS: [(&str, Mapping); 2] = [
    ("per-destination", Mapping::PerDestination),
    ("endpoint-independent", Mapping::EndpointIndependent),
];

const FILTERINGS: [(&str, Filtering); 3] = [
    ("endpoint-independent", Filtering::EndpointIndependent),
    ("address-dependent", Filtering::AddressDependent),
    (
        "address-and-port-dependent",
        Filtering::AddressAndPortDependent,
    ),
];

const FRONTEND_SELECTIONS: [(&str, FrontendSelection); 3] = [
    ("spread", FrontendSelection::Spread),
    ("fill", FrontendSelection::Fill),
    ("random", FrontendSelection::Random),
];

const PORT_SELECTIONS: [(&str, PortSelection); 2] = [
    ("random", PortSelection::Random),
    ("lowest", PortSelection::Lowest),
];

const ON_EXHAUSTION: [(&str, OnExhaustion); 2] = [
    ("reject", OnExhaustion::Reject),
    ("drop", OnExhaustion::Drop),
];

pub(super) fn outbound_rule(
    mut table: Table<'_>,
    names: &mut Names,
) -> Option<Placed<OutboundRule>> {
    let name = names.read(&mut table, "outbound_rule");
    let pool = table.require("pool", "the name of a pool", text::name);
    let frontends = frontends(&mut table);
    let protocol = table
        .get("protocol", one_of(&PROTOCOLS))
        .or_default(Protocol::All);
    let ports_per_instance = table
        .get("ports_per_instance", ports_per_instance)
        .or_default(PortsPerInstance::Auto);
    let burst = table.get("burst", boolean).or(true);
    let mapping = mapping(&mut table);
    let filtering = table.get("filtering", one_of(&FILTERINGS));
    if let (Field::Present(filtering), Some(protocol), Some(mapping)) =
        (&filtering, protocol, mapping)
    {
        check_filtering(&table, *filtering, protocol, mapping);
    }
    let frontend_selection = table
        .get("frontend_selection", one_of(&FRONTEND_SELECTIONS))
        .or(FrontendSelection::Spread);
    let port_selection = table
        .get("port_selection", one_of(&PORT_SELECTIONS))
        .or(PortSelection::Random);
    let idle_timeout = table.get("idle_timeout", duration(TIMEOUTS)).present();
    let tcp_reset = table.get("tcp_reset", boolean).or(true);
    let on_exhaustion = table
        .get("on_exhaustion", one_of(&ON_EXHAUSTION))
        .or(OnExhaustion::Reject);
    let finished = table.finish();
    let (tcp_mapping, udp_mapping) = mapping?;
    let value = OutboundRule {
        name: name?,
        pool: pool?,
        frontends: frontends?,
        protocol: protocol?,
        ports_per_instance: ports_per_instance?,
        burst,
        tcp_mapping,
        udp_mapping,
        filtering: filtering.or(Filtering::AddressAndPortDependent),
        frontend_selection,
        port_selection,
        idle_timeout,
        tcp_reset,
        on_exhaustion,
    };
    Some(finished.with(value, Vec::new()))
}

pub(super) fn default_outbound(mut table: Table<'_>) -> Option<Placed<DefaultOutbound>> {
    let frontends = frontends(&mut table);
    let ports_per_instance = table
        .get("ports_per_instance", ports_per_instance)
        .or_default(PortsPerInstance::Fixed(DEFAULT_OUTBOUND_PORTS));
    let finished = table.finish();
    let value = DefaultOutbound {
        frontends: frontends?,
        ports_per_instance: ports_per_instance?,
    };
    Some(finished.with(value, Vec::new()))
}

fn frontends(table: &mut Table<'_>) -> Option<Vec<String>> {
    const EXPECTED: &str = "a list of frontends such as [\"web\"]";
    let frontends = match table.list("frontends", EXPECTED, text::name) {
        Field::Present(frontends) => frontends,
        Field::Invalid => return None,
        Field::Absent => {
            table.missing("frontends", EXPECTED);
            return None;
        }
    };
    let (source, place) = (table.source(), table.place());
    if frontends.is_empty() {
        let message = "without a frontend nothing gets out; name one";
        source.error(place.at("frontends"), EXPECTED, message);
    }
    let mut seen = BTreeSet::new();
    for (index, frontend) in frontends.iter().enumerate() {
        if !seen.insert(frontend) {
            let spot = place.element("frontends", index);
            source.error(spot, "each frontend once", "remove the second one");
        }
    }
    Some(frontends)
}

/// That it is a multiple of 8 is checked where the numbers for the message are known.
fn ports_per_instance(value: &Value) -> Parsed<PortsPerInstance> {
    match value.as_str() {
        Some("auto") => Ok(PortsPerInstance::Auto),
        Some(_) => integer_as(value, PORTS, &(1..=u32::MAX))
            .map(PortsPerInstance::Fixed)
            .map_err(|mismatch| match mismatch.message.as_str() {
                "write a number" => Mismatch::new(PORTS, "write \"auto\" or a number"),
                _ => mismatch,
            }),
        None if value.as_integer() == Some(0) => Err(Mismatch::new(
            PORTS,
            "write \"auto\" for the table by pool size",
        )),
        None => integer_as(value, PORTS, &(1..=u32::MAX)).map(PortsPerInstance::Fixed),
    }
}

fn mapping(table: &mut Table<'_>) -> Option<(Mapping, Mapping)> {
    let mut mapping = table.table("mapping");
    let tcp = mapping
        .get("tcp", one_of(&MAPPINGS))
        .or_default(Mapping::PerDestination);
    let udp = mapping
        .get("udp", one_of(&MAPPINGS))
        .or_default(Mapping::EndpointIndependent);
    mapping.finish();
    Some((tcp?, udp?))
}

fn check_filtering(
    table: &Table<'_>,
    filtering: Filtering,
    protocol: Protocol,
    (tcp, udp): (Mapping, Mapping),
) {
    let carried = match protocol {
        Protocol::Tcp => vec![tcp],
        Protocol::Udp => vec![udp],
        Protocol::All => vec![tcp, udp],
    };
    if filtering != Filtering::AddressAndPortDependent
        && !carried.contains(&Mapping::EndpointIndependent)
    {
        let message = "a port that is shared between destinations can admit only those; \
                       set an endpoint-independent mapping for a protocol of this rule";
        let spot = table.place().at("filtering");
        table
            .source()
            .error(spot, "\"address-and-port-dependent\"", message);
    }
}
