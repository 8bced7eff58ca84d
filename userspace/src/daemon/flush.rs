//! Ends flows that are alive, and tells both sides of their connections: those that `flush flows` names, and those
//! of members that were taken out.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use forebay_common::abi::RetireBatch;
use forebay_common::flow::{Direction, Flow, FlowKey, FlowKind, UntrustedSet, marks};
use forebay_common::wire::TCP;
use tokio::sync::oneshot;

use super::Daemon;
use super::answers::require_instance;
use super::flows::lets_through;
use super::sweeper::{ask, send};
use crate::api::{self, FlowFilter, Flushed};
use crate::config::model::Config;
use crate::control_plane::{End, Reset, Whose, is_opening};
use crate::dataplane::{FlowFamily, FlowTable, Flows, Plain};
use crate::host::ResetSocket;

/// After the mark, what was on its way arrives and is acknowledged, which moves the number that a RST must
/// have; of acknowledgements that two processors handled, the older may have been noted last; and a RST may be
/// lost. So the sides are asked, and told again. Marked flows take in acknowledgements for a second.
const ROUNDS: [Duration; 3] = [
    Duration::from_millis(300),
    Duration::from_millis(250),
    Duration::from_millis(250),
];

impl Daemon {
    /// Flushes in the background and answers.
    pub(super) fn flush_flows(&self, filter: FlowFilter, reply: oneshot::Sender<api::Response>) {
        let job = self.flush_job(filter);
        tokio::task::spawn_blocking(move || {
            let answer = job.and_then(|job| Ok(serde_json::to_value(job.run()?)?));
            // Who asked may have gone.
            let _ = reply.send(api::Response::from(answer));
        });
    }

    fn flush_job(&self, filter: FlowFilter) -> Result<Job> {
        let config = self.control_plane.config();
        let config = config.context("no configuration is in force yet")?.clone();
        require_instance(&config, &filter)?;
        Ok(self.job(Which::Asked(config, filter)))
    }

    /// The end of these flows.
    pub(super) fn job(&self, which: Which) -> Job {
        Job {
            flows: self.flows(),
            which,
            resets: self.resets.clone(),
        }
    }
}

/// Which flows are to end.
pub(super) enum Which {
    /// Those that a command asks for.
    Asked(Arc<Config>, FlowFilter),
    /// Of these members, those without connections.
    Datagrams(Whose),
    /// Of these members, all.
    All(Whose),
}

impl Which {
    fn has<A: FlowFamily>(&self, key: &FlowKey<A>, flow: &Flow<A>) -> bool {
        let of = |whose: &Whose| {
            FlowKind::from_byte(flow.kind) == Some(FlowKind::Rule)
                && whose.contains(&(flow.rule, flow.destination.into()))
        };
        match self {
            Self::Asked(config, filter) => lets_through(config, filter, key, flow),
            Self::Datagrams(whose) => key.protocol != u32::from(TCP) && of(whose),
            Self::All(whose) => of(whose),
        }
    }

    /// Whether ports that an instance has towards everybody are meant too.
    fn has_mappings(&self) -> bool {
        matches!(self, Self::Asked(..))
    }
}

/// What is to be flushed.
pub(super) struct Job {
    flows: Arc<Flows>,
    which: Which,
    resets: Option<Arc<ResetSocket>>,
}

impl Job {
    pub(super) fn run(&self) -> Result<Flushed> {
        let (v4, v6) = (&self.flows.v4, &self.flows.v6);
        let (ended4, told4) = self.end(v4)?;
        let (ended6, told6) = self.end(v6)?;
        let forgotten = self.forget(v4)? + self.forget(v6)?;
        let done = Flushed {
            flows: ended4.len() + ended6.len() + forgotten,
            reset: (told4.len() + told6.len()) / 2,
        };
        if done.reset > 0 {
            for pause in ROUNDS {
                std::thread::sleep(pause);
                for told in [resets(v4, &ended4)?, resets(v6, &ended6)?] {
                    send(self.resets.as_deref(), &told);
                    ask(self.resets.as_deref(), &told);
                }
            }
        }
        log::log!(
            match self.which {
                Which::Asked(..) => log::Level::Info,
                Which::Datagrams(_) | Which::All(_) => log::Level::Debug,
            },
            "flushed {} flows",
            done.flows
        );
        Ok(done)
    }

    /// Marks the flows that the filter lets through, and tells their sides; returns both.
    fn end<A: FlowFamily>(&self, table: &FlowTable<A>) -> Result<(Vec<FlowKey<A>>, Vec<Reset>)>
    where
        FlowKey<A>: Plain,
        Flow<A>: Plain,
        RetireBatch<A>: Plain,
        UntrustedSet<A>: Plain,
    {
        let (mut keys, mut mappings) = (Vec::new(), Vec::new());
        table.visit(|key, flow| {
            let list = match is_opening(flow.kind) {
                true => &mut keys,
                false if is_mapping(flow.kind) && self.which.has_mappings() => &mut mappings,
                false => return true,
            };
            if flow.marks & marks::RETIRING == 0 && self.which.has(key, flow) {
                list.push(*key);
            }
            true
        })?;
        let ended = table.flush(&keys)?;
        // Else the next flow would go on with the same port.
        table.flush(&mappings)?;
        let told = resets(table, &ended)?;
        send(self.resets.as_deref(), &told);
        Ok((ended, told))
    }

    /// Forgets the untrusted flows that the filter lets through; nobody holds anything open by them. Returns how
    /// many.
    fn forget<A: FlowFamily>(&self, table: &FlowTable<A>) -> Result<usize>
    where
        FlowKey<A>: Plain,
        Flow<A>: Plain,
        RetireBatch<A>: Plain,
        UntrustedSet<A>: Plain,
    {
        let mut keys = Vec::new();
        table.visit_untrusted(|key, flow| {
            if is_opening(flow.kind) && self.which.has(key, flow) {
                keys.push(*key);
            }
            true
        })?;
        Ok(table.forget(&keys)?.len())
    }
}

/// Whether it is the port that an instance's port has, under the instance's address.
fn is_mapping(kind: u8) -> bool {
    FlowKind::from_byte(kind) == Some(FlowKind::Mapping)
        && FlowKind::direction(kind) == Direction::FromInstance
}

fn resets<A: FlowFamily>(table: &FlowTable<A>, ended: &[FlowKey<A>]) -> Result<Vec<Reset>>
where
    FlowKey<A>: Plain,
    Flow<A>: Plain,
    RetireBatch<A>: Plain,
    UntrustedSet<A>: Plain,
{
    let mut found = Vec::new();
    for key in ended {
        found.extend(table.resets(key, End::Flush)?);
    }
    Ok(found)
}
