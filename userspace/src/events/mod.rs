//! What operators are told of: the last events, and the conditions that are open. Each is logged as well.
//! The time is given, so that nothing here depends on a clock.

mod refusals;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde_json::{Map, Value};

pub use refusals::Refusals;

use crate::api;

/// Events that are kept.
pub const KEPT: usize = 1000;
/// A condition that stays open is told again no sooner than this.
pub const REPEATED_AFTER: Duration = Duration::from_secs(300);

/// How bad an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// For the record.
    Info,
    /// Somebody should look at it.
    Warning,
    /// Traffic suffers.
    Critical,
}

impl Severity {
    const fn label(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    const fn level(self) -> log::Level {
        match self {
            Self::Info => log::Level::Info,
            Self::Warning => log::Level::Warn,
            Self::Critical => log::Level::Error,
        }
    }
}

/// What may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventKind {
    /// A configuration is in force.
    ConfigLoaded,
    /// A configuration was refused; the former one stays.
    ConfigRejected,
    /// More than three quarters of the SNAT ports of an address are in use by one IP configuration.
    HighSnatPortUsage,
    /// New flows are refused for want of a SNAT port.
    SnatPortExhaustion,
    /// Probes find a member up.
    BackendUp,
    /// Probes find a member down.
    BackendDown,
    /// No member of a rule is up.
    NoHealthyBackends,
    /// Trials of a frontend's rules fail.
    DataPathAvailabilityWarning,
    /// Most trials of a frontend's rules fail.
    DataPathAvailabilityCritical,
}

impl EventKind {
    /// Its name in output.
    pub const fn label(self) -> &'static str {
        match self {
            Self::ConfigLoaded => "ConfigLoaded",
            Self::ConfigRejected => "ConfigRejected",
            Self::HighSnatPortUsage => "HighSnatPortUsage",
            Self::SnatPortExhaustion => "SnatPortExhaustion",
            Self::BackendUp => "BackendUp",
            Self::BackendDown => "BackendDown",
            Self::NoHealthyBackends => "NoHealthyBackends",
            Self::DataPathAvailabilityWarning => "DataPathAvailabilityWarning",
            Self::DataPathAvailabilityCritical => "DataPathAvailabilityCritical",
        }
    }

    /// How bad it is.
    pub const fn severity(self) -> Severity {
        match self {
            Self::ConfigLoaded | Self::BackendUp => Severity::Info,
            Self::ConfigRejected
            | Self::HighSnatPortUsage
            | Self::BackendDown
            | Self::DataPathAvailabilityWarning => Severity::Warning,
            Self::SnatPortExhaustion
            | Self::NoHealthyBackends
            | Self::DataPathAvailabilityCritical => Severity::Critical,
        }
    }
}

/// When something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// What the clock on the wall shows.
    pub wall: SystemTime,
    /// Since the daemon started: goes on evenly.
    pub uptime: Duration,
}

/// Something to tell.
#[derive(Debug, Clone, PartialEq)]
pub struct Happening {
    kind: EventKind,
    message: String,
    fields: Map<String, Value>,
}

impl Happening {
    /// An event in words.
    pub fn new(kind: EventKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            fields: Map::new(),
        }
    }

    /// The same with a field for scripts. A value that cannot be JSON is left out.
    pub fn with(mut self, field: &str, value: impl Serialize) -> Self {
        if let Ok(value) = serde_json::to_value(value) {
            self.fields.insert(field.to_owned(), value);
        }
        self
    }
}

/// A condition that goes on: its kind, and what it is about.
type Condition = (EventKind, String);

/// An open condition.
#[derive(Debug, Clone)]
struct Open {
    told: Duration,
    fields: Map<String, Value>,
}

/// The last events, and the open conditions.
#[derive(Debug, Default)]
pub struct Events {
    last_number: u64,
    kept: VecDeque<api::Event>,
    open: BTreeMap<Condition, Open>,
}

impl Events {
    /// Tells of something that has no duration.
    pub fn tell(&mut self, at: Moment, happening: Happening) {
        let (name, severity) = (happening.kind.label(), happening.kind.severity());
        self.keep(
            at,
            severity,
            name.to_owned(),
            happening.message,
            happening.fields,
        );
    }

    /// Whether a condition would be told of now: it is new, or was last told of long enough ago.
    pub fn is_due(&self, at: Moment, kind: EventKind, about: &str) -> bool {
        let open = self.open.get(&(kind, about.to_owned()));
        open.is_none_or(|open| at.uptime.saturating_sub(open.told) >= REPEATED_AFTER)
    }

    /// Tells that a condition is open, unless that was told of a short while ago.
    pub fn open(&mut self, at: Moment, about: &str, happening: Happening) {
        if !self.is_due(at, happening.kind, about) {
            return;
        }
        let open = Open {
            told: at.uptime,
            fields: happening.fields.clone(),
        };
        self.open.insert((happening.kind, about.to_owned()), open);
        self.tell(at, happening);
    }

    /// Tells that a condition has ended, if it was open. What it was about is said again.
    pub fn clear(&mut self, at: Moment, kind: EventKind, about: &str, message: &str) {
        if let Some(open) = self.open.remove(&(kind, about.to_owned())) {
            let name = format!("{}Cleared", kind.label());
            self.keep(at, Severity::Info, name, message.to_owned(), open.fields);
        }
    }

    /// What the open conditions of a kind are about.
    pub fn open_ones(&self, kind: EventKind) -> Vec<String> {
        let of_kind = self.open.keys().filter(|(open, _)| *open == kind);
        of_kind.map(|(_, about)| about.clone()).collect()
    }

    /// The events that are kept and come after the one with this number.
    pub fn after(&self, number: u64) -> Vec<api::Event> {
        let later = self.kept.iter().filter(|event| event.number > number);
        later.cloned().collect()
    }

    fn keep(
        &mut self,
        at: Moment,
        severity: Severity,
        event: String,
        message: String,
        fields: Map<String, Value>,
    ) {
        log::log!(severity.level(), "{event}: {message}");
        self.last_number += 1;
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(api::Event {
            time: humantime::format_rfc3339_millis(at.wall).to_string(),
            severity: severity.label().to_owned(),
            event,
            message,
            number: self.last_number,
            fields,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment {
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000 + seconds),
            uptime: Duration::from_secs(seconds),
        }
    }

    fn names(events: &Events) -> Vec<String> {
        let all = events.after(0).into_iter();
        all.map(|event| event.event).collect()
    }

    fn exhausted() -> Happening {
        Happening::new(EventKind::SnatPortExhaustion, "none left").with("instance", "web-1")
    }

    #[test]
    fn an_event_is_one_object_with_its_fields_beside_its_time() {
        let mut events = Events::default();
        events.tell(at(0), exhausted());
        assert_eq!(
            serde_json::to_value(&events.after(0)[0]).unwrap(),
            serde_json::json!({
                "time": "2001-09-09T01:46:40.000Z",
                "severity": "critical",
                "event": "SnatPortExhaustion",
                "message": "none left",
                "number": 1,
                "instance": "web-1",
            })
        );
    }

    #[test]
    fn an_open_condition_is_told_of_once_in_five_minutes() {
        let mut events = Events::default();
        for second in [0, 1, 299, 300, 301, 599] {
            events.open(at(second), "web-1", exhausted());
        }
        assert_eq!(events.after(0).len(), 2);
        events.open(at(600), "web-1", exhausted());
        events.open(at(600), "web-2", exhausted());
        assert_eq!(events.after(0).len(), 4, "each subject by itself");
    }

    #[test]
    fn what_has_ended_is_told_once_with_what_it_was_about() {
        let mut events = Events::default();
        let kind = EventKind::SnatPortExhaustion;
        events.clear(at(0), kind, "web-1", "nothing was open");
        events.open(at(1), "web-1", exhausted());
        assert_eq!(events.open_ones(kind), ["web-1"]);
        events.clear(at(2), kind, "web-1", "over");
        events.clear(at(3), kind, "web-1", "over");
        assert!(events.open_ones(kind).is_empty());
        events.open(at(4), "web-1", exhausted());
        assert_eq!(
            names(&events),
            [
                "SnatPortExhaustion",
                "SnatPortExhaustionCleared",
                "SnatPortExhaustion"
            ]
        );
        let cleared = &events.after(1)[0];
        assert_eq!(cleared.fields["instance"], "web-1");
        assert_eq!(cleared.severity, "info");
    }

    #[test]
    fn the_last_thousand_are_kept() {
        let mut events = Events::default();
        for _ in 0..KEPT + 5 {
            let loaded = Happening::new(EventKind::ConfigLoaded, "read");
            events.tell(at(0), loaded);
        }
        let numbers: Vec<u64> = events.after(0).iter().map(|event| event.number).collect();
        assert_eq!((numbers.len(), numbers[0]), (KEPT, 6));
        assert_eq!(events.after(KEPT as u64 + 3).len(), 2);
    }
}
