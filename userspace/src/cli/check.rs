//! `forebay check` and `forebay plan`.

use std::path::Path;

use anyhow::Context;

use super::table::{Table, bytes};
use super::{Common, Failure, ask};
use crate::api::{Report, Request};
use crate::config::model::Config;
use crate::config::{self, Diagnostic, snat::Origin};
use crate::daemon;
use crate::host::{Netlink, facts, reach};

pub(super) fn check(common: &Common, json: bool) -> Result<(), Failure> {
    let mut outcome = config::load_for(&common.config, facts());
    if let Ok(loaded) = &mut outcome {
        // Needs a netlink socket, which some sandboxes refuse: then there is nothing to say.
        let found = look_at_members(&loaded.config, &common.config);
        loaded.warnings.extend(found.unwrap_or_default());
    }
    let report = daemon::check(&outcome);
    if json {
        ask::print_json(&report)?;
    } else {
        match &outcome {
            Ok(loaded) => {
                loaded
                    .warnings
                    .iter()
                    .for_each(|warning| eprintln!("warning: {warning}"));
                println!("{} is valid", common.config.display());
                print_changes(&report, "it would set up");
                print_tables(&report);
                print_snat_ports(&loaded.config);
            }
            Err(errors) => {
                errors
                    .warnings
                    .iter()
                    .for_each(|warning| eprintln!("warning: {warning}"));
                eprintln!("{errors}");
            }
        }
    }
    if report.valid {
        Ok(())
    } else {
        Err(Failure::InvalidSaid)
    }
}

/// Warnings about members that this host cannot reach as the node would.
fn look_at_members(config: &Config, file: &Path) -> anyhow::Result<Vec<Diagnostic>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let netlink = Netlink::connect()?;
        Ok(reach::warnings(&netlink, config, &file.display().to_string()).await)
    })
}

pub(super) fn plan(common: &Common, file: Option<&Path>, json: bool) -> Result<(), Failure> {
    let file = file.unwrap_or(&common.config);
    // Read here, so that a file that cannot be read is told as `check` tells it.
    let outcome = config::load_for(file, facts());
    let report: Report = match &outcome {
        Ok(_) => {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("read {}", file.display()))?;
            let request = Request::Plan {
                file: file.display().to_string(),
                text,
            };
            serde_json::from_value(ask::ask(common, &request)?).context("understand the answer")?
        }
        Err(_) => daemon::check(&outcome),
    };
    if json {
        ask::print_json(&report)?;
    } else {
        match &outcome {
            Ok(loaded) => {
                loaded
                    .warnings
                    .iter()
                    .for_each(|warning| eprintln!("warning: {warning}"));
                print_changes(&report, "a reload would change");
            }
            Err(errors) => eprintln!("{errors}"),
        }
    }
    if report.valid {
        Ok(())
    } else {
        Err(Failure::InvalidSaid)
    }
}

/// The changes as a table, under a sentence that begins with `what`.
pub(super) fn print_changes(report: &Report, what: &str) {
    if report.changes.is_empty() {
        println!("{what} nothing");
        return;
    }
    println!("{what}:");
    let mut table = Table::new(["ACTION", "KIND", "NAME", "DETAIL"]);
    for change in &report.changes {
        table.row([
            change.action.clone(),
            change.kind.clone(),
            change.name.clone(),
            change.detail.clone(),
        ]);
    }
    table.print();
}

fn print_tables(report: &Report) {
    println!("\nkernel memory: {}", bytes(report.memory_bytes));
    let mut table = Table::new(["TABLE", "ENTRIES", "MEMORY"]).right([1, 2]);
    for size in &report.tables {
        table.row([
            size.name.clone(),
            size.entries.to_string(),
            bytes(size.bytes),
        ]);
    }
    table.print();
}

fn print_snat_ports(config: &config::model::Config) {
    let plan = config::snat::plan(config);
    if plan.shares.is_empty() {
        println!("\nSNAT ports: no instance has a way out");
        return;
    }
    println!("\nSNAT ports for each IP configuration and protocol:");
    let mut table = Table::new([
        "FROM",
        "FAMILY",
        "FRONTENDS",
        "IP CONFIGURATIONS",
        "PORTS EACH",
    ])
    .right([4]);
    for share in plan.shares {
        let from = match share.origin {
            Origin::OutboundRule(at) => format!(
                "outbound rule {}",
                named(config.outbound_rules.get(at).map(|r| &r.name))
            ),
            Origin::Rule(at) => format!(
                "rule {}",
                named(config.rules.get(at).map(|rule| &rule.name))
            ),
            Origin::DefaultOutbound => "default outbound".to_owned(),
        };
        let members: Vec<String> = share.ip_configs.iter().map(ToString::to_string).collect();
        table.row([
            from,
            share.family.to_string(),
            share.frontends.join(" "),
            members.join(" "),
            share.ports.to_string(),
        ]);
    }
    table.print();
}

fn named(name: Option<&String>) -> String {
    name.cloned().unwrap_or_default()
}
