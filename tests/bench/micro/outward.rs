//! What is measured of instances that go out.

use std::ops::Range;
use std::time::Duration;

use forebay_common::reason::Reason;
use forebay_common::wire::{TCP, UDP};

use super::case::{Case, CleanUp, Goal, Setting, Target};
use super::maker::action::{DROP, REDIRECT, TX};
use super::maker::{MANY, Maker, NEW, SOME, minimal_name, translated};
use super::stage::{INSTANCE_MACS, Stage};
use crate::frame::Headers;
use crate::product::outbound::{LARGE, MAPPED, Outgoing, PUBLIC, QUIET, TOLD, Taken};
use crate::scene::{BACKEND_PORT, Course, Net, SNAT_PORT, clients, mac};

/// All cases of a family.
pub(super) fn cases<A: Net>(maker: &Maker, limit: f64) -> Vec<Case> {
    let mut cases = known::<A>(maker, limit);
    cases.extend(public_ip::<A>(maker, limit));
    cases.extend(new::<A>(maker));
    cases.extend(storms::<A>(maker));
    cases.extend(refusals::<A>(maker));
    cases
}

/// Known flows, and their answers.
pub(super) fn courses<A: Net>(flows: u64) -> [Course<A>; 2] {
    let there = Course::outbound(QUIET.index, flows);
    [there, there.answered_at(A::snat(QUIET.index), SNAT_PORT)]
}

fn known<A: Net>(maker: &Maker, limit: f64) -> Vec<Case> {
    let target = Target::Product(Reason::Forwarded);
    let mut cases = Vec::new();
    for (protocol, flows, is_udp) in [("TCP", 1, false), ("TCP", SOME, false), ("UDP", 1, true)] {
        let [there, back] =
            courses::<A>(flows).map(|course| if is_udp { course.udp() } else { course });
        // In between the neighbours' use of the shared cache decides: nothing to hold anybody to.
        let goal = (flows != SOME).then_some(Goal::Ratio(limit));
        for (what, course, other) in [("outbound", there, back), ("outbound reply", back, there)] {
            let case = maker.of(&format!("{what} {protocol}"), course, target, REDIRECT);
            let becomes = translated(course, other.key(0).reversed());
            cases.push(
                case.against(&minimal_name::<A>(is_udp, flows), goal)
                    .becoming(becomes),
            );
        }
    }
    cases
}

fn public_ip<A: Net>(maker: &Maker, limit: f64) -> Vec<Case> {
    let target = Target::Product(Reason::Forwarded);
    let mut cases = Vec::new();
    for flows in [1, MANY] {
        let out = Course::<A> {
            peer_port: BACKEND_PORT,
            ..Course::outbound(PUBLIC, flows)
        };
        let back = out.answered_at(A::PUBLIC_IP, BACKEND_PORT);
        let yardstick = minimal_name::<A>(false, flows);
        let goal = Some(Goal::Ratio(limit));
        let becomes = translated(out, back.key(0).reversed());
        let case = maker.of("public IP out TCP", out, target, REDIRECT);
        cases.push(
            case.behind_instances()
                .with_public_ips()
                .against(&yardstick, goal)
                .becoming(becomes),
        );
        let [to, from] = INSTANCE_MACS.map(mac);
        let becomes = Headers {
            to,
            from,
            ..translated(back, out.key(0).reversed())
        };
        let case = maker.of("public IP in TCP", back, target, REDIRECT);
        cases.push(
            case.with_public_ips()
                .against(&yardstick, goal)
                .becoming(becomes),
        );
    }
    cases
}

/// Forgets what the course opened.
fn forget<A: Net>(course: Course<A>, are_mapped: bool) -> CleanUp {
    Box::new(move |stage: &Stage, numbers: Range<u64>| {
        stage.product.forget_opened(&course, numbers, are_mapped)
    })
}

fn new<A: Net>(maker: &Maker) -> Vec<Case> {
    let target = Target::Product(Reason::Forwarded);
    let yardstick = minimal_name::<A>(true, NEW);
    let course = Course::<A> {
        first_client: clients::NEW_OUTSIDE,
        ..Course::outbound(QUIET.index, NEW).udp()
    };
    let mapped = Course::<A>::storm(MAPPED.index);
    vec![
        maker
            .of("new outbound UDP", course, target, REDIRECT)
            .behind_instances()
            .opening(forget(course, false))
            .against(&yardstick, Some(Goal::Net(900.0))),
        maker
            .of("new outbound UDP with a mapping", mapped, target, REDIRECT)
            .behind_instances()
            .opening(forget(mapped, true))
            .against(&yardstick, None),
    ]
}

/// How many of a hundred ports are taken, packets of a run, runs, and the target.
type Storm = (Outgoing, u32, u32, u32, Option<Goal>);

/// Few packets a run, so that the ports that they take change little; and the ports are free again before
/// the next run.
const STORMS: [Storm; 5] = [
    (QUIET, 0, 64, 32, Some(Goal::Net(900.0))),
    (QUIET, 50, 32, 64, None),
    (QUIET, 90, 8, 128, None),
    (QUIET, 99, 2, 256, Some(Goal::Net(9_000.0))),
    (LARGE, 99, 16, 32, Some(Goal::Net(9_000.0))),
];

fn storms<A: Net>(maker: &Maker) -> Vec<Case> {
    let mut cases = Vec::new();
    for (whose, percent, repeat, runs, goal) in STORMS {
        let course = Course::<A>::storm(whose.index);
        let floor = format!("{} driver UDP, {repeat} packets a run", A::LABEL);
        let bounce = Target::Bench("bounce");
        let shape = maker.of("driver UDP", course, bounce, TX).above(None);
        let what = format!("{percent} % of {} ports taken", whose.ports);
        let storm = maker.of(
            "storm",
            course,
            Target::Product(Reason::Forwarded),
            REDIRECT,
        );
        cases.push(shape.named(floor.clone()).in_runs(repeat, runs));
        cases.push(
            beside::<A>(storm, whose, UDP, percent)
                .opening(forget(course, false))
                .named(format!("{} storm, {what}", A::LABEL))
                .in_runs(repeat, runs)
                .above(Some(&floor))
                .aiming_at(goal),
        );
    }
    cases
}

/// How long a storm goes on in which nobody gets a port: several times what a refusal is remembered.
const STORM: Duration = Duration::from_millis(40);

/// Storms in which nobody gets a port.
fn refusals<A: Net>(maker: &Maker) -> Vec<Case> {
    let goal = Some(Goal::Net(300.0));
    let mut cases = Vec::new();
    for whose in [QUIET, LARGE] {
        let course = Course::<A>::storm(whose.index);
        let case = maker.of("storm", course, Target::Refusing, DROP);
        let name = format!("{} storm, 100 % of {} ports taken", A::LABEL, whose.ports);
        cases.push(
            beside::<A>(case, whose, UDP, 100)
                .named(name)
                .in_runs(256, 1)
                .lasting(STORM)
                .aiming_at(goal),
        );
    }
    let syn = Course::<A>::storm(TOLD.index).beginning();
    let floor = Course::<A>::storm(TOLD.index).beginning();
    let floor = maker.of(
        "driver SYN",
        Course { flows: 1, ..floor },
        Target::Bench("bounce"),
        TX,
    );
    cases.push(floor.above(None));
    let told = maker.of("refused", syn, Target::Product(Reason::SnatRefused), TX);
    // Fewer than the RSTs of a second, which the next run finds unspent.
    cases.push(
        beside::<A>(told, TOLD, TCP, 100)
            .cleaned_up_by(Box::new(|stage, _| stage.product.forget_answers()))
            .named(format!("{} refused SYN, told by RST", A::LABEL))
            .in_runs(4_000, 4)
            .aiming_at(goal),
    );
    cases.push(lap::<A>(maker));
    cases
}

/// The most that one packet can cost: a lap in vain, none before it.
fn lap<A: Net>(maker: &Maker) -> Case {
    let course = Course::<A>::storm(QUIET.index);
    let case = maker.of("lap", course, Target::Product(Reason::SnatExhausted), DROP);
    beside::<A>(case, QUIET, UDP, 100)
        .cleaned_up_by(Box::new(|stage, _| stage.product.forget_searches()))
        .named(format!("{} one packet tries 1024 ports in vain", A::LABEL))
        .in_runs(1, 16)
}

/// With ports taken.
fn beside<A: Net>(case: Case, whose: Outgoing, protocol: u8, percent: u32) -> Case {
    let taken = Taken {
        whose,
        protocol,
        percent,
    };
    case.behind_instances()
        .beside(taken, [take_ports::<A>, give_ports_back::<A>])
}

fn take_ports<A: Net>(stage: &mut Stage, setting: &Setting) -> anyhow::Result<()> {
    let Some(taken) = setting.taken else {
        return Ok(());
    };
    let hop = stage.hop();
    stage.product.take_ports::<A>(taken, hop)
}

fn give_ports_back<A: Net>(stage: &mut Stage, setting: &Setting) -> anyhow::Result<()> {
    let Some(taken) = setting.taken else {
        return Ok(());
    };
    stage.product.give_ports_back::<A>(taken)
}
