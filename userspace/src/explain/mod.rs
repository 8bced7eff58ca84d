//! `forebay explain`: what would happen to a packet, by running the packet path itself.
//!
//! The question becomes a frame, the tables become a model, and a decorator writes down what the path
//! asks. Nothing is changed: flows are copies. Routes are the host's business, so the path runs twice:
//! once to learn which way is asked for, once with the answer.

mod frame;
mod names;
mod trace;

use anyhow::{Result, anyhow};
use forebay_common::abi::{Owner, PublicIp, Settings};
use forebay_common::family::{Family, V4, V6};
use forebay_common::flow::{Flow, FlowKey, Hop};
use forebay_common::model::{FamilyModel, ModelTables, UNTRUSTED_SETS};
use forebay_common::pipeline::{self, Exit, Verdict};
use forebay_common::reason::{Fate, Reason};
use forebay_common::tables::Route;
use forebay_common::wire::HostFrame;

use crate::api::{Endpoints, Explanation, Question};
use crate::config::model::Config;
use crate::control_plane::{FamilyState, HostInterface, Ids, TableState};
use crate::host::Way;

#[cfg(test)]
pub(crate) use frame::build as build_frame;
pub use frame::{endpoints, ports};
pub use names::{Names, protocol_name};
pub use trace::Asked;

/// The state of the node that a question is put to.
pub struct Snapshot<'s> {
    /// What the tables hold.
    pub tables: &'s TableState,
    /// The configuration in force.
    pub config: &'s Config,
    /// Ids in use.
    pub ids: &'s Ids,
    /// Interfaces of the host.
    pub host: &'s [HostInterface],
    /// Jiffies.
    pub now: u64,
    /// IPv4 flows that the packet may meet.
    pub flows4: Vec<(FlowKey<V4>, Flow<V4>)>,
    /// IPv6 flows that the packet may meet.
    pub flows6: Vec<(FlowKey<V6>, Flow<V6>)>,
}

/// The interface on which the packet is taken to come in.
pub fn inbound<'h>(question: &Question, host: &'h [HostInterface]) -> Result<&'h HostInterface> {
    let Some(name) = &question.inbound_interface else {
        let near = host.iter().find(|interface| {
            let mut networks = interface.networks.iter();
            networks.any(|net| net.contains(&question.source))
        });
        return near
            .or(host.first())
            .ok_or_else(|| anyhow!("none of [node].interfaces is there"));
    };
    host.iter()
        .find(|interface| interface.name == *name)
        .ok_or_else(|| {
            let known: Vec<&str> = host.iter().map(|one| one.name.as_str()).collect();
            anyhow!(
                "{name} is not an interface of this node; it has {}",
                known.join(", ")
            )
        })
}

/// Runs the packet path on a question. `way` is the host's answer for the destination that a former run
/// asked for; `None` on the first run.
pub fn run(
    question: &Question,
    snapshot: &Snapshot<'_>,
    way: Option<&Way>,
) -> Result<(Explanation, Option<Asked>)> {
    let ingress = inbound(question, snapshot.host)?;
    let mut frame = HostFrame::new(&frame::build(question, ingress.tags())?, ingress.nic());
    let tables = model(snapshot);
    let names = Names {
        config: snapshot.config,
        ids: snapshot.ids,
    };
    let trace = trace::Trace::new(&tables, names, &snapshot.tables.rings, route(way, snapshot));
    let verdict = pipeline::run(&mut frame, &trace);
    let told = trace.finish();
    let translated = matches!(
        verdict.reason,
        Reason::Forwarded | Reason::ForwardedByKernel
    )
    .then(|| endpoints(&frame.to_vec()))
    .flatten();
    let instance = instance_of(question, translated.as_ref(), snapshot.config);
    let snat_ports = match &translated {
        Some(_) => told.ports,
        None => Vec::new(),
    };
    let explanation = Explanation {
        verdict: word(verdict).to_owned(),
        reason: verdict.reason.label().to_owned(),
        meaning: verdict.reason.meaning().to_owned(),
        steps: told.steps,
        translated,
        snat_ports,
        instance,
        next_hop: next_hop(verdict, way),
    };
    Ok((explanation, told.asked))
}

fn word(verdict: Verdict) -> &'static str {
    match verdict.reason.fate() {
        Fate::Forward => "forward",
        Fate::Answer => "answer",
        Fate::Drop | Fate::Own => "drop",
        Fate::Pass if verdict.reason == Reason::ForwardedByKernel => "forward",
        Fate::Pass => "pass",
    }
}

fn next_hop(verdict: Verdict, way: Option<&Way>) -> Option<String> {
    let leaves = matches!(verdict.exit, Exit::Transmit | Exit::Redirect(_))
        || verdict.reason == Reason::ForwardedByKernel;
    match way {
        Some(Way::Out {
            interface,
            neighbor,
            ..
        }) if leaves => Some(format!("{neighbor} dev {interface}")),
        _ => None,
    }
}

fn instance_of(
    question: &Question,
    translated: Option<&Endpoints>,
    config: &Config,
) -> Option<String> {
    let target = translated.and_then(|endpoints| endpoints.destination.parse().ok());
    let candidates = [target, Some(question.source), Some(question.destination)];
    let found = candidates
        .into_iter()
        .flatten()
        .find_map(|address| config.owner_of(address))?;
    Some(found.instance)
}

/// The host's answer as the packet path knows it.
fn route(way: Option<&Way>, snapshot: &Snapshot<'_>) -> Route {
    match way {
        None => Route::None,
        // The kernel's lookup has one answer for "no route" and for the host itself.
        Some(Way::None | Way::Local) => Route::Local,
        Some(Way::Out { ifindex, mac, .. }) => {
            let slot = snapshot
                .tables
                .interfaces
                .iter()
                .find(|(_, interface)| interface.ifindex == *ifindex);
            match (slot, mac) {
                (Some((slot, _)), Some(mac)) => Route::Hop(Hop {
                    mac: *mac,
                    slot: *slot as u16,
                    is_narrow: false,
                }),
                (Some(_), None) => Route::NoNeighbor(*ifindex),
                _ => Route::Kernel,
            }
        }
    }
}

fn model(snapshot: &Snapshot<'_>) -> ModelTables {
    let tables = snapshot.tables;
    let mut model = ModelTables::default();
    model.settings = Some(Settings {
        untrusted_mask: UNTRUSTED_SETS - 1,
        ..tables.settings
    });
    model.now = snapshot.now;
    model.ports.extend(&tables.ports);
    model.port_ranges.extend(&tables.port_ranges);
    model.bindings.extend(&tables.bindings);
    let spreads = tables.spreads.iter();
    model.spreads = spreads
        .filter_map(|(id, places)| Some((*id, places.clone()?)))
        .collect();
    model.interfaces.extend(&tables.interfaces);
    fill(&mut model.v4, &tables.v4, &snapshot.flows4);
    fill(&mut model.v6, &tables.v6, &snapshot.flows6);
    model
}

fn fill<A: Family + Ord + std::hash::Hash>(
    model: &mut FamilyModel<A>,
    state: &FamilyState<A>,
    flows: &[(FlowKey<A>, Flow<A>)],
) {
    model.addresses.extend(
        state
            .addresses
            .iter()
            .map(|(address, owner): (&A, &Owner)| (*address, *owner)),
    );
    for (id, address) in &state.backends {
        model
            .backends
            .insert(*id, forebay_common::abi::Backend { address: *address });
    }
    model.virtual_network = state
        .virtual_network
        .iter()
        .map(|(length, prefix)| (*prefix, *length))
        .collect();
    model.ways.extend(&state.ways);
    model.snat_ranges.extend(&state.snat_ranges);
    for (address, other) in &state.public_ips {
        let public = PublicIp {
            other: *other,
            ..PublicIp::default()
        };
        model.public_ips.insert(*address, public);
    }
    for ((address, port, bits), reverse) in &state.reverse {
        let last = port | (u16::MAX.checked_shr(*bits).unwrap_or(0));
        model.reverse.push((*address, *port, last, *reverse));
    }
    for (key, flow) in flows {
        // The next hop is looked up anew, so that the answer tells what the host would say now.
        model.put_flow(
            *key,
            Flow {
                hop_slot: 0,
                ..*flow
            },
        );
    }
}

#[cfg(test)]
mod tests;
