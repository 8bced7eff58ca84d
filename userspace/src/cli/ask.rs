//! Commands that ask the daemon, and how its answers look.

use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::check::print_changes;
use super::table::{Table, seconds};
use super::{Common, Failure, Flush};
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
pub(super) fn show_with<T: DeserializeOwned>(
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
    print_reload(&report)
}

/// Prints what a reload has changed, or why it was refused.
pub(super) fn print_reload(report: &api::Report) -> Result<(), Failure> {
    if !report.valid {
        return Err(Failure::Refused(said(&report.errors).join("\n")));
    }
    for warning in said(&report.warnings) {
        eprintln!("warning: {warning}");
    }
    print_changes(report, "changed");
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
        if let Some(why) = &status.not_ready {
            println!("{why}");
        }
        if let Some(trouble) = status.metrics.and_then(|metrics| metrics.trouble) {
            println!("{trouble}");
        }
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
                    endpoint_or_address(&to.source, to.source_port),
                    endpoint_or_address(&to.destination, to.destination_port)
                );
            }
            print_ports("source port: one of", &told.snat_ports, false);
            print_ports(
                "or, when those are in use, of the shared",
                &told.snat_ports,
                true,
            );
            if let Some(instance) = told.instance {
                println!("instance: {instance}");
            }
            if let Some(hop) = told.next_hop {
                println!("next hop: {hop}");
            }
        },
    )
}

/// What has no ports goes by its address.
fn endpoint_or_address(address: &str, port: u16) -> String {
    match port {
        0 => address.to_owned(),
        port => endpoint(address, port),
    }
}

fn print_ports(what: &str, ranges: &[api::SnatPorts], shared: bool) {
    let ranges = ranges.iter().filter(|range| range.shared == shared);
    let words: Vec<String> = ranges
        .map(|range| format!("{} {}-{}", range.address, range.first, range.last))
        .collect();
    if !words.is_empty() {
        println!("{what} {}", words.join(", "));
    }
}

pub(super) fn yes(claim: bool) -> String {
    if claim { "yes" } else { "no" }.to_owned()
}

pub(super) fn endpoint(address: &str, port: u16) -> String {
    if address.contains(':') {
        format!("[{address}]:{port}")
    } else {
        format!("{address}:{port}")
    }
}

pub(super) fn print_or(table: &Table, nothing: &str) {
    if table.is_empty() {
        println!("{nothing}")
    } else {
        table.print()
    }
}
