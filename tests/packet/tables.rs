//! Runs the cases.

use std::collections::BTreeSet;

use forebay_tests::case::Case;
use forebay_tests::engine::{Engine, Model, with_live};

use crate::cases::TABLES;

/// Runs the cases of a behaviour in the model and on the live program, and reports all that fail.
fn check(behaviour: &str) {
    let (_, cases) = TABLES.iter().find(|table| table.0 == behaviour).unwrap();
    let cases = cases();
    assert_all_pass(&cases, &mut Model::default());
    with_live(|live| assert_all_pass(&cases, live));
}

fn assert_all_pass(cases: &[Case], engine: &mut dyn Engine) {
    let failures: Vec<String> = cases
        .iter()
        .map(|case| case.failures(engine))
        .filter(|text| !text.is_empty())
        .collect();
    assert!(
        failures.is_empty(),
        "{} of {} cases fail in {}\n{}",
        failures.len(),
        cases.len(),
        engine.name(),
        failures.join("\n")
    );
}

macro_rules! behaviours {
    ($($test:ident: $name:literal,)*) => {
        $(
            #[test]
            fn $test() {
                check($name);
            }
        )*

        #[test]
        fn every_behaviour_is_checked() {
            let checked = BTreeSet::from([$($name),*]);
            assert_eq!(checked, TABLES.iter().map(|table| table.0).collect());
        }
    };
}

behaviours! {
    packets_leave_by_the_same_nic_or_another: "arms",
    sources_that_can_have_no_flow_open_none: "bad source",
    the_kernel_takes_what_the_program_cannot: "by kernel",
    checksums_are_right_at_the_corners: "checksums",
    outsiders_do_not_reach_instances_directly: "direct",
    flows_expire_on_time: "expiry",
    nothing_of_an_instance_leaves_untranslated: "fence",
    first_packets_open_flows: "first packet",
    the_most_specific_rule_wins_and_inbound_nat_reaches_its_instance: "forms of rules",
    senders_are_told_what_goes_no_further: "complaints",
    fragments_both_ways: "fragments both ways",
    fragments_and_other_protocols_open_nothing: "fragments",
    hops_are_counted: "hop limit",
    packets_of_a_flow_are_translated_both_ways: "known flow",
    malformed_packets_end_by_whose_they_are: "malformed",
    icmp_echo_errors_and_path_mtu: "ICMP",
    icmp_errors_go_where_their_flows_go: "ICMP fate",
    neighbours_are_answered_where_addresses_are_on_link: "neighbors",
    next_hops_are_kept_for_a_while: "next hop",
    everything_passes_before_there_are_settings: "not configured",
    packets_of_others_pass_untouched: "not ours",
    packets_without_rule_or_member_are_refused: "refusals",
    ended_connections_begin_anew: "reopening",
    answers_of_two_flows_stay_apart: "reply tuple",
    resets_are_believed_in_the_window: "resets",
    shared_addresses_stay_the_hosts: "shared",
    packets_above_the_mtu_are_refused: "sizes",
    a_source_opens_so_many_flows_in_a_second: "source limit",
    a_full_table_refuses_and_keeps: "table full",
    tcp_flows_remember_what_they_saw: "TCP state",
    flows_are_trusted_when_both_sides_have_proven_to_talk: "untrusted",
    frames_leave_with_the_tags_of_their_way: "VLANs",
}

#[test]
fn there_are_hundreds_of_cases_each_with_its_own_name() {
    let names: Vec<String> = TABLES
        .iter()
        .flat_map(|(_, cases)| cases())
        .map(|case| case.name)
        .collect();
    let unique: BTreeSet<&String> = names.iter().collect();
    let twice: Vec<_> = unique
        .iter()
        .filter(|name| names.iter().filter(|other| other == *name).count() > 1)
        .collect();
    assert!(twice.is_empty(), "{twice:?}");
    for family in ["IPv4", "IPv6"] {
        let count = names.iter().filter(|name| name.starts_with(family)).count();
        assert!(count >= 100, "{count} cases of {family}");
    }
}
