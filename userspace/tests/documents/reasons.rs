//! `docs/reasons.md` is written from the list in the code.

use std::fmt::Write;

use forebay_common::reason::{Fate, Reason};

use super::{root, text};

const FILE: &str = "docs/reasons.md";

const HEAD: &str = "# Reasons

<!-- Generated from common/src/reason.rs: FOREBAY_BLESS=1 cargo test -p forebay --test documents -->

Every packet that an attached interface receives is counted under exactly one of these reasons.
`forebay show drops` shows those that drop a packet, `forebay explain` names the reason of one
packet, and `forebay status` adds them up by fate, the node's own left out. Numbers and names are stable.
";

const FATES: [(Fate, &str); 5] = [
    (Fate::Forward, "Forwarded: it leaves by a NIC, translated"),
    (Fate::Answer, "Answered: it goes back to its sender"),
    (Fate::Pass, "Passed: it goes to the kernel of the host"),
    (Fate::Drop, "Dropped: it goes no further"),
    (
        Fate::Own,
        "Own: it is of the node itself, and no part of the traffic",
    ),
];

fn document() -> String {
    let mut text = HEAD.to_owned();
    for (fate, heading) in FATES {
        write!(
            text,
            "\n## {heading}\n\n| reason | number | meaning |\n| --- | --- | --- |\n"
        )
        .unwrap();
        for reason in Reason::ALL.iter().filter(|reason| reason.fate() == fate) {
            let (label, number) = (reason.label(), *reason as u32);
            writeln!(text, "| `{label}` | {number} | {} |", reason.meaning()).unwrap();
        }
    }
    text
}

#[test]
fn the_list_of_reasons_is_that_of_the_code() {
    let wanted = document();
    if std::env::var_os("FOREBAY_BLESS").is_some() {
        std::fs::write(root().join(FILE), &wanted).unwrap();
    }
    assert!(
        text(FILE) == wanted,
        "{FILE} is not what the code says. Write it anew with\n    \
         FOREBAY_BLESS=1 cargo test -p forebay --test documents"
    );
}

#[test]
fn every_reason_has_a_line() {
    let document = document();
    for reason in Reason::ALL {
        let line = format!("| `{}` |", reason.label());
        assert_eq!(document.matches(&line).count(), 1, "{line}");
    }
}

/// The document about operations tells what to do about every reason that loses a packet.
#[test]
fn there_is_advice_for_every_drop() {
    let operations = text("docs/operations.md");
    for reason in Reason::ALL
        .iter()
        .filter(|reason| reason.fate() == Fate::Drop)
    {
        let line = format!("| `{}` |", reason.label());
        assert!(
            operations.contains(&line),
            "docs/operations.md has no line {line}"
        );
    }
}
