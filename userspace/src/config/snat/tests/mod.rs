mod automatic;
mod outward;
mod shared;

use super::*;
use crate::config::{Diagnostics, Loaded, Options, parse_with};

/// Instances `i1`, `i2`, ... with one address each, in pool `p`, and frontend `f`.
fn network(instances: usize, rest: &str) -> String {
    let mut text = String::from(
        "node.interfaces = [\"eth0\"]\n[[frontend]]\nname = \"f\"\nipv4 = \"203.0.113.1\"\n",
    );
    let mut members = Vec::new();
    for index in 1..=instances {
        let address = format!("10.0.{}.{}", index / 250, index % 250 + 1);
        text += &format!("[[instance]]\nname = \"i{index}\"\nipv4 = \"{address}\"\n");
        members.push(format!("\"i{index}\""));
    }
    text += &format!(
        "[[pool]]\nname = \"p\"\nmembers = [{}]\n",
        members.join(", ")
    );
    text + rest
}

fn read(text: &str) -> Result<Loaded, Diagnostics> {
    let options = Options {
        host_name: Some("lb".into()),
        accept_unavailable: true,
        host: None,
    };
    parse_with("f.toml", text, &options)
}

fn planned(text: &str) -> Plan {
    plan(
        &read(text)
            .unwrap_or_else(|refusal| panic!("{refusal}"))
            .config,
    )
}

fn outbound(name: &str, frontends: &str, ports: &str) -> String {
    format!(
        "[[outbound_rule]]\nname = \"{name}\"\npool = \"p\"\nfrontends = [{frontends}]\n\
         ports_per_instance = {ports}\n"
    )
}

fn refusal(text: &str) -> crate::config::Diagnostic {
    let errors = read(text).expect_err(text).errors;
    assert_eq!(errors.len(), 1, "{errors:#?}");
    errors.into_iter().next().unwrap()
}

const RULE_80: &str = "[[rule]]\nname = \"r\"\nfrontend = \"f\"\nport = 80\npool = \"p\"\n";

#[test]
fn an_address_has_64000_ports_less_the_blocks_of_its_rules() {
    let rule = |name: &str, port: &str| {
        format!("[[rule]]\nname = \"{name}\"\nfrontend = \"f\"\nport = {port}\npool = \"p\"\n")
    };
    for (rules, available) in [
        (String::new(), 64_000),
        (rule("a", "80"), 64_000),
        (rule("a", "1023") + &rule("b", "65024"), 64_000),
        (rule("a", "1024"), 63_992),
        (rule("a", "65023"), 63_992),
        (rule("a", "8080"), 63_992),
        (rule("a", "8080") + &rule("b", "8087"), 63_992),
        (rule("a", "8080") + &rule("b", "8088"), 63_984),
        (rule("a", "\"8087-8088\""), 63_984),
        (rule("a", "\"1000-1031\""), 63_992),
        (rule("a", "0"), 64_000),
        (
            "[[inbound_nat_rule]]\nname = \"n\"\nfrontend = \"f\"\nport = \"2200-2299\"\npool = \"p\"".into(),
            64_000 - 13 * 8,
        ),
    ] {
        let config = read(&network(1, &rules)).unwrap().config;
        let frontend = &config.frontends[0];
        assert_eq!(available_ports(&config, frontend, Family::V4), available, "{rules}");
        assert_eq!(available_ports(&config, frontend, Family::V6), 0);
    }
}

#[test]
fn every_address_of_a_prefix_has_its_own_ports() {
    let text = network(1, "").replace(
        "203.0.113.1\"",
        "203.0.113.0/30\"\nipv6 = \"2001:db8::/126\"",
    );
    let config = read(&text).unwrap().config;
    for family in Family::ALL {
        assert_eq!(
            available_ports(&config, &config.frontends[0], family),
            256_000
        );
    }
}

#[test]
fn explicit_ports_fit_up_to_the_last_block() {
    for (instances, rules, fits, too_many) in [
        (1, "", 64_000, 64_008),
        (2, "", 32_000, 32_008),
        (7, "", 9_136, 9_144),
        (10, "", 6_400, 6_408),
        (2, RULE_80, 32_000, 32_008),
        (
            2,
            "[[rule]]\nname = \"r\"\nfrontend = \"f\"\nport = 8080\npool = \"p\"\n",
            31_992,
            32_000,
        ),
    ] {
        let text = |ports: u32| {
            network(
                instances,
                &format!("{rules}{}", outbound("o", "\"f\"", &ports.to_string())),
            )
        };
        assert!(read(&text(fits)).is_ok(), "{instances} x {fits}");
        let error = refusal(&text(too_many));
        assert_eq!(error.key, "outbound_rule \"o\".ports_per_instance");
        assert_eq!(error.found, too_many.to_string());
        assert_eq!(error.expected, format!("a multiple of 8, at most {fits}"));
    }
}

#[test]
fn an_over_commitment_is_told_in_numbers() {
    let error = refusal(&network(7, &outbound("o", "\"f\"", "10000")));
    assert_eq!(
        error.message,
        "more ports are promised than there are: needed 70000 (7 IP configurations of pool \"p\" x \
         10000), available 64000 on \"f\" over IPv4"
    );
}

#[test]
fn ports_that_fill_no_blocks_are_told_in_numbers() {
    for (ports, nearest) in [
        ("1000", None),
        ("1001", Some("1000 or 1008")),
        ("3", Some("8")),
    ] {
        let text = network(2, &outbound("o", "\"f\"", ports));
        let Some(nearest) = nearest else {
            assert!(read(&text).is_ok());
            continue;
        };
        let error = refusal(&text);
        assert_eq!(
            (error.found.as_str(), error.expected.as_str()),
            (ports, "a multiple of 8")
        );
        let blocks = ports.parse::<u32>().unwrap().div_ceil(8) * 8 * 2;
        let message = format!(
            "ports go in blocks of 8: write {nearest}; needed {blocks} (2 IP configurations of pool \
             \"p\" x {ports}), available 64000 on \"f\" over IPv4"
        );
        assert_eq!(error.message, message);
    }
}

#[test]
fn several_frontends_add_up() {
    let more = "[[frontend]]\nname = \"g\"\nipv4 = \"203.0.113.2\"\n";
    let text = |ports: &str| {
        network(
            2,
            &format!("{more}{}", outbound("o", "\"f\", \"g\"", ports)),
        )
    };
    assert!(read(&text("64000")).is_ok());
    let error = refusal(&text("64008"));
    assert!(
        error
            .message
            .contains("available 128000 on \"f\", \"g\" over IPv4"),
        "{error}"
    );
}

#[test]
fn rules_that_share_frontends_are_counted_together() {
    let more = "[[frontend]]\nname = \"g\"\nipv4 = \"203.0.113.2\"\n[[instance]]\nname = \"x\"\nipv4 = \
                \"10.9.9.9\"\n[[pool]]\nname = \"q\"\nmembers = [\"x\"]\n";
    let rules = |p: &str, q: &str, q_frontends: &str| {
        let other = outbound("q", q_frontends, q).replace("pool = \"p\"", "pool = \"q\"");
        network(1, &format!("{more}{}{other}", outbound("o", "\"f\"", p)))
    };
    assert!(read(&rules("60000", "68000", "\"f\", \"g\"")).is_ok());
    assert!(read(&rules("60000", "4000", "\"f\"")).is_ok());
    let errors = read(&rules("60000", "4008", "\"f\"")).unwrap_err().errors;
    let keys: Vec<_> = errors.iter().map(|error| error.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "outbound_rule \"o\".ports_per_instance",
            "outbound_rule \"q\".ports_per_instance"
        ]
    );
    assert_eq!(errors[0].expected, "a multiple of 8, at most 59992");
    assert_eq!(errors[1].expected, "a multiple of 8, at most 4000");
    let numbers = "needed 64008 (1 IP configuration of pool \"p\" x 60000 + 1 IP configuration of \
                   pool \"q\" x 4008), available 64000 on \"f\" over IPv4";
    assert!(errors[0].message.ends_with(numbers), "{}", errors[0]);
}

#[test]
fn shortages_that_have_nothing_in_common_are_told_apart() {
    let more = "[[frontend]]\nname = \"g\"\nipv4 = \"203.0.113.2\"\n[[instance]]\nname = \"x\"\nipv4 = \
                \"10.9.9.9\"\n[[pool]]\nname = \"q\"\nmembers = [\"x\"]\n";
    let other = outbound("q", "\"g\"", "65000").replace("pool = \"p\"", "pool = \"q\"");
    let text = network(
        1,
        &format!("{more}{}{other}", outbound("o", "\"f\"", "64008")),
    );
    let errors = read(&text).unwrap_err().errors;
    let available: Vec<_> = (errors.iter())
        .map(|error| error.message.split("available ").nth(1).unwrap())
        .collect();
    assert_eq!(
        available,
        ["64000 on \"f\" over IPv4", "64000 on \"g\" over IPv4"]
    );
}

#[test]
fn tcp_and_udp_have_the_same_ports_each() {
    let rule = |name: &str, protocol: &str| {
        outbound(name, "\"f\"", "64000") + &format!("protocol = \"{protocol}\"\n")
    };
    assert!(read(&network(1, &(rule("t", "tcp") + &rule("u", "udp")))).is_ok());
    assert!(read(&network(2, &rule("t", "tcp"))).is_err());
    assert!(read(&network(2, &rule("u", "udp"))).is_err());
}

#[test]
fn the_families_are_counted_by_themselves() {
    let dual = network(1, &outbound("o", "\"f\"", "64000"))
        .replace("203.0.113.1\"", "203.0.113.1\"\nipv6 = \"2001:db8::1\"")
        .replace("10.0.0.2\"", "10.0.0.2\"\nipv6 = \"fd00::2\"");
    let plan = planned(&dual);
    let families: Vec<_> = plan
        .shares
        .iter()
        .map(|share| (share.family, share.ports))
        .collect();
    assert_eq!(families, [(Family::V4, 64_000), (Family::V6, 64_000)]);
}

#[test]
fn default_outbound_counts_only_whoever_has_no_other_method() {
    let text = network(
        3,
        "[default_outbound]\nfrontends = [\"nat\"]\nports_per_instance = 32000\n\
         [[frontend]]\nname = \"nat\"\nipv4 = \"203.0.113.2\"\n\
         [[instance]]\nname = \"x\"\nipv4 = \"10.9.9.8\"\n[[instance]]\nname = \"y\"\nipv4 = \"10.9.9.9\"\n\
         [[public_ip]]\nname = \"a\"\nipv4 = \"203.0.113.3\"\n\
         [[instance]]\nname = \"z\"\nipv4 = \"10.9.9.7\"\npublic_ip = \"a\"\n",
    );
    let with_rule = text.clone() + RULE_80;
    let shares = planned(&with_rule).shares;
    let of = |origin| shares.iter().find(|share| share.origin == origin).unwrap();
    assert_eq!(of(Origin::DefaultOutbound).ip_configs.len(), 2);
    assert_eq!(of(Origin::Rule(0)).ip_configs.len(), 3);
    let error = refusal(&text);
    assert_eq!(error.key, "default_outbound.ports_per_instance");
    assert!(
        error
            .message
            .contains("needed 160000 (5 IP configurations without another method x 32000)")
    );
    let inward = with_rule + "outbound_snat = false\n";
    assert!(read(&inward).is_err());
}

#[test]
fn an_outbound_rule_that_names_the_pool_replaces_the_implied_one() {
    let shares = planned(&network(
        2,
        &format!("{RULE_80}{}", outbound("o", "\"f\"", "\"auto\"")),
    ))
    .shares;
    assert_eq!(shares.len(), 1);
    assert_eq!(
        (shares[0].origin, shares[0].ports),
        (Origin::OutboundRule(0), 1024)
    );
}
