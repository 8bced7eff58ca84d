//! `show flows`: both directions of each flow, put together.

use std::net::IpAddr;

use anyhow::Result;
use forebay_common::abi::{RetireBatch, Settings};
use forebay_common::flow::{Flow, FlowKey, FlowKind, UntrustedSet, lifetime, marks};

use crate::api;
use crate::clock::TickRate;
use crate::config::model::Config;
use crate::control_plane::{Ids, instance_of, is_opening, public_address_of};
use crate::dataplane::{FlowFamily, FlowTable, Flows};
use crate::explain::protocol_name;

/// Looks up the entry of the other direction.
type ReplyOf<'f, A> = &'f dyn Fn(&FlowKey<A>) -> Result<Option<Flow<A>>>;

/// What turns entries into lines.
pub(super) struct FlowView<'v> {
    /// The configuration in force.
    pub config: &'v Config,
    /// Ids in use.
    pub ids: &'v Ids,
    /// Shared timeouts.
    pub settings: Settings,
    /// Ticks a second.
    pub rate: TickRate,
    /// Jiffies.
    pub now: u64,
}

impl FlowView<'_> {
    /// The flows that a filter lets through, IPv4 first, in no order.
    pub(super) fn list(&self, flows: &Flows, filter: &api::FlowFilter) -> Result<Vec<api::Flow>> {
        let mut listed = Vec::new();
        self.add(&flows.v4, filter, &mut listed)?;
        self.add(&flows.v6, filter, &mut listed)?;
        Ok(listed)
    }

    fn add<A: FlowFamily>(
        &self,
        table: &FlowTable<A>,
        filter: &api::FlowFilter,
        listed: &mut Vec<api::Flow>,
    ) -> Result<()>
    where
        RetireBatch<A>: crate::dataplane::Plain,
        FlowKey<A>: crate::dataplane::Plain,
        Flow<A>: crate::dataplane::Plain,
        UntrustedSet<A>: crate::dataplane::Plain,
    {
        let reply_of = |key: &FlowKey<A>| table.get(key);
        table.visit(|key, flow| self.see(key, flow, &reply_of, filter, listed))?;
        let hash_key = self.settings.hash_key;
        let reply_of = |key: &FlowKey<A>| table.get_untrusted(hash_key, key);
        table.visit_untrusted(|key, flow| self.see(key, flow, &reply_of, filter, listed))
    }

    /// Lists an entry if it is the first direction of a flow that the filter lets through. Says whether
    /// there is room for more.
    fn see<A: FlowFamily>(
        &self,
        key: &FlowKey<A>,
        flow: &Flow<A>,
        reply_of: ReplyOf<'_, A>,
        filter: &api::FlowFilter,
        listed: &mut Vec<api::Flow>,
    ) -> bool {
        if listed.len() >= filter.limit {
            return false;
        }
        let is_first = is_opening(flow.kind) && flow.marks & marks::RETIRING == 0;
        if is_first && lets_through(self.config, filter, key, flow) {
            // An other direction that cannot be read tells nothing more about the flow.
            let reply = reply_of(&flow.reply_key(key.protocol)).ok().flatten();
            listed.extend(self.line(key, flow, reply.as_ref()));
        }
        true
    }

    /// One line; `None` when the flow is over and only waits for the sweep.
    fn line<A: FlowFamily>(
        &self,
        key: &FlowKey<A>,
        flow: &Flow<A>,
        reply: Option<&Flow<A>>,
    ) -> Option<api::Flow> {
        let state = flow.state(key.protocol);
        let last_seen = flow.last_seen.max(reply.map_or(0, |reply| reply.last_seen));
        let idle = self
            .rate
            .duration(self.now.saturating_sub(last_seen))
            .as_secs_f64();
        let lifetime = lifetime(
            &self.settings.timeouts,
            key.protocol,
            state,
            flow.idle_timeout,
        );
        let left = (last_seen + u64::from(lifetime)).checked_sub(self.now)?;
        let translated = FlowKey {
            source: flow.source,
            destination: flow.destination,
            ports: flow.ports,
            protocol: key.protocol,
        };
        let instance = self.config.owner_of(instance_of(key, flow));
        let public = public_address_of(key, flow);
        let holds = |frontend: &&crate::config::model::Frontend| frontend.has(public);
        Some(api::Flow {
            protocol: protocol_name(key.protocol),
            kind: FlowKind::from_byte(flow.kind)
                .map_or("unknown", FlowKind::label)
                .to_owned(),
            original: endpoints(key),
            translated: endpoints(&translated),
            state: state.label().to_owned(),
            idle_seconds: idle,
            expires_in_seconds: self.rate.duration(left).as_secs_f64(),
            instance: instance.map_or_else(String::new, |member| member.instance),
            frontend: self
                .config
                .frontends
                .iter()
                .find(holds)
                .map_or_else(String::new, |frontend| frontend.name.clone()),
            rule: (self.ids.rule_name(flow.rule)).map_or_else(String::new, str::to_owned),
            packets: flow.packets + reply.map_or(0, |reply| reply.packets),
            bytes: flow.bytes + reply.map_or(0, |reply| reply.bytes),
        })
    }
}

/// Whether a filter lets a flow through, by the entry that its opener's packets meet.
pub(super) fn lets_through<A: FlowFamily>(
    config: &Config,
    filter: &api::FlowFilter,
    key: &FlowKey<A>,
    flow: &Flow<A>,
) -> bool {
    let is = |wanted: Option<IpAddr>, found: A| wanted.is_none_or(|wanted| wanted == found.into());
    let is_of = |instance: &String| {
        // An instance may talk to another one.
        [instance_of(key, flow), flow.destination.into()]
            .into_iter()
            .filter_map(|address| config.owner_of(address))
            .any(|owner| owner.instance == *instance)
    };
    is(filter.source, key.source)
        && is(filter.destination, key.destination)
        && filter.instance.as_ref().is_none_or(is_of)
}

fn endpoints<A: FlowFamily>(key: &FlowKey<A>) -> api::Endpoints {
    api::Endpoints {
        source: key.source.into().to_string(),
        source_port: key.source_port(),
        destination: key.destination.into().to_string(),
        destination_port: key.destination_port(),
    }
}
