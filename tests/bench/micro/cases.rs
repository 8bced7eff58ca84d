//! Everything that is measured.

use std::time::Duration;

use forebay_common::family::{V4, V6};
use forebay_common::reason::Reason;
use forebay_common::wire::Mac;

use super::case::{Case, CleanUp, Goal, Setting, Target};
use super::maker::action::{DROP, PASS, REDIRECT, TX};
use super::maker::{Effort, MANY, Maker, NEW, SOME, amount, minimal_name, translated};
use super::outward;
use super::stage::{Population, Stage};
use crate::frame::{self, Headers};
use crate::scene::{CLOSED_PORT, Course, Net, clients, mac};
use crate::shared::{Plan, flow_of};

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
        setting: Setting::default(),
        around: None,
        repeat: effort.hot,
        runs: 1,
        lasting: Duration::ZERO,
        returns: DROP,
        becomes: None,
        clean_up: None,
        opens: false,
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

fn forget_in_product<A: Net>() -> CleanUp {
    Box::new(|stage: &Stage, _| stage.product.forget::<A>())
}

fn forget_in_minimal<A: Net>() -> CleanUp {
    Box::new(|stage: &Stage, numbers| {
        let course = newcomers::<A>();
        let plan = course.plan();
        let flows = numbers.map(|number| flow_of(number, plan.mask, plan.shift));
        stage.yardstick.remove(&course, flows)
    })
}

fn family<A: Net>(effort: Effort, limit: f64) -> Vec<Case> {
    let maker = Maker { effort };
    let mut cases = floors::<A>(&maker);
    cases.extend(minimal::<A>(&maker));
    cases.extend(known_flows::<A>(&maker, limit));
    cases.extend(other_packets::<A>(&maker));
    cases.extend(outward::cases::<A>(&maker, limit));
    cases
}

fn floors<A: Net>(maker: &Maker) -> Vec<Case> {
    let bounce = Target::Bench("bounce");
    let lookup = Target::Bench(A::BENCH.lookup);
    vec![
        maker
            .of("driver TCP", known::<A>(1), bounce, TX)
            .above(None),
        maker
            .of("driver UDP", known::<A>(1).udp(), bounce, TX)
            .above(None),
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
    cases.push(new.cleaned_up_by(forget_in_minimal::<A>()));
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
            .opening(forget_in_product::<A>())
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
        setting: Setting::default(),
        around: None,
        repeat: effort.hot,
        runs: 1,
        lasting: Duration::ZERO,
        returns: TX,
        becomes: None,
        clean_up: None,
        opens: false,
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
