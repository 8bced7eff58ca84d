//! `docs/health.md` has a line for each word that a member's health can be explained with.

use forebay::health::Failure;

use super::text;

#[test]
fn every_failure_of_a_probe_has_a_line() {
    let document = text("docs/health.md");
    for failure in Failure::ALL {
        let line = format!("| `{}` | ", failure.label());
        assert_eq!(document.matches(&line).count(), 1, "{line}");
    }
}
