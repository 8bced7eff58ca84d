//! Where translated ICMP errors go, whose flows they touch (nobody's), and which never go on.

use forebay_common::flow::Seen;
use forebay_common::reason::Reason;
use forebay_tests::case::{Case, Expect};
use forebay_tests::frame::{IcmpMessage, TAG};
use forebay_tests::network::plan::{
    BLACKHOLED, DEAF, FRONTEND, FRONTEND_2, INSTANCES, ONE_ARM_CLIENT, ROUTED, ROUTER, SILENT,
    SILENT_CLIENT,
};
use forebay_tests::network::{Host, IpVersion};
use forebay_tests::world::{IDLE, NOW, Pair};

use super::icmp_errors::{Report, same, too_big};

/// The cases.
pub(super) fn cases() -> Vec<Case> {
    IpVersion::BOTH.into_iter().flat_map(of).collect()
}

fn of(version: IpVersion) -> Vec<Case> {
    let mut cases = flows(version);
    cases.extend(without_flow(version));
    cases.extend(ways(version));
    cases.extend(refused(version));
    cases.extend(not_carried(version));
    cases
}

fn step(case: Case, report: &Report, expect: Expect) -> Case {
    case.bytes(report.sent.build(), report.ingress, expect)
}

/// An error is translated whatever its flow has been through, and changes nothing about it.
fn flows(version: IpVersion) -> Vec<Case> {
    let talked = Seen::SYN.with(Seen::ACK);
    let fin = talked.with(Seen::FIN);
    let rows = [
        ("opening", Seen::SYN, Seen(0)),
        ("half closed", fin, talked),
        ("closed by FINs", fin, fin),
        ("closed by a RST", talked, talked.with(Seen::RST)),
    ];
    let mut cases: Vec<Case> = rows
        .into_iter()
        .flat_map(|(state, seen_to, seen_from)| {
            let pair = Pair {
                seen_to,
                seen_from,
                ..Pair::tcp(version)
            };
            Report::both(&pair, (3, 1), same).map(|report| {
                let text = format!(
                    "an error on {} about a flow that is {state}",
                    report.ingress.name
                );
                report.step(Case::new(version, &text).with_flows([&pair]))
            })
        })
        .collect();
    let pair = Pair::tcp(version);
    let mut late = Case::new(version, "errors do not keep a flow alive").with_flows([&pair]);
    for report in Report::both(&pair, (3, 1), same) {
        late = report.step(late);
        late.steps.last_mut().expect("a step was added").after = u64::from(IDLE) / 2;
    }
    // Now it is over.
    let after = Report::about_request(&pair, (3, 1), same);
    late = step(late, &after, Expect::end(Reason::NoOutbound));
    late.steps.last_mut().expect("a step was added").after = 1;
    cases.push(late);
    cases
}

/// An error about what a frontend has sent goes where its flow would go.
fn without_flow(version: IpVersion) -> Vec<Case> {
    let pair = Pair::tcp(version);
    let report = Report::about_answer(&pair, (3, 1), same);
    let old = pair.clone().last_used(NOW - u64::from(IDLE) - 1);
    let unruled = Pair {
        frontend: (FRONTEND, 81),
        ..pair.clone()
    };
    let unruled = Report::about_answer(&unruled, (3, 1), same);
    let case = |text: &str| Case::new(version, text);
    let refused = || Expect::end(Reason::IcmpQuote);
    vec![
        report.step(case("an error about no flow goes by rule and ring")),
        report.step(
            case("an error about a flow that is over goes by rule and ring").with_flows([&old]),
        ),
        step(
            case("an error about no flow and no rule"),
            &unruled,
            refused(),
        ),
        step(
            case("an error about no flow and no member")
                .given(|world| world.each_rule(|rule| rule.targets = [0; 2])),
            &report,
            refused(),
        ),
        step(
            case("an error about a member that is not there").given(|world| world.only_backend(77)),
            &report,
            refused(),
        ),
        step(
            case("an error about a request without a flow"),
            &Report::about_request(&pair, (3, 1), same),
            Expect::end(Reason::NoOutbound),
        ),
    ]
}

fn ways(version: IpVersion) -> Vec<Case> {
    let mut cases = Vec::new();
    let by_kernel = |report: &Report| Expect {
        frame: Some(
            IcmpMessage {
                macs: report.sent.macs,
                ..report.becomes.clone()
            }
            .build(),
        ),
        ..Expect::end(Reason::ForwardedByKernel)
    };
    let towards = |backend: Host| Pair {
        backend: (backend, 8_080),
        ..Pair::tcp(version)
    };
    let case = |text: &str, pair: &Pair| Case::new(version, text).with_flows([pair]);

    let silent = towards(SILENT);
    let report = Report::about_answer(&silent, (3, 1), same);
    cases.push(step(
        case("an error to an unknown neighbour", &silent),
        &report,
        by_kernel(&report),
    ));

    let quiet = Pair {
        client: (SILENT_CLIENT, 40_000),
        ..Pair::tcp(version)
    };
    let report = Report::about_request(&quiet, (3, 1), same);
    cases.push(step(
        case("an error to an unknown client", &quiet),
        &report,
        by_kernel(&report),
    ));

    let pair = Pair::tcp(version);
    let mut report = Report::about_answer(&pair, (3, 1), same);
    report.ingress = &DEAF;
    cases.push(step(
        case("an error from where nothing is forwarded", &pair),
        &report,
        by_kernel(&report),
    ));

    let routed = towards(ROUTED);
    let mut report = Report::about_answer(&routed, too_big(version), same);
    report.way = ROUTER.way();
    cases.push(report.step(case("an error to an instance behind a router", &routed)));

    let lost = towards(BLACKHOLED);
    let report = Report::about_answer(&lost, (3, 1), same);
    cases.push(step(
        case("an error without a route", &lost),
        &report,
        Expect::end(Reason::NoRoute),
    ));

    let one_armed = Pair {
        client: (ONE_ARM_CLIENT.host, 40_000),
        ..Pair::tcp(version)
    };
    for tags in [vec![], vec![(TAG, 0x602a)]] {
        let mut report =
            Report::about_request(&one_armed, (3, 1), same).with(|message| IcmpMessage {
                tags: tags.clone(),
                ..message
            });
        report.way = ONE_ARM_CLIENT.way();
        let text = format!("an error out of the same NIC with tags {tags:?}");
        cases.push(report.step(case(&text, &one_armed)));
    }
    let report = Report::about_answer(&pair, (3, 1), same).with(|message| IcmpMessage {
        tags: vec![(TAG, 42)],
        ..message
    });
    cases.push(step(
        case("an error with an unknown tag to another NIC", &pair),
        &report,
        Expect::end(Reason::VlanCrossing),
    ));
    cases
}

fn refused(version: IpVersion) -> Vec<Case> {
    let pair = Pair::tcp(version);
    let mut cases = Vec::new();
    let mut add = |text: &str, report: Report, reason: Reason| {
        let case = Case::new(
            version,
            &format!("an error {text} on {}", report.ingress.name),
        );
        cases.push(step(case.with_flows([&pair]), &report, Expect::end(reason)));
    };
    for report in Report::both(&pair, (3, 1), same) {
        for hops in [0, 1] {
            let spent = report
                .clone()
                .with(|message| IcmpMessage { hops, ..message });
            add(&format!("with {hops} hops"), spent, Reason::HopsExceeded);
        }
        let long = report.quoting(|quote| quote.resize(1_500, 7));
        add("above the MTU", long, Reason::TooBig);
    }
    for (what, reporter) in [
        ("a frontend", FRONTEND_2),
        ("an instance that is elsewhere", INSTANCES[1].host),
        (
            "a group",
            Host::new([224, 0, 0, 5], [0xff02, 0, 0, 0, 0, 0, 0, 5]),
        ),
        ("nobody", Host::new([0; 4], [0; 8])),
        (
            "loopback",
            Host::new([127, 0, 0, 1], [0, 0, 0, 0, 0, 0, 0, 1]),
        ),
        (
            "a link-local address",
            Host::new([169, 254, 1, 1], [0xfe80, 0, 0, 0, 0, 0, 0, 1]),
        ),
    ] {
        let mut report = Report::about_answer(&pair, (3, 1), same);
        report.sent.addresses[0] = reporter;
        add(&format!("of {what}"), report, Reason::BadSource);
    }
    cases
}

/// What nobody may tell through a router, or nobody uses.
fn not_carried(version: IpVersion) -> Vec<Case> {
    let pair = Pair::tcp(version);
    let kinds: &[(&str, u8)] = match version {
        IpVersion::V4 => &[
            ("an echo reply", 0),
            ("a source quench", 4),
            ("a redirect", 5),
            ("a router advertisement", 9),
            ("a timestamp request", 13),
            ("a timestamp reply", 14),
            ("an address mask request", 17),
        ],
        IpVersion::V6 => &[
            ("a reserved error", 0),
            ("an unknown error", 5),
            ("a private error", 100),
            ("an echo reply", 129),
            ("a router solicitation", 133),
            ("a router advertisement", 134),
            ("an advertisement", 136),
            ("a redirect", 137),
        ],
    };
    let mut cases = Vec::new();
    for (what, kind) in kinds {
        let [to, from] = Report::both(&pair, (*kind, 0), same);
        for (report, reason) in [(to, Reason::Protocol), (from, Reason::NoOutbound)] {
            let text = format!("{what} about a flow on {}", report.ingress.name);
            cases.push(step(
                Case::new(version, &text).with_flows([&pair]),
                &report,
                Expect::end(reason),
            ));
        }
        let mut stranger = Report::about_answer(&pair, (*kind, 0), same);
        stranger.sent.addresses[1] = super::icmp_errors::OUTSIDE_ROUTER;
        let text = format!("{what} between others");
        cases.push(step(
            Case::new(version, &text),
            &stranger,
            Expect::end(Reason::NotOurs),
        ));
    }
    cases
}
