//! Commands that ask the daemon, and how its answers look.

use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::check::print_changes;
use super::table::{Table, bytes, seconds};
use super::{Common, Failure, Flush, Show};
use crate::api::{self, FlowFilter, Question, Request};
use crate::config::Diagnostic;
use crate::control_socket;

/// Asks the daemon.
pub(super) fn ask(common: &Common, request: &Request) -> Result<Value> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    runtime.block_on(control_socket::call(&common.socket(), request))
}

/// Prints a value as JSON.
pub(super) fn print_json<T: Serialize>(value: &T) -> Result<()> {
    println!(
        "{}",
        serde_json::to_string_pretty(value).context("print JSON")?
    );
    Ok(())
}

/// Asks, and prints the answer as JSON or by `print`.
fn show_with<T: DeserializeOwned>(
    common: &Common,
    request: &Request,
    json: bool,
    print: impl Fn(T),
) -> Result<(), Failure> {
    let answer = ask(common, request)?;
    if json {
        print_json(&answer)?;
    } else {
        print(
            serde_json::from_value(answer)
                .context("understand the answer; are command and daemon of one version?")?,
        );
    }
    Ok(())
}

pub(super) fn reload(common: &Common) -> Result<(), Failure> {
    let report: api::Report =
        serde_json::from_value(ask(common, &Request::Reload)?).context("understand the answer")?;
    if !report.valid {
        return Err(Failure::Refused(said(&report.errors).join("\n")));
    }
    for warning in said(&report.warnings) {
        eprintln!("warning: {warning}");
    }
    print_changes(&report, "changed");
    Ok(())
}

pub(super) fn advertise(common: &Common, on: bool) -> Result<(), Failure> {
    let answer = ask(common, &Request::Advertise { on })?;
    let now: api::Advertisement =
        serde_json::from_value(answer).context("understand the answer")?;
    println!("{}", claimed(&now));
    Ok(())
}

pub(super) fn flush(common: &Common, what: Flush) -> Result<(), Failure> {
    let Flush::Flows {
        source,
        destination,
        instance,
    } = what;
    let filter = FlowFilter {
        source,
        destination,
        instance,
        limit: 0,
    };
    let answer = ask(common, &Request::FlushFlows(filter))?;
    let done: api::Flushed = serde_json::from_value(answer).context("understand the answer")?;
    let mut table = Table::new(["FLOWS", "ENDED"]).right([1]);
    let silent = done.flows.saturating_sub(done.reset);
    table.row(["told by RST".to_owned(), done.reset.to_string()]);
    table.row(["in silence".to_owned(), silent.to_string()]);
    table.row(["all".to_owned(), done.flows.to_string()]);
    table.print();
    Ok(())
}

/// What is claimed, in a sentence.
fn claimed(advertisement: &api::Advertisement) -> String {
    let addresses = match advertisement.addresses {
        1 => "1 address".to_owned(),
        count => format!("{count} addresses"),
    };
    let state = if advertisement.on { "on" } else { "off" };
    let mode = &advertisement.mode;
    format!("advertising {state} (advertise = \"{mode}\"), {addresses} claimed")
}

/// Errors or warnings of a report in the words of `check`.
fn said(diagnostics: &[Value]) -> Vec<String> {
    let read = |value: &Value| serde_json::from_value::<Diagnostic>(value.clone()).ok();
    let known = diagnostics.iter().filter_map(read);
    known.map(|diagnostic| diagnostic.to_string()).collect()
}

pub(super) fn status(common: &Common, json: bool) -> Result<(), Failure> {
    show_with(common, &Request::Status, json, |status: api::Status| {
        let ready = if status.ready { "ready" } else { "not ready" };
        println!(
            "{}: {ready}, Forebay {}, up {}",
            status.name,
            status.version,
            seconds(status.uptime_seconds)
        );
        println!(
            "configuration {} ({}), read {}",
            status.config.path,
            &status.config.sha256.get(..12).unwrap_or_default(),
            status.config.loaded_at
        );
        println!("{}", claimed(&status.advertise));
        println!();
        let mut interfaces = Table::new([
            "INTERFACE",
            "XDP MODE",
            "ATTACHED",
            "REACHED BY",
            "VLAN DEVICES",
        ]);
        for interface in status.interfaces {
            interfaces.row([
                interface.name,
                interface.xdp_mode,
                yes(interface.attached),
                interface.reached_by,
                interface.vlan_devices.join(", "),
            ]);
        }
        interfaces.print();
        println!();
        let mut flows = Table::new(["FLOWS", "USED", "CAPACITY", "UNTRUSTED"]).right([1, 2, 3]);
        for (name, table) in [("ipv4", status.flows.ipv4), ("ipv6", status.flows.ipv6)] {
            flows.row([
                name.to_owned(),
                table.used.to_string(),
                table.capacity.to_string(),
                table.untrusted.to_string(),
            ]);
        }
        flows.print();
        println!();
        let mut packets = Table::new(["PACKETS", "TOTAL"]).right([1]);
        let totals = status.packets;
        for (name, count) in [
            ("forwarded", totals.forwarded),
            ("answered", totals.answered),
            ("left to the kernel", totals.passed),
            ("dropped", totals.dropped),
        ] {
            packets.row([name.to_owned(), count.to_string()]);
        }
        packets.print();
    })
}

pub(super) fn show(common: &Common, what: Show) -> Result<(), Failure> {
    match what {
        Show::Frontends(output) => {
            show_with(common, &Request::Frontends, output.json, print_frontends)
        }
        Show::Rules(output) => show_with(common, &Request::Rules, output.json, print_rules),
        Show::InboundNatRules(output) => show_with(
            common,
            &Request::InboundNatRules,
            output.json,
            print_inbound_nat_rules,
        ),
        Show::Pools(output) => show_with(common, &Request::Pools, output.json, print_pools),
        Show::Instances(output) => {
            show_with(common, &Request::Instances, output.json, print_instances)
        }
        Show::Drops(output) => show_with(common, &Request::Drops, output.json, print_drops),
        Show::Flows {
            source,
            destination,
            instance,
            limit,
            output,
        } => {
            let filter = FlowFilter {
                source,
                destination,
                instance,
                limit: limit as usize,
            };
            show_with(common, &Request::Flows(filter), output.json, print_flows)
        }
    }
}

pub(super) fn explain(common: &Common, question: Question, json: bool) -> Result<(), Failure> {
    show_with(
        common,
        &Request::Explain(question),
        json,
        |told: api::Explanation| {
            let mut steps = Table::new(["QUESTION", "ANSWER"]);
            for step in told.steps {
                steps.row([step.question, step.answer]);
            }
            if !steps.is_empty() {
                steps.print();
                println!();
            }
            println!(
                "verdict: {} ({}): {}",
                told.verdict, told.reason, told.meaning
            );
            if let Some(to) = told.translated {
                println!(
                    "goes on as: {} -> {}",
                    endpoint(&to.source, to.source_port),
                    endpoint(&to.destination, to.destination_port)
                );
            }
            if let Some(instance) = told.instance {
                println!("instance: {instance}");
            }
            if let Some(hop) = told.next_hop {
                println!("next hop: {hop}");
            }
        },
    )
}

fn yes(claim: bool) -> String {
    if claim { "yes" } else { "no" }.to_owned()
}

fn endpoint(address: &str, port: u16) -> String {
    if address.contains(':') {
        format!("[{address}]:{port}")
    } else {
        format!("{address}:{port}")
    }
}

fn scalar(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn print_or(table: &Table, nothing: &str) {
    if table.is_empty() {
        println!("{nothing}")
    } else {
        table.print()
    }
}

fn print_frontends(frontends: Vec<api::Frontend>) {
    let mut table = Table::new([
        "FRONTEND",
        "ADDRESSES",
        "SHARED",
        "ADVERTISED",
        "RULES",
        "MEMBERS UP",
    ]);
    for frontend in frontends {
        table.row([
            frontend.name,
            frontend.addresses.join(" "),
            yes(frontend.shared),
            yes(frontend.advertised),
            frontend.rules.join(" "),
            format!("{}/{}", frontend.members_up, frontend.members_total),
        ]);
    }
    print_or(&table, "no frontends");
}

fn print_rules(rules: Vec<api::Rule>) {
    let header = [
        "RULE",
        "FRONTEND",
        "PROTOCOL",
        "PORT",
        "POOL",
        "BACKEND PORT",
        "NEW FLOWS",
        "ACTIVE",
        "PACKETS",
        "BYTES",
    ];
    let mut table = Table::new(header).right([6, 7, 8, 9]);
    for rule in rules {
        table.row([
            rule.name,
            rule.frontend,
            rule.protocol,
            scalar(&rule.port),
            rule.pool,
            scalar(&rule.backend_port),
            rule.new_flows_total.to_string(),
            rule.active_flows.to_string(),
            rule.packets_total.to_string(),
            bytes(rule.bytes_total),
        ]);
    }
    print_or(&table, "no rules");
}

fn print_inbound_nat_rules(rules: Vec<api::InboundNatRule>) {
    let mut table = Table::new([
        "RULE",
        "FRONTEND",
        "PROTOCOL",
        "ADDRESS",
        "PORT",
        "INSTANCE",
        "BACKEND PORT",
    ])
    .right([4, 6]);
    for rule in &rules {
        for mapping in &rule.mappings {
            table.row([
                rule.name.clone(),
                rule.frontend.clone(),
                rule.protocol.clone(),
                mapping.address.clone(),
                mapping.port.to_string(),
                format!("{}/{}", mapping.instance, mapping.ip_config),
                mapping.backend_port.to_string(),
            ]);
        }
    }
    print_or(&table, "no ports of inbound NAT rules");
    for rule in rules {
        for member in rule.members_without_port {
            println!("{}: no port is left for {member}", rule.name);
        }
    }
}

fn print_pools(pools: Vec<api::Pool>) {
    let mut table = Table::new([
        "POOL",
        "MEMBER",
        "WEIGHT",
        "ADMIN STATE",
        "ADDRESS",
        "HEALTH",
        "REASON",
        "ACTIVE FLOWS",
    ])
    .right([2, 7]);
    for pool in pools {
        for member in pool.members {
            let name = format!("{}/{}", member.instance, member.ip_config);
            // The count is the member's, whatever the family.
            let mut flows = member.active_flows.to_string();
            for address in member.addresses {
                table.row([
                    pool.name.clone(),
                    name.clone(),
                    member.weight.to_string(),
                    member.admin_state.clone(),
                    address.address,
                    address.health,
                    address.reason,
                    std::mem::take(&mut flows),
                ]);
            }
        }
    }
    print_or(&table, "no pools with members");
}

fn print_instances(instances: Vec<api::Instance>) {
    let mut table = Table::new([
        "INSTANCE",
        "IP CONFIGURATION",
        "ADDRESSES",
        "PUBLIC IP",
        "POOLS",
        "OUTBOUND",
    ]);
    for instance in instances {
        for ip_config in instance.ip_configs {
            table.row([
                instance.name.clone(),
                ip_config.name,
                ip_config.addresses.join(" "),
                ip_config.public_ip.unwrap_or_else(|| "-".to_owned()),
                ip_config.pools.join(" "),
                ip_config.outbound,
            ]);
        }
    }
    print_or(&table, "no instances");
}

fn print_flows(flows: Vec<api::Flow>) {
    let header = [
        "PROTOCOL", "CLIENT", "FRONTEND", "INSTANCE", "MEMBER", "RULE", "STATE", "IDLE", "EXPIRES",
        "PACKETS", "BYTES",
    ];
    let mut table = Table::new(header).right([7, 8, 9, 10]);
    for flow in flows {
        table.row([
            flow.protocol,
            endpoint(&flow.original.source, flow.original.source_port),
            endpoint(&flow.original.destination, flow.original.destination_port),
            flow.instance,
            endpoint(
                &flow.translated.destination,
                flow.translated.destination_port,
            ),
            flow.rule,
            flow.state,
            seconds(flow.idle_seconds as u64),
            seconds(flow.expires_in_seconds.ceil() as u64),
            flow.packets.to_string(),
            bytes(flow.bytes),
        ]);
    }
    print_or(&table, "no flows");
}

fn print_drops(drops: api::Drops) {
    let mut table = Table::new(["REASON", "PACKETS", "MEANING"]).right([1]);
    for (reason, count) in drops.into_iter().filter(|(_, count)| *count > 0) {
        let meaning = forebay_common::reason::Reason::ALL
            .iter()
            .find(|known| known.label() == reason);
        table.row([
            reason,
            count.to_string(),
            meaning.map_or("", |known| known.meaning()).to_owned(),
        ]);
    }
    print_or(&table, "no packet was dropped");
}
