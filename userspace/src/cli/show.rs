//! `forebay show`, and how its answers look.

use anyhow::Context;
use serde_json::Value;

use super::ask::{ask, endpoint, print_json, print_or, show_with, yes};
use super::table::{Table, bytes, seconds};
use super::{Common, Failure, Show, public_ip};
use crate::api::{self, FlowFilter, Request};

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
        Show::Probes(output) => show_with(common, &Request::Probes, output.json, print_probes),
        Show::Instances(output) => {
            show_with(common, &Request::Instances, output.json, print_instances)
        }
        Show::PublicIps(output) => public_ip::show(common, None, output.json),
        Show::OutboundRules(output) => show_with(
            common,
            &Request::OutboundRules,
            output.json,
            print_outbound_rules,
        ),
        Show::Snat { instance, output } => {
            show_with(common, &Request::Snat { instance }, output.json, print_snat)
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

fn scalar(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
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

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
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
        "AVAILABILITY",
    ];
    let mut table = Table::new(header).right([6, 7, 8, 9, 10]);
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
            rule.availability.map_or_else(|| "-".to_owned(), percent),
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

fn print_probes(probes: Vec<api::Probe>) {
    let mut table = Table::new([
        "PROBE",
        "MEMBER",
        "ADDRESS",
        "PORT",
        "HEALTH",
        "REASON",
        "LAST RESULT",
        "TOOK",
        "IN A ROW",
        "SINCE",
    ])
    .right([3, 7, 8]);
    for probe in probes {
        let took = probe.last_duration_seconds;
        table.row([
            probe.probe,
            format!("{}/{}", probe.instance, probe.ip_config),
            probe.address,
            probe.port.to_string(),
            probe.health,
            probe.reason,
            probe.last_result.unwrap_or_else(|| "-".to_owned()),
            took.map_or_else(|| "-".to_owned(), |took| format!("{:.1} ms", took * 1e3)),
            probe.consecutive.to_string(),
            probe.changed_at,
        ]);
    }
    print_or(
        &table,
        "no probes: no rule names one, or its pool has no members",
    );
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

fn print_outbound_rules(rules: Vec<api::OutboundRule>) {
    let header = [
        "RULE",
        "POOL",
        "PROTOCOL",
        "FRONTENDS",
        "ADDRESSES",
        "IP CONFIGURATIONS",
        "PORTS EACH",
        "BURST PORTS",
    ];
    let mut table = Table::new(header).right([5, 6, 7]);
    for rule in rules {
        table.row([
            rule.name,
            rule.pool,
            rule.protocol,
            rule.frontends.join(" "),
            rule.addresses.join(" "),
            rule.instances.to_string(),
            rule.ports_per_instance.to_string(),
            rule.burst_ports.to_string(),
        ]);
    }
    print_or(&table, "no outbound rules");
}

/// `forebay outbound-ips`: one address a line.
pub(super) fn outbound_ips(
    common: &Common,
    instance: String,
    possible: bool,
    json: bool,
) -> Result<(), Failure> {
    let answer = ask(common, &Request::OutboundIps { instance })?;
    if json {
        print_json(&answer)?;
        return Ok(());
    }
    let ips: api::OutboundIps = serde_json::from_value(answer)
        .context("understand the answer; are command and daemon of one version?")?;
    let list = match possible {
        true => ips.possible_outbound_ips,
        false => ips.outbound_ips,
    };
    list.iter().for_each(|address| println!("{address}"));
    Ok(())
}

fn print_snat(lines: Vec<api::Snat>) {
    let header = [
        "INSTANCE",
        "FRONTEND",
        "ADDRESS",
        "PROTOCOL",
        "ALLOCATED",
        "USED",
        "BURST USED",
        "REFUSED",
        "TOP DESTINATION",
    ];
    let mut table = Table::new(header).right([4, 5, 6, 7]);
    for line in lines {
        let owner = match line.instance.is_empty() {
            true => "-".to_owned(),
            false => format!("{}/{}", line.instance, line.ip_config),
        };
        let top = line.top_destinations.first();
        table.row([
            owner,
            line.frontend,
            line.address,
            line.protocol,
            line.allocated.to_string(),
            line.used.to_string(),
            line.burst_used.to_string(),
            line.failed_total.to_string(),
            top.map_or_else(String::new, |to| {
                format!("{} ({})", endpoint(&to.address, to.port), to.used)
            }),
        ]);
    }
    print_or(&table, "no SNAT ports");
}

fn print_flows(flows: Vec<api::Flow>) {
    let header = [
        "PROTOCOL",
        "KIND",
        "SOURCE",
        "DESTINATION",
        "TRANSLATED TO",
        "INSTANCE",
        "RULE",
        "STATE",
        "IDLE",
        "EXPIRES",
        "PACKETS",
        "BYTES",
    ];
    let mut table = Table::new(header).right([8, 9, 10, 11]);
    for flow in flows {
        table.row([
            flow.protocol,
            flow.kind,
            endpoint(&flow.original.source, flow.original.source_port),
            endpoint(&flow.original.destination, flow.original.destination_port),
            changed(&flow.original, &flow.translated),
            flow.instance,
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

/// The ends of a packet that translation changes: source, destination or both.
fn changed(original: &api::Endpoints, translated: &api::Endpoints) -> String {
    let source = |ends: &api::Endpoints| endpoint(&ends.source, ends.source_port);
    let destination = |ends: &api::Endpoints| endpoint(&ends.destination, ends.destination_port);
    let mut ends = Vec::new();
    for end in [source, destination] as [fn(&api::Endpoints) -> String; 2] {
        if end(original) != end(translated) {
            ends.push(end(translated));
        }
    }
    ends.join(" -> ")
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
