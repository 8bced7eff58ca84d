//! A case: tables, frames, and what must become of both.

use std::fmt::Write as _;

use forebay_common::abi::RuleCounters;
use forebay_common::flow::Direction;
use forebay_common::reason::{Fate, Reason};

use crate::engine::{Action, Engine, Outcome};
use crate::frame::{Frame, IcmpMessage, decode};
use crate::network::plan::{Link, NORTH, Way};
use crate::network::{Host, IpVersion};
use crate::world::{Flows, Pair, World};

/// What must become of a frame. Tables that nothing is said about must not change.
#[derive(Debug, Clone)]
pub struct Expect {
    /// Where it goes.
    pub action: Action,
    /// What it is counted under.
    pub reason: Reason,
    /// Its bytes afterwards; `None`: untouched.
    pub frame: Option<Vec<u8>>,
    /// All flows afterwards; `None`: as before.
    pub flows: Option<Vec<Pair>>,
    /// A rule that began a flow.
    pub new_flow: Option<u32>,
    /// The rule, direction and length of a packet that was counted for a rule.
    pub rule: Option<(u32, Direction, u32)>,
    /// How many flows are trusted afterwards; `None`: whichever.
    pub trusted: Option<usize>,
}

impl Expect {
    /// The frame goes nowhere or to the kernel, as the reason says, untouched.
    pub fn end(reason: Reason) -> Self {
        let action = match reason.fate() {
            Fate::Drop | Fate::Own => Action::Drop,
            Fate::Answer => Action::Transmit,
            Fate::Pass | Fate::Forward => Action::Pass,
        };
        Self {
            action,
            reason,
            frame: None,
            flows: None,
            new_flow: None,
            rule: None,
            trusted: None,
        }
    }

    /// The frame goes back to where it came from as this one.
    pub fn answer(frame: Vec<u8>) -> Self {
        Self {
            frame: Some(frame),
            ..Self::end(Reason::NeighborAnswered)
        }
    }

    /// The sender of `frame` gets an ICMP error of this type and code about it.
    pub fn complaint(
        reason: Reason,
        frame: &Frame,
        speaker: Host,
        kind: (u8, u8),
        rest: u32,
    ) -> Self {
        let error = IcmpMessage::about(&frame.build(), frame.version, kind, rest);
        let error = IcmpMessage {
            tags: frame.tags.clone(),
            ..error.between(speaker, frame.source)
        };
        Self {
            frame: Some(error.build()),
            ..Self::end(reason)
        }
    }

    /// TTL or hop limit of `frame` is used up, and its sender is told so by `speaker`.
    pub fn time_exceeded(frame: &Frame, speaker: Host) -> Self {
        let kind = match frame.version {
            IpVersion::V4 => (11, 0),
            IpVersion::V6 => (3, 0),
        };
        Self::complaint(Reason::TimeExceededSent, frame, speaker, kind, 0)
    }

    /// The frame is longer than `mtu`, and its sender is told so by `speaker`.
    pub fn too_big(frame: &Frame, speaker: Host, mtu: u32) -> Self {
        let kind = match frame.version {
            IpVersion::V4 => (3, 4),
            IpVersion::V6 => (2, 0),
        };
        Self::complaint(Reason::TooBigSent, frame, speaker, kind, mtu)
    }

    /// The packet leaves by a NIC; `translated` is what it has become, except for MAC addresses and
    /// hops.
    pub fn forward(translated: Frame, way: Way) -> Self {
        Self {
            action: action(translated.ingress, way),
            frame: Some(translated.leaving(way).build()),
            ..Self::end(Reason::Forwarded)
        }
    }

    /// An ICMP error leaves by a NIC as `translated`, but for MAC addresses, hops and tags.
    pub fn icmp_translated(translated: &IcmpMessage, ingress: &Link, way: Way) -> Self {
        Self {
            action: action(ingress, way),
            frame: Some(translated.clone().leaving(ingress, way).build()),
            ..Self::end(Reason::IcmpTranslated)
        }
    }

    /// The packet goes to the kernel as `translated`, TTL and MAC addresses untouched.
    pub fn forward_by_kernel(translated: &Frame) -> Self {
        Self {
            frame: Some(translated.build()),
            ..Self::end(Reason::ForwardedByKernel)
        }
    }

    /// These are all flows afterwards.
    #[must_use]
    pub fn flows(self, flows: impl IntoIterator<Item = Pair>) -> Self {
        Self {
            flows: Some(flows.into_iter().collect()),
            ..self
        }
    }

    /// The packet counts for a rule.
    #[must_use]
    pub fn counts(self, rule: u32, direction: Direction, length: u32) -> Self {
        Self {
            rule: Some((rule, direction, length)),
            ..self
        }
    }

    /// So many flows are trusted afterwards.
    #[must_use]
    pub fn trusted(self, flows: usize) -> Self {
        Self {
            trusted: Some(flows),
            ..self
        }
    }

    /// The rule has one more flow.
    #[must_use]
    pub fn opens(self, rule: u32) -> Self {
        Self {
            new_flow: Some(rule),
            ..self
        }
    }
}

/// One frame of a case.
#[derive(Debug, Clone)]
pub struct Step {
    /// Jiffies since the step before.
    pub after: u64,
    /// The configuration from here on; `None`: as before.
    pub world: Option<World>,
    /// The frame.
    pub frame: Vec<u8>,
    /// The interface it comes in on.
    pub ingress: &'static Link,
    /// What must become of it.
    pub expect: Expect,
}

/// Tables, frames, expectations.
#[derive(Debug, Clone)]
pub struct Case {
    /// What it is about; says all that is special.
    pub name: String,
    /// The tables to begin with.
    pub given: World,
    /// The frames, in order.
    pub steps: Vec<Step>,
}

impl Case {
    /// A case in the default world.
    pub fn new(version: IpVersion, name: &str) -> Self {
        Self {
            name: format!("{version}: {name}"),
            given: World::default(),
            steps: Vec::new(),
        }
    }

    /// Changes the tables that it begins with.
    #[must_use]
    pub fn given(mut self, change: impl FnOnce(&mut World)) -> Self {
        change(&mut self.given);
        self
    }

    /// Begins with these flows.
    #[must_use]
    pub fn with_flows<'p>(mut self, pairs: impl IntoIterator<Item = &'p Pair>) -> Self {
        for pair in pairs {
            self.given.add(pair);
        }
        self
    }

    /// Adds a frame.
    #[must_use]
    pub fn step(self, frame: &Frame, expect: Expect) -> Self {
        let ingress = frame.ingress;
        self.bytes(frame.build(), ingress, expect)
    }

    /// Adds a frame, some jiffies after the one before.
    #[must_use]
    pub fn later(self, jiffies: u64, frame: &Frame, expect: Expect) -> Self {
        let mut case = self.step(frame, expect);
        if let Some(step) = case.steps.last_mut() {
            step.after = jiffies;
        }
        case
    }

    /// Adds a frame after the configuration has changed.
    #[must_use]
    pub fn reconfigured(
        self,
        change: impl FnOnce(&mut World),
        frame: &Frame,
        expect: Expect,
    ) -> Self {
        let mut world = self.given.clone();
        change(&mut world);
        let mut case = self.step(frame, expect);
        if let Some(step) = case.steps.last_mut() {
            step.world = Some(world);
        }
        case
    }

    /// Adds any bytes as a frame.
    #[must_use]
    pub fn bytes(mut self, frame: Vec<u8>, ingress: &'static Link, expect: Expect) -> Self {
        self.steps.push(Step {
            after: 0,
            world: None,
            frame,
            ingress,
            expect,
        });
        self
    }

    /// Adds any bytes as a frame from the north.
    #[must_use]
    pub fn raw(self, frame: Vec<u8>, expect: Expect) -> Self {
        self.bytes(frame, &NORTH, expect)
    }

    /// Loads the tables and sends the frames; `each` is called with every step, after its time and
    /// configuration have been set.
    pub fn play(
        &self,
        engines: &mut [&mut dyn Engine],
        mut each: impl FnMut(usize, &Step, &mut [&mut dyn Engine]),
    ) {
        for engine in engines.iter_mut() {
            engine.load(&self.given);
        }
        let mut now = self.given.now();
        for (number, step) in self.steps.iter().enumerate() {
            now += step.after;
            for engine in engines.iter_mut() {
                if let Some(world) = &step.world {
                    engine.configure(world);
                }
                if self.given.settings.is_some() {
                    engine.set_now(now);
                }
            }
            each(number, step, engines);
        }
    }

    /// Runs the case and compares with what it expects; the answer is what was otherwise, or empty.
    pub fn failures(&self, engine: &mut dyn Engine) -> String {
        let mut text = String::new();
        self.play(&mut [engine], |number, step, engines| {
            let wrong = step.failures(&mut *engines[0]);
            if !wrong.is_empty() {
                write!(
                    text,
                    "{}, step {} on {}\n  sent {}\n{wrong}",
                    self.name,
                    number + 1,
                    step.ingress.name,
                    decode(&step.frame),
                )
                .expect("a string takes any text");
            }
        });
        text
    }
}

impl Step {
    fn failures(&self, engine: &mut dyn Engine) -> String {
        let flows_before = engine.flows();
        let counters_before = engine.rule_counters();
        let outcome = engine.run(&self.frame, self.ingress);
        let mut text = self.outcome_failures(&outcome);

        let expected = match &self.expect.flows {
            Some(pairs) => Flows::exactly(pairs),
            None => flows_before,
        };
        let difference = expected.difference(&engine.flows());
        if !difference.is_empty() {
            write!(text, "  flows, expected (-) and found (+):\n{difference}")
                .expect("a string takes any text");
        }
        if let Some(trusted) = self.expect.trusted {
            let found: usize = engine.flows().trusted().into_iter().sum();
            if found != 2 * trusted {
                writeln!(
                    text,
                    "  expected {trusted} trusted flows, found {found} entries"
                )
                .expect("a string takes any text");
            }
        }
        let mut counters = counters_before;
        if let Some(rule) = self.expect.new_flow {
            counters.entry(rule).or_default().new_flows += 1;
        }
        if let Some((rule, direction, length)) = self.expect.rule {
            count(counters.entry(rule).or_default(), direction, length);
        }
        if counters != engine.rule_counters() {
            writeln!(
                text,
                "  rule counters: expected {counters:?}, found {:?}",
                engine.rule_counters()
            )
            .expect("a string takes any text");
        }
        text
    }

    fn outcome_failures(&self, outcome: &Outcome) -> String {
        let mut text = String::new();
        let expect = &self.expect;
        if outcome.action != expect.action || outcome.counted != [(expect.reason, 1)] {
            writeln!(
                text,
                "  expected {:?} as {:?}, found {:?} as {:?}",
                expect.action, expect.reason, outcome.action, outcome.counted
            )
            .expect("a string takes any text");
        }
        let frame = expect.frame.as_ref().unwrap_or(&self.frame);
        if outcome.frame != *frame {
            writeln!(
                text,
                "  expected {}\n  found {}",
                decode(frame),
                decode(&outcome.frame)
            )
            .expect("a string takes any text");
        }
        text
    }
}

/// What brings a frame from a NIC out of a way.
fn action(ingress: &Link, way: Way) -> Action {
    if ingress.nic == way.link.nic {
        Action::Transmit
    } else {
        Action::Redirect
    }
}

fn count(counters: &mut RuleCounters, direction: Direction, length: u32) {
    match direction {
        Direction::ToInstance => {
            counters.packets_to_instance += 1;
            counters.bytes_to_instance += u64::from(length);
        }
        Direction::FromInstance => {
            counters.packets_from_instance += 1;
            counters.bytes_from_instance += u64::from(length);
        }
    }
}
