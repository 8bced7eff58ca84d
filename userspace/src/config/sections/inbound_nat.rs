//! `[[inbound_nat_rule]]`: one port to one instance, or a range of ports over a pool.

use toml_edit::Value;

use super::rules::PROTOCOLS;
use crate::config::model::{InboundNatRule, NatTarget, Ports, Protocol};
use crate::config::names::Names;
use crate::config::place::Placed;
use crate::config::reader::Table;
use crate::config::values::{Mismatch, Parsed, one_of, ports, text};

pub(super) fn inbound_nat_rule(
    mut table: Table<'_>,
    names: &mut Names,
) -> Option<Placed<InboundNatRule>> {
    let name = names.read(&mut table, "rule");
    let frontend = table.require("frontend", "the name of a frontend", text::name);
    let protocol = table
        .get("protocol", one_of(&PROTOCOLS))
        .or_default(Protocol::Tcp);
    let port_and_target = match (table.has("instance"), table.has("pool")) {
        (true, false) => single_form(&mut table),
        (false, true) => pool_form(&mut table),
        (both, _) => {
            neither_form(&mut table, both);
            None
        }
    };
    let backend_port = table.get("backend_port", ports::port).optional();
    let finished = table.finish();
    let (port, target) = port_and_target?;
    let value = InboundNatRule {
        name: name?,
        frontend: frontend?,
        protocol: protocol?,
        port,
        target,
        backend_port: backend_port?,
    };
    Some(finished.with(value, Vec::new()))
}

fn single_form(table: &mut Table<'_>) -> Option<(Ports, NatTarget)> {
    let port = table.require("port", ports::PORT, single_port);
    let instance = table.require("instance", text::MEMBER, text::member);
    table.ignore("pool");
    Some((Ports::Single(port?), NatTarget::Instance(instance?)))
}

fn pool_form(table: &mut Table<'_>) -> Option<(Ports, NatTarget)> {
    let range = table.require("port", ports::PORT_RANGE, ports::port_range);
    let pool = table.require("pool", "the name of a pool", text::name);
    table.ignore("instance");
    Some((Ports::Range(range?), NatTarget::Pool(pool?)))
}

fn neither_form(table: &mut Table<'_>, both: bool) {
    for key in ["port", "instance", "pool"] {
        table.ignore(key);
    }
    let message = if both {
        "one port goes to one instance, a range to a pool; remove one of the two"
    } else {
        "say where it goes: add instance = \"...\", or pool = \"...\" with a range of ports"
    };
    let spot = table.place().whole();
    table
        .source()
        .error(spot, "either instance or pool", message);
}

fn single_port(value: &Value) -> Parsed<u16> {
    ports::port(value).map_err(|mismatch| match value.as_str() {
        Some(text) if text.contains('-') => Mismatch::new(
            mismatch.expected,
            "a range goes to a pool, not to one instance",
        ),
        _ => mismatch,
    })
}
