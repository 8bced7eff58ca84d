//! When operators are told of what.

use std::time::SystemTime;

use anyhow::Result;

use super::Daemon;
use crate::api;
use crate::config::Diagnostic;
use crate::events::{EventKind, Happening, Moment};

impl Daemon {
    /// Now, as events have it.
    pub(super) fn moment(&self) -> Moment {
        Moment {
            wall: SystemTime::now(),
            uptime: self.started.elapsed(),
        }
    }

    /// Tells that the file is in force.
    pub(super) fn tell_loaded(&mut self) {
        let path = self.options.config.display().to_string();
        let message = format!("{path} is in force");
        let loaded = Happening::new(EventKind::ConfigLoaded, message)
            .with("path", path)
            .with("sha256", &self.in_force.sha256);
        self.events.tell(self.moment(), loaded);
    }

    /// One line for whoever looks at the service; `reloaded` says how a reload went that has just ended.
    pub(super) async fn status_line(&self, reloaded: Option<bool>) -> String {
        let refused = match reloaded {
            Some(false) => "the reload failed, the former configuration stays; ",
            _ => "",
        };
        let (name, counts) = match self.control_plane.config() {
            Some(config) => {
                let rules = config.rules.len() + config.inbound_nat_rules.len();
                let interfaces = config.node.interfaces.len();
                let counts = format!("{rules} rules on {interfaces} interfaces");
                (config.node.name.as_str(), counts)
            }
            None => ("no configuration", String::new()),
        };
        match self.why_not_ready().await {
            None => format!("{refused}{name} is ready: {counts}"),
            Some(why) => format!("{refused}{name} is not ready: {why}"),
        }
    }

    /// Tells what has become of a reload.
    pub(super) fn tell_reload(&mut self, outcome: &Result<api::Report>) {
        let reason = match outcome {
            Ok(report) if report.valid => None,
            Ok(report) => Some(first_error(report)),
            Err(error) => Some(format!("{error:#}")),
        };
        let (now, kind) = (self.moment(), EventKind::ConfigRejected);
        let path = self.options.config.display().to_string();
        match reason {
            // The reason is part of what is open: an operator who corrects one mistake hears of the next.
            Some(reason) => {
                let message = format!("the former configuration stays: {reason}");
                let rejected = Happening::new(kind, message)
                    .with("path", path)
                    .with("reason", &reason);
                self.events.open(now, &reason, rejected);
            }
            None => {
                for reason in self.events.open_ones(kind) {
                    self.events
                        .clear(now, kind, &reason, "another configuration is in force");
                }
                self.tell_loaded();
            }
        }
    }
}

/// The first mistake of a refused file, and how many there are.
fn first_error(report: &api::Report) -> String {
    let first = report.errors.first();
    let first = first.and_then(|error| serde_json::from_value::<Diagnostic>(error.clone()).ok());
    let first = first.map_or_else(|| "the file is invalid".to_owned(), |e| e.to_string());
    let first = first.split_whitespace().collect::<Vec<_>>().join(" ");
    match report.errors.len() {
        0 | 1 => first,
        count => format!("{first} (and {} more)", count - 1),
    }
}
