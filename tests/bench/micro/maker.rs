//! How cases are written down.

use std::time::Duration;

use forebay_common::flow::FlowKey;
use forebay_common::wire::{TCP, tcp_flags};

use super::case::{Case, CleanUp, Goal, Setting, Step, Target};
use super::stage::TRANSLATED_MACS;
use crate::frame::Headers;
use crate::product::outbound::Taken;
use crate::scene::{Course, Net, mac};

/// Values of `enum xdp_action`.
pub(super) mod action {
    pub(in crate::micro) const DROP: u32 = 1;
    pub(in crate::micro) const PASS: u32 = 2;
    pub(in crate::micro) const TX: u32 = 3;
    pub(in crate::micro) const REDIRECT: u32 = 4;
}

/// How much is done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// Packets of a sample when all is in the cache.
    pub(crate) hot: u32,
    /// Packets of a sample when little is.
    pub(crate) cold: u32,
    /// New flows of a sample.
    pub(crate) new: u32,
}

/// Flows of the middle size.
pub(super) const SOME: u64 = 1 << 13;
/// Flows of the large size.
pub(super) const MANY: u64 = 1 << 18;
/// Enough for every new flow of a sample.
pub(super) const NEW: u64 = 1 << 22;

/// How many flows, for people.
pub(super) fn amount(flows: u64) -> &'static str {
    match flows {
        1 => "1 flow",
        SOME => "8k flows",
        MANY => "256k flows",
        _ => "each a new flow",
    }
}

/// Makes cases of one family.
pub(super) struct Maker {
    pub(super) effort: Effort,
}

impl Maker {
    pub(super) fn of<A: Net>(
        &self,
        what: &str,
        course: Course<A>,
        target: Target,
        returns: u32,
    ) -> Case {
        let repeat = match course.flows {
            1 => self.effort.hot,
            SOME => self.effort.hot / 2,
            MANY => self.effort.cold,
            _ => self.effort.new,
        };
        let (driver, kind) = if course.protocol != TCP {
            (A::BENCH.drive_udp, "UDP")
        } else if course.flags == tcp_flags::SYN {
            (A::BENCH.drive_syn, "SYN")
        } else {
            (A::BENCH.drive_tcp, "TCP")
        };
        Case {
            name: format!("{} {what}, {}", A::LABEL, amount(course.flows)),
            driver,
            target,
            plan: course.plan(),
            frame: course.headers(0).build(),
            setting: Setting::default(),
            around: None,
            repeat,
            runs: 1,
            lasting: Duration::ZERO,
            returns,
            becomes: None,
            clean_up: None,
            opens: false,
            floor: Some(format!("{} driver {kind}, 1 flow", A::LABEL)),
            yardstick: None,
            goal: None,
        }
    }
}

impl Case {
    pub(super) fn against(mut self, yardstick: &str, goal: Option<Goal>) -> Self {
        self.yardstick = Some(yardstick.to_owned());
        self.goal = goal;
        self
    }

    pub(super) fn aiming_at(mut self, goal: Option<Goal>) -> Self {
        self.goal = goal;
        self
    }

    pub(super) fn becoming<A: Net>(mut self, headers: Headers<A>) -> Self {
        self.becomes = Some(headers.build());
        self
    }

    pub(super) fn cleaned_up_by(mut self, clean_up: CleanUp) -> Self {
        self.clean_up = Some(clean_up);
        self
    }

    /// Every packet opens a flow, which is forgotten so.
    pub(super) fn opening(self, clean_up: CleanUp) -> Self {
        Self {
            opens: true,
            ..self.cleaned_up_by(clean_up)
        }
    }

    pub(super) fn named(mut self, name: String) -> Self {
        self.name = name;
        self
    }

    pub(super) fn behind_instances(mut self) -> Self {
        self.setting.from_instances = true;
        self
    }

    pub(super) fn with_public_ips(mut self) -> Self {
        self.setting.public_ips = true;
        self
    }

    /// While these SNAT ports are in use, which the steps take and give back.
    pub(super) fn beside(mut self, taken: Taken, around: [Step; 2]) -> Self {
        self.setting.taken = Some(taken);
        self.around = Some(around);
        self
    }

    /// So many packets, so often, compared with a floor of the same shape.
    pub(super) fn in_runs(mut self, repeat: u32, runs: u32) -> Self {
        self.repeat = repeat;
        self.runs = runs;
        self
    }

    pub(super) fn lasting(mut self, time: Duration) -> Self {
        self.lasting = time;
        self
    }

    pub(super) fn above(mut self, floor: Option<&str>) -> Self {
        self.floor = floor.map(str::to_owned);
        self
    }
}

/// Name of the minimal translator's case.
pub(super) fn minimal_name<A: Net>(is_udp: bool, flows: u64) -> String {
    let protocol = if is_udp { "UDP" } else { "TCP" };
    format!("{} minimal {protocol}, {}", A::LABEL, amount(flows))
}

/// What a packet with this key is on its way out.
pub(super) fn translated<A: Net>(course: Course<A>, becomes: FlowKey<A>) -> Headers<A> {
    let [to, from] = TRANSLATED_MACS.map(mac);
    Headers {
        to,
        from,
        source: becomes.source,
        destination: becomes.destination,
        ports: becomes.ports,
        protocol: course.protocol,
        flags: course.flags,
        hops: 63,
    }
}
