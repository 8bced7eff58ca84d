//! Numbers by the table.

use super::*;

#[test]
fn the_table_goes_by_the_number_of_ip_configurations() {
    for (first, last, ports) in [
        (0, 50, 1024),
        (51, 100, 512),
        (101, 200, 256),
        (201, 400, 128),
        (401, 800, 64),
        (801, 1000, 32),
        (1001, 5000, 32),
    ] {
        assert_eq!(
            (automatic_ports(first), automatic_ports(last)),
            (ports, ports)
        );
    }
}

#[test]
fn whoever_may_use_an_address_by_several_rules_counts_once() {
    let again = RULE_80.replace("\"r\"", "\"s\"").replace("80", "81");
    let shares = planned(&network(50, &format!("{RULE_80}{again}"))).shares;
    assert_eq!(shares.len(), 1);
    assert_eq!((shares[0].ip_configs.len(), shares[0].ports), (50, 1024));
    let shares = planned(&network(51, RULE_80)).shares;
    assert_eq!(shares[0].ports, 512);
}

#[test]
fn several_frontends_multiply_the_table_up_to_1024() {
    let frontends = "[[frontend]]\nname = \"g\"\nipv4 = \"203.0.113.2\"\n[[frontend]]\nname = \"h\"\nipv4 = \"203.0.113.3\"\n";
    for (names, ports) in [
        ("\"f\"", 512),
        ("\"f\", \"g\"", 1024),
        ("\"f\", \"g\", \"h\"", 1024),
    ] {
        let text = network(
            100,
            &format!("{frontends}{}", outbound("o", names, "\"auto\"")),
        );
        assert_eq!(planned(&text).shares[0].ports, ports, "{names}");
    }
    let prefix = "[[frontend]]\nname = \"n\"\nipv4 = \"203.0.113.64/31\"\n";
    let text = network(
        101,
        &format!("{prefix}{}", outbound("o", "\"n\"", "\"auto\"")),
    );
    assert_eq!(planned(&text).shares[0].ports, 512);
}

#[test]
fn automatic_ports_halve_until_they_fit_and_say_so() {
    let range = |last: u32| {
        format!("[[rule]]\nname = \"r\"\nfrontend = \"f\"\nport = \"1024-{last}\"\npool = \"p\"\n")
    };
    let text = |last: u32| {
        network(
            10,
            &format!("{}{}", range(last), outbound("o", "\"f\"", "\"auto\"")),
        )
    };
    // Ten times 1024 fit, then one block less; at last nothing is left.
    for (last, ports) in [
        (54_783, 1024),
        (54_784, 512),
        (64_943, 8),
        (64_944, 0),
        (65_023, 0),
    ] {
        let loaded = read(&text(last)).unwrap();
        let share = &plan(&loaded.config).shares[0];
        assert_eq!((share.wanted, share.ports), (1024, ports), "{last}");
        let warnings = loaded.warnings;
        assert_eq!(warnings.len(), usize::from(ports < 1024), "{warnings:#?}");
        if let Some(warning) = warnings.first() {
            assert_eq!(warning.key, "outbound_rule \"o\".ports_per_instance");
            assert_eq!(warning.found, "\"auto\"");
            let expected = "room for 1024 ports for each of 10 IP configurations of pool \"p\"";
            assert_eq!(warning.expected, expected);
            let message = match ports {
                0 => {
                    "no ports of \"f\" are left to promise: they share what nobody reserved".into()
                }
                ports => {
                    format!("only {ports} for each are left on \"f\"; add a frontend for more")
                }
            };
            assert_eq!(warning.message, message);
        }
    }
}

#[test]
fn explicit_numbers_come_before_automatic_ones() {
    let more = "[[instance]]\nname = \"x\"\nipv4 = \"10.9.9.9\"\n[[pool]]\nname = \"q\"\nmembers = [\"x\"]\n\
                [[rule]]\nname = \"r\"\nfrontend = \"f\"\nport = 80\npool = \"q\"\n";
    let loaded = read(&network(
        1,
        &format!("{more}{}", outbound("o", "\"f\"", "63488")),
    ))
    .unwrap();
    let shares = plan(&loaded.config).shares;
    let ports: Vec<_> = shares
        .iter()
        .map(|share| (share.origin, share.ports))
        .collect();
    assert_eq!(
        ports,
        [(Origin::OutboundRule(0), 63_488), (Origin::Rule(0), 512)]
    );
    assert_eq!(loaded.warnings[0].key, "rule \"r\"");
}

#[test]
fn more_than_a_thousand_take_what_fits() {
    let loaded = read(&network(2001, RULE_80)).unwrap();
    assert_eq!(plan(&loaded.config).shares[0].ports, 16);
    assert_eq!(loaded.warnings.len(), 1);
}
