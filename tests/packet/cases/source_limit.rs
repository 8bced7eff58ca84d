//! A source opens a second's worth of flows at once and then one every so often; what is open goes on.

use forebay_common::abi::Settings;
use forebay_common::reason::Reason;
use forebay_tests::case::{Case, Expect};
use forebay_tests::frame::Frame;
use forebay_tests::network::plan::{CLIENT, CLIENT_2, LOCAL_CLIENT};
use forebay_tests::network::{Host, IpVersion};
use forebay_tests::world::{NOW, Pair, RULE_WEB, SECOND};

use super::{opened_pair, opens, reaches_instance, requested};

/// Flows that a source may open in a second.
const LIMIT: u32 = 5;
/// Jiffies until it may open another.
const TURN: u64 = (SECOND / LIMIT) as u64;

/// The cases.
pub(super) fn cases() -> Vec<Case> {
    IpVersion::BOTH.into_iter().flat_map(of).collect()
}

/// A script whose steps open flows or are refused.
struct Script {
    case: Case,
    version: IpVersion,
    open: Vec<Pair>,
    now: u64,
}

impl Script {
    fn new(version: IpVersion, name: &str, limit: u32) -> Self {
        let cost = match limit {
            0 => 0,
            _ => SECOND * Settings::COSTS / limit,
        };
        let case = Case::new(version, name);
        Self {
            case: case.given(|world| world.settings_mut().new_flow_cost = cost),
            version,
            open: Vec::new(),
            now: NOW,
        }
    }

    /// The first packet of another connection from a host.
    fn next_syn(&self, from: Host) -> Frame {
        let port = 41_000 + self.case.steps.len() as u16;
        Frame::of(self.version).coming_from(from, port)
    }

    fn after(mut self, jiffies: u64, frame: &Frame, expect: Expect) -> Self {
        self.now += jiffies;
        self.case = self.case.later(jiffies, frame, expect);
        self
    }

    fn opens(mut self, jiffies: u64, from: Host) -> Self {
        let (frame, now) = (self.next_syn(from), self.now + jiffies);
        self.open.push(opened_pair(&frame, RULE_WEB, 8_080, now));
        let all = self.open.clone();
        self.after(
            jiffies,
            &frame,
            opens(&frame, RULE_WEB, 8_080, now).flows(all),
        )
    }

    fn refuses(self, jiffies: u64, from: Host) -> Self {
        let frame = self.next_syn(from);
        self.after(jiffies, &frame, Expect::end(Reason::NewFlowLimit))
    }

    /// The flow that was opened first gets its SYN once more.
    fn goes_on(mut self) -> Self {
        let first = &self.open[0];
        let syn = Frame::of(self.version).coming_from(first.client.0, first.client.1);
        let after = requested(first, &syn, self.now);
        self.open[0] = after.clone();
        let all = self.open.clone();
        self.after(0, &syn, reaches_instance(&syn, after).flows(all))
    }

    fn opens_at_once(self, flows: u32, from: Host) -> Self {
        (0..flows).fold(self, |script, _| script.opens(0, from))
    }
}

fn of(version: IpVersion) -> Vec<Case> {
    let limited = |name: &str| Script::new(version, name, LIMIT).opens_at_once(LIMIT, CLIENT);
    let elsewhere = LOCAL_CLIENT.host;
    let second = u64::from(SECOND);
    let mut neighbour = limited("the limit is one of a source's").refuses(0, CLIENT);
    neighbour = match version {
        IpVersion::V4 => neighbour.opens(0, CLIENT_2),
        // It has another address of the same /64.
        IpVersion::V6 => neighbour.refuses(0, CLIENT_2),
    };
    [
        limited("a second's worth of flows is opened at once, and not one more").refuses(0, CLIENT),
        limited("another flow is opened when its time has come")
            .refuses(TURN - 1, CLIENT)
            .opens(1, CLIENT)
            .refuses(0, CLIENT)
            .refuses(TURN - 1, CLIENT)
            .opens(1, CLIENT),
        limited("after a second without new flows a second's worth is opened again")
            .opens(second, CLIENT)
            .opens_at_once(LIMIT - 1, CLIENT)
            .refuses(0, CLIENT),
        limited("refused attempts cost nothing")
            .refuses(0, CLIENT)
            .refuses(0, CLIENT)
            .refuses(0, CLIENT)
            .opens(TURN, CLIENT),
        neighbour,
        limited("another source has a limit of its own")
            .refuses(0, CLIENT)
            .opens_at_once(LIMIT, elsewhere)
            .refuses(0, elsewhere),
        limited("an untrusted flow goes on when its source may open no more")
            .refuses(0, CLIENT)
            .goes_on()
            .goes_on(),
        Script::new(version, "without a limit there is none", 0).opens_at_once(3 * LIMIT, CLIENT),
    ]
    .into_iter()
    .map(|script| script.case)
    .chain([trusted(version)])
    .collect()
}

fn trusted(version: IpVersion) -> Case {
    let pair = Pair::tcp(version);
    let request = pair.request();
    let first = requested(&pair, &request, NOW);
    let second = requested(&first, &request, NOW);
    let syn = Frame::of(version).coming_from(CLIENT, 41_000);
    let opened = opened_pair(&syn, RULE_WEB, 8_080, NOW);
    let other = Frame::of(version).coming_from(CLIENT, 41_001);
    let all = |pair: &Pair| [pair.clone(), opened.clone()];
    Case::new(version, "a trusted flow is not counted, and goes on")
        .given(|world| world.settings_mut().new_flow_cost = SECOND * Settings::COSTS)
        .with_flows([&pair])
        .step(&request, reaches_instance(&request, first.clone()))
        .step(&syn, opens(&syn, RULE_WEB, 8_080, NOW).flows(all(&first)))
        .step(&other, Expect::end(Reason::NewFlowLimit))
        .step(
            &request,
            reaches_instance(&request, second.clone()).flows(all(&second)),
        )
}
