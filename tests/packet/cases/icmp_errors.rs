//! ICMP errors about packets of flows: translated as the packets were, so that their senders know them.
//!
//! The message before and the message after are built from one description: the packet as its sender
//! sent it, and as the node sent it on.

use forebay_common::reason::Reason;
use forebay_tests::case::{Case, Expect};
use forebay_tests::frame::{Checksum, Fragment, Frame, IcmpMessage, TCP};
use forebay_tests::network::plan::{
    CLIENT, CLIENT_2, GATEWAY, INSTANCES, Link, NORTH, ROUTED, ROUTER, SOUTH, Way,
};
use forebay_tests::network::{Host, IpVersion};
use forebay_tests::world::Pair;

use super::{inward, outward};

/// Somebody on the way, outside and inside.
pub(super) const OUTSIDE_ROUTER: Host =
    Host::new([198, 18, 0, 1], [0x2001, 0xdb8, 0x18, 0, 0, 0, 0, 1]);

/// The cases.
pub(super) fn cases() -> Vec<Case> {
    IpVersion::BOTH.into_iter().flat_map(of).collect()
}

/// An error about a packet of a flow, as it comes and as it goes on.
#[derive(Clone)]
pub(super) struct Report {
    pub(super) ingress: &'static Link,
    pub(super) way: Way,
    pub(super) sent: IcmpMessage,
    pub(super) becomes: IcmpMessage,
}

impl Report {
    /// About an answer of the instance, told by a router outside.
    pub(super) fn about_answer(pair: &Pair, kind: (u8, u8), change: fn(Frame) -> Frame) -> Self {
        let original = change(pair.answer());
        let translated = outward(pair, &original);
        let sent = IcmpMessage::error(OUTSIDE_ROUTER, &translated, kind, 0);
        Self {
            ingress: &NORTH,
            way: INSTANCES[0].way(),
            becomes: IcmpMessage::error(OUTSIDE_ROUTER, &original, kind, 0),
            sent: sent.from_link(GATEWAY.mac, &NORTH),
        }
    }

    /// About a request of the client, told by the instance.
    pub(super) fn about_request(pair: &Pair, kind: (u8, u8), change: fn(Frame) -> Frame) -> Self {
        let original = change(pair.request());
        let translated = inward(pair, &original);
        let sent = IcmpMessage::error(pair.backend.0, &translated, kind, 0);
        Self {
            ingress: &SOUTH,
            way: GATEWAY.way(),
            becomes: IcmpMessage::error(pair.frontend.0, &original, kind, 0),
            sent: sent.from_link(INSTANCES[0].mac, &SOUTH),
        }
    }

    /// Both.
    pub(super) fn both(pair: &Pair, kind: (u8, u8), change: fn(Frame) -> Frame) -> [Self; 2] {
        [
            Self::about_answer(pair, kind, change),
            Self::about_request(pair, kind, change),
        ]
    }

    /// The same with both messages changed alike.
    pub(super) fn with(self, change: impl Fn(IcmpMessage) -> IcmpMessage) -> Self {
        Self {
            sent: change(self.sent),
            becomes: change(self.becomes),
            ..self
        }
    }

    /// The same with both quotes changed alike.
    pub(super) fn quoting(self, change: impl Fn(&mut Vec<u8>)) -> Self {
        self.with(|mut message| {
            change(&mut message.body);
            message
        })
    }

    fn name(&self) -> &'static str {
        if self.ingress == &NORTH {
            "about an answer"
        } else {
            "about a request"
        }
    }

    pub(super) fn step(&self, case: Case) -> Case {
        let expect = Expect::icmp_translated(&self.becomes, self.ingress, self.way);
        case.bytes(self.sent.build(), self.ingress, expect)
    }

    fn case(&self, pair: &Pair, text: &str) -> Case {
        let text = format!("an error {}: {text}", self.name());
        self.step(Case::new(pair.version, &text).with_flows([pair]))
    }
}

/// As it is.
pub(super) fn same(frame: Frame) -> Frame {
    frame
}

/// Type and code of "too big".
pub(super) fn too_big(version: IpVersion) -> (u8, u8) {
    match version {
        IpVersion::V4 => (3, 4),
        IpVersion::V6 => (2, 0),
    }
}

/// Every type and code in use.
fn kinds(version: IpVersion) -> Vec<(u8, u8)> {
    match version {
        IpVersion::V4 => (0..=15)
            .map(|code| (3, code))
            .chain([(11, 0), (11, 1), (12, 0), (12, 1), (12, 2)])
            .collect(),
        IpVersion::V6 => (0..=6)
            .map(|code| (1, code))
            .chain([(2, 0), (3, 0), (3, 1), (4, 0), (4, 1), (4, 2)])
            .collect(),
    }
}

fn of(version: IpVersion) -> Vec<Case> {
    let mut cases = every_kind(version);
    cases.extend(quotes(version));
    cases.extend(messages(version));
    cases.extend(reporters(version));
    cases
}

/// The word behind the checksum (a pointer, an MTU) stays what it is.
fn every_kind(version: IpVersion) -> Vec<Case> {
    let pairs = [("TCP", Pair::tcp(version)), ("UDP", Pair::udp(version))];
    let mut cases = Vec::new();
    for kind in kinds(version) {
        for (name, pair) in &pairs {
            for report in Report::both(pair, kind, same) {
                let rest = if kind == too_big(version) {
                    1_400
                } else {
                    0x0800_0000
                };
                let report = report.with(|message| IcmpMessage { rest, ..message });
                cases.push(report.case(pair, &format!("{name}, {kind:?} is translated")));
            }
        }
    }
    cases
}

type Change = fn(Frame) -> Frame;

/// What is special about the packet that is quoted.
fn packets(version: IpVersion) -> Vec<(&'static str, Change)> {
    let mut rows: Vec<(&'static str, Change)> = vec![
        ("a long packet", |frame| frame.with_payload(1_200)),
        ("a packet of odd length", |frame| frame.with_payload(333)),
        ("a packet without hops", |frame| Frame { hops: 0, ..frame }),
        ("a first fragment", |frame| Frame {
            fragment: Some(Fragment {
                offset: 0,
                more: true,
            }),
            ..frame.with_payload(64)
        }),
    ];
    if version == IpVersion::V4 {
        rows.push(("a packet with options", |frame| Frame {
            option_words: 3,
            ..frame
        }));
        rows.push(("a packet full of options", |frame| Frame {
            option_words: 10,
            ..frame
        }));
    } else {
        rows.push(("a packet with a hop-by-hop header", |frame| Frame {
            extensions: vec![0],
            ..frame
        }));
        rows.push(("a packet with several headers", |frame| Frame {
            extensions: vec![0, 60, 51],
            ..frame
        }));
    }
    rows
}

fn quotes(version: IpVersion) -> Vec<Case> {
    let header = if version == IpVersion::V4 { 20 } else { 40 };
    let mut cases = Vec::new();
    for pair in [Pair::tcp(version), Pair::udp(version)] {
        let protocol = pair.protocol;
        for (what, change) in packets(version) {
            for report in Report::both(&pair, too_big(version), change) {
                cases.push(report.case(&pair, &format!("{what} of protocol {protocol}")));
            }
        }
        for report in Report::both(&pair, too_big(version), same) {
            // A cut through the middle of the sum would leave half of it as it was.
            let lengths = if protocol == TCP {
                [4, 7, 8, 9, 15, 16, 18, 20]
            } else {
                [4, 5, 6, 8, 9, 17, 18, 20]
            };
            for length in lengths {
                let report = report
                    .clone()
                    .quoting(|quote| quote.truncate(header + length));
                let text = format!("{length} octets of protocol {protocol} are enough");
                cases.push(report.case(&pair, &text));
            }
            for (what, change) in surroundings(version) {
                let report = report.clone().with(change);
                cases.push(report.case(&pair, &format!("protocol {protocol}, {what}")));
            }
        }
    }
    let pair = Pair::udp(version);
    let unsummed: Change = |frame| Frame {
        checksum: Checksum::Value(0),
        ..frame
    };
    for report in Report::both(&pair, too_big(version), unsummed) {
        cases.push(report.case(&pair, "no sum of a datagram without one"));
    }
    cases
}

type ChangeMessage = fn(IcmpMessage) -> IcmpMessage;

/// What may lie behind and before a quote.
fn surroundings(version: IpVersion) -> Vec<(&'static str, ChangeMessage)> {
    let mut rows: Vec<(&'static str, ChangeMessage)> = vec![
        ("padding behind the quote", |mut message| {
            message.body.resize(message.body.len() + 64, 0);
            message
        }),
        ("an extension behind the quote", |mut message| {
            // RFC 4884 section 4: the quote in 128 octets, its length in units, then the extension.
            let units = if message.version == IpVersion::V4 {
                32 << 16
            } else {
                16 << 24
            };
            message.body.resize(128, 0);
            // An MPLS label stack (RFC 4950).
            message
                .body
                .extend([0x20, 0, 0xdf, 0xff, 0, 8, 1, 1, 0x12, 0x34, 0x51, 0x40]);
            IcmpMessage {
                rest: units,
                ..message
            }
        }),
        ("much behind the quote", |mut message| {
            message.body.resize(1_400, 0x5a);
            message
        }),
        ("two hops left", |message| IcmpMessage {
            hops: 2,
            ..message
        }),
        ("a class of its own", |message| IcmpMessage {
            class: 0xc0,
            ..message
        }),
    ];
    if version == IpVersion::V4 {
        rows.push(("options before it", |message| IcmpMessage {
            option_words: 4,
            ..message
        }));
        rows.push(("an identification", |message| IcmpMessage {
            fragment: (7, 0x4000),
            ..message
        }));
    } else {
        rows.push(("a header before it", |message| IcmpMessage {
            extensions: vec![60],
            ..message
        }));
        rows.push(("several headers before it", |message| IcmpMessage {
            extensions: vec![0, 60],
            ..message
        }));
    }
    rows
}

/// What is no message about a flow.
fn messages(version: IpVersion) -> Vec<Case> {
    let pair = Pair::tcp(version);
    let header = if version == IpVersion::V4 { 20 } else { 40 };
    let later: Change = |frame| Frame {
        fragment: Some(Fragment {
            offset: 4,
            more: false,
        }),
        ..frame
    };
    let gre: Change = |frame| Frame {
        protocol: 47,
        ..frame
    };
    let short = |length: usize| {
        move |report: Report| report.quoting(|quote| quote.truncate(header + length))
    };
    let mut cases = Vec::new();
    for (number, of_whom) in ["frontend", "instance"].into_iter().enumerate() {
        let report = |change: Change| {
            let [a, b] = Report::both(&pair, (3, 1), change);
            [a, b][number].clone()
        };
        let mut other = report(same);
        other.sent.addresses[1] = CLIENT_2;
        let mut swapped = report(same);
        swapped.sent.body = pair.request().packet();
        let mut version_zero = report(same);
        version_zero.sent.body[0] &= 0x0f;
        for (what, report) in [
            ("a later fragment", report(later)),
            ("another protocol", report(gre)),
            ("no ports", short(3)(report(same))),
            ("no header above IP", short(0)(report(same))),
            (
                "half an IP header",
                report(same).quoting(|quote| quote.truncate(19)),
            ),
            ("nothing", report(same).quoting(Vec::clear)),
            ("version 0", version_zero),
            ("what somebody else has sent", other),
        ] {
            // Who reports is inside: nothing of it leaves untranslated.
            let is_inside = of_whom == "instance";
            let reason = match (is_inside, what) {
                (true, _) => Reason::NoOutbound,
                (false, "what somebody else has sent") => Reason::NotOurs,
                (false, _) => Reason::IcmpQuote,
            };
            cases.push(
                Case::new(
                    version,
                    &format!("an error to or of a {of_whom} that quotes {what}"),
                )
                .with_flows([&pair])
                .bytes(report.sent.build(), report.ingress, Expect::end(reason)),
            );
        }
    }
    cases
}

/// Who reports, and from where.
fn reporters(version: IpVersion) -> Vec<Case> {
    let pair = Pair::tcp(version);
    let mut cases = Vec::new();
    for (what, reporter) in [
        ("the client", CLIENT),
        ("the gateway", GATEWAY.host),
        (
            "a private address",
            Host::new([10, 99, 0, 1], [0xfd99, 0, 0, 0, 0, 0, 0, 1]),
        ),
    ] {
        let mut report = Report::about_answer(&pair, (3, 1), same);
        report.sent.addresses[0] = reporter;
        report.becomes.addresses[0] = reporter;
        cases.push(report.case(&pair, &format!("{what} keeps its address")));
    }
    for (what, reporter) in [
        ("a router behind it", ROUTED),
        ("a router beside it", ROUTER.host),
    ] {
        let mut report = Report::about_request(&pair, (3, 1), same);
        report.sent.addresses[0] = reporter;
        cases.push(report.case(&pair, &format!("{what} is hidden by the frontend")));
    }
    cases
}
