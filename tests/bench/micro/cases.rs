//! Everything that is measured.

use forebay_common::family::{V4, V6};
use forebay_common::flow::FlowKey;
use forebay_common::reason::Reason;
use forebay_common::wire::Mac;

use super::case::{Case, CleanUp, Goal, Target};
use super::stage::{Population, Stage, TRANSLATED_MACS};
use crate::frame::{self, Headers};
use crate::scene::{CLOSED_PORT, Course, Net, clients, mac};
use crate::shared::{Plan, flow_of};
use action::{DROP, PASS, REDIRECT, TX};

/// Values of `enum xdp_action`.
mod action {
    pub(super) const DROP: u32 = 1;
    pub(super) const PASS: u32 = 2;
    pub(super) const TX: u32 = 3;
    pub(super) const REDIRECT: u32 = 4;
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
const SOME: u64 = 1 << 13;
/// Flows of the large size.
const MANY: u64 = 1 << 18;
/// Enough for every new flow of a sample.
const NEW: u64 = 1 << 22;

/// What the cases expect to find in the tables: most of it TCP, so that there is room for new flows.
pub(crate) fn population(cases: &[Case]) -> Population {
    let known = cases
        .iter()
        .filter(|case| case.plan.first_client == clients::KNOWN);
    let most = known.map(|case| case.plan.mask + 1).max().unwrap_or(1);
    Population {
        tcp: most,
        udp: most.min(SOME),
    }
}

/// All cases, in the order of the report.
pub(crate) fn all(effort: Effort) -> Vec<Case> {
    let mut cases = vec![Case {
        name: "loop".to_owned(),
        driver: "idle",
        target: Target::Alone,
        plan: Plan::default(),
        frame: vec![0; 64],
        repeat: effort.hot,
        returns: DROP,
        becomes: None,
        clean_up: None,
        floor: None,
        yardstick: None,
        goal: None,
    }];
    cases.extend(family::<V4>(effort, 1.25));
    cases.extend(neighbor_cases::<V4>(effort, "ARP request", arp()));
    cases.extend(family::<V6>(effort, 1.3));
    cases.extend(neighbor_cases::<V6>(
        effort,
        "neighbour solicitation",
        solicitation(),
    ));
    cases
}

/// How many flows, for people.
fn amount(flows: u64) -> &'static str {
    match flows {
        1 => "1 flow",
        SOME => "8k flows",
        MANY => "256k flows",
        _ => "each a new flow",
    }
}

fn known<A: Net>(flows: u64) -> Course<A> {
    Course::known(flows)
}

fn strangers<A: Net>(flows: u64) -> Course<A> {
    Course {
        first_client: clients::STRANGERS,
        peer: A::STRANGER,
        ..Course::known(flows).udp()
    }
}

fn newcomers<A: Net>() -> Course<A> {
    Course {
        first_client: clients::NEW,
        ..Course::known(NEW).udp()
    }
}

/// Flows that so many packets of [`newcomers`] opened.
fn opened<A: Net>(packets: u64) -> impl Iterator<Item = u64> {
    let plan = newcomers::<A>().plan();
    (0..packets).map(move |number| flow_of(number, plan.mask, plan.shift))
}

fn forget_in_product<A: Net>(stage: &Stage, _: u64) -> anyhow::Result<()> {
    stage.product.forget::<A>()
}

fn forget_in_minimal<A: Net>(stage: &Stage, packets: u64) -> anyhow::Result<()> {
    stage
        .yardstick
        .remove(&newcomers::<A>(), opened::<A>(packets))
}

/// Makes cases of one family.
struct Maker {
    effort: Effort,
}

impl Maker {
    fn of<A: Net>(&self, what: &str, course: Course<A>, target: Target, returns: u32) -> Case {
        let is_tcp = course.protocol == forebay_common::wire::TCP;
        let repeat = match course.flows {
            1 => self.effort.hot,
            SOME => self.effort.hot / 2,
            NEW => self.effort.new,
            _ => self.effort.cold,
        };
        Case {
            name: format!("{} {what}, {}", A::LABEL, amount(course.flows)),
            driver: if is_tcp {
                A::BENCH.drive_tcp
            } else {
                A::BENCH.drive_udp
            },
            target,
            plan: course.plan(),
            frame: course.headers(0).build(),
            repeat,
            returns,
            becomes: None,
            clean_up: None,
            floor: Some(floor_name::<A>(is_tcp)),
            yardstick: None,
            goal: None,
        }
    }
}

fn floor_name<A: Net>(is_tcp: bool) -> String {
    let protocol = if is_tcp { "TCP" } else { "UDP" };
    format!("{} driver {protocol}, 1 flow", A::LABEL)
}

impl Case {
    fn against(mut self, yardstick: &str, goal: Option<Goal>) -> Self {
        self.yardstick = Some(yardstick.to_owned());
        self.goal = goal;
        self
    }

    fn becoming<A: Net>(mut self, headers: Headers<A>) -> Self {
        self.becomes = Some(headers.build());
        self
    }

    fn cleaned_up_by(mut self, clean_up: CleanUp) -> Self {
        self.clean_up = Some(clean_up);
        self
    }

    fn without_floor(mut self) -> Self {
        self.floor = None;
        self
    }
}

fn family<A: Net>(effort: Effort, limit: f64) -> Vec<Case> {
    let maker = Maker { effort };
    let mut cases = floors::<A>(&maker);
    cases.extend(minimal::<A>(&maker));
    cases.extend(known_flows::<A>(&maker, limit));
    cases.extend(other_packets::<A>(&maker));
    cases
}

fn floors<A: Net>(maker: &Maker) -> Vec<Case> {
    let bounce = Target::Bench("bounce");
    let lookup = Target::Bench(A::BENCH.lookup);
    vec![
        maker
            .of("driver TCP", known::<A>(1), bounce, TX)
            .without_floor(),
        maker
            .of("driver UDP", known::<A>(1).udp(), bounce, TX)
            .without_floor(),
        maker.of("parse", known::<A>(1), Target::Bench(A::BENCH.parse), TX),
        maker.of("lookup, found", known::<A>(1), lookup, TX),
        maker.of("lookup, found", known::<A>(MANY), lookup, TX),
        maker.of("lookup, missed", strangers::<A>(1), lookup, PASS),
        maker.of("lookup, missed", strangers::<A>(MANY), lookup, PASS),
    ]
}

fn minimal<A: Net>(maker: &Maker) -> Vec<Case> {
    let target = Target::Minimal(A::BENCH.minimal);
    let mut cases = Vec::new();
    for flows in [1, SOME, MANY] {
        let course = known::<A>(flows);
        let case = maker.of("minimal TCP", course, target, REDIRECT);
        cases.push(case.becoming(towards_backend(course)));
    }
    for flows in [1, SOME] {
        let course = known::<A>(flows).udp();
        let case = maker.of("minimal UDP", course, target, REDIRECT);
        cases.push(case.becoming(towards_backend(course)));
    }
    let new = maker.of("minimal UDP", newcomers::<A>(), target, REDIRECT);
    cases.push(new.cleaned_up_by(forget_in_minimal::<A>));
    cases
}

fn known_flows<A: Net>(maker: &Maker, limit: f64) -> Vec<Case> {
    let target = Target::Product(Reason::Forwarded);
    let mut cases = Vec::new();
    for (what, flows, is_udp) in [
        ("known TCP", 1, false),
        ("known TCP", SOME, false),
        ("known TCP", MANY, false),
        ("known UDP", 1, true),
        ("known UDP", SOME, true),
    ] {
        let tcp = known::<A>(flows);
        let course = if is_udp { tcp.udp() } else { tcp };
        let case = maker.of(what, course, target, REDIRECT);
        // In between the neighbours' use of the shared cache decides: nothing to hold anybody to.
        let goal = (flows != SOME).then_some(Goal::Ratio(limit));
        cases.push(
            case.against(&minimal_name::<A>(is_udp, flows), goal)
                .becoming(towards_backend(course)),
        );
    }
    for (what, flows, is_udp) in [
        ("reply TCP", 1, false),
        ("reply TCP", MANY, false),
        ("reply UDP", 1, true),
    ] {
        let tcp = known::<A>(flows);
        let course = if is_udp { tcp.udp() } else { tcp };
        let case = maker.of(what, course.replies(), target, REDIRECT);
        cases.push(
            case.against(&minimal_name::<A>(is_udp, flows), Some(Goal::Ratio(limit)))
                .becoming(towards_client(course)),
        );
    }
    cases
}

fn minimal_name<A: Net>(is_udp: bool, flows: u64) -> String {
    let protocol = if is_udp { "UDP" } else { "TCP" };
    format!("{} minimal {protocol}, {}", A::LABEL, amount(flows))
}

fn other_packets<A: Net>(maker: &Maker) -> Vec<Case> {
    let missed = |flows| format!("{} lookup, missed, {}", A::LABEL, amount(flows));
    let product = Target::Product;
    let not_ours = |flows| {
        maker
            .of(
                "not ours",
                strangers::<A>(flows),
                product(Reason::NotOurs),
                PASS,
            )
            .against(&missed(flows), Some(Goal::Ratio(1.5)))
    };
    let closed = Course {
        peer_port: CLOSED_PORT,
        ..known::<A>(1).udp()
    };
    vec![
        maker
            .of(
                "new UDP",
                newcomers::<A>(),
                product(Reason::Forwarded),
                REDIRECT,
            )
            .cleaned_up_by(forget_in_product::<A>)
            .against(&minimal_name::<A>(true, NEW), Some(Goal::Net(300.0))),
        not_ours(1),
        not_ours(MANY),
        maker.of("no rule", closed, product(Reason::NoRule), DROP),
    ]
}

/// What the first packet of a course becomes on its way to the first backend.
fn towards_backend<A: Net>(course: Course<A>) -> Headers<A> {
    let back = course.replies().key(flow_of(0, 0, 0));
    translated(course, back.reversed())
}

/// What the answer to the first packet of a course becomes.
fn towards_client<A: Net>(course: Course<A>) -> Headers<A> {
    translated(course, course.key(flow_of(0, 0, 0)).reversed())
}

fn translated<A: Net>(course: Course<A>, becomes: FlowKey<A>) -> Headers<A> {
    let [to, from] = TRANSLATED_MACS.map(mac);
    Headers {
        to,
        from,
        source: becomes.source,
        destination: becomes.destination,
        ports: becomes.ports,
        protocol: course.protocol,
        hops: 63,
    }
}

/// Driver, frame and sum of a neighbour message.
type Message = (&'static str, Vec<u8>, u64);

const BROADCAST: Mac = Mac::from_octets([0xff; 6]);

fn arp() -> Message {
    ("drive_arp", frame::arp(BROADCAST, mac(2), V4::FRONTEND), 0)
}

fn solicitation() -> Message {
    let asker = V6::client(clients::KNOWN);
    let (frame, sum) = frame::solicitation(BROADCAST, mac(2), asker, V6::FRONTEND);
    ("drive_ndp", frame, sum)
}

fn neighbor_cases<A: Net>(effort: Effort, what: &str, message: Message) -> Vec<Case> {
    let (driver, frame, sum) = message;
    let mut plan = Course::<A>::known(1).plan();
    plan.to_head = BROADCAST.head;
    plan.to_tail = BROADCAST.tail;
    plan.transport_sum = sum;
    let floor = format!("{} driver of {what}", A::LABEL);
    let case = |name: &str, target, floor| Case {
        name: name.to_owned(),
        driver,
        target,
        plan,
        frame: frame.clone(),
        repeat: effort.hot,
        returns: TX,
        becomes: None,
        clean_up: None,
        floor,
        yardstick: None,
        goal: None,
    };
    let name = format!("{} {what} answered", A::LABEL);
    vec![
        case(&floor, Target::Bench("bounce"), None),
        case(
            &name,
            Target::Product(Reason::NeighborAnswered),
            Some(floor.clone()),
        ),
    ]
}
