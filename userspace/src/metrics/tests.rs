use std::net::IpAddr;
use std::time::Duration;

use forebay_common::flow::FlowState;

use super::*;
use crate::config::model::MemberRef;
use crate::config::parse_all;
use crate::control_plane::{HostInterface, XdpState};
use crate::health::{Probed, Target, Verdict, View, targets};

const ADDRESS: [u8; 4] = [10, 0, 1, 1];

fn values() -> Values {
    let probed = Probed {
        probe: "alive".to_owned(),
        address: ADDRESS.into(),
        port: 80,
    };
    let mut probes = Probes::default();
    probes.add(&probed, Duration::from_millis(3));
    probes.add(&probed, Duration::from_millis(5));
    probes.add(&probed, Duration::from_secs(60));
    let config = parse_all("f", FILE).unwrap_or_else(|refusal| panic!("{refusal}"));
    let in_state = |state| if state == FlowState::Opening { 4 } else { 0 };
    Values {
        reloads: Reloads {
            successful: 2,
            failed: 1,
        },
        frontends: BTreeMap::from([(
            "a \"b\"".to_owned(),
            Traffic {
                packets: [3, 4],
                bytes: [300, 400],
            },
        )]),
        rules: vec![("web".to_owned(), 7)],
        drops: api::Drops::from([("no-rule".to_owned(), 9)]),
        flows: [FlowTable::new(10, in_state), FlowTable::default()],
        backends: vec![Backend {
            pool: "p".to_owned(),
            member: MemberRef::of("i"),
            address: ADDRESS.into(),
            probe: "alive".to_owned(),
            is_up: true,
        }],
        probes: probes.of_members(&config.config, &targets(&config.config)),
        availability: vec![RuleAvailability {
            frontend: "f".to_owned(),
            rule: "r".to_owned(),
            address: [203, 0, 113, 1].into(),
            share: 0.75,
        }],
        snat: Vec::new(),
        connections: vec![SnatConnections {
            instance: "i".to_owned(),
            address: "10.0.1.1".to_owned(),
            protocol: "tcp".to_owned(),
            successful: 5,
            failed: 6,
        }],
    }
}

const FILE: &str = r#"
node.interfaces = ["eth0"]
frontend = [{ name = "f", ipv4 = "203.0.113.1" }, { name = "g", ipv4 = "203.0.113.2" }]
instance = [
  { name = "i", ipv4 = "10.0.1.1" },
  { name = "j", ipv4 = "10.0.1.2" },
  { name = "k", ipv4 = "10.0.1.3" },
  { name = "l", ipv4 = "10.0.1.4" },
]
pool = [{ name = "p", members = ["i", "j", { instance = "k", admin_state = "down" }, "l"] }]
probe = [{ name = "alive", protocol = "tcp" }]
rule = [
  { name = "r", frontend = "f", protocol = "tcp", port = 80, pool = "p", probe = "alive" },
  { name = "s", frontend = "f", protocol = "tcp", port = 81, pool = "p", probe = "alive" },
]
inbound_nat_rule = [{ name = "n", frontend = "g", protocol = "tcp", port = 22, instance = "i" }]
outbound_rule = [
  { name = "one", pool = "p", protocol = "tcp", frontends = ["g"] },
  { name = "two", pool = "p", protocol = "udp", frontends = ["f", "g"] },
]
"#;

#[test]
fn the_older_format_describes_counters_by_the_name_of_their_lines() {
    let text = text(values().into(), Format::Plain).unwrap();
    for block in [
        "# HELP forebay_build_info Version of the daemon, always 1.\n# TYPE forebay_build_info gauge\nforebay_build_info{version=",
        "# TYPE forebay_config_reloads_total counter\nforebay_config_reloads_total{result=\"successful\"} 2\n\
         forebay_config_reloads_total{result=\"failed\"} 1\n",
        "# TYPE forebay_packets_total counter\nforebay_packets_total{frontend=\"a \\\"b\\\"\",direction=\"to-instance\"} 3\n",
        "forebay_bytes_total{frontend=\"a \\\"b\\\"\",direction=\"from-instance\"} 400\n",
        "forebay_new_flows_total{rule=\"web\"} 7\n",
        "forebay_drops_total{reason=\"no-rule\"} 9\n",
        "forebay_flows{family=\"ipv4\",state=\"opening\"} 4\n",
        "forebay_flow_capacity{family=\"ipv4\"} 10\n",
        "forebay_backend_up{pool=\"p\",instance=\"i\",ip_config=\"primary\",address=\"10.0.1.1\",probe=\"alive\"} 1\n",
        "# TYPE forebay_probe_duration_seconds histogram\n\
         forebay_probe_duration_seconds_sum{pool=\"p\",instance=\"i\",address=\"10.0.1.1\"} 60.008\n\
         forebay_probe_duration_seconds_count{pool=\"p\",instance=\"i\",address=\"10.0.1.1\"} 3\n",
        "forebay_probe_duration_seconds_bucket{le=\"0.005\",pool=\"p\",instance=\"i\",address=\"10.0.1.1\"} 2\n",
        "forebay_probe_duration_seconds_bucket{le=\"+Inf\",pool=\"p\",instance=\"i\",address=\"10.0.1.1\"} 3\n",
        "forebay_data_path_availability_ratio{frontend=\"f\",rule=\"r\",address=\"203.0.113.1\"} 0.75\n",
        "forebay_snat_connections_total{instance=\"i\",address=\"10.0.1.1\",protocol=\"tcp\",state=\"failed\"} 6\n",
    ] {
        assert!(text.contains(block), "{block}\nis not in\n{text}");
    }
    assert!(
        !text.contains("# UNIT") && !text.contains("# EOF"),
        "{text}"
    );
}

#[test]
fn openmetrics_is_for_those_who_ask_for_it() {
    assert_eq!(Format::accepted(None), Format::Plain);
    assert_eq!(Format::accepted(Some("*/*")), Format::Plain);
    let prometheus =
        "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2";
    assert_eq!(Format::accepted(Some(prometheus)), Format::OpenMetrics);
    let text = text(values().into(), Format::OpenMetrics).unwrap();
    assert!(text.contains("# TYPE forebay_packets counter\nforebay_packets_total{"));
    assert!(text.contains("# UNIT forebay_probe_duration_seconds seconds\n"));
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn each_family_stands_in_the_text_once_under_its_name() {
    let text = text(Values::default().into(), Format::Plain).unwrap();
    let described: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .collect();
    let families: Vec<String> = families()
        .map(|family| format!("{} {}", family.name(), family.kind.label()))
        .collect();
    assert_eq!(described, families);
}

#[test]
fn a_member_is_up_if_all_ports_are_and_absent_while_nothing_is_known() {
    let config = parse_all("f", FILE).unwrap_or_else(|refusal| panic!("{refusal}"));
    let target = |last, port| Target {
        probe: "alive".to_owned(),
        address: IpAddr::from([10, 0, 1, last]),
        port,
    };
    let (up, down, unknown) = (Verdict::Up, Verdict::Down, Verdict::Unknown);
    let verdicts = [
        (target(1, 80), up),
        (target(1, 81), up),
        (target(2, 80), up),
        (target(2, 81), down),
        (target(3, 80), up),
        (target(3, 81), up),
        (target(4, 80), unknown),
        (target(4, 81), unknown),
    ];
    let found = backends(&config.config, &View::of(verdicts));
    let told: Vec<_> = (found.iter())
        .map(|one| (one.member.instance.as_str(), one.is_up))
        .collect();
    assert_eq!(told, [("i", true), ("j", false), ("k", false)]);
}

#[test]
fn what_counts_for_a_frontend_counts_for_no_other() {
    let config = parse_all("f", FILE).unwrap_or_else(|refusal| panic!("{refusal}"));
    let rule = |name: &str| Counts::Rule(name.to_owned());
    let counted = counted_for(&config.config);
    assert_eq!(counted["f"], [rule("r"), rule("s")].into());
    assert_eq!(
        counted["g"],
        [rule("n"), Counts::Outbound("one".to_owned())].into()
    );
}

#[test]
fn what_was_taken_off_before_comes_back() {
    let ten = Traffic {
        packets: [10, 20],
        bytes: [1000, 2000],
    };
    let less = Traffic::default().minus(ten);
    assert_eq!(less.plus(ten).plus(ten), ten);
}

#[test]
fn the_node_is_ready_only_while_all_of_it_carries_traffic() {
    let names = ["eth0".to_owned(), "eth1".to_owned()];
    let host = |name: &str, xdp| HostInterface {
        name: name.to_owned(),
        xdp,
        ..HostInterface::default()
    };
    let (native, generic) = (XdpState::Native, XdpState::Generic);
    let both = [host("eth0", native), host("eth1", generic)];
    let good = Condition {
        is_stopping: false,
        is_set_up: true,
        interfaces: &names,
        host: &both,
        stuck: None,
    };
    assert_eq!(why_not_ready(&good), None);
    let why = |condition: Condition<'_>| why_not_ready(&condition).unwrap();
    let stopping = Condition {
        is_stopping: true,
        ..good
    };
    assert_eq!(why(stopping), "The daemon is stopping.");
    let starting = Condition {
        is_set_up: false,
        ..good
    };
    assert_eq!(why(starting), "The daemon is starting.");
    let one = Condition {
        host: &both[..1],
        ..good
    };
    assert_eq!(why(one), "There is no interface eth1.");
    let bare = [host("eth0", native), host("eth1", XdpState::None)];
    let bare = Condition {
        host: &bare,
        ..good
    };
    assert_eq!(why(bare), "The program is not on eth1.");
    let stuck = Condition {
        stuck: Some("no space"),
        ..good
    };
    assert_eq!(why(stuck), "The tables are not up to date: no space.");
}
