//! What the daemon answers to commands.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context, Result, bail};
use forebay_common::abi::{
    Bound, MAX_ADDRESSES, MAX_BACKENDS, MAX_BINDINGS, MAX_PORTS, MAX_RINGS, MAX_RULES, MAX_SPREADS,
    PortKey, RING_SIZE, Rule, RuleCounters,
};
use forebay_common::family::{V4, V6};
use forebay_common::flow::WAYS;
use serde::Serialize;
use serde_json::Value;

use super::Daemon;
use super::flows::FlowView;
use super::outbound_sizes;
use super::views::{self, View};
use crate::api::{self, Request};
use crate::config::model::Advertise;
use crate::config::{self, Diagnostics, Loaded};
use crate::control_plane::{Event, PlannedChange, RingKey, plan};
use crate::host::{
    default_flows, facts, flow_table_bytes, total_memory, untrusted_bytes, untrusted_sets,
};

/// `show flows` without `--limit`.
const FLOW_LIMIT: usize = 1000;

fn json<T: Serialize>(value: T) -> Result<Value> {
    serde_json::to_value(value).context("write the answer")
}

impl Daemon {
    /// Answers a request.
    pub(super) async fn answer(&mut self, request: Request) -> Result<Value> {
        if matches!(
            request,
            Request::Status | Request::Rules | Request::InboundNatRules | Request::Pools
        ) {
            self.count_now();
        }
        match request {
            Request::Status => json(self.status().await?),
            Request::Frontends => {
                let claims = self.control_plane.claims();
                let claimed: BTreeSet<IpAddr> = claims.iter().map(|claim| claim.address).collect();
                json(self.view()?.frontends(|address| claimed.contains(&address)))
            }
            Request::Rules => {
                let counters = |id| {
                    self.dataplane.rule_counters(id).unwrap_or_else(|error| {
                        log::warn!("{error:#}");
                        RuleCounters::default()
                    })
                };
                json(self.view()?.rules(counters))
            }
            Request::InboundNatRules => {
                let counters = |id| {
                    self.dataplane.rule_counters(id).unwrap_or_else(|error| {
                        log::warn!("{error:#}");
                        RuleCounters::default()
                    })
                };
                let ports = self.control_plane.nat_ports();
                json(self.view()?.inbound_nat_rules(ports, counters))
            }
            Request::Pools => json(self.view()?.pools()),
            Request::Probes => json(self.view()?.probes()),
            Request::Instances => json(self.view()?.instances()),
            Request::PublicIps => json(self.view()?.public_ips()),
            Request::OutboundRules => json(self.view()?.outbound_rules()),
            Request::OutboundIps { instance } => json(self.view()?.outbound_ips(&instance)?),
            Request::Events { after } => json(self.events.after(after)),
            Request::Drops => json(views::drops(&self.dataplane.reasons()?)),
            Request::Flows(filter) => self.list_flows(filter),
            Request::FlushFlows(_) | Request::Snat { .. } => bail!("this is answered elsewhere"),
            Request::Explain(question) => json(self.explain(&question).await?),
            Request::Advertise { on } => json(self.advertise(on).await?),
            Request::Drain(drain) => json(self.drain(&drain)?),
            Request::Reload => json(self.reload().await?),
            Request::Plan { file, text } => {
                let old = self.control_plane.config().cloned();
                json(match config::parse_for(&file, &text, facts()) {
                    Ok(loaded) => report(&loaded, plan(old.as_deref(), &loaded.config)),
                    Err(diagnostics) => refusal(&diagnostics),
                })
            }
        }
    }

    fn view(&self) -> Result<View<'_>> {
        let config = self
            .control_plane
            .config()
            .context("no configuration is in force yet")?;
        Ok(View {
            config,
            ids: self.control_plane.ids(),
            census: &self.census,
            health: self.probing.health(),
            taking: &self.probing.taking,
            trials: self.trials.availability(),
            now: self.moment(),
        })
    }

    /// `advertise`
    async fn advertise(&mut self, on: bool) -> Result<api::Advertisement> {
        let mode = self.view()?.config.node.advertise;
        if on && mode == Advertise::None {
            bail!(
                "[node].advertise is \"none\": the addresses are routed to this node, and nobody on a link is told of them; set it to \"neighbor\" or \"standby\" and reload"
            );
        }
        self.handle(Event::Advertise(on))?;
        self.claims_changed = false;
        // Who takes over wants to know that it is done.
        let _ = self.tell_claims(on).await.await;
        log::info!("advertise {}", if on { "on" } else { "off" });
        Ok(self.advertisement(mode))
    }

    fn advertisement(&self, mode: Advertise) -> api::Advertisement {
        api::Advertisement {
            mode: views::advertise(mode).to_owned(),
            on: self.control_plane.advertises(),
            addresses: self.control_plane.claims().len(),
        }
    }

    async fn status(&self) -> Result<api::Status> {
        let config = self
            .control_plane
            .config()
            .context("no configuration is in force yet")?;
        let host = self.netlink.interfaces(&config.node.interfaces).await?;
        let interfaces = views::interfaces(&config.node.interfaces, &host);
        let not_ready = self.why_not_ready().await;
        let table = |entries: u32, family: usize| api::TableUse {
            used: self.census.entries[family] / 2,
            capacity: u64::from(entries) / 2,
            untrusted: self.census.untrusted[family].div_ceil(2),
        };
        let flows = self.flows();
        Ok(api::Status {
            name: config.node.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ready: not_ready.is_none(),
            not_ready,
            metrics: self.metrics.listener(config),
            uptime_seconds: self.started.elapsed().as_secs(),
            config: api::ConfigStatus {
                path: self.options.config.display().to_string(),
                sha256: self.in_force.sha256.clone(),
                loaded_at: self.in_force.loaded_at.clone(),
            },
            interfaces,
            advertise: self.advertisement(config.node.advertise),
            flows: api::FlowTables {
                ipv4: table(flows.v4.entries, 0),
                ipv6: table(flows.v6.entries, 1),
                moving: flows.is_moving(),
            },
            packets: views::totals(&self.dataplane.reasons()?),
        })
    }

    fn list_flows(&self, mut filter: api::FlowFilter) -> Result<Value> {
        if filter.limit == 0 {
            filter.limit = FLOW_LIMIT;
        }
        let config = self
            .control_plane
            .config()
            .context("no configuration is in force yet")?;
        require_instance(config, &filter)?;
        let view = FlowView {
            config,
            ids: self.control_plane.ids(),
            settings: self.control_plane.applied().settings,
            rate: self.clock.rate,
            now: self.clock.now(),
        };
        json(view.list(&self.flows(), &filter)?)
    }
}

/// Refuses a filter for an instance that there is not.
pub(super) fn require_instance(
    config: &config::model::Config,
    filter: &api::FlowFilter,
) -> Result<()> {
    match &filter.instance {
        Some(name) => require_name(config, name),
        None => Ok(()),
    }
}

/// Refuses the name of an instance that there is not.
pub(super) fn require_name(config: &config::model::Config, name: &str) -> Result<()> {
    if !config.instances.iter().any(|one| one.name == name) {
        bail!("no instance is called {name}; `forebay show instances` lists them")
    }
    Ok(())
}

/// What a valid file would change and need.
pub(super) fn report(loaded: &Loaded, changes: Vec<PlannedChange>) -> api::Report {
    let tables = tables(&loaded.config);
    api::Report {
        valid: true,
        errors: Vec::new(),
        warnings: values(&loaded.warnings),
        changes,
        memory_bytes: tables.iter().map(|table| table.bytes).sum(),
        tables,
        snat: super::outbound_views::promises(&loaded.config),
    }
}

/// What is wrong with a file.
pub(super) fn refusal(diagnostics: &Diagnostics) -> api::Report {
    api::Report {
        errors: values(&diagnostics.errors),
        warnings: values(&diagnostics.warnings),
        ..api::Report::default()
    }
}

fn values(diagnostics: &[config::Diagnostic]) -> Vec<Value> {
    diagnostics
        .iter()
        .filter_map(|diagnostic| serde_json::to_value(diagnostic).ok())
        .collect()
}

/// The tables that take memory worth speaking of, as the kernel allocates them.
fn tables(config: &config::model::Config) -> Vec<api::TableSize> {
    let flows = u64::from(
        config
            .limits
            .flows
            .unwrap_or_else(|| default_flows(total_memory())),
    );
    let rings = RingKey::used_by(config);
    let of_spreads = |rule: &config::model::InboundNatRule| {
        let frontend = config.frontend(&rule.frontend);
        let families = frontend.into_iter().flat_map(|f| f.addresses()).count() as u64;
        (families, families * rule.port.range().len() as u64 * 8)
    };
    let over_pools = (config.inbound_nat_rules.iter())
        .filter(|rule| matches!(rule.target, config::model::NatTarget::Pool(_)));
    let (spreads, spread_bytes) =
        (over_pools.map(of_spreads)).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    let ports = ports_bound(config);
    let cpus = std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u64);
    let size = |name: &str, entries: u64, bytes: u64| api::TableSize {
        name: name.to_owned(),
        entries,
        bytes,
    };
    let array =
        |entries: u32, value: usize| u64::from(entries) * (value as u64).next_multiple_of(8);
    let slots = u64::from(untrusted_sets(flows as u32)) * WAYS as u64;
    let mut sizes = vec![
        size("flows-ipv4", flows * 2, flow_table_bytes::<V4>(flows)),
        size("flows-ipv6", flows * 2, flow_table_bytes::<V6>(flows)),
        size("untrusted-ipv4", slots, untrusted_bytes::<V4>(flows as u32)),
        size("untrusted-ipv6", slots, untrusted_bytes::<V6>(flows as u32)),
        size(
            "rings",
            rings.len() as u64,
            rings.len() as u64 * array(RING_SIZE, 4) + u64::from(MAX_RINGS) * 8,
        ),
        size(
            "members",
            u64::from(MAX_BACKENDS) * 2,
            array(MAX_BACKENDS, 4) + array(MAX_BACKENDS, 16),
        ),
        size(
            "spreads",
            spreads,
            spread_bytes + u64::from(MAX_SPREADS) * 8,
        ),
        size(
            "ports",
            ports,
            u64::from(MAX_PORTS) * 16
                + ports * (48 + (size_of::<PortKey>() + size_of::<Bound>()) as u64),
        ),
        size(
            "rules",
            u64::from(MAX_BINDINGS),
            array(MAX_BINDINGS, size_of::<Rule>()),
        ),
        size(
            "rule-counters",
            u64::from(MAX_RULES),
            array(MAX_RULES, size_of::<RuleCounters>()) * cpus,
        ),
        size(
            "addresses",
            u64::from(MAX_ADDRESSES) * 2,
            u64::from(MAX_ADDRESSES) * 2 * 16,
        ),
    ];
    sizes.extend(outbound_sizes::sizes(config));
    sizes
}

/// Entries that the ports of all rules take, at most: a range is cut into up to 30.
fn ports_bound(config: &config::model::Config) -> u64 {
    use config::model::{Ports, Protocol};
    let rules = config.rules.iter();
    let rules = rules.map(|rule| (rule.protocol, &rule.port));
    let nat_rules = config.inbound_nat_rules.iter();
    let nat_rules = nat_rules.map(|rule| (rule.protocol, &rule.port));
    let entries = rules.chain(nat_rules).map(|(protocol, ports)| {
        let protocols = if protocol == Protocol::All { 2 } else { 1 };
        let parts = if matches!(ports, Ports::Range(_)) {
            30
        } else {
            1
        };
        2 * protocols * parts
    });
    entries.sum()
}
